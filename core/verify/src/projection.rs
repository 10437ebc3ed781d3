//! A level of its own for engines of ours: how far a fingerprint of *all* logits of a step, which the provider commits to
//! with the token, is from the verifier's.
//!
//! The logits are the last layer of the model. Eight sums of them with random signs keep their distances: if `z` and `z'` are
//! the logits of two machines, each moved to the mean 0 and scaled to the variance 1, the square of the distance of the sums is
//! in expectation `Σ (zᵢ − z'ᵢ)²` over the vocabulary (Achlioptas, "Database-friendly random projections", 2003; that
//! projections tell quantizations apart after few tokens: Karvonen et al., arXiv 2511.20621, who take them of the hidden
//! state). The signs follow from the seed of the request, so nobody knows them before it.
//!
//! Like [`crate::l1`] it trusts that what was reported is what was drawn from, and counts only together with
//! [`crate::l0`] and [`crate::l2`].

use std::{array, sync::LazyLock};

use types::inference::{PROJECTION_SUMS, Projection};

use crate::{draw::gumbel, score::Score};

/// Steps of a sum in one standard deviation.
const STEPS: f64 = 4_096.0;
/// The distance, as a share of the whole spread of the logits, that is scored 1.
pub const DISTANCE_WHOLE: f64 = 0.5;
/// The place among the words of a seed that no token of an answer has.
const POSITION: u32 = u32::MAX;
/// Signs of so many tokens come from one word.
const TOKENS_OF_WORD: usize = 8;

/// For each byte of signs what turns a number into its negative, or leaves it, in each sum. Branches on single bits would take most
/// of the time.
static MASKS: LazyLock<[[u64; PROJECTION_SUMS]; 256]> =
    LazyLock::new(|| array::from_fn(|signs| array::from_fn(|bit| (signs as u64 >> bit & 1) << 63)));

/// The signs of a request: for each token of the vocabulary a bit for each sum.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signs(Vec<u8>);

impl Signs {
    /// Of a request with this seed and a vocabulary of so many tokens.
    pub fn new(seed: u32, vocabulary: usize) -> Signs {
        let words = (0..u32::MAX).map(|n| gumbel::word(seed, POSITION, n).to_le_bytes());
        let words = words.take(vocabulary.div_ceil(TOKENS_OF_WORD));
        Signs(words.flatten().take(vocabulary).collect())
    }

    /// Tokens that they are for.
    pub fn vocabulary(&self) -> usize {
        self.0.len()
    }

    /// The fingerprint of the logits of a step, of all that the model said: which tokens an engine never draws may differ between
    /// two. Those that are minus infinity count in nothing. `None` of other numbers of tokens, of logits that are all the same and of those that are no numbers.
    pub fn project(&self, logits: &[f32]) -> Option<Projection> {
        if logits.len() != self.0.len() {
            return None;
        }
        let known = || self.0.iter().zip(logits).filter(|(_, logit)| **logit != f32::NEG_INFINITY);
        let (mut count, mut sum) = (0.0, 0.0);
        for (_, logit) in known() {
            count += 1.0;
            sum += f64::from(*logit);
        }
        let mean = sum / count;
        let mut sums = [0.0; PROJECTION_SUMS];
        let mut squares = 0.0;
        for (signs, logit) in known() {
            let moved = f64::from(*logit) - mean;
            squares += moved * moved;
            let masks = MASKS.get(usize::from(*signs)).copied().unwrap_or_default();
            for (sum, mask) in sums.iter_mut().zip(masks) {
                *sum += f64::from_bits(moved.to_bits() ^ mask);
            }
        }
        let whole = libm::sqrt(squares);
        if !(whole > 0.0 && whole.is_finite()) {
            return None;
        }
        // Sums of random signs are within eight deviations but once in 10¹³; a cast ends at the last number there is.
        Some(Projection(sums.map(|sum| libm::round(sum / whole * STEPS) as i16)))
    }
}

/// The distance of two fingerprints as a share of [`DISTANCE_WHOLE`], where 1 is as far as the logits are spread.
pub fn score(reported: &Projection, verifier: &Projection) -> Option<Score> {
    let squares: f64 = reported
        .0
        .iter()
        .zip(verifier.0)
        .map(|(one, other)| (f64::from(*one) - f64::from(other)) / STEPS)
        .map(|far| far * far)
        .sum();
    Score::of(libm::sqrt(squares / PROJECTION_SUMS as f64), DISTANCE_WHOLE)
}

#[cfg(test)]
mod tests;
