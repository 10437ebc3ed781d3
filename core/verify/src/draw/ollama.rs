//! What the sampler of Ollama's own engine does, 0.12.11 to 0.29: the `top_k` likeliest; the temperature;
//! their probabilities; of these the first that together *exceed* `top_p`; then the draw. So its cut is made
//! on other probabilities than llama.cpp's.
//!
//! It computes in single precision, exponentials in double (`sample/samplers.go`, `sample/transforms.go` of v0.12.11).

use super::{Draw, Settings, Shares, weights};
use crate::logits::{CANDIDATES_MAX, Candidates};

/// What is divided by is at least this.
const TEMPERATURE_MIN: f32 = 1e-7;

/// The first candidate at which the sum of the probabilities reaches `u` of their total.
pub(super) fn draw(candidates: &Candidates, settings: &Settings, u: f32) -> Draw {
    let likeliest = candidates.first(settings.top_k.max(1));
    let temperature = settings.temperature.max(TEMPERATURE_MIN);
    let weights = || weights(likeliest.as_slice(), |candidate| candidate.logit / temperature);
    let total: f32 = weights().fold(0.0, |sum, weight| sum + weight);
    let mut sums = [0.0; CANDIDATES_MAX];
    let mut sum = 0.0;
    let mut count = 0usize;
    for (place, weight) in sums.iter_mut().zip(weights()) {
        sum += weight / total;
        *place = f64::from(sum);
        count = count.saturating_add(1);
        if settings.top_p < 1.0 && sum > settings.top_p {
            break;
        }
    }
    let ids = likeliest.as_slice().iter().map(|candidate| candidate.id);
    let Some(shares) = Shares::new(ids.zip(sums).take(count)) else { return Draw::Nothing };
    let target = f64::from(u * sum);
    Draw::Share { shares, u: f64::from(u), id: shares.reaching(target) }
}
