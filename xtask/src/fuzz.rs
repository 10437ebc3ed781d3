//! `cargo xtask fuzz`: every program of `fuzz/` for a bounded time, where the toolchain allows.
//!
//! `cargo fuzz` needs a nightly compiler. Where one of the two is missing, this says so and fails
//! nothing: the same targets run on every toolchain as tests of `fuzz-targets`.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail, ensure};

use crate::{
    test::{cargo, forget_package},
    walls,
};

/// Seconds for each target if nothing is said: a smoke test. Finding something takes hours.
const SECONDS: u64 = 20;
/// Bytes of one input. Long enough for every seed but the snapshots, whose length is their own.
const BYTES_MAX: u64 = 16 * 1024;
/// Memory of one target, in MiB: bytes that make a decoder allocate without end are a finding.
const MEMORY_MIB_MAX: u64 = 1_024;

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let seconds = match arguments {
        [] => SECONDS,
        ["--seconds", value] => value.parse().context("--seconds needs a number")?,
        _ => bail!("`fuzz` takes only `--seconds N`; see `cargo xtask help`"),
    };
    if let Some(missing) = missing() {
        println!("skipped: {missing}; `cargo test -p fuzz-targets` runs the same targets");
        return Ok(ExitCode::SUCCESS);
    }
    let mut seeds = cargo(&["run", "--quiet", "--package", "fuzz-targets", "--example", "seeds"]);
    let corpus = walls::repository_root().join("fuzz").join("corpus");
    let written = seeds.arg("--").arg(&corpus).status().context("start cargo run")?;
    ensure!(written.success(), "the seeds could not be written");
    let listed = fuzz(&["list"]).stderr(Stdio::inherit()).output().context("start cargo fuzz")?;
    ensure!(listed.status.success(), "cargo fuzz could not list its targets");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut failed = Vec::new();
    for target in listed.lines().filter(|line| !line.is_empty()) {
        eprintln!("== {target}, {seconds} s");
        let run = ["run", target, "--"];
        let status = fuzz(&run).args(limits(seconds)).status().context("start cargo fuzz")?;
        if !status.success() {
            failed.push(target);
        }
    }
    if failed.is_empty() {
        println!("no target found anything in {seconds} s each");
        return Ok(ExitCode::SUCCESS);
    }
    println!("failed: {}; the inputs are in fuzz/artifacts", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn limits(seconds: u64) -> [String; 3] {
    [
        format!("-max_total_time={seconds}"),
        format!("-max_len={BYTES_MAX}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
    ]
}

/// `cargo fuzz` on the nightly toolchain. Through `rustup`, because the cargo that runs this program
/// is that of one toolchain and knows no other.
fn fuzz(arguments: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz"]).args(arguments);
    command
        .current_dir(walls::repository_root())
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN");
    forget_package(&mut command);
    command
}

/// What keeps `cargo fuzz` from running here.
fn missing() -> Option<&'static str> {
    let works = |command: &mut Command| {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    };
    if !works(Command::new("rustup").args(["run", "nightly", "rustc", "--version"])) {
        return Some("no nightly toolchain (`rustup toolchain install nightly`)");
    }
    if !works(&mut fuzz(&["--version"])) {
        return Some("no cargo-fuzz (`cargo install cargo-fuzz`)");
    }
    None
}
