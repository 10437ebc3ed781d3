//! Lives of honest providers: how high the evidence against them ever rises.

use verify::{
    eprocess::{EProcess, FlooredEProcess, HonestMean, MilliNats},
    score::Score,
};

use crate::Random;

/// One token in so many is scored as if it had nothing to do with the model: more accidents than were ever measured.
const ACCIDENT: usize = 1_000;

/// The highest evidence of many lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lives {
    pub lives: u32,
    pub tokens: u32,
    pub process: MilliNats,
    pub floored: MilliNats,
}

/// `lives` providers whose tokens are scored as the measured ones were, in random order, with a heavier tail.
pub fn live(mean: HonestMean, measured: &[Vec<Score>], lives: u32, tokens: u32) -> Lives {
    let measured: Vec<Score> = measured.iter().flatten().copied().collect();
    let mut most = Lives { lives, tokens, process: MilliNats(0), floored: MilliNats(0) };
    for life in 0..lives {
        let mut random = Random::new(17, life);
        let (mut process, mut floored) = (EProcess::default(), FlooredEProcess::default());
        for _ in 0..tokens {
            let accident = random.below(ACCIDENT) == 0;
            let score = if accident { Score::MOST } else { measured[random.below(measured.len())] };
            process.push(mean, score);
            floored.push(mean, score);
            most.process = most.process.max(process.ln_e());
            most.floored = most.floored.max(floored.ln_e());
        }
    }
    most
}
