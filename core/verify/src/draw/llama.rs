//! What llama.cpp's chain of samplers does under profile NP-1: the `top_k` likeliest; of these, by their
//! probabilities at temperature 1, the first that together reach `top_p`; then the temperature; then `dist`.
//!
//! Steps that it computes in single precision are so computed here: the exponentials, the cut's sum and
//! quotient, the division by the temperature. The sum that is drawn from is in double precision.
//! (`src/llama-sampler.cpp`: `llama_sampler_top_p_apply`, `llama_sampler_temp_impl`, `llama_sampler_dist_apply`.)

use super::{Draw, Settings, Shares, weights};
use crate::logits::Candidates;

/// The candidates that `top_k` and `top_p` leave: at least one, if there is any.
pub fn kept(candidates: &Candidates, settings: &Settings) -> Candidates {
    let likeliest = candidates.first(settings.top_k.max(1));
    if settings.top_p >= 1.0 {
        return likeliest;
    }
    let weights = || weights(likeliest.as_slice(), |candidate| candidate.logit);
    let total: f32 = weights().fold(0.0, |sum, weight| sum + weight);
    let mut reached = 0.0;
    let until = weights().position(|weight| {
        reached += weight / total;
        reached >= settings.top_p
    });
    until.map_or(likeliest, |last| likeliest.first(last.saturating_add(1)))
}

/// The first candidate at which the sum of the weights reaches `u` of their total.
pub(super) fn draw(candidates: &Candidates, settings: &Settings, u: f64) -> Draw {
    let kept = kept(candidates, settings);
    if let [only] = kept.as_slice() {
        return Draw::Only { id: only.id };
    }
    let weights = weights(kept.as_slice(), |candidate| candidate.logit / settings.temperature);
    let ids = kept.as_slice().iter().map(|candidate| candidate.id);
    let sums = weights.scan(0.0, |sum, weight| {
        *sum += f64::from(weight);
        Some(*sum)
    });
    let Some(shares) = Shares::new(ids.zip(sums)) else { return Draw::Nothing };
    Draw::Share { shares, u, id: shares.reaching(shares.total() * u) }
}
