//! Which blocks were announced for the rounds of the height that is being decided.
//!
//! Invariant: what a proposer announces takes no place from another round. So whatever a dishonest one
//! announces, the block of an honest one is looked at.

use std::collections::BTreeMap;

use arc_malachitebft_core_consensus::{
    MAX_FUTURE_ROUND_LOOKAHEAD, full_proposal::MAX_PROPOSALS_PER_ROUND,
};
use types::Hash32;

/// How far above the round at hand one may be whose block is taken. Twice as far as the engine takes a
/// proposal: the block may come before the engine moves on, and its proposal after that.
const ROUNDS_AHEAD_MAX: u32 = 2 * MAX_FUTURE_ROUND_LOOKAHEAD;

/// The first blocks announced for each round, valid or not: as many as the engine keeps proposals. An
/// honest proposer announces one. If two thirds want one that was not looked at here, it comes again with a
/// later round, or decided.
#[derive(Debug, Default)]
pub(super) struct Announced(BTreeMap<u32, Vec<Hash32>>);

impl Announced {
    /// Whether this one would be new and has a place, while the engine is in the round `current`.
    pub(super) fn has_place(&self, current: u32, round: u32, block: &Hash32) -> bool {
        let is_near = round <= current.saturating_add(ROUNDS_AHEAD_MAX);
        let of_round = self.0.get(&round);
        is_near
            && of_round.is_none_or(|blocks| {
                blocks.len() < MAX_PROPOSALS_PER_ROUND && !blocks.contains(block)
            })
    }

    pub(super) fn insert(&mut self, round: u32, block: Hash32) {
        self.0.entry(round).or_default().push(block);
    }

    /// The next height begins.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
