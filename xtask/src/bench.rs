//! `cargo xtask bench gateway`: the gateway beside other proxies, in one run; [`ledger`] is a module of its own.
//!
//! All stand before something that makes the same tokens at the same pace: the proxies before a small
//! server of ours ([`upstream`]), the gateway before that too, and before a provider with the dummy engine. They are
//! loaded in turn, several rounds long, by the same blocking load generator ([`load`]), and what
//! is compared are medians of the rounds of one run: absolute figures drift with the machine, the
//! ratio to nginx much less. Everything is on loopback, bounded in time, and ends with the run.

mod bars;
mod document;
mod figures;
pub(crate) mod ledger;
mod load;
mod options;
mod process;
pub(crate) mod replica;
mod rows;
mod scenarios;
pub(crate) mod verify;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, ensure};
use figures::Figures;
use load::Ask;
use options::Options;
use process::{Children, Scratch};
use rows::{Started, widen};
pub(crate) use rows::{relay, upstream};
use scenarios::{Scenario, measure};

/// The profile of binaries that are handed out: what an operator runs is what is measured.
const DIST: &str = "dist";
/// Tokens of a stream, one chunk each.
pub(crate) const STREAM_TOKENS: u32 = 64;
/// Time between two tokens of a stream, about that of a model on a home machine.
pub(crate) const STREAM_PACE: Duration = Duration::from_millis(20);

/// Measures, prints, and writes the figures into a document if asked to.
pub(crate) fn gateway(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let options = Options::parse(arguments)?;
    if cfg!(debug_assertions) {
        return run_optimised("gateway", DIST, &["peerwatt", "xtask"], arguments);
    }
    let scratch = Scratch::new()?;
    let mut children = Children::default();
    let rows = rows::start(&options.rows, &scratch, &mut children)?;
    let mut figures = Figures::default();
    figures.leave_out(rows.left_out);
    in_rounds(&rows.started, &options, &mut figures)?;
    if options.crowds().next().is_some() {
        widen(&rows.started, &scratch, &mut children)?;
        crowds(&rows.started, &options, &mut figures)?;
    }
    if options.json {
        println!("{}", figures.json());
    } else {
        print!("{}", figures.tables());
    }
    if let Some(document) = &options.out {
        document::replace_in(document, "figures", &figures.tables())?;
        eprintln!("wrote {}", document.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn in_rounds(rows: &[Started], options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    for started in rows {
        // Connections, caches and channels are warm before anything counts.
        started.load.closed(Ask::Plain, started.row.connections(), Duration::from_millis(500))?;
        figures.idle(started.row, process::memory_kib(&started.pids));
    }
    for round in 1..=options.rounds {
        for scenario in options.in_rounds() {
            for started in rows.iter().filter(|row| scenario.suits(row)) {
                eprintln!(
                    "round {round} of {}: {}, {}",
                    options.rounds,
                    scenario.name(),
                    started.row.name()
                );
                record(scenario, started, figures)?;
            }
        }
    }
    Ok(())
}

fn crowds(rows: &[Started], options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    for scenario in options.crowds() {
        for started in rows.iter().filter(|row| scenario.suits(row)) {
            eprintln!("{}, {}", scenario.name(), started.row.name());
            record(scenario, started, figures)?;
        }
    }
    Ok(())
}

fn record(scenario: Scenario, started: &Started, figures: &mut Figures) -> anyhow::Result<()> {
    let sample = measure(scenario, started)
        .with_context(|| format!("{}, {}", scenario.name(), started.row.name()))?;
    figures.add(started.row, scenario, sample);
    Ok(())
}

/// Builds what is measured, and this program, by a profile with optimisation, and starts over in that.
fn run_optimised(
    bench: &str,
    profile: &str,
    packages: &[&str],
    arguments: &[&str],
) -> anyhow::Result<ExitCode> {
    let mut build = vec!["build", "--profile", profile];
    packages.iter().for_each(|package| build.extend(["--package", package]));
    let built = crate::test::cargo(&build).status().context("start cargo build")?;
    ensure!(built.success(), "the build by the profile {profile} failed");
    let xtask = target_dir()?.join(profile).join("xtask");
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

/// A folder in memory where the system has one, so that no disk is measured.
fn memory_folder() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_path_buf() } else { std::env::temp_dir() }
}
