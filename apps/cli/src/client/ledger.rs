//! `peerwatt ledger`: the books of a stopped validator, recounted from genesis, and its state as a
//! file.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, bail};
use types::{Hash32, Height};
use validator::SnapshotReport;

use crate::{
    args::{Common, LedgerArgs, LedgerCommand},
    home::{Home, read_genesis},
    output::{Output, utc},
};

pub(crate) fn run(common: Common, args: LedgerArgs, output: Output) -> anyhow::Result<ExitCode> {
    let home = Home::open(&common)?;
    match args.command {
        LedgerCommand::Check => return check(&home, output),
        LedgerCommand::Export { file } => {
            let report = validator::export_snapshot(&home.part("validator"), &file)?;
            let text = format!("wrote {}\n{}", file.display(), describe(&report));
            output.result(&report, text)?;
        }
        LedgerCommand::Import { file, genesis, root } => {
            import(&home, &file, genesis.as_deref(), root, output)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(home: &Home, output: Output) -> anyhow::Result<ExitCode> {
    let report = validator::check(&home.part("validator"))?;
    let clean = report.is_clean();
    let from = match report.from {
        Height(0) => "genesis".to_owned(),
        height => format!("the snapshot after block {height} (older blocks are not here)"),
    };
    let mut text = format!(
        "{} blocks with {} transactions replayed from {from}, {} checks: ",
        report.height.0.saturating_sub(report.from.0),
        report.txs,
        report.invariants_checked
    );
    text.push_str(if clean { "the books close" } else { "THE BOOKS DO NOT CLOSE" });
    for violation in &report.violations {
        let validator::Violation { height, check, detail } = violation;
        text.push_str(&format!("\nblock {height}, {check}: {detail}"));
    }
    output.result(&report, text)?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn import(
    home: &Home,
    file: &Path,
    genesis: Option<&Path>,
    root: Option<Hash32>,
    output: Output,
) -> anyhow::Result<()> {
    let genesis = match genesis {
        Some(path) => read_genesis(path)?,
        None => home.genesis()?.context(
            "this data folder belongs to no network; give the genesis document with --genesis",
        )?,
    };
    let report = validator::check_snapshot(file, &genesis)?;
    if let Some(expected) = root.filter(|root| *root != report.app_hash) {
        bail!("the state in {} has the root {}, not {expected}", file.display(), report.app_hash);
    }
    let text = format!("every entry and invariant holds\n{}", describe(&report));
    output.result(&report, text)
}

fn describe(report: &SnapshotReport) -> String {
    format!(
        "{} after block {} of {}\nroot {}\n{} accounts, {} channels, {} providers, {} validators in {} \
         bytes",
        report.chain_id,
        report.height,
        utc(report.time),
        report.app_hash,
        report.accounts,
        report.channels,
        report.providers,
        report.validators,
        report.bytes
    )
}
