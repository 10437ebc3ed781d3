//! Calibration: from audits of providers that are known to be honest to the mean that is published for a model and a kind
//! of machine.
//!
//! A *cell* is one honest set-up (an engine, its version, a kind of machine, settings that change its arithmetic) measured
//! by one verifier. Scores of the tokens of a response depend on each other, so what is counted is the mean of a response.
//!
//! The bound: if the true mean is `m` or more, the expectation of `1 + f · (m − x)` for the mean `x` of a response, given
//! those before, is at most 1, so the product over the responses is a nonnegative supermartingale, and so is the mean over
//! several `f`. By Ville's inequality it reaches `1/δ` with a probability of at most `δ`. Every `m` for which it does is
//! refuted; the bound is the lowest of these (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
//! betting", 2023). With few responses it is wide, about `ln(1/δ) / n` above the mean, and can be no tighter: of 100 clean
//! responses nobody knows whether the next is one in 100 that is not.

use crate::eprocess::HonestMean;

/// Shares that are bet.
const SHARES: [f64; 4] = [0.25, 0.5, 0.75, 1.0];
/// ln(1/δ) of δ = 10⁻³.
const LN_CONFIDENCE: f64 = 6.907_755_278_982_137;
/// Tokens of a cell below which nothing is slashed by its mean.
pub const TOKENS_MIN: u64 = 200_000;
/// Responses of a cell that are looked at; more make no difference.
pub const RESPONSES_MAX: usize = 1 << 16;
const MILLION: u32 = 1_000_000;

/// The scores of one level in one cell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Calibration {
    /// Mean scores, in millionths, rounded up.
    responses: Vec<u32>,
    tokens: u64,
}

impl Calibration {
    /// A response with so many scored tokens and the mean of their scores, as in
    /// [`LevelFindings`](crate::audit::LevelFindings). One without tokens says nothing.
    pub fn push(&mut self, tokens: u32, mean_ppm: u32) {
        if tokens > 0 && self.responses.len() < RESPONSES_MAX {
            self.responses.push(mean_ppm.min(MILLION));
            self.tokens = self.tokens.saturating_add(tokens.into());
        }
    }

    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    pub fn responses(&self) -> usize {
        self.responses.len()
    }

    /// Whether there are tokens enough to slash by it.
    pub fn suffices(&self) -> bool {
        self.tokens >= TOKENS_MIN
    }

    /// The mean over the responses, in millionths, rounded up. `None` if there are none.
    pub fn mean_ppm(&self) -> Option<u32> {
        let count = u64::try_from(self.responses.len()).ok().filter(|count| *count > 0)?;
        let sum: u64 =
            self.responses.iter().map(|mean| u64::from(*mean)).fold(0, u64::saturating_add);
        u32::try_from(sum.div_ceil(count)).ok()
    }

    /// What the true mean is below, with a confidence of 99.9 %, in millionths; 1 000 000 if nothing is refuted.
    pub fn upper_ppm(&self) -> u32 {
        // Evidence grows with `m`: the lowest that is refuted is between the two.
        let (mut open, mut refuted) = (0, MILLION);
        while open < refuted {
            let middle = open.midpoint(refuted);
            if self.ln_refutation(middle) >= LN_CONFIDENCE {
                refuted = middle;
            } else {
                open = middle.saturating_add(1);
            }
        }
        refuted
    }

    /// The logarithm of the evidence that the mean is below `mean_ppm`.
    fn ln_refutation(&self, mean_ppm: u32) -> f64 {
        let mean = f64::from(mean_ppm) / 1e6;
        let ln = |share: f64| -> f64 {
            let responses = self.responses.iter().map(|it| f64::from(*it) / 1e6);
            responses.map(|score| libm::log1p(share * (mean - score))).sum()
        };
        let wealths = SHARES.map(ln);
        let most = wealths.into_iter().fold(f64::NEG_INFINITY, f64::max);
        if !most.is_finite() {
            return most;
        }
        let sum: f64 = wealths.iter().map(|wealth| libm::exp(wealth - most)).sum();
        most + libm::log(sum / SHARES.len() as f64)
    }
}

/// What is published: 1.5 times the worst mean of all cells, and at least the worst bound. `None` without a cell, or if
/// that is so high that no score would say anything.
pub fn honest_mean(cells: &[Calibration]) -> Option<HonestMean> {
    let means: Vec<u32> = cells.iter().map(Calibration::mean_ppm).collect::<Option<_>>()?;
    let calibrated = HonestMean::calibrated(&means)?;
    let bound = cells.iter().map(Calibration::upper_ppm).max()?;
    HonestMean::of_ppm(calibrated.ppm().max(bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(means: impl IntoIterator<Item = u32>) -> Calibration {
        let mut cell = Calibration::default();
        means.into_iter().for_each(|mean| cell.push(128, mean));
        cell
    }

    fn word(seed: u32, n: u32) -> u64 {
        crate::draw::gumbel::word(seed, n, 0)
    }

    #[test]
    fn a_bound_narrows_with_the_responses() {
        let bound = |count: usize| cell(std::iter::repeat_n(20_000, count)).upper_ppm();
        assert_eq!(
            [0, 1, 10, 100, 1_000, 10_000].map(bound),
            [1_000_000, 1_000_000, 1_000_000, 104_870, 28_188, 20_816]
        );
        assert_eq!(cell([20_000, 20_001]).mean_ppm(), Some(20_001));
        assert_eq!(cell([]).mean_ppm(), None);
    }

    /// Of 2 000 cells of 60 responses, one in ten of which is far off, at most one in 1000 has a bound below the truth.
    #[test]
    fn a_bound_is_wrong_as_rarely_as_it_says() {
        let response = |seed, n| if word(seed, n).is_multiple_of(10) { 500_000 } else { 10_000 };
        let truth = 59_000;
        let wrong = (0..2_000u32)
            .filter(|seed| cell((0..60).map(|n| response(*seed, n))).upper_ppm() < truth)
            .count();
        assert!(wrong <= 2, "{wrong}");
    }

    #[test]
    fn what_is_published_is_above_the_worst_mean_and_the_worst_bound() {
        let ppm = |cells: &[Calibration]| honest_mean(cells).map(HonestMean::ppm);
        let (good, poor) = (cell([20_000; 2_000]), cell([46_000; 2_000]));
        assert_eq!(ppm(&[good.clone(), poor]), Some(69_000));
        let short = cell([20_000; 100]);
        assert_eq!(ppm(&[good, short.clone()]), Some(short.upper_ppm()));
        assert_eq!(ppm(&[]), None);
        assert_eq!(ppm(&[cell([])]), None);
        assert_eq!(ppm(&[cell([0; 5])]), None);
        assert!(!short.suffices() && cell([0; 1_563]).suffices());
    }
}
