//! House rules on the text of files: a heading in each source file, a limit on its length, the
//! deny list of the pure crates, and words that must not be there.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// A longer file must be split.
const FILE_LINES_MAX: usize = 800;
/// Above this a file is named in the summary of the tests, so that it is split before it must be.
const FILE_LINES_WARN: usize = 600;

/// Folders that hold nothing of ours.
const SKIPPED_FOLDERS: &[&str] = &["target", ".git", "node_modules", "__pycache__", ".venv"];
/// Endings of the files that are read; all else is data.
const TEXT_ENDINGS: &[&str] =
    &["rs", "md", "toml", "py", "mjs", "js", "json", "txt", "html", "css", "sh", "run"];

/// What every pure crate denies outside its tests.
const CORE_DENIES: &[&str] = &[
    "clippy::arithmetic_side_effects",
    "clippy::float_arithmetic",
    "clippy::indexing_slicing",
    "clippy::unwrap_used",
    "clippy::expect_used",
    "clippy::panic",
];

/// The pure crates that may compute with floats. Probabilities are floats by nature; `verify` takes its
/// exponentials from `libm`, and what it hands out to be signed is integers.
const FLOATS_ALLOWED: &[&str] = &["core/verify/"];
const FLOAT_LINT: &str = "clippy::float_arithmetic";

/// Modules of `std` that a pure crate may not name outside its tests: `core/clippy.toml` bans the
/// common functions, this bans the rest of each module.
const CORE_MODULES_BANNED: &[&str] =
    &["std::env", "std::fs", "std::net", "std::process", "std::thread", "std::time"];

/// Words that mark unfinished work or tests that do not run. Split so that this file lacks them.
const WORDS_BANNED: &[&str] =
    &[concat!("to", "do!("), concat!("un", "implemented!("), concat!("#[", "ignore")];

/// Beginnings of paths that exist on one person's machine only.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// A file and its text.
#[derive(Debug)]
pub(super) struct Text {
    /// Relative to the root of the repository, with `/` between parts.
    pub(super) path: String,
    pub(super) text: String,
}

/// Reads every text file of the repository, in order of path.
pub(super) fn read_texts(root: &Path) -> anyhow::Result<Vec<Text>> {
    let mut paths = Vec::new();
    walk(root, &mut paths)?;
    paths.sort();
    let read = |path: PathBuf| {
        let relative = path.strip_prefix(root)?;
        let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("read {} as text", path.display()))?;
        Ok(Text { path: parts.join("/"), text })
    };
    paths.into_iter().map(read).collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name();
        if kind.is_dir() {
            if !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) {
                walk(&path, paths)?;
            }
        } else if kind.is_file() && is_text(&path) {
            paths.push(path);
        }
    }
    Ok(())
}

fn is_text(path: &Path) -> bool {
    let ending = path.extension().or_else(|| path.file_name()).unwrap_or_default();
    TEXT_ENDINGS.iter().any(|known| ending == *known)
}

/// What is out of order in `texts`.
pub(super) fn findings(texts: &[Text]) -> Vec<String> {
    texts.iter().flat_map(findings_in).chain(lifted_bans(texts)).collect()
}

/// Bans of `core/clippy.toml` that the own file of a pure crate lifts, but for those on floats.
fn lifted_bans(texts: &[Text]) -> Vec<String> {
    let bans = |path: &str| -> Vec<&str> {
        let file = texts.iter().find(|file| file.path == path);
        let lines = file.into_iter().flat_map(|file| file.text.lines()).map(str::trim);
        lines.filter(|line| line.starts_with("{ path =")).collect()
    };
    let all = bans("core/clippy.toml");
    let own = texts.iter().map(|file| file.path.as_str()).filter(|path| {
        path.starts_with("core/") && path.ends_with("/clippy.toml") && *path != "core/clippy.toml"
    });
    own.flat_map(|path| {
        let kept = bans(path);
        let floats = FLOATS_ALLOWED.iter().any(|folder| path.starts_with(folder));
        let is_float = |ban: &str| ban.contains("\"f32\"") || ban.contains("\"f64\"");
        let lifted = all.iter().filter(move |ban| !(kept.contains(ban) || floats && is_float(ban)));
        lifted.map(move |ban| format!("{path}: lifts the ban {ban}"))
    })
    .collect()
}

/// Files that are allowed, but grow too long.
pub(crate) fn long_files(root: &Path) -> anyhow::Result<Vec<String>> {
    let texts = read_texts(root)?;
    let long = texts.iter().filter(|file| file.path.ends_with(".rs")).filter_map(|file| {
        let lines = file.text.lines().count();
        (lines > FILE_LINES_WARN).then(|| format!("{}: {lines} lines", file.path))
    });
    Ok(long.collect())
}

fn findings_in(file: &Text) -> Vec<String> {
    let Text { path, text } = file;
    let mut findings = machine_paths(file);
    if !path.ends_with(".rs") {
        return findings;
    }
    if !text.starts_with("//!") {
        findings.push(format!("{path}: does not begin with `//!` that says what it is for"));
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        findings.push(format!("{path}: {lines} lines, at most {FILE_LINES_MAX}"));
    }
    for (number, line) in numbered(text) {
        for word in WORDS_BANNED.iter().filter(|word| line.contains(*word)) {
            findings.push(format!("{path}:{number}: `{word}` may not be committed"));
        }
    }
    if path.starts_with("core/") && path.contains("/src/") {
        findings.extend(impure(file));
    }
    findings
}

fn machine_paths(Text { path, text }: &Text) -> Vec<String> {
    let lines = numbered(text);
    let hits = lines.filter(|(_, line)| MACHINE_PATHS.iter().any(|known| names_path(line, known)));
    hits.map(|(number, _)| format!("{path}:{number}: names a path of one machine")).collect()
}

/// Whether `line` has `start` where a path may begin, as in `"/x/` but not in `https://a/x/`.
fn names_path(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|it| it.is_alphanumeric() || matches!(it, '.' | '_' | '-' | '}' | '~'))
    })
}

fn impure(Text { path, text }: &Text) -> Vec<String> {
    let mut findings = Vec::new();
    if path.ends_with("/src/lib.rs") {
        let floats = FLOATS_ALLOWED.iter().any(|folder| path.starts_with(folder));
        let asked = CORE_DENIES.iter().filter(|lint| !(floats && **lint == FLOAT_LINT));
        let missing = asked.filter(|lint| !text.contains(*lint));
        findings.extend(missing.map(|lint| format!("{path}: is pure, does not deny {lint}")));
        if !text.contains("cfg_attr(\n    not(test),\n    deny(") {
            findings.push(format!("{path}: is pure, lacks `cfg_attr(not(test), deny(…))`"));
        }
    }
    if path.ends_with("tests.rs") || path.contains("/tests/") {
        return findings;
    }
    let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    for (number, line) in numbered(before_tests) {
        let code = line.split("//").next().unwrap_or_default();
        for module in CORE_MODULES_BANNED.iter().filter(|module| code.contains(*module)) {
            findings.push(format!("{path}:{number}: is pure, may not name {module}"));
        }
    }
    findings
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let file = Text { path: path.to_owned(), text: text.to_owned() };
        assert_eq!(findings_in(&file), expected);
    }

    #[test]
    fn a_source_file_says_what_it_is_for_and_is_short() {
        check("edge/x/src/lib.rs", "//! For x.\nfn x() {}\n", &[]);
        check(
            "edge/x/src/lib.rs",
            "fn x() {}\n",
            &["edge/x/src/lib.rs: does not begin with `//!` that says what it is for"],
        );
        check("a.rs", &"//! Long.\n".repeat(800), &[]);
        check("a.rs", &"//! Long.\n".repeat(801), &["a.rs: 801 lines, at most 800"]);
    }

    #[test]
    fn unfinished_work_is_found() {
        let text = format!("//! X.\nfn x() {{ {}) }}\n", WORDS_BANNED[0]);
        let expected = format!("a.rs:2: `{}` may not be committed", WORDS_BANNED[0]);
        check("a.rs", &text, &[&expected]);
    }

    #[test]
    fn paths_of_a_machine_are_found_and_addresses_are_not() {
        let path = MACHINE_PATHS[0];
        check("a.md", &format!("see `{path}x`"), &["a.md:1: names a path of one machine"]);
        check("a.md", &format!("{path}x"), &["a.md:1: names a path of one machine"]);
        check("a.md", &format!("see https://example.org{path}x"), &[]);
    }

    #[test]
    fn a_pure_crate_denies_panics_and_names_no_outside_thing() {
        let denies = CORE_DENIES.join(", ");
        let head = format!("//! X.\n#![cfg_attr(\n    not(test),\n    deny({denies})\n)]\n");
        check("core/x/src/lib.rs", &head, &[]);
        check(
            "core/x/src/lib.rs",
            &head.replace("clippy::panic", "clippy::all"),
            &["core/x/src/lib.rs: is pure, does not deny clippy::panic"],
        );
        let floats = head.replace("clippy::float_arithmetic, ", "");
        check("core/verify/src/lib.rs", &floats, &[]);
        check(
            "core/x/src/lib.rs",
            &floats,
            &["core/x/src/lib.rs: is pure, does not deny clippy::float_arithmetic"],
        );
        let text = "//! X.\nuse std::net::IpAddr;\n// std::fs\n#[cfg(test)]\nuse std::fs;\n";
        check("core/x/src/a.rs", text, &["core/x/src/a.rs:2: is pure, may not name std::net"]);
        check("edge/x/src/a.rs", text, &[]);
        check("core/x/tests/a.rs", text, &[]);
    }

    #[test]
    fn a_pure_crate_lifts_no_ban_but_that_on_floats() {
        let bans = "x = [\n  { path = \"std::fs::read\" },\n  { path = \"f64\" },\n]\n";
        let check = |path: &str, own: &str, expected: &[&str]| {
            let file = |path: &str, text: &str| Text { path: path.into(), text: text.into() };
            let texts = [file("core/clippy.toml", bans), file(path, own)];
            assert_eq!(findings(&texts), expected);
        };
        check("core/x/clippy.toml", bans, &[]);
        check("core/verify/clippy.toml", "x = [\n  { path = \"std::fs::read\" },\n]\n", &[]);
        check(
            "core/x/clippy.toml",
            "x = [\n  { path = \"std::fs::read\" },\n]\n",
            &["core/x/clippy.toml: lifts the ban { path = \"f64\" },"],
        );
        check(
            "core/verify/clippy.toml",
            "x = []\n",
            &["core/verify/clippy.toml: lifts the ban { path = \"std::fs::read\" },"],
        );
    }
}
