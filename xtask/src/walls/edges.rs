//! Which crate may depend on which. A new edge is an architecture decision: change the table and
//! say why in the commit.
//!
//! The edges come from `cargo metadata`, so a dependency is seen under its real name whatever it
//! is renamed to, in whichever table it stands and whether or not it is inherited from the
//! workspace. Dev-dependencies are free: they are not linked into what runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use serde_json::Value;

/// Workspace crate → workspace crates it may depend on.
pub(super) type Table = &'static [(&'static str, &'static [&'static str])];

pub(super) const ALLOWED: Table = &[
    ("types", &[]),
    ("ledger", &["types"]),
    ("market", &["types"]),
    ("verify", &["types"]),
    ("light", &["types"]),
    ("replication", &["types"]),
    ("keys", &["types"]),
    // `light`: its client of the chain API believes what is proven.
    ("wire", &["types", "light", "keys"]),
    ("net", &["types", "wire"]),
    ("store", &["types"]),
    ("replica", &["types", "light", "replication", "keys", "store"]),
    // `verify`: our own engine draws its tokens so that others can draw them again.
    ("engine", &["types", "verify", "wire"]),
    ("validator", &["types", "ledger", "replication", "keys", "wire", "net", "replica", "store"]),
    // `verify`: it says on its reports which of its answers can be replayed.
    ("provider", &["types", "market", "verify", "keys", "wire", "net", "store", "engine"]),
    // `engine`: an upstream of a gateway is an engine that somebody else runs (ADR 13).
    // `verify`: it replays what it streams.
    ("gateway", &["types", "market", "verify", "keys", "wire", "net", "store", "engine"]),
    // `verify`: the arithmetic of an audit; `engine`: a model is run over the answer; `net`: providers open it.
    ("auditor", &["types", "verify", "keys", "wire", "net", "engine"]),
    // `keys`: the page recomputes the signatures of the receipts it shows.
    ("web", &["types", "keys", "wire", "gateway"]),
    (
        "peerwatt",
        &[
            "types",
            "ledger",
            "market",
            // The honest means that an audit bets against are arguments.
            "verify",
            "light",
            "keys",
            "wire",
            "net",
            "store",
            "replica",
            "engine",
            "auditor",
            "validator",
            "provider",
            "gateway",
            "web",
        ],
    ),
    // It feeds every decoder, whoever's it is, and nothing links it.
    (
        "fuzz-targets",
        &["types", "ledger", "verify", "light", "replication", "keys", "wire", "replica"],
    ),
    // Providers made up to be audited: it needs what judges them, and nothing links it.
    ("audit-lab", &["types", "verify"]),
    // It measures the ledger, which runs only inside a process.
    ("xtask", &["types", "ledger", "keys"]),
];

/// Third-party crates a pure crate may name. No runtime, no socket, no clock, no randomness.
const CORE_EXTERNAL: &[&str] =
    &["bech32", "bitvec", "blake3", "borsh", "ethnum", "nomt-core", "serde", "sha2", "thiserror"];

/// Third-party crates that one pure crate may name beside those.
const CORE_EXTERNAL_OF: &[(&str, &str)] = &[
    // Exponentials and logarithms with the same bits on every machine.
    ("verify", "libm"),
];

/// Pairs that must not meet even through others: gateway and provider read the chain through
/// `wire`, like any third party, so neither may carry the ledger's rules.
const NEVER_LINKED: &[(&str, &str)] = &[
    ("gateway", "ledger"),
    ("provider", "ledger"),
    ("gateway", "provider"),
    ("provider", "gateway"),
    ("auditor", "ledger"),
    ("auditor", "provider"),
    ("web", "ledger"),
];

/// A crate of the workspace and what it is linked with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crate {
    pub(super) name: String,
    /// Folder of the manifest, relative to the root of the workspace, with `/` between parts.
    pub(super) folder: String,
    pub(super) manifest: PathBuf,
    /// Real names of normal and build dependencies, of every target and feature.
    pub(super) dependencies: BTreeSet<String>,
}

/// Asks cargo for the crates of the workspace at `root`. Needs no network and no lock file.
pub(super) fn read_workspace(root: &Path) -> anyhow::Result<Vec<Crate>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("read the output of cargo metadata")?;
    let root = metadata["workspace_root"].as_str().context("metadata names no workspace root")?;
    let packages = metadata["packages"].as_array().context("metadata lists no packages")?;
    packages.iter().map(|package| read_crate(Path::new(root), package)).collect()
}

fn read_crate(root: &Path, package: &Value) -> anyhow::Result<Crate> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("metadata lacks a name");
    let manifest = PathBuf::from(text(&package["manifest_path"])?);
    let folder = manifest.parent().context("a manifest lies in a folder")?.strip_prefix(root)?;
    let parts: Vec<_> = folder.iter().map(|part| part.to_string_lossy()).collect();
    let dependencies = package["dependencies"].as_array().context("metadata lists dependencies")?;
    let linked = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
    Ok(Crate {
        name: text(&package["name"])?,
        folder: parts.join("/"),
        dependencies: linked
            .map(|dependency| text(&dependency["name"]))
            .collect::<anyhow::Result<_>>()?,
        manifest,
    })
}

/// Edges that the table does not allow.
pub(super) fn findings(crates: &[Crate], table: Table) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = table.iter().copied().collect();
    let mut findings = Vec::new();
    for Crate { name, folder, dependencies, .. } in crates {
        let Some(allowed_here) = allowed.get(name.as_str()) else {
            findings.push(format!("{name}: not in the table of crates"));
            continue;
        };
        for dependency in dependencies.iter().map(String::as_str) {
            if allowed.contains_key(dependency) {
                if !allowed_here.contains(&dependency) {
                    findings.push(format!("{name}: may not depend on {dependency}"));
                }
            } else if folder.starts_with("core/")
                && !CORE_EXTERNAL.contains(&dependency)
                && !CORE_EXTERNAL_OF.contains(&(name.as_str(), dependency))
            {
                findings.push(format!("{name}: is pure, may not use {dependency}"));
            }
        }
    }
    let present: BTreeSet<&str> = crates.iter().map(|it| it.name.as_str()).collect();
    let gone = allowed.keys().filter(|name| !present.contains(*name));
    findings.extend(gone.map(|name| format!("{name}: in the table, but there is no such crate")));
    findings.extend(forbidden_paths(crates));
    findings
}

fn forbidden_paths(crates: &[Crate]) -> Vec<String> {
    let pairs = NEVER_LINKED.iter();
    let linked = pairs.filter(|(from, to)| reachable(crates, from).contains(*to));
    linked.map(|(from, to)| format!("{from}: links {to} through its dependencies")).collect()
}

/// All crates of the workspace that `from` is linked with.
fn reachable<'a>(crates: &'a [Crate], from: &str) -> BTreeSet<&'a str> {
    let of = |name: &str| crates.iter().find(|it| it.name == name);
    let mut seen = BTreeSet::new();
    let mut open: Vec<&Crate> = of(from).into_iter().collect();
    while let Some(next) = open.pop() {
        for dependency in &next.dependencies {
            if let Some(found) = of(dependency)
                && seen.insert(found.name.as_str())
            {
                open.push(found);
            }
        }
    }
    seen
}

/// Crates that do not say `[lints] workspace = true` in one of the two usual ways.
pub(super) fn unlisted_lints(crates: &[Crate]) -> anyhow::Result<Vec<String>> {
    let mut findings = Vec::new();
    for Crate { name, manifest, .. } in crates {
        let text = std::fs::read_to_string(manifest)
            .with_context(|| format!("read {}", manifest.display()))?;
        if !takes_workspace_lints(&text) {
            findings.push(format!("{name}: lacks `[lints] workspace = true`"));
        }
    }
    Ok(findings)
}

fn takes_workspace_lints(manifest: &str) -> bool {
    let lines: Vec<&str> = manifest.lines().map(str::trim).collect();
    lines.contains(&"lints.workspace = true")
        || lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a workspace of empty crates and reads it back.
    fn workspace(root_manifest: &str, members: &[(&str, &str)]) -> Vec<Crate> {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("Cargo.toml"), root_manifest).unwrap();
        for (folder, manifest) in members {
            let folder = root.path().join(folder);
            std::fs::create_dir_all(folder.join("src")).unwrap();
            std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
            std::fs::write(folder.join("src/lib.rs"), "//! Empty.\n").unwrap();
        }
        let mut crates = read_workspace(root.path()).unwrap();
        crates.sort_by(|a, b| a.name.cmp(&b.name));
        crates
    }

    #[test]
    fn every_form_of_dependency_is_seen_under_its_real_name() {
        let root = r#"
            [workspace]
            resolver = "3"
            members = ["x"]
            [workspace.dependencies]
            inherited = "1"
            short = { package = "inherited-and-renamed", version = "1" }
        "#;
        let manifest = r#"
            [package]
            name = "x"
            version = "0.0.0"
            [dependencies]
            plain = "1"
            inherited.workspace = true
            short = { workspace = true }
            alias = { package = "renamed", version = "1" }
            maybe = { version = "1", optional = true }
            dotted.version = "1"
            [dependencies.table]
            version = "1"
            [dependencies.nickname]
            version = "1"
            package = "renamed-table"
            [target.'cfg(windows)'.dependencies]
            target = "1"
            [target.'cfg(windows)'.dependencies.other]
            version = "1"
            package = "renamed-target"
            [build-dependencies]
            build = "1"
            [dev-dependencies]
            dev = "1"
        "#;
        let crates = workspace(root, &[("x", manifest)]);
        let names: Vec<&str> = crates[0].dependencies.iter().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "build",
                "dotted",
                "inherited",
                "inherited-and-renamed",
                "maybe",
                "plain",
                "renamed",
                "renamed-table",
                "renamed-target",
                "table",
                "target",
            ]
        );
    }

    fn check(members: &[(&str, &str)], table: Table, expected: &[&str]) {
        let folders: Vec<&str> = members.iter().map(|(folder, _)| *folder).collect();
        let root = format!("[workspace]\nresolver = \"3\"\nmembers = {folders:?}\n");
        let members: Vec<(&str, String)> = members
            .iter()
            .map(|(folder, dependencies)| {
                let name = folder.rsplit('/').next().unwrap_or(folder);
                (*folder, format!("[package]\nname = \"{name}\"\n[dependencies]\n{dependencies}"))
            })
            .collect();
        let members: Vec<(&str, &str)> =
            members.iter().map(|(folder, manifest)| (*folder, manifest.as_str())).collect();
        assert_eq!(findings(&workspace(&root, &members), table), expected);
    }

    #[test]
    fn an_edge_outside_the_table_is_found() {
        let renamed = "innocent = { package = \"ledger\", path = \"../../core/ledger\" }";
        check(
            &[("core/ledger", ""), ("apps/web", renamed)],
            &[("ledger", &[]), ("web", &[])],
            &["web: may not depend on ledger", "web: links ledger through its dependencies"],
        );
    }

    #[test]
    fn a_forbidden_crate_is_found_through_an_allowed_one() {
        check(
            &[
                ("core/ledger", ""),
                ("apps/middle", "ledger = { path = \"../../core/ledger\" }"),
                ("apps/gateway", "middle = { path = \"../middle\" }"),
            ],
            &[("ledger", &[]), ("middle", &["ledger"]), ("gateway", &["middle"])],
            &["gateway: links ledger through its dependencies"],
        );
    }

    #[test]
    fn a_pure_crate_may_not_name_a_runtime() {
        check(
            &[("core/ledger", "quiet = { package = \"tokio\", version = \"1\" }\nserde = \"1\"")],
            &[("ledger", &[])],
            &["ledger: is pure, may not use tokio"],
        );
    }

    #[test]
    fn what_one_pure_crate_may_name_another_may_not() {
        check(
            &[("core/verify", "libm = \"0.2\""), ("core/ledger", "libm = \"0.2\"")],
            &[("verify", &[]), ("ledger", &[])],
            &["ledger: is pure, may not use libm"],
        );
    }

    #[test]
    fn the_table_lists_what_there_is() {
        check(
            &[("core/ledger", ""), ("core/new", "")],
            &[("ledger", &[]), ("gone", &[])],
            &["new: not in the table of crates", "gone: in the table, but there is no such crate"],
        );
    }

    #[test]
    fn workspace_lints_are_recognised() {
        for (manifest, expected) in [
            ("[package]\n\n[lints]\nworkspace = true\n", true),
            ("lints.workspace = true\n[package]\n", true),
            ("[lints.rust]\nunsafe_code = \"allow\"\n", false),
            ("[lints]\nworkspace = false\n", false),
            ("# [lints]\n# workspace = true\n", false),
        ] {
            assert_eq!(takes_workspace_lints(manifest), expected, "{manifest}");
        }
    }
}
