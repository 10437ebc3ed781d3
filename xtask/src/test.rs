//! `cargo xtask test`: everything a change must pass, quickest first, in one run.
//!
//! A phase that fails does not stop the later ones, so one run shows all that is wrong. A test
//! that cannot run (no network, no Python) passes and appends a line `NAME: reason` to the file
//! that [`REPORT_VARIABLE`] names; the summary at the end lists those lines, so nothing is left
//! out silently.

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::walls;

/// Names the file to which tests append what they skipped.
const REPORT_VARIABLE: &str = "PEERWATT_TEST_REPORT";
/// Set for `--quick`: tests that need the programs of others skip themselves.
const QUICK_VARIABLE: &str = "PEERWATT_TEST_QUICK";

/// What to run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Everything,
    /// Without the clients and servers of others.
    Quick,
}

/// What came of one phase.
struct Phase {
    name: &'static str,
    passed: bool,
    took: Duration,
}

/// Sums of cargo's `test result:` lines, and the names of tests that failed.
#[derive(Default, Debug, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<String>,
}

/// Runs all phases and prints a summary.
pub(crate) fn run(scope: Scope) -> anyhow::Result<ExitCode> {
    let report = Report::new();
    let mut counts = Counts::default();
    let root = walls::repository_root();
    let mut phases = vec![
        phase("format", || succeeds(&mut cargo(&["fmt", "--all", "--check"])))?,
        phase("walls", || {
            let findings = walls::findings(&root)?;
            findings.iter().for_each(|finding| println!("{finding}"));
            Ok(findings.is_empty())
        })?,
        phase("lints", || {
            succeeds(&mut cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ]))
        })?,
        phase("documentation", || {
            let mut command = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
            succeeds(command.env("RUSTDOCFLAGS", "-D warnings"))
        })?,
        phase("tests", || {
            let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
            command.env(REPORT_VARIABLE, &report.path);
            if scope == Scope::Quick {
                command.env(QUICK_VARIABLE, "1");
            }
            counts_of(&mut command, &mut counts)
        })?,
    ];
    let mut skipped = report.lines()?;
    match llama_is_left_out(scope) {
        Some(reason) => skipped.push(format!("llama: {reason}")),
        None => phases.push(phase("llama", || llama(&mut counts))?),
    }
    for file in walls::long_files(&root)? {
        println!("long, split it before it must be: {file}");
    }
    summary(&phases, &counts, &skipped);
    let passed = phases.iter().all(|phase| phase.passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// llama.cpp in process, in a step of its own: with its feature all that links the engine is built once more, so only what it
/// is about. The build of llama.cpp itself stays in the target folder.
fn llama(counts: &mut Counts) -> anyhow::Result<bool> {
    let features = ["--workspace", "--features", "engine/llama,audit-lab/llama"];
    let mut clippy = cargo(&["clippy"]);
    clippy.args(features).args(["--test", "llama", "--example", "scoring", "--", "-D", "warnings"]);
    let is_clean = succeeds(&mut clippy)?;
    let mut tests = cargo(&["test"]);
    tests.args(features).args(["--no-fail-fast", "--test", "llama"]);
    Ok(counts_of(&mut tests, counts)? && is_clean)
}

/// Why that step cannot be made here.
fn llama_is_left_out(scope: Scope) -> Option<&'static str> {
    let starts = |program: &str| {
        let mut command = Command::new(program);
        let command = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if scope == Scope::Quick {
        return Some("left out of a quick run");
    }
    let has_libclang = std::env::var_os("LIBCLANG_PATH").is_some() || starts("clang");
    let missing = !(starts("cmake") && has_libclang);
    missing.then_some(
        "building llama.cpp needs cmake and libclang (Debian: cmake, clang, libclang-dev)",
    )
}

fn phase(name: &'static str, run: impl FnOnce() -> anyhow::Result<bool>) -> anyhow::Result<Phase> {
    eprintln!("== {name}");
    let started = Instant::now();
    let passed = run().with_context(|| format!("run the phase `{name}`"))?;
    let phase = Phase { name, passed, took: started.elapsed() };
    eprintln!("== {}", phase.line());
    Ok(phase)
}

impl Phase {
    fn line(&self) -> String {
        let verdict = if self.passed { "ok" } else { "FAILED" };
        format!("{:14} {verdict:6} {:>6.1} s", self.name, self.took.as_secs_f64())
    }
}

fn summary(phases: &[Phase], counts: &Counts, skipped: &[String]) {
    println!("\nsummary");
    phases.iter().for_each(|phase| println!("  {}", phase.line()));
    counts.failures.iter().for_each(|name| println!("  failed: {name}"));
    skipped.iter().for_each(|line| println!("  skipped: {line}"));
    if counts.ignored > 0 {
        println!("  ignored: {} tests that cargo was told not to run", counts.ignored);
    }
    println!("\n{} passed, {} failed, {} skipped", counts.passed, counts.failed, skipped.len());
}

/// Cargo, at the root of the repository.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(walls::repository_root());
    forget_package(&mut command);
    command
}

/// Takes away what the `cargo run` around this program left in the environment: build scripts that
/// watch those variables would run again, and their crates be built twice.
pub(crate) fn forget_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let of_a_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if of_a_package.iter().any(|start| name.starts_with(start)) {
            command.env_remove(&*name);
        }
    }
}

fn succeeds(command: &mut Command) -> anyhow::Result<bool> {
    let status = command.status().context("start cargo")?;
    Ok(status.success())
}

/// Runs cargo's tests, passes their output on line by line and adds up what it says.
fn counts_of(command: &mut Command, counts: &mut Counts) -> anyhow::Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("start cargo test")?;
    let output = child.stdout.take().context("cargo test has an output")?;
    let mut terminal = std::io::stdout().lock();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("read the output of cargo test")?;
        counts.read(&String::from_utf8_lossy(&line));
        terminal.write_all(&line)?;
        terminal.write_all(b"\n")?;
    }
    let status = child.wait().context("wait for cargo test")?;
    Ok(status.success())
}

impl Counts {
    fn read(&mut self, line: &str) {
        if let Some(failed) =
            line.strip_prefix("test ").and_then(|it| it.strip_suffix(" ... FAILED"))
        {
            self.failures.push(failed.to_owned());
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let Some(number) = words.next().and_then(|it| it.parse::<u64>().ok()) else { continue };
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                Some("ignored") => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// The file in which tests say what they skipped; gone when dropped.
struct Report {
    path: PathBuf,
}

impl Report {
    fn new() -> Report {
        let name = format!("peerwatt-test-report-{}", std::process::id());
        Report { path: std::env::temp_dir().join(name) }
    }

    /// What was skipped, sorted, since tests run in no fixed order. No file: nothing was.
    fn lines(&self) -> anyhow::Result<Vec<String>> {
        if !self.path.try_exists()? {
            return Ok(Vec::new());
        }
        let text = std::fs::read_to_string(&self.path).context("read the report of the tests")?;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        // Absent when nothing was skipped.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_result_lines_are_added_up() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test a::fine ... ok",
            "test a::broken ... FAILED",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 4 filtered out; finished in 0.10s",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 12.00s",
        ] {
            counts.read(line);
        }
        let failures = vec!["a::broken".to_owned()];
        assert_eq!(counts, Counts { passed: 7, failed: 1, ignored: 1, failures });
    }
}
