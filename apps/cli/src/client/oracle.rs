//! `peerwatt oracle`: the price of WATT, and a validator's vote on it.

use std::time::Duration;

use anyhow::{Context, bail};
use types::{Hash32, Nusd, TimeMs, stake::price_commitment, tx::Action};
use wire::chain::{Applied, Chain, ChainStatus, TxResult};

use super::{
    actor::{Actor, connect, report},
    validator::KEY,
};
use crate::{
    args::{Common, OracleArgs, OracleCommand, TxArgs},
    home::Home,
    output::{Output, utc},
};

/// The ledger's word for a vote whose period has not come, or is over.
const UNCOMMITTED: &str = "oracle.uncommitted";
/// Looks at the ledger in one period, so that a reveal is not late.
const LOOKS_PER_PERIOD: u64 = 10;
const LOOK_INTERVAL_MS_MAX: u64 = 1_000;

pub(crate) async fn run(common: Common, args: OracleArgs, output: Output) -> anyhow::Result<()> {
    let home = Home::open(&common)?;
    match args.command {
        OracleCommand::Show(at) => {
            let status = connect(&home, &at)?.status().await?;
            let value = serde_json::json!({
                "nusd_per_watt": status.nusd_per_watt,
                "oracle": status.oracle,
                "params": status.params.oracle,
                "time": status.time,
            });
            output.result(&value, describe(&status))
        }
        OracleCommand::Vote { price, tx } => vote(&home, price, &tx, output).await,
    }
}

fn describe(status: &ChainStatus) -> String {
    let params = &status.params.oracle;
    let age_ms = status.time.ms_since(status.oracle.counted_at);
    let stale =
        if age_ms > params.max_age_ms { ", TOO OLD: it must be voted on again" } else { "" };
    format!(
        "price      1 WATT = {} USD{stale}\naverage    {} USD over {} s\nvoted on   {}\nperiod     {} \
         of {} s; a vote commits in one and reveals in the next",
        status.nusd_per_watt.to_decimal(),
        status.oracle.average.to_decimal(),
        params.twap_ms / 1_000,
        utc(status.oracle.counted_at),
        status.oracle.period,
        params.period_ms / 1_000
    )
}

/// Commits, waits for the next period and reveals.
async fn vote(home: &Home, price: Nusd, tx: &TxArgs, output: Output) -> anyhow::Result<()> {
    let actor = Actor::open(home, tx, KEY)?;
    let status = actor.chain().status().await?;
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).context("this system has no random numbers")?;
    let commitment = price_commitment(&status.chain_id, &actor.address(), &salt, price);
    let commit = Action::CommitPrice { commitment };
    if actor.is_dry_run() {
        return actor.act(commit, "", output).await;
    }
    let committed = actor.send(commit).await?;
    let period_ms = status.params.oracle.period_ms;
    let reveal = Action::RevealPrice { nusd_per_watt: price, salt: Hash32(salt) };
    wait_for_reveal(&actor, &committed, &reveal, period_ms, output).await?;
    let revealed = actor.send(reveal).await.with_context(|| {
        "the vote was committed to but not revealed; vote again, nothing else is lost".to_owned()
    })?;
    report(&revealed, &format!("voted for 1 WATT = {} USD", price.to_decimal()), output)
}

/// Until the ledger would take the reveal. The periods are those of the validator's clock, so it is
/// asked rather than our own.
async fn wait_for_reveal(
    actor: &Actor,
    committed: &Applied,
    reveal: &Action,
    period_ms: u64,
    output: Output,
) -> anyhow::Result<()> {
    let block = actor.chain().block(committed.height).await?;
    let TimeMs(at) = block.context("the block of the commitment is not there")?.header.time;
    let left_ms = period_ms.saturating_sub(at.checked_rem(period_ms).unwrap_or(0));
    let interval_ms = (period_ms / LOOKS_PER_PERIOD).clamp(1, LOOK_INTERVAL_MS_MAX);
    output.progress(format_args!(
        "committed in block {}; revealing in the next period, in about {} s …",
        committed.height,
        left_ms.div_ceil(1_000)
    ));
    tokio::time::sleep(Duration::from_millis(left_ms)).await;
    // One period to reveal in, and one for clocks that differ.
    for _ in 0..2 * LOOKS_PER_PERIOD.max(period_ms / interval_ms) {
        match actor.simulate(reveal.clone()).await?.result {
            TxResult::Applied { .. } => return Ok(()),
            TxResult::Failed { code, .. } if code == UNCOMMITTED => {}
            TxResult::Failed { code, message } => bail!("{message} ({code})"),
        }
        tokio::time::sleep(Duration::from_millis(interval_ms)).await;
    }
    bail!("the period in which the vote could be revealed has passed; vote again")
}
