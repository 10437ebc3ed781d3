//! `peerwatt light`: follows the chain by what validators signed, believing no node.

use std::sync::Arc;

use anyhow::Context;
use light::{Fork, Rules, TrustedState};
use serde::Serialize;
use types::{ChainId, Hash32, Height, TimeMs, genesis::Genesis};
use wire::chain::{ChainError, HttpChain, compare, follow};

use crate::{
    args::{Common, LightArgs, LightCommand, LightSyncArgs},
    home::{Home, read_genesis},
    output::{Output, utc},
    trust::{self, TrustFile, now},
};

/// What is trusted.
#[derive(Serialize)]
struct Report {
    chain_id: ChainId,
    height: Height,
    hash: Hash32,
    time: TimeMs,
    /// Until when it vouches for later headers.
    trusted_until: TimeMs,
    /// Root of the state; `null` for the genesis document.
    app_hash: Option<Hash32>,
    /// Digest of the set that decides the next block.
    next_validators: Hash32,
    validators: usize,
    /// Nodes that were asked; none for `status`.
    asked: Vec<String>,
}

pub(crate) async fn run(common: Common, args: LightArgs, output: Output) -> anyhow::Result<()> {
    let home = Home::open(&common)?;
    match args.command {
        LightCommand::Sync(args) => sync(&home, args, output).await,
        LightCommand::Status => status(&home, output),
    }
}

fn status(home: &Home, output: Output) -> anyhow::Result<()> {
    let genesis = home.genesis()?.context(
        "this data folder belongs to no network; `peerwatt light sync --at URL` joins one",
    )?;
    let kept = TrustFile::of(home).load(&genesis)?;
    let state = kept.unwrap_or_else(|| TrustedState::from_genesis(&genesis));
    show(&state, &genesis, Vec::new(), output)
}

async fn sync(home: &Home, args: LightSyncArgs, output: Output) -> anyhow::Result<()> {
    let urls = match args.at.is_empty() {
        true => vec![home.chain_url(None)?],
        false => args.at,
    };
    let nodes = trust::nodes(&urls)?;
    let given = args.genesis.as_deref().map(read_genesis).transpose()?;
    let (genesis, contact) = trust::network(home, given, &nodes, output).await?;
    let before = trust::begin(home, &genesis, &nodes, args.trust, contact, output).await?;
    let rules = Rules::of(&genesis.params);

    let (reached, place) = follow_first(home, &before, &nodes, &rules, output).await?;
    let mut asked = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        if at != place {
            let compared = compare(&**node, &before, &reached, now(), &rules).await;
            compared.map_err(|error| told(home, error, output))?;
        }
        asked.push(node.url().to_owned());
    }
    TrustFile::of(home).save(&reached)?;
    show(&reached, &genesis, asked, output)
}

/// Follows the first node that answers; also says which that was. What was reached is kept in any case:
/// it was verified.
async fn follow_first(
    home: &Home,
    before: &TrustedState,
    nodes: &[Arc<HttpChain>],
    rules: &Rules,
    output: Output,
) -> anyhow::Result<(TrustedState, usize)> {
    let mut state = before.clone();
    let mut failure = anyhow::anyhow!("no chain API was given");
    for (place, node) in nodes.iter().enumerate() {
        match follow(&**node, &mut state, now(), rules).await {
            Ok(()) => return Ok((state, place)),
            Err(error @ ChainError::Unproven { .. }) => {
                TrustFile::of(home).save(&state)?;
                return Err(told(home, error, output));
            }
            Err(error) => {
                output.progress(format_args!("{error}"));
                failure = error.into();
            }
        }
    }
    TrustFile::of(home).save(&state)?;
    Err(failure)
}

/// The error of a node that lied. Two certified histories are written down: they are evidence.
fn told(home: &Home, error: ChainError, output: Output) -> anyhow::Error {
    let ChainError::Unproven { source, .. } = &error else { return error.into() };
    let Some(fork) = source.fork() else { return error.into() };
    match keep_fork(home, fork) {
        Ok(file) => output.progress(format_args!("both blocks are in {file}")),
        Err(failure) => output.progress(format_args!("the blocks could not be kept: {failure:#}")),
    }
    error.into()
}

fn keep_fork(home: &Home, fork: &Fork) -> anyhow::Result<String> {
    let path = home.part(&format!("fork-{}.json", fork.first.height()));
    let text = serde_json::to_vec_pretty(fork).context("writing the two blocks")?;
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path.display().to_string())
}

fn show(
    state: &TrustedState,
    genesis: &Genesis,
    asked: Vec<String>,
    output: Output,
) -> anyhow::Result<()> {
    let period_ms = Rules::of(&genesis.params).trust_period_ms;
    let report = Report {
        chain_id: state.chain_id().clone(),
        height: state.height(),
        hash: state.hash(),
        time: state.time(),
        trusted_until: state.time().plus_ms(period_ms),
        app_hash: state.block().map(|block| block.header.app_hash),
        next_validators: state.next_validators(),
        validators: state.validators().as_slice().len(),
        asked,
    };
    let Report { chain_id, height, hash, time, trusted_until, validators, .. } = &report;
    let root =
        report.app_hash.map_or("that of the genesis document".to_owned(), |it| it.to_string());
    let text = format!(
        "{chain_id} is trusted up to block {height} of {}\nheader      {height}:{hash}\nstate root  {root}\n\
         validators  {validators}, the next set is {}\nvouches for later blocks until {}",
        utc(*time),
        report.next_validators,
        utc(*trusted_until)
    );
    output.result(&report, text)
}
