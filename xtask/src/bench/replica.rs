//! `cargo xtask bench replica`: what agreeing on blocks costs. The measuring is a program of the validator's
//! own (`apps/validator/benches/replica.rs`), because this one links no engine; here it is started, its
//! figures are put into tables and held against the bars.

use std::{
    path::{self, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::document;

/// Commit latency of one validator over a bare write and sync of the same bytes.
const RATIO_MAX: f64 = 6.0;
/// Transactions of about 200 bytes that four validators decide in a second.
const TXS_PER_S_MIN: f64 = 3_000.0;
const FINALITY_MS_MAX: f64 = 1_000.0;
/// Share of a core that an idle node uses.
const IDLE_MAX: f64 = 0.02;

/// Measures, prints, and writes the figures into a document if asked to.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let (mut json, mut check, mut out, mut disk) = (false, false, None, None);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "--json" => json = true,
            "--check" => check = true,
            "--out" => {
                out = Some(PathBuf::from(arguments.next().context("--out needs a file")?));
            }
            "--disk" => {
                // The benchmark runs in a folder of its own.
                let folder = arguments.next().context("--disk needs a folder")?;
                disk = Some(path::absolute(folder).context("--disk needs a folder")?);
            }
            other => bail!("bench replica has no option `{other}`; see `cargo xtask help`"),
        }
    }
    let mut bench = vec!["bench", "--package", "validator", "--bench", "replica", "--"];
    let disk = disk.map_or_else(std::env::current_dir, Ok).context("where does this run?")?;
    bench.push(disk.to_str().context("the folder's name is not UTF-8")?);
    let output = crate::test::cargo(&bench)
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo bench")?;
    ensure!(output.status.success(), "the benchmark failed");
    let text = String::from_utf8(output.stdout).context("read the figures")?;
    let figures: Value = serde_json::from_str(text.trim()).context("read the figures")?;
    let (tables, met) = tables(&figures);
    if json {
        println!("{figures}")
    } else {
        print!("{tables}")
    }
    if let Some(document) = &out {
        document::replace_in(document, "replica figures", &tables)?;
        eprintln!("wrote {}", document.display());
    }
    Ok(if check && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// The bars with what was measured, and all figures; whether all bars are met.
fn tables(figures: &Value) -> (String, bool) {
    let one = &figures["one"];
    let several: Vec<&Value> = figures["several"].as_array().into_iter().flatten().collect();
    let four = several.first().copied().unwrap_or(&Value::Null);
    let bars = [
        (
            "commit of one validator over write and sync, p50",
            RATIO_MAX,
            false,
            number(&one["ratio_p50"]),
        ),
        (
            "transactions per second, four validators",
            TXS_PER_S_MIN,
            true,
            number(&four["load"]["txs_per_s"]),
        ),
        (
            "finality with four validators under load, p50 ms",
            FINALITY_MS_MAX,
            false,
            number(&four["load"]["finality_ms_p50"]),
        ),
        (
            "share of a core of an idle node, of four",
            IDLE_MAX,
            false,
            number(&four["idle_core_share_per_node"]),
        ),
    ];
    let mut text = String::from("| bar | limit | measured | |\n|---|---|---|---|\n");
    let mut all_met = true;
    for (name, limit, at_least, measured) in bars {
        let met = if at_least { measured >= limit } else { measured <= limit };
        all_met &= met;
        let (side, verdict) = (
            if at_least { "at least" } else { "at most" },
            if met { "met" } else { "**not met**" },
        );
        text += &format!("| {name} | {side} {limit} | {measured:.3} | {verdict} |\n");
    }
    text += &format!(
        "\n| one validator, on disk | |\n|---|---|\n| commit of one transaction, p50 / p99 | {:.2} / {:.2} ms |\n\
         | write and sync of 1 KiB, p50 / p99 | {:.2} / {:.2} ms |\n| syncs of a block with one transaction | {} |\n| under load | {:.0} transactions/s, {:.1} blocks/s |\n",
        number(&one["commit_ms_p50"]),
        number(&one["commit_ms_p99"]),
        number(&one["write_sync_ms_p50"]),
        number(&one["write_sync_ms_p99"]),
        one["fsyncs_per_block"]
            .as_f64()
            .map_or("not counted".to_owned(), |count| format!("{count:.1}")),
        number(&one["load"]["txs_per_s"]),
        number(&one["load"]["blocks_per_s"]),
    );
    text += "\n| validators, in memory | transactions/s | blocks/s | finality p50 / p99 ms | CPU ms per block and node | cores in use | idle: % of a core per node |\n|---|---|---|---|---|---|---|\n";
    for network in several {
        let load = &network["load"];
        text += &format!(
            "| {} | {:.0} | {:.1} | {:.0} / {:.0} | {:.1} | {:.2} | {:.2} |\n",
            network["validators"],
            number(&load["txs_per_s"]),
            number(&load["blocks_per_s"]),
            number(&load["finality_ms_p50"]),
            number(&load["finality_ms_p99"]),
            number(&load["cpu_ms_per_block_and_node"]),
            number(&load["cpu_cores"]),
            100.0 * number(&network["idle_core_share_per_node"]),
        );
    }
    (text, all_met)
}
