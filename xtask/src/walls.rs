//! The walls: which crate may name which, and the house rules that a compiler does not check.
//!
//! Each rule is a function from the repository to a list of findings. The tests here run every
//! rule on this repository, so `cargo test --workspace` guards the walls, and on small made-up
//! inputs, so that a rule that sees nothing is noticed.

mod edges;
mod links;
mod sources;

use std::path::{Path, PathBuf};

pub(crate) use sources::long_files;

/// The root of the repository this program is run in: as cargo says now, not as it said when it built this,
/// which may have been in another checkout with the same target folder.
pub(crate) fn repository_root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Everything that is out of order, one line each.
pub(crate) fn findings(root: &Path) -> anyhow::Result<Vec<String>> {
    let crates = edges::read_workspace(root)?;
    let texts = sources::read_texts(root)?;
    let mut findings = edges::findings(&crates, edges::ALLOWED);
    findings.extend(edges::unlisted_lints(&crates)?);
    findings.extend(sources::findings(&texts));
    findings.extend(links::findings(root, &texts)?);
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(findings: Vec<String>) {
        assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
    }

    #[test]
    fn dependencies_follow_the_table() {
        let crates = edges::read_workspace(&repository_root()).unwrap();
        check(edges::findings(&crates, edges::ALLOWED));
    }

    #[test]
    fn every_crate_takes_the_lints_of_the_workspace() {
        check(edges::unlisted_lints(&edges::read_workspace(&repository_root()).unwrap()).unwrap());
    }

    #[test]
    fn sources_keep_the_house_rules() {
        check(sources::findings(&sources::read_texts(&repository_root()).unwrap()));
    }

    #[test]
    fn links_between_documents_resolve() {
        let root = repository_root();
        let texts = sources::read_texts(&root).unwrap();
        check(links::findings(&root, &texts).unwrap());
    }
}
