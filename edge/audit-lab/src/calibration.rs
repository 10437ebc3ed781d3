//! The honest means of the laboratory, as they are published for a model and a kind of machine: from the claimed file on
//! other kernels, with the bound of [`verify::calibration`].
//!
//! The bound narrows with the number of responses and not with their length, so they are many and short.

use candle_core::Result;
use verify::{
    audit::Means,
    calibration::{Calibration, honest_mean},
    draw::Sampler,
    score::Score,
};

use crate::{
    model::Shelf,
    provider::Provider,
    scored::{self, Scores},
    weights::Quantization,
};

/// Responses that are measured, and tokens of each: 25 000 tokens, of which the bound is .005 above the mean.
const RESPONSES: u32 = 1_600;
const TOKENS_MAX: u32 = 16;
/// Of requests that nothing else asks.
const SEED: u32 = 50;

/// Runs a model 50 000 times, which takes about ten seconds.
pub fn calibrate(shelf: &Shelf, sampler: Sampler) -> Result<Means> {
    let requests = scored::requests(SEED, RESPONSES, TOKENS_MAX);
    let honest = Provider::Elsewhere(Quantization::Q8_0);
    let scores = scored::collect(shelf, honest, sampler, requests)?;
    let measured = |of: fn(&Scores) -> &Vec<Score>| {
        let mut cell = Calibration::default();
        scores.iter().for_each(|it| push(&mut cell, of(it)));
        honest_mean(&[cell])
    };
    let mean = |of| measured(of).expect("honest scores are low");
    Ok(Means {
        l1: mean(|it| &it.l1),
        l2: mean(|it| &it.l2),
        projections: measured(|it| &it.projections),
    })
}

fn push(cell: &mut Calibration, scores: &[Score]) {
    let mean = scores.iter().map(|it| it.get()).sum::<f64>() / scores.len().max(1) as f64;
    cell.push(scores.len() as u32, (mean * 1e6).ceil() as u32);
}
