//! `peerwatt ledger check`: the books of a stopped validator, recounted from genesis.

use std::process::ExitCode;

use crate::{
    args::{Common, LedgerArgs, LedgerCommand},
    home::Home,
    output::Output,
};

pub(crate) fn run(common: Common, args: LedgerArgs, output: Output) -> anyhow::Result<ExitCode> {
    let LedgerCommand::Check = args.command;
    let home = Home::open(&common)?;
    let report = validator::check(&home.part("validator"))?;
    let clean = report.is_clean();
    let mut text = format!(
        "{} blocks with {} transactions replayed from genesis, {} checks: ",
        report.height, report.txs, report.invariants_checked
    );
    text.push_str(if clean { "the books close" } else { "THE BOOKS DO NOT CLOSE" });
    for violation in &report.violations {
        let validator::Violation { height, check, detail } = violation;
        text.push_str(&format!("\nblock {height}, {check}: {detail}"));
    }
    output.result(&report, text)?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
