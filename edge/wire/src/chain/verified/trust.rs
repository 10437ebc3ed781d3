//! What is trusted, and how it moves on: a header of a node is followed to, compared with what the other
//! nodes have at that height, and kept.

use std::{sync::Arc, time::Duration};

use keys::Ed25519;
use light::{Bisection, Fork, LightBlock, LightError, Next, Rules, TrustedState, find_fork};
use types::{Height, TimeMs};

use super::{Clock, KeepTrust, Node, Unproven};
use crate::chain::{ChainError, ProvingChain};

/// How often the other nodes are asked for their header, at most, and how long they may take.
const COMPARE_INTERVAL_MS: u64 = 10_000;
const COMPARE_TIMEOUT: Duration = Duration::from_secs(2);

/// How a node's header stands to what is trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Vouched {
    /// It is the newest that is known.
    Newest,
    /// A newer one is known.
    Overtaken,
}

/// What is trusted.
pub(super) struct Trust {
    state: TrustedState,
    rules: Rules,
    clock: Clock,
    keeper: Arc<dyn KeepTrust>,
    compared_at: TimeMs,
    /// Once there are two histories no answer is right any more.
    fork: Option<Box<Fork>>,
}

impl Trust {
    pub(super) fn new(
        state: TrustedState,
        rules: Rules,
        clock: Clock,
        keeper: Arc<dyn KeepTrust>,
    ) -> Trust {
        Trust { state, rules, clock, keeper, compared_at: TimeMs(0), fork: None }
    }

    pub(super) fn state(&self) -> &TrustedState {
        &self.state
    }

    /// Follows the chain to the header that `node` gave, if it is not known already.
    pub(super) async fn vouch(
        &mut self,
        node: &Node,
        nodes: &[Node],
        block: LightBlock,
    ) -> Result<Vouched, ChainError> {
        if let Some(fork) = &self.fork {
            return Err(Unproven::Header(LightError::Fork(fork.clone())).by(&**node));
        }
        if block.height() < self.state.height() {
            return Ok(Vouched::Overtaken);
        }
        let moved = self.advance(node, nodes, block).await;
        if let Err(ChainError::Unproven { source, .. }) = &moved
            && let Some(fork) = source.fork()
        {
            self.fork = Some(Box::new(fork.clone()));
        }
        moved.map(|()| Vouched::Newest)
    }

    async fn advance(
        &mut self,
        node: &Node,
        nodes: &[Node],
        block: LightBlock,
    ) -> Result<(), ChainError> {
        let (now, before) = ((self.clock)(), self.state.clone());
        let mut next = before.clone();
        let followed = follow_to(&**node, &mut next, block, now, &self.rules).await;
        if followed.is_ok() && now.ms_since(self.compared_at) >= COMPARE_INTERVAL_MS {
            for other in nodes.iter().filter(|other| !Arc::ptr_eq(other, node)) {
                let compared = compare(&**other, &before, &next, now, &self.rules);
                // Whoever does not answer has nothing to say against it.
                if let Ok(compared) = tokio::time::timeout(COMPARE_TIMEOUT, compared).await {
                    compared?;
                }
            }
            self.compared_at = now;
        }
        // Also what was reached before an error is true.
        if next.height() > before.height() {
            self.keeper.keep(&next);
            self.state = next;
        }
        followed
    }
}

/// Follows the chain of `node` to its newest header. What was reached stays in `trusted`, also after an
/// error. A node that has no block changes nothing.
pub async fn follow(
    node: &dyn ProvingChain,
    trusted: &mut TrustedState,
    now: TimeMs,
    rules: &Rules,
) -> Result<(), ChainError> {
    let known = trusted.height();
    match node.light_block(None).await? {
        Some(block) if block.height() >= known => follow_to(node, trusted, block, now, rules).await,
        None if known == Height(0) => Ok(()),
        Some(_) | None => Err(ChainError::Behind { url: node.url().to_owned(), known }),
    }
}

/// Follows the chain of `node` to this header of it.
pub async fn follow_to(
    node: &dyn ProvingChain,
    trusted: &mut TrustedState,
    target: LightBlock,
    now: TimeMs,
    rules: &Rules,
) -> Result<(), ChainError> {
    let mut way = Bisection::new(trusted.clone(), target.height(), now, *rules);
    let mut block = target;
    loop {
        let next = way.supply(block, &Ed25519);
        trusted.clone_from(way.trusted());
        match next {
            Ok(Next::Reached(_)) => return Ok(()),
            Err(error) => return Err(Unproven::Header(error).by(node)),
            Ok(Next::Fetch(height)) => {
                let missing = || {
                    ChainError::Protocol {
                    url: node.url().to_owned(),
                    source: format!(
                        "it does not have the header of block {height}, which is needed to follow the chain"
                    )
                    .into(),
                }
                };
                block = node.light_block(Some(height)).await?.ok_or_else(missing)?;
            }
        }
    }
}

/// Asks `node` for the header of the height that was reached. Another one that follows from `before` as
/// well is a fork; one that does not is a lie. Nodes that do not have it yet say nothing.
pub async fn compare(
    node: &dyn ProvingChain,
    before: &TrustedState,
    reached: &TrustedState,
    now: TimeMs,
    rules: &Rules,
) -> Result<(), ChainError> {
    let Some(ours) = reached.block() else { return Ok(()) };
    let theirs = match node.light_block(Some(ours.height())).await {
        Ok(Some(theirs)) if theirs.height() == ours.height() => theirs,
        Ok(Some(_) | None) | Err(_) => return Ok(()),
    };
    let Some(fork) = find_fork(ours, &theirs) else { return Ok(()) };
    // From the trusted header of the same height nothing else follows but the fork itself.
    let mut also = before.clone();
    follow_to(node, &mut also, theirs, now, rules).await?;
    Err(Unproven::Header(LightError::Fork(Box::new(fork))).by(node))
}
