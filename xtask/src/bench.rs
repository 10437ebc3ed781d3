//! `cargo xtask bench gateway`: the gateway beside nginx, in one run; [`ledger`] is a module of its own.
//!
//! Both stand before something that makes the same tokens at the same pace: nginx before a small
//! server of ours ([`upstream`]), the gateway before a provider with the dummy engine. They are
//! loaded in turn, several rounds long, by the same blocking load generator ([`load`]), and what
//! is compared are medians of the rounds of one run: absolute figures drift with the machine, the
//! ratio to nginx much less. Everything is on loopback, bounded in time, and ends with the run.

mod document;
mod figures;
pub(crate) mod ledger;
mod load;
mod nginx;
mod peerwatt;
mod process;
pub(crate) mod replica;
pub(crate) mod upstream;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use figures::{Figures, Round};
use load::Load;
use process::{Children, Scratch};

/// Completion tokens of a plain request. Short: what is measured is the way, not the engine.
const PLAIN_TOKENS: u32 = 16;
/// Tokens of a stream, one chunk each.
pub(crate) const STREAM_TOKENS: u32 = 64;
/// Time between two tokens of a stream, about that of a model on a home machine.
pub(crate) const STREAM_PACE: Duration = Duration::from_millis(20);
/// Requests in flight.
const CONNECTIONS: usize = 32;
/// How long plain requests are sent in one round.
const PLAIN_TIME: Duration = Duration::from_secs(4);
/// Streams that each connection reads in one round: about as long.
const STREAMS_PER_CONNECTION: u32 = 3;
const ROUNDS_MAX: usize = 9;

/// What the command line asks for.
struct Options {
    rounds: usize,
    json: bool,
    out: Option<PathBuf>,
}

/// Something to load, and the processes whose time is charged to it.
struct Target {
    name: &'static str,
    load: Load,
    /// Each with all its descendants. Empty: nothing stands in between.
    pids: Vec<u32>,
}

/// Measures, prints, and writes the figures into a document if asked to.
pub(crate) fn gateway(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let options = Options::parse(arguments)?;
    if cfg!(debug_assertions) {
        return run_release("gateway", &["peerwatt", "xtask"], arguments);
    }
    let scratch = Scratch::new()?;
    let mut children = Children::default();
    let targets = start(&scratch, &mut children)?;
    let figures = measure(&targets, options.rounds)?;
    if options.json {
        println!("{}", figures.json());
    } else {
        print!("{}", figures.table());
    }
    if let Some(document) = &options.out {
        document::replace_in(document, "figures", &figures.table())?;
        eprintln!("wrote {}", document.display());
    }
    Ok(ExitCode::SUCCESS)
}

impl Options {
    fn parse(arguments: &[&str]) -> anyhow::Result<Options> {
        let mut options = Options { rounds: 3, json: false, out: None };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match *argument {
                "--json" => options.json = true,
                "--rounds" => {
                    let value = arguments.next().context("--rounds needs a number")?;
                    options.rounds = value.parse().context("--rounds needs a number")?;
                    ensure!((1..=ROUNDS_MAX).contains(&options.rounds), "--rounds: 1 to 9");
                }
                "--out" => {
                    options.out = Some(arguments.next().context("--out needs a file")?.into());
                }
                other => bail!("bench gateway has no option `{other}`; see `cargo xtask help`"),
            }
        }
        Ok(options)
    }
}

/// Builds what is measured, and this program, with optimisation, and starts over in that.
fn run_release(bench: &str, packages: &[&str], arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let mut build = vec!["build", "--release"];
    packages.iter().for_each(|package| build.extend(["--package", package]));
    let built = crate::test::cargo(&build).status().context("start cargo build")?;
    ensure!(built.success(), "the release build failed");
    let xtask = target_dir()?.join("release").join("xtask");
    let status = Command::new(&xtask)
        .args(["bench", bench])
        .args(arguments)
        .status()
        .with_context(|| format!("start {}", xtask.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where cargo puts what it builds.
fn target_dir() -> anyhow::Result<PathBuf> {
    let output =
        crate::test::cargo(&["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .output()
            .context("run cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("read the output of cargo metadata")?;
    let path = metadata["target_directory"].as_str().context("metadata names no target folder")?;
    Ok(PathBuf::from(path))
}

fn start(scratch: &Scratch, children: &mut Children) -> anyhow::Result<Vec<Target>> {
    let own = std::env::current_exe().context("find this program")?;
    let upstream = children.start(Command::new(own).arg("bench-upstream"), "upstream")?;
    let upstream_addr = upstream.ready_addr("addr")?;
    let openai = |addr| Load::new(addr, "upstream", None);
    let nginx = nginx::start(scratch, children, upstream_addr)?;
    let mut targets = vec![
        Target { name: "direct", load: openai(upstream_addr), pids: vec![] },
        Target { name: "nginx", load: openai(nginx.addr), pids: vec![nginx.pid] },
    ];
    let binary = target_dir()?.join("release").join("peerwatt");
    targets.extend(peerwatt::start(&binary, scratch, children)?);
    Ok(targets)
}

fn measure(targets: &[Target], rounds: usize) -> anyhow::Result<Figures> {
    let mut figures = Figures::new(targets.iter().map(|target| target.name));
    for target in targets {
        // Connections, caches and channels are warm before anything counts.
        target.load.plain(PLAIN_TOKENS, CONNECTIONS, Duration::from_millis(500))?;
        figures.idle(target.name, process::memory_kib(&target.pids));
    }
    for round in 1..=rounds {
        for target in targets {
            eprintln!("round {round} of {rounds}: {}", target.name);
            figures.add(target.name, measure_once(target)?);
        }
    }
    Ok(figures)
}

fn measure_once(target: &Target) -> anyhow::Result<Round> {
    let before = process::cpu(&target.pids)?;
    let plain = target.load.plain(PLAIN_TOKENS, CONNECTIONS, PLAIN_TIME)?;
    let between = process::cpu(&target.pids)?;
    let streams = target.load.streams(STREAM_TOKENS, CONNECTIONS, STREAMS_PER_CONNECTION)?;
    let after = process::cpu(&target.pids)?;
    Ok(Round { plain, plain_cpu: between - before, streams, streams_cpu: after - between })
}

/// A folder in memory where the system has one, so that no disk is measured.
fn memory_folder() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_path_buf() } else { std::env::temp_dir() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused() {
        let options = Options::parse(&["--rounds", "2", "--json", "--out", "a.md"]).unwrap();
        assert_eq!((options.rounds, options.json), (2, true));
        assert_eq!(options.out, Some(PathBuf::from("a.md")));
        for bad in [&["--rounds"][..], &["--rounds", "10"], &["--out"], &["--fast"]] {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }
}
