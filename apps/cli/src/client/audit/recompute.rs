//! `peerwatt audit recompute`: a provider runs the model over what it opens in a round of its own.

use anyhow::{Context, bail};
use auditor::{answer::Answer, judge::Sample};
use provider::{Recalled, RecalledAnswer};
use types::{
    Hash32, Ppm,
    audit::{CommitmentId, Demand, ReceiptsCommitment},
};
use wire::chain::{Chain, HttpChain};

use super::{Judging, ROUNDS_SHOWN};
use crate::{
    args::{AuditRecomputeArgs, Common},
    client::actor::connect,
    home::Home,
    output::Output,
};

pub(super) async fn run(
    common: &Common,
    args: AuditRecomputeArgs,
    output: Output,
) -> anyhow::Result<()> {
    let home = Home::open(common)?;
    let chain = connect(&home, &args.at)?;
    let round = find(&chain, args.round).await?;
    let chain_id = chain.status().await?.chain_id;
    let recalled = Recalled {
        chain_id: &chain_id,
        receipts: &round.receipts,
        beacon: &round.beacon,
        share: round.share,
        demand: round.demand.as_deref(),
    };
    let answers = provider::recall(&home.part("provider"), recalled)
        .context("reading what the provider of this data folder keeps")?;
    let answers = answers.with_context(|| {
        format!("the provider of this data folder has committed to nothing like {}", args.round)
    })?;
    let chosen = answers.len();
    let mut opened: Vec<(Answer, Hash32)> = Vec::new();
    for RecalledAnswer { digest, receipt, opening } in answers {
        let Some((receipt, opening)) = receipt.zip(opening) else {
            output.progress(format_args!("{digest} is not kept any more"));
            continue;
        };
        let answer = Answer::open(&receipt, opening, &keys::Ed25519)
            .with_context(|| format!("what is kept of {digest} is not what was committed to"))?;
        opened.push((answer, digest));
    }
    if opened.is_empty() {
        bail!("nothing that {} asks for is kept any more; it is for a day", args.round);
    }
    output.progress(format_args!("{} of {chosen} chosen answers are kept", opened.len()));
    let samples: Vec<Sample<'_>> =
        opened.iter().map(|(answer, receipt)| Sample { answer, receipt: *receipt }).collect();
    Judging::open(args.judge).await?.report(&samples, output).await
}

/// What of a round is needed.
struct Found {
    receipts: ReceiptsCommitment,
    beacon: Hash32,
    share: Ppm,
    demand: Option<Box<Demand>>,
}

async fn find(chain: &HttpChain, round: CommitmentId) -> anyhow::Result<Found> {
    if let Some(open) = chain.round(round).await? {
        let (receipts, beacon) = (open.receipts, open.beacon.value);
        return Ok(Found { receipts, beacon, share: open.share, demand: open.demand });
    }
    let audits = chain.audits(None, ROUNDS_SHOWN).await?;
    let closed = audits.closed.into_iter().find(|it| it.commitment == round && !it.is_appeal);
    let closed = closed.with_context(|| {
        format!("{round} is not open, and not among the closed rounds that the ledger keeps")
    })?;
    let (receipts, beacon) = (closed.receipts, closed.beacon.value);
    Ok(Found { receipts, beacon, share: closed.share, demand: None })
}
