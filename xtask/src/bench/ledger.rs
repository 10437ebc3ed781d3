//! `cargo xtask bench ledger`: what the rules cost, beside what the cryptography costs, in one run.
//!
//! Everything runs on one thread of this process, without disk or network. Each figure is the median
//! of several blocks, in processor time, and each bar is judged on figures of the same run; every transaction measured
//! must have been applied, or there is no figure.

mod clock;
mod figures;
mod load;
mod network;
mod signed;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use figures::Figures;
use types::limits::BLOCK_TXS_MAX;

/// What is measured on how much.
#[derive(Clone, Debug)]
struct Sizes {
    /// Blocks that count.
    rounds: usize,
    /// Accounts behind the figures that do not say otherwise.
    signers: usize,
    /// Transfers in a block with signatures.
    block_txs: usize,
    vouchers: usize,
    /// Transactions in a block on the large state, and in those of the growth table.
    mixed_txs: usize,
    /// Of the large state.
    accounts: usize,
    channels: usize,
    /// States of the growth table, by accounts.
    growth: Vec<usize>,
}

impl Sizes {
    fn full() -> Sizes {
        Sizes {
            rounds: 9,
            signers: 10_000,
            block_txs: BLOCK_TXS_MAX,
            vouchers: 1_000,
            mixed_txs: 1_000,
            accounts: 1_000_000,
            channels: 100_000,
            growth: vec![1_000, 10_000, 100_000, 1_000_000],
        }
    }
}

/// What the command line asks for.
#[derive(Default)]
struct Options {
    json: bool,
    /// Exit with failure if a bar is not met.
    check: bool,
    out: Option<PathBuf>,
}

/// Measures, prints, and writes the figures into a document if asked to.
pub(crate) fn ledger(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let options = Options::parse(arguments)?;
    if cfg!(debug_assertions) {
        return super::run_optimised("ledger", "release", &["xtask"], arguments);
    }
    let figures = measure(&Sizes::full())?;
    if options.json {
        println!("{}", figures.json());
    } else {
        print!("{}", figures.table());
    }
    if let Some(document) = &options.out {
        super::document::replace_in(document, "ledger figures", &figures.table())?;
        eprintln!("wrote {}", document.display());
    }
    let missed = figures.bars().iter().filter(|bar| !bar.is_met()).count();
    Ok(if options.check && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Options {
    fn parse(arguments: &[&str]) -> anyhow::Result<Options> {
        let mut options = Options::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match *argument {
                "--json" => options.json = true,
                "--check" => options.check = true,
                "--out" => {
                    options.out = Some(arguments.next().context("--out needs a file")?.into());
                }
                other => bail!("bench ledger has no option `{other}`; see `cargo xtask help`"),
            }
        }
        Ok(options)
    }
}

fn measure(sizes: &Sizes) -> anyhow::Result<Figures> {
    // First, so that the resident memory of the process is that of the large state.
    let large = load::large(sizes)?;
    let signed = signed::measure(sizes)?;
    let few = sizes.vouchers / 250;
    let redemptions = [few.max(1), sizes.vouchers]
        .into_iter()
        .map(|channels| load::redemption(sizes, channels))
        .collect::<anyhow::Result<_>>()?;
    let growth = sizes.growth.iter().map(|accounts| load::growth(sizes, *accounts));
    let growth = growth.collect::<anyhow::Result<_>>()?;
    Ok(Figures { large, signed, redemptions, growth })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused() {
        let options = Options::parse(&["--check", "--json", "--out", "a.md"]).unwrap();
        assert!(options.check && options.json);
        assert_eq!(options.out, Some(PathBuf::from("a.md")));
        for bad in [&["--out"][..], &["--rounds", "2"]] {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_small_run_applies_every_transaction_and_fills_every_figure() {
        let sizes = Sizes {
            rounds: 1,
            signers: 20,
            block_txs: 10,
            vouchers: 20,
            mixed_txs: 10,
            accounts: 1_300,
            channels: 2_000,
            growth: vec![10, 100],
        };
        let figures = measure(&sizes).unwrap();
        let json: serde_json::Value = serde_json::from_str(&figures.json()).unwrap();
        assert_eq!(json["large"]["channels"], 2_000);
        assert_eq!(json["growth"].as_array().unwrap().len(), 2);
        assert!(figures.bars().iter().all(|bar| bar.value.is_finite()), "{}", figures.table());
    }
}
