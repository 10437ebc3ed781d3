//! Measures how well audits tell providers apart, and what they cost: what `cargo xtask bench verify` runs, with one
//! thread for candle. The first argument names the file for the figures, as JSON; the second, if there is one,
//! a folder for the scores of each token.

mod costs;
mod dump;
mod levels;
mod replay;

use std::path::PathBuf;

use audit_lab::{
    calibration::calibrate,
    model::Shelf,
    provider::{Answer, Provider, request},
    rounding::Cache,
    scored::{self, Scores},
    weights::Quantization::{F16, Q4_0, Q4K, Q6K, Q8_0},
};
use candle_core::Result;
use serde_json::{Value, json};
use verify::{
    audit::Means,
    draw::{OneCandidate, Sampler},
};

/// Answers of each provider, and the longest of them.
const ANSWERS: u32 = 60;
const TOKENS_MAX: u32 = 100;
const SAMPLERS: [(&str, Sampler); 2] =
    [("llama.cpp", Sampler::Llama(OneCandidate::Draws)), ("ours", Sampler::Gumbel)];
/// In the order of the tables; the first two are honest.
const PROVIDERS: [Provider; 22] = [
    Provider::Honest,
    Provider::Elsewhere(Q8_0),
    Provider::Serves(F16),
    Provider::Keeps(Cache::Q8_0),
    Provider::Keeps(Cache::Q4_0),
    Provider::Serves(Q6K),
    Provider::Serves(Q4K),
    Provider::Elsewhere(Q4K),
    Provider::Serves(Q4_0),
    Provider::OtherModel,
    Provider::Temperature(700_000),
    Provider::Temperature(900_000),
    Provider::Temperature(0),
    Provider::Caches,
    Provider::Confuses,
    Provider::EditsPrompt,
    Provider::Spoofs,
    Provider::Forges,
    Provider::Truncates,
    Provider::Inflates,
    Provider::Mixes(5),
    Provider::Mixes(20),
];

/// The answers of one provider, and their scores.
struct Cell {
    provider: Provider,
    answers: Vec<Answer>,
    scores: Vec<Scores>,
    /// What an auditor finds of each answer for itself.
    replays: Vec<replay::Found>,
}

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let path = arguments.next().expect("name the file to write");
    let folder = arguments.next();
    let shelf = Shelf::new(1).expect("the model is made from a seed");
    let measured = std::thread::scope(|scope| {
        let measuring = SAMPLERS.map(|(name, sampler)| {
            let shelf = &shelf;
            scope.spawn(move || (name, measure(shelf, sampler).expect("candle runs the model")))
        });
        measuring.map(|thread| thread.join().expect("it does not panic"))
    });
    let mut samplers = Vec::new();
    for (name, (means, cells)) in &measured {
        if let Some(folder) = &folder {
            dump::write(folder, name, cells).expect("the folder can be written");
        }
        samplers.push(json!({
            "sampler": name,
            "levels": levels::figures(*means, cells),
            "replays": replay::figures(cells),
        }));
    }
    let costs = costs::figures(&shelf).expect("candle runs the model");
    let figures: Value = json!({ "samplers": samplers, "costs": costs });
    std::fs::write(&path, figures.to_string()).expect("the file can be written");
}

fn measure(shelf: &Shelf, sampler: Sampler) -> Result<(Means, Vec<Cell>)> {
    let means = calibrate(shelf, sampler)?;
    let cell = |provider: Provider| {
        let answer = |n| provider.answer(shelf, sampler, n, request(2, n, TOKENS_MAX));
        let answers: Vec<Answer> = (0..ANSWERS).map(answer).collect::<Result<_>>()?;
        let (mut scores, mut replays) = (Vec::new(), Vec::new());
        for answer in &answers {
            let positions = scored::positions(shelf.claimed(), answer)?;
            scores.push(scored::scores(sampler, answer, &positions));
            replays.push(replay::found(sampler, means, answer, &positions));
        }
        Ok(Cell { provider, answers, scores, replays })
    };
    Ok((means, PROVIDERS.into_iter().map(cell).collect::<Result<_>>()?))
}
