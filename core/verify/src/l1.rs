//! L1: how far the log-probabilities that a provider reported with a token are from the verifier's.
//!
//! It finds other models and heavier quantizations, within some ten tokens, but trusts that what was
//! reported is what was drawn from: it counts only together with [`crate::l0`] and [`crate::l2`].

use crate::{
    logits::{Logits, nats},
    score::Score,
};

/// The distance, in nats, that is scored 1.
pub const DISTANCE_WHOLE: f64 = 0.5;
/// A candidate weighs as much as its probability, up to one hundredth.
const WEIGHT_FACTOR: f64 = 100.0;
/// Two log-probabilities differ by no more, in nats: one of them may be minus infinity.
const DIFFERENCE_MAX: f64 = 20.0;

/// The mean of `|lp − lp'|` over the reported candidates, in nats from 0 to 20, with the weights `min(1, 100 p)`;
/// `lp` and `p` are the provider's, `(id, log-probability in millionths of a nat)`, `lp'` is the verifier's. `None`
/// if nothing was reported that weighs anything.
pub fn distance(reported: &[(u32, i32)], verifier: &Logits<'_>) -> Option<f64> {
    let mut sum = 0.0;
    let mut weights = 0.0;
    for (id, micros) in reported {
        let given = nats(*micros);
        let weight = (WEIGHT_FACTOR * libm::exp(given)).min(1.0);
        sum += weight * (given - verifier.logprob(*id)).abs().min(DIFFERENCE_MAX);
        weights += weight;
    }
    (weights > 0.0).then(|| (sum / weights).min(DIFFERENCE_MAX))
}

/// The distance as a share of [`DISTANCE_WHOLE`].
pub fn score(reported: &[(u32, i32)], verifier: &Logits<'_>) -> Option<Score> {
    Score::of(distance(reported, verifier)?, DISTANCE_WHOLE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(nats: f64) -> i32 {
        (nats * 1e6).round() as i32
    }

    #[test]
    fn a_distance_is_the_weighted_mean() {
        let logits = [0.0, -1.0, -9.0].map(|logit: f32| logit);
        let verifier = Logits::new(&logits).unwrap();
        let honest: Vec<(u32, i32)> = (0..3).map(|id| (id, micros(verifier.logprob(id)))).collect();
        assert!(distance(&honest, &verifier).unwrap() < 1e-6);
        // Two weigh 1, the third 100 · e^−9.3 / …: its error hardly counts.
        let (a, b, c) = (verifier.logprob(0), verifier.logprob(1), verifier.logprob(2) - 1.0);
        let reported = [(0, micros(a - 0.1)), (1, micros(b + 0.3)), (2, micros(c))];
        let weight = 100.0 * c.exp();
        let expected = (0.1 + 0.3 + weight) / (2.0 + weight);
        assert!((distance(&reported, &verifier).unwrap() - expected).abs() < 1e-5);
        assert!((score(&reported, &verifier).unwrap().get() - expected / 0.5).abs() < 1e-5);
    }

    #[test]
    fn what_the_verifier_does_not_know_is_far() {
        let logits = [0.0, f32::NEG_INFINITY];
        let verifier = Logits::new(&logits).unwrap();
        assert_eq!(distance(&[(1, 0)], &verifier), Some(20.0));
        assert_eq!(score(&[(7, 0)], &verifier), Some(Score::MOST));
        assert_eq!(score(&[], &verifier), None);
        assert_eq!(score(&[(0, i32::MIN)], &verifier), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(
            reported in prop::collection::vec((0u32..9, any::<i32>()), 0..30),
            logits in prop::collection::vec(any::<f32>(), 0..9),
        ) {
            if let Some(verifier) = Logits::new(&logits)
                && let Some(distance) = distance(&reported, &verifier)
            {
                prop_assert!((0.0..=20.0).contains(&distance));
            }
        }
    }
}
