//! Draws the next token, and says how likely each was.
//!
//! In this order: penalties for tokens already in the answer, temperature, top-k, top-p, min-p, the draw. What is
//! *reported* is never touched by these: the model's own distribution at temperature 1. A request of profile NP-1 is drawn
//! as `docs/spec/verification.md` says, so that whoever has the seed and what was reported can draw it again.

use std::{
    cmp::Ordering,
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
};

use types::inference::Sampling;
use verify::{
    draw::{self, Settings, Stream},
    logits::{CANDIDATES_MAX, Candidates, Logits},
};

/// Where a request does not say: less than the model's own spread, which suits small models.
const TEMPERATURE_DEFAULT: f64 = 0.7;
const TOP_P_DEFAULT: f64 = 0.95;

/// How one request draws its tokens.
#[derive(Debug)]
pub(super) struct Sampler {
    temperature: f64,
    top_p: f64,
    presence_penalty: f64,
    frequency_penalty: f64,
    repeat_penalty: f64,
    /// All, if it is zero.
    top_k: usize,
    min_p: f64,
    drawn: HashMap<u32, u32>,
    random: SplitMix64,
    /// What others can draw again.
    replayable: Option<Stream>,
}

/// The draws of a request of profile NP-1: few candidates, a seed of 32 bits, and nothing else that decides.
fn replayable(sampling: &Sampling) -> Option<Stream> {
    let &Sampling { temperature_micros, top_p_micros, seed, top_k, .. } = sampling;
    let is_bare = sampling.presence_penalty_micros.unwrap_or(0) == 0
        && sampling.frequency_penalty_micros.unwrap_or(0) == 0
        && sampling.min_p_micros.unwrap_or(0) == 0
        && sampling.repeat_penalty_micros.unwrap_or(1_000_000) == 1_000_000;
    let top_k =
        usize::try_from(top_k?).ok().filter(|count| (1..=CANDIDATES_MAX).contains(count))?;
    let unit = |micros: u32| (f64::from(micros) / 1e6) as f32;
    let settings =
        Settings { temperature: unit(temperature_micros?), top_k, top_p: unit(top_p_micros?) };
    let seed = u32::try_from(seed?).ok()?;
    is_bare.then(|| Stream::new(draw::Sampler::Gumbel, settings, seed))
}

impl Sampler {
    pub(super) fn new(sampling: &Sampling) -> Sampler {
        let unit = |micros: u32| f64::from(micros) / 1e6;
        let signed = |micros: Option<i32>| f64::from(micros.unwrap_or(0)) / 1e6;
        // Draws without a seed need only differ from each other; nothing secret hangs on them.
        let seed = sampling.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Sampler {
            temperature: sampling.temperature_micros.map_or(TEMPERATURE_DEFAULT, unit),
            top_p: sampling.top_p_micros.map_or(TOP_P_DEFAULT, unit),
            presence_penalty: signed(sampling.presence_penalty_micros),
            frequency_penalty: signed(sampling.frequency_penalty_micros),
            repeat_penalty: sampling.repeat_penalty_micros.map_or(1.0, unit),
            top_k: sampling.top_k.map_or(0, |count| count as usize),
            min_p: sampling.min_p_micros.map_or(0.0, unit),
            drawn: HashMap::new(),
            random: SplitMix64(seed),
            replayable: replayable(sampling),
        }
    }

    /// Whether others can draw its tokens again.
    pub(super) fn is_replayable(&self) -> bool {
        self.replayable.is_some()
    }

    /// The next token after these logits, of which there is at least one.
    pub(super) fn draw(&mut self, logits: &[f32]) -> u32 {
        if let Some(stream) = &mut self.replayable {
            let candidates = Logits::new(logits).map(|logits| logits.candidates(self.top_k));
            let drawn = stream.draw(&candidates.unwrap_or_default()).id();
            // Of logits that are no numbers nothing is drawn; the answer ends before.
            return drawn.unwrap_or_default();
        }
        let mut logits: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
        for (id, count) in &self.drawn {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit = if *logit > 0.0 {
                    *logit / self.repeat_penalty
                } else {
                    *logit * self.repeat_penalty
                };
                *logit -= self.presence_penalty + self.frequency_penalty * f64::from(*count);
            }
        }
        let token = match self.temperature > 0.0 {
            true => self.draw_from(&logits),
            false => most_likely(&logits),
        };
        let token = u32::try_from(token).unwrap_or(u32::MAX);
        self.count(token);
        token
    }

    /// Goes on as if it had drawn this token.
    pub(super) fn drawn_elsewhere(&mut self, token: u32) {
        if let Some(stream) = &mut self.replayable {
            stream.chance(&Candidates::default());
            return;
        }
        if self.temperature > 0.0 {
            self.random.unit();
        }
        self.count(token);
    }

    fn count(&mut self, token: u32) {
        let count = self.drawn.entry(token).or_default();
        *count = count.saturating_add(1);
    }

    fn draw_from(&mut self, logits: &[f64]) -> usize {
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weight = |logit: &f64| ((logit - max) / self.temperature).exp();
        let mut weights: Vec<(usize, f64)> = logits.iter().map(weight).enumerate().collect();
        if (1..weights.len()).contains(&self.top_k) {
            weights.select_nth_unstable_by(self.top_k, likelier_first);
            weights.truncate(self.top_k);
        }
        if self.top_p < 1.0 {
            keep_nucleus(&mut weights, self.top_p);
        }
        // The likeliest weighs 1.
        weights.retain(|(_, weight)| *weight >= self.min_p);
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.unit() * total;
        for (token, weight) in &weights {
            left -= weight;
            if left < 0.0 {
                return *token;
            }
        }
        // Rounding used up the last crumb of the range.
        weights.last().map_or(0, |(token, _)| *token)
    }
}

/// Keeps the fewest likeliest tokens that together reach `top_p`, at least one, likeliest first.
fn keep_nucleus(weights: &mut Vec<(usize, f64)>, top_p: f64) {
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    // All tokens below this share together are less than 1 - top_p, so none is in the nucleus;
    // the likeliest is never below. Spares sorting a whole vocabulary.
    let floor = total * (1.0 - top_p) / weights.len() as f64;
    let top = weights.iter().map(|(_, weight)| *weight).fold(0.0, f64::max);
    weights.retain(|(_, weight)| *weight >= floor.min(top));
    weights.sort_by(likelier_first);
    let mut reached = 0.0;
    let needed = total * top_p;
    let count = weights.iter().take_while(|(_, weight)| {
        let short = reached < needed;
        reached += weight;
        short
    });
    let count = count.count().max(1);
    weights.truncate(count);
}

fn likelier_first(a: &(usize, f64), b: &(usize, f64)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The first of the greatest.
fn most_likely(logits: &[f64]) -> usize {
    let greater = |best: (usize, f64), (index, logit): (usize, &f64)| match *logit > best.1 {
        true => (index, *logit),
        false => best,
    };
    logits.iter().enumerate().fold((0, f64::NEG_INFINITY), greater).0
}

/// The model's own distribution over the next token.
pub(super) struct Distribution<'a> {
    logits: &'a [f32],
    /// The logarithm of the sum of the logits' exponentials.
    normalizer: f64,
}

impl<'a> Distribution<'a> {
    /// `None` if the logits are not numbers, which a damaged model file can cause.
    pub(super) fn of(logits: &'a [f32]) -> Option<Distribution<'a>> {
        let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - max).exp()).sum();
        let normalizer = max + sum.ln();
        normalizer.is_finite().then_some(Distribution { logits, normalizer })
    }

    /// The natural log-probability of a token in millionths; never above 0.
    pub(super) fn logprob_micros(&self, token: u32) -> i32 {
        let logit = self.logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        // Saturates at about -2147, which no comparison tells from impossible.
        ((f64::from(logit) - self.normalizer) * 1e6).round().min(0.0) as i32
    }

    /// The `count` likeliest tokens, likeliest first.
    pub(super) fn likeliest(&self, count: usize) -> Vec<u32> {
        let mut tokens: Vec<u32> = (0u32..).take(self.logits.len()).collect();
        let order = |a: &u32, b: &u32| {
            let logit = |token: &u32| self.logits.get(*token as usize).copied().unwrap_or(f32::MIN);
            logit(b).total_cmp(&logit(a)).then(a.cmp(b))
        };
        if count < tokens.len() {
            tokens.select_nth_unstable_by(count, order);
            tokens.truncate(count);
        }
        tokens.sort_unstable_by(order);
        tokens
    }
}

/// Sebastiano Vigna's SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>, public domain): a seed
/// gives the same draws on every machine.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to below 1, in steps of 2^-53.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sampler(temperature: u32, top_p: u32, seed: u64) -> Sampler {
        Sampler::new(&Sampling {
            temperature_micros: Some(temperature),
            top_p_micros: Some(top_p),
            seed: Some(seed),
            ..Sampling::default()
        })
    }

    #[test]
    fn the_generator_is_the_published_one() {
        let mut random = SplitMix64(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(drawn, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_likeliest() {
        assert_eq!(sampler(0, 1_000_000, 1).draw(&[0.0, 2.0, 2.0, 1.0]), 1);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it() {
        // Probabilities 1/2, 1/4, 1/8, 1/8.
        let logits = [0.0, -(2f32.ln()), -(4f32.ln()), -(4f32.ln())];
        let drawn = |top_p| -> std::collections::BTreeSet<u32> {
            let mut sampler = sampler(1_000_000, top_p, 7);
            (0..400).map(|_| sampler.draw(&logits)).collect()
        };
        assert_eq!(drawn(0), [0].into());
        assert_eq!(drawn(490_000), [0].into());
        assert_eq!(drawn(700_000), [0, 1].into());
        assert_eq!(drawn(800_000), [0, 1, 2].into());
        assert_eq!(drawn(1_000_000), [0, 1, 2, 3].into());
    }

    #[test]
    fn top_k_and_min_p_leave_out_the_unlikely() {
        // Probabilities 1/2, 1/4, 1/8, 1/8.
        let logits = [0.0, -(2f32.ln()), -(4f32.ln()), -(4f32.ln())];
        let drawn = |top_k, min_p_micros| -> std::collections::BTreeSet<u32> {
            let sampling = Sampling { top_k, min_p_micros, ..Sampling::default() };
            let mut sampler = Sampler {
                temperature: 1.0,
                top_p: 1.0,
                ..Sampler::new(&Sampling { seed: Some(7), ..sampling })
            };
            (0..400).map(|_| sampler.draw(&logits)).collect()
        };
        assert_eq!(drawn(Some(0), None), [0, 1, 2, 3].into());
        assert_eq!(drawn(Some(1), None), [0].into());
        assert_eq!(drawn(Some(3), None), [0, 1, 2].into());
        assert_eq!(drawn(Some(9), None), [0, 1, 2, 3].into());
        assert_eq!(drawn(None, Some(400_000)), [0, 1].into());
        assert_eq!(drawn(None, Some(1_000_000)), [0].into());
        assert_eq!(drawn(Some(2), Some(100_000)), [0, 1].into());
    }

    #[test]
    fn a_repeat_penalty_makes_what_was_drawn_less_likely() {
        let sampling = Sampling {
            temperature_micros: Some(0),
            repeat_penalty_micros: Some(2_000_000),
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(&sampling);
        let drawn: Vec<u32> = (0..3).map(|_| sampler.draw(&[2.0, 1.5, 1.25])).collect();
        // 2.0; then 1.0 against 1.5; then 1.0 and 0.75 against 1.25.
        assert_eq!(drawn, [0, 1, 2]);
        let mut sampler = Sampler::new(&sampling);
        assert_eq!([sampler.draw(&[-1.0, -1.5]), sampler.draw(&[-1.0, -1.5])], [0, 1]);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits = [3f32.ln(), 0.0];
        let mut sampler = sampler(1_000_000, 1_000_000, 3);
        let first = (0..10_000).filter(|_| sampler.draw(&logits) == 0).count();
        assert!((7_300..7_700).contains(&first), "{first}");
    }

    #[test]
    fn a_penalty_counts_what_was_drawn_before() {
        let sampling = Sampling {
            temperature_micros: Some(0),
            frequency_penalty_micros: Some(600_000),
            presence_penalty_micros: Some(500_000),
            ..Sampling::default()
        };
        let mut sampler = Sampler::new(&sampling);
        let drawn: Vec<u32> = (0..4).map(|_| sampler.draw(&[2.0, 1.0, -5.0])).collect();
        // 2.0; then 0.9 against 1.0; then 0.9 against -0.1; then 0.3 against -0.1.
        assert_eq!(drawn, [0, 1, 0, 0]);
    }

    #[test]
    fn damaged_logits_make_no_distribution() {
        assert!(Distribution::of(&[0.0, f32::NAN]).is_none());
        assert!(Distribution::of(&[0.0, f32::INFINITY]).is_none());
        assert!(Distribution::of(&[]).is_none());
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one_and_the_likeliest_come_first(
            logits in prop::collection::vec(-20f32..20.0, 1..50),
            count in 0usize..60,
        ) {
            let distribution = Distribution::of(&logits).unwrap();
            let probability = |token: u32| (f64::from(distribution.logprob_micros(token)) / 1e6).exp();
            let sum: f64 = (0..logits.len() as u32).map(probability).sum();
            prop_assert!((sum - 1.0).abs() < 1e-4, "{sum}");
            let top = distribution.likeliest(count);
            prop_assert_eq!(top.len(), count.min(logits.len()));
            let logprobs: Vec<i32> = top.iter().map(|t| distribution.logprob_micros(*t)).collect();
            prop_assert!(logprobs.is_sorted_by(|a, b| a >= b));
        }
    }
}
