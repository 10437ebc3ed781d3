//! A laboratory for audits: a small model from a seed and its quantizations, providers that serve it honestly or cheat,
//! and the statistics of what an audit finds of them. Tests and the benchmark use it; nothing links it.
//!
//! Needs no file, no network and no GPU. What its model cannot show, since it is random and small, is said where it
//! is built ([`weights`]).

pub mod model;
pub mod rounding;
pub mod weights;

pub mod provider;

pub mod calibration;
pub mod lifetime;
pub mod scored;
pub mod statistics;

/// Random numbers that depend on a seed and a place alone: SplitMix64, as the sampler of ours has it.
#[derive(Clone, Copy, Debug)]
pub struct Random {
    seed: u32,
    stream: u32,
    next: u32,
}

impl Random {
    pub fn new(seed: u32, stream: u32) -> Random {
        Random { seed, stream, next: 0 }
    }

    /// From 0 to 1, without both.
    pub fn unit(&mut self) -> f64 {
        let word = verify::draw::gumbel::word(self.seed, self.stream, self.next);
        self.next = self.next.wrapping_add(1);
        ((word >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.unit() * end as f64) as usize).min(end.saturating_sub(1))
    }

    /// Of the normal distribution (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Of Student's distribution with six degrees of freedom, scaled to a variance of 1: outliers as the weights of
    /// trained models have them.
    pub fn heavy(&mut self) -> f64 {
        let squares: f64 = (0..6).map(|_| self.normal().powi(2)).sum();
        self.normal() / (squares / 6.0).sqrt() / 1.5f64.sqrt()
    }
}
