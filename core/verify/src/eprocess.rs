//! Evidence against a provider that grows with every audited token, and may be looked at at any time.
//!
//! If the provider is honest, the expected score of a token, given those before, is at most `m`, the honest
//! mean of its model and kind of machine. Then the product of `1 + f/m · (x − m)` over all scores `x` is the
//! wealth of a gambler who bets a share `f` against honesty at fair odds or worse: a nonnegative
//! supermartingale. By Ville's inequality it ever reaches `1/α` with a probability of at most `α`, however
//! tokens depend on each other and whenever one looks (Ramdas, Grünwald, Vovk and Shafer, arXiv 2210.01948). The
//! mean over several `f` is one too.
//!
//! Logarithms are kept as whole nano-nats, each bet rounded down, which only takes from the evidence; so
//! that a process is the same on every machine and can be stored and signed.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::audit::HONEST_MEAN_PPM_MIN;
pub use types::audit::{ALONE, ESCALATE, MilliNats, PAIRED};

use crate::score::Score;

/// Shares that are bet: a small one for small deviations, a large one for quick evidence of large ones.
const SHARES: [f64; 4] = [0.05, 0.1, 0.3, 0.6];
const NANO: f64 = 1e9;

/// E ≥ 10¹² for [`FlooredEProcess`], of which only the mean time to a false alarm is known.
pub const FLOORED: MilliNats = MilliNats(27_632);

/// The honest mean of a score, in millionths: 1.5 times the worst that calibration measured for a model
/// and a kind of machine, never one for all. Invariant: 1 to 999 999.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HonestMean(u32);

impl HonestMean {
    pub fn of_ppm(ppm: u32) -> Option<HonestMean> {
        (1..1_000_000).contains(&ppm).then_some(HonestMean(ppm))
    }

    pub fn ppm(self) -> u32 {
        self.0
    }

    /// From the mean of each cell of a calibration, in millionths: 1.5 times the worst, rounded up, and at least
    /// 4 000. `None` if nothing was measured, or if the worst is so high that no score would say anything.
    pub fn calibrated(means_ppm: &[u32]) -> Option<HonestMean> {
        let worst = u64::from(*means_ppm.iter().max()?);
        let ppm = worst.saturating_mul(3).div_ceil(2).max(u64::from(HONEST_MEAN_PPM_MIN));
        HonestMean::of_ppm(u32::try_from(ppm).ok()?)
    }

    /// What `score` does to a gambler who bets `share`, in nano-nats, rounded down.
    fn bet(self, share: f64, score: Score) -> i64 {
        let mean = f64::from(self.0) / 1e6;
        let gain = share / mean * (score.get() - mean);
        libm::floor(libm::log1p(gain) * NANO) as i64
    }
}

/// The logarithm of what each gambler has, in nano-nats.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
struct Wealth([i64; 4]);

impl Wealth {
    fn bet(&mut self, mean: HonestMean, score: Score) {
        for (wealth, share) in self.0.iter_mut().zip(SHARES) {
            *wealth = wealth.saturating_add(mean.bet(share, score));
        }
    }

    /// The logarithm of their mean.
    fn ln_e(&self) -> MilliNats {
        let most = self.0.iter().copied().max().unwrap_or(0);
        let below =
            self.0.iter().map(|wealth| libm::exp(wealth.saturating_sub(most) as f64 / NANO));
        let mean = below.sum::<f64>() / SHARES.len() as f64;
        let milli = libm::floor(most as f64 / 1e6 + libm::log(mean) * 1e3);
        MilliNats(milli as i64)
    }
}

/// The evidence of one response, or of several that were chosen beforehand. It starts at 1.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct EProcess(Wealth);

impl EProcess {
    pub fn push(&mut self, mean: HonestMean, score: Score) {
        self.0.bet(mean, score);
    }

    pub fn ln_e(&self) -> MilliNats {
        self.0.ln_e()
    }
}

/// The evidence against a provider, which never falls below 1 for long: each gambler who has lost starts
/// anew, so that an honest past cannot be saved up for a dishonest future. Its mean time to a false alarm at
/// `A` is at least `A` tokens (an e-detector: Shin, Ramdas and Rinaldo, "E-detectors", 2022).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct FlooredEProcess(Wealth);

impl FlooredEProcess {
    pub fn push(&mut self, mean: HonestMean, score: Score) {
        for wealth in &mut self.0.0 {
            *wealth = (*wealth).max(0);
        }
        self.0.bet(mean, score);
    }

    pub fn ln_e(&self) -> MilliNats {
        self.0.ln_e()
    }
}

#[cfg(test)]
mod tests;
