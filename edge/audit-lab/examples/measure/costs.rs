//! What checking costs beside generating, on one thread.

use std::time::Instant;

use audit_lab::{
    model::Shelf,
    provider::{Answer, Provider, request},
    scored,
};
use candle_core::Result;
use serde_json::{Value, json};
use verify::{l0::Replay, projection::Signs};

use crate::{SAMPLERS, TOKENS_MAX};

const ANSWERS: u32 = 60;
/// Times that L0 goes through the answers, of which one takes a few milliseconds.
const ROUNDS: usize = 10;
/// Fingerprints of so many logits.
const PROJECTIONS: u32 = 200;
const VOCABULARY: u32 = 128_000;

pub(crate) fn figures(shelf: &Shelf) -> Result<Value> {
    let sampler = SAMPLERS[0].1;
    let started = Instant::now();
    let answer = |n| Provider::Honest.answer(shelf, sampler, n, request(3, n, TOKENS_MAX));
    let answers: Vec<Answer> = (0..ANSWERS).map(answer).collect::<Result<_>>()?;
    let generating = started.elapsed().as_secs_f64();
    let tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();

    let started = Instant::now();
    for answer in &answers {
        scored::positions(shelf.claimed(), answer)?;
    }
    let scoring = started.elapsed().as_secs_f64();

    // candle keeps the last position's logits alone: what it would take to score, but for the last product.
    let started = Instant::now();
    for answer in &answers {
        let ids = answer.tokens.iter().map(|token| token.id());
        let all: Vec<u32> = answer.request.prompt.iter().copied().chain(ids).collect();
        shelf.claimed().begin(&all)?;
    }
    let reading = started.elapsed().as_secs_f64();

    let started = Instant::now();
    for answer in answers.iter().cycle().take(answers.len() * ROUNDS) {
        let profile = answer.request.profile;
        let mut replay = Replay::of_leaves(&[sampler], profile.settings(), profile.seed);
        for token in &answer.tokens {
            replay.push(token.id(), &token.reported());
        }
    }
    let replaying = started.elapsed().as_secs_f64() / ROUNDS as f64;
    // Of a model of today: its vocabulary has 128 000 tokens, more or less.
    let logits: Vec<f32> = (0..VOCABULARY).map(|n| ((n * 7_919 % 10_007) as f32).sqrt()).collect();
    let signs = Signs::new(1, logits.len());
    let started = Instant::now();
    for _ in 0..PROJECTIONS {
        std::hint::black_box(signs.project(std::hint::black_box(&logits)));
    }
    let projecting = started.elapsed().as_secs_f64() * 1e6 / f64::from(PROJECTIONS);
    let micros = |seconds: f64| seconds * 1e6 / tokens as f64;
    Ok(json!({
        "replay_us": micros(replaying),
        "generate_us": micros(generating),
        "score_us": micros(scoring),
        "read_us": micros(reading),
        "project_us": projecting,
    }))
}
