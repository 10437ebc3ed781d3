//! Links between documents: a relative link in a `.md` file names a file or folder that exists,
//! and its `#anchor`, if it points into a document, one of that document's headings.
//! Addresses on other machines are not looked at.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use super::sources::Text;

/// Links that lead nowhere.
pub(super) fn findings(root: &Path, texts: &[Text]) -> anyhow::Result<Vec<String>> {
    let documents: BTreeMap<&str, &str> = texts
        .iter()
        .filter(|file| file.path.ends_with(".md"))
        .map(|file| (file.path.as_str(), file.text.as_str()))
        .collect();
    let mut findings = Vec::new();
    for (path, text) in &documents {
        for link in links(text) {
            if let Some(problem) = problem(root, &documents, path, &link)? {
                findings.push(format!("{path}: link to {link}: {problem}"));
            }
        }
    }
    Ok(findings)
}

fn problem(
    root: &Path,
    documents: &BTreeMap<&str, &str>,
    from: &str,
    link: &str,
) -> anyhow::Result<Option<String>> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(None);
    }
    let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = if target.is_empty() { from.to_owned() } else { resolve(from, target) };
    if !root.join(&path).try_exists()? {
        return Ok(Some("no such file".to_owned()));
    }
    let document = documents.get(path.as_str());
    let missing =
        document.is_some_and(|text| !anchor.is_empty() && !anchors(text).any(|it| it == anchor));
    Ok(missing.then(|| "no such heading".to_owned()))
}

/// The path, relative to the root, that `target` means in the document `from`.
fn resolve(from: &str, target: &str) -> String {
    let folder = Path::new(from).parent().unwrap_or(Path::new(""));
    let mut parts = PathBuf::new();
    for component in folder.join(target).components() {
        match component {
            Component::ParentDir => {
                parts.pop();
            }
            Component::Normal(part) => parts.push(part),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    parts.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Targets of `[text](target)` outside code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        // Odd pieces between backticks are code.
        for piece in line.split('`').step_by(2) {
            for (_, rest) in piece.match_indices("](").map(|(at, _)| piece.split_at(at + 2)) {
                if let Some((target, _)) = rest.split_once(')') {
                    found.push(target.trim().to_owned());
                }
            }
        }
    }
    found
}

/// The anchors that a reader's program makes of the headings of a document.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    prose(text).filter_map(|line| {
        let heading = line.trim_start_matches('#');
        (heading.len() < line.len() && heading.starts_with(' ')).then(|| anchor(heading.trim()))
    })
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|it| if it == ' ' { '-' } else { it }).collect()
}

/// The lines of a document that do not stand in a fenced block.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let root = tempfile::tempdir().unwrap();
        let mut texts = Vec::new();
        for (path, text) in files {
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
            texts.push(Text { path: (*path).to_owned(), text: (*text).to_owned() });
        }
        assert_eq!(findings(root.path(), &texts).unwrap(), expected);
    }

    #[test]
    fn links_resolve_from_the_document_they_stand_in() {
        check(
            &[
                ("README.md", "[a](docs/a.md) [folder](docs) [far](https://example.org/x)"),
                ("docs/a.md", "[up](../README.md) [side](b.md) [code](../core/x.rs)"),
                ("docs/b.md", "[a](./a.md)"),
                ("core/x.rs", "//! X."),
            ],
            &[],
        );
        check(
            &[("README.md", "[a](docs/a.md)"), ("docs/b.md", "[a](docs/b.md)")],
            &[
                "README.md: link to docs/a.md: no such file",
                "docs/b.md: link to docs/b.md: no such file",
            ],
        );
    }

    #[test]
    fn anchors_name_headings() {
        check(
            &[
                ("a.md", "# One thing\n[here](#one-thing) [there](b.md#the-books-20)"),
                ("b.md", "## The `books`, 2.0"),
            ],
            &[],
        );
        check(
            &[("a.md", "[x](b.md#gone)"), ("b.md", "```\n# gone\n```\n")],
            &["a.md: link to b.md#gone: no such heading"],
        );
    }

    #[test]
    fn code_is_not_read_for_links() {
        check(&[("a.md", "`[a](gone.md)`\n```\n[a](gone.md)\n```\n")], &[]);
    }
}
