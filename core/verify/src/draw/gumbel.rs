//! The sampler of our own engine: the candidate with the highest `z + T · g`, where `z` is its logit, `T` the
//! temperature and `g` noise of the Gumbel distribution that depends on seed, position and token alone
//! (Gumbel-max; for its use here Karvonen et al., arXiv 2511.20621).
//!
//! Unlike a draw from sums, two candidates that swap places change nothing for the others, so that honest
//! engines of different kinds agree more often. What is drawn from is [`llama::kept`].

use super::{Settings, llama};
use crate::logits::{CANDIDATES_MAX, Candidate, Candidates};

/// 2⁶⁴ divided by the golden ratio: the step of SplitMix64 (Steele, Lea and Flood, 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output permutation of SplitMix64.
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The word of a token: output `id + 1` of SplitMix64 whose state starts at `mix(seed · 2³² + position)`.
pub fn word(seed: u32, position: u32, id: u32) -> u64 {
    let start = mix(u64::from(seed) << 32 | u64::from(position));
    mix(start.wrapping_add(STEP.wrapping_mul(u64::from(id).wrapping_add(1))))
}

/// The noise of a token: `−ln(−ln u)` with `u = (word div 2¹² + ½) / 2⁵²`, which is never 0 or 1.
/// From −3.6 to 36.8.
pub fn noise(seed: u32, position: u32, id: u32) -> f64 {
    let u = ((word(seed, position, id) >> 12) as f64 + 0.5) / 4_503_599_627_370_496.0;
    -libm::log(-libm::log(u))
}

/// The score of each candidate, in nats. Invariant: `count` is at least 1, and `best` one of the candidates.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scores {
    scored: [Scored; CANDIDATES_MAX],
    count: usize,
    best: Scored,
}

/// A candidate and its score.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Scored {
    pub id: u32,
    pub score: f64,
}

impl Scores {
    /// `None` without candidates. Of equal scores that of the likelier candidate counts.
    pub(super) fn new(
        candidates: &Candidates,
        settings: &Settings,
        seed: u32,
        position: u32,
    ) -> Option<Scores> {
        let kept = llama::kept(candidates, settings);
        let temperature = f64::from(settings.temperature);
        let mut scored = [Scored::default(); CANDIDATES_MAX];
        let mut best: Option<Scored> = None;
        for (place, Candidate { id, logit }) in scored.iter_mut().zip(kept.as_slice()) {
            let score = f64::from(*logit) + temperature * noise(seed, position, *id);
            *place = Scored { id: *id, score };
            if best.is_none_or(|best| score > best.score) {
                best = Some(*place);
            }
        }
        Some(Scores { scored, count: kept.as_slice().len(), best: best? })
    }

    pub fn best(&self) -> Scored {
        self.best
    }

    /// By how much `id` is below the best.
    pub(super) fn margin(&self, id: u32) -> Option<f64> {
        let scored = self.scored.get(..self.count).unwrap_or_default();
        let of_id = scored.iter().find(|scored| scored.id == id);
        of_id.map(|scored| self.best.score - scored.score)
    }
}
