//! Tasks of this repository: `cargo xtask test`, `walls`, `bench gateway`, `bench ledger`, `chaos gateway`,
//! `fuzz`.
//!
//! A program of its own, so that it can start cargo, and light, so that it builds in seconds: it
//! looks at the project from outside, as files and as processes. The one exception is the ledger,
//! which it measures: a library without a runtime, that only runs inside a process.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal: results on stdout, progress on stderr"
)]

mod bench;
mod chaos;
mod fuzz;
mod test;
mod walls;

use std::process::ExitCode;

use anyhow::bail;

const HELP: &str = "\
Tasks of the Peerwatt repository.

Usage: cargo xtask COMMAND

Commands:
  test           everything a change must pass: formatting, walls, lints, documentation, tests
    --quick      without the clients and servers of others (OpenAI's SDKs, llama.cpp, a browser)
  walls          only the dependency table and the house rules; seconds
  fuzz           every decoder that a peer can reach, under cargo fuzz
    --seconds N  for each target (default 20)
  chaos gateway  clients of a gateway half of whose providers misbehave while the others are cut off
    --requests N (default 5000)
  bench gateway  the gateway beside nginx, HAProxy and routers, in one run
    --rounds N   interleaved rounds, 1 to 9 (default 3)
    --only A,B   these rows and scenarios, by name; a wrong name lists them
    --json       the figures as JSON
    --out FILE   replace the figures in FILE, between its two `figures` comments
  bench ledger   the ledger on one thread, beside the verification of signatures
    --check      fail if a bar is not met
    --json       the figures as JSON
    --out FILE   replace the figures in FILE, between its two `ledger figures` comments
  bench replica  blocks of one validator beside a bare write and sync, of several in memory
    --disk DIR   where the one validator writes (default: here)
    --check, --json, --out FILE as above, between its two `replica figures` comments
  bench verify   how well audits tell providers apart, and what they cost
    --check      fail if a bar is not met, and name it
    --json       the figures as JSON
    --out FILE   replace the figures in FILE, between its two `verify figures` comments, and the
                 curves in figures/verify-roc.svg beside it
    --dump DIR   the scores of each token there, as CSV
  bench scoring  what scoring an answer costs beside making it; needs cmake and libclang
    --check, --out FILE as above, between its two `scoring figures` comments
";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["test"] => test::run(test::Scope::Everything),
        ["test", "--quick"] => test::run(test::Scope::Quick),
        ["walls"] => check_walls(),
        ["bench", "gateway", options @ ..] => bench::gateway(options),
        ["bench", "ledger", options @ ..] => bench::ledger::ledger(options),
        ["bench", "replica", options @ ..] => bench::replica::run(options),
        ["bench", "verify", options @ ..] => bench::verify::run(options),
        ["bench", "scoring", options @ ..] => bench::verify::scoring::run(options),
        ["chaos", "gateway", options @ ..] => chaos::gateway(options),
        ["fuzz", options @ ..] => fuzz::run(options),
        ["bench-upstream"] => bench::upstream::serve(),
        ["bench-relay", upstream] => bench::relay::serve(upstream),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("no task `{}`; `cargo xtask help` lists them", other.join(" ")),
    }
}

fn check_walls() -> anyhow::Result<ExitCode> {
    let root = walls::repository_root();
    let findings = walls::findings(&root)?;
    findings.iter().for_each(|finding| println!("{finding}"));
    for file in walls::long_files(&root)? {
        eprintln!("long: {file}");
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
