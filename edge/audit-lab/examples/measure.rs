//! Measures how well audits tell providers apart, and writes the tables to the file that is named: what
//! `cargo xtask bench verify` runs, with one thread for candle.

use std::{fmt::Write as _, time::Instant};

use audit_lab::{
    calibration::calibrate,
    lifetime,
    model::Shelf,
    provider::{Provider, request},
    scored::{self, Scores},
    statistics,
    weights::Quantization,
};
use verify::{
    draw::{OneCandidate, Sampler},
    eprocess::ALONE,
    l0::Replay,
    score::Score,
};

/// A level's name, and its scores.
type Level = (&'static str, fn(&Scores) -> &Vec<Score>);

const ANSWERS: u32 = 60;
const TOKENS_MAX: u32 = 100;
const BUCKETS: u32 = 2_000;

fn main() {
    let path = std::env::args().nth(1).expect("name the file to write");
    let shelf = Shelf::new(1).expect("the model is made from a seed");
    let mut text = String::new();
    for (name, sampler) in
        [("llama.cpp", Sampler::Llama(OneCandidate::Draws)), ("ours", Sampler::Gumbel)]
    {
        text.push_str(&tables(name, sampler, &shelf));
    }
    text.push_str(&costs(&shelf));
    std::fs::write(&path, text).expect("the file can be written");
}

fn level(cell: &[Scores], of: fn(&Scores) -> &Vec<Score>) -> Vec<Vec<Score>> {
    cell.iter().map(|scores| of(scores).clone()).collect()
}

fn tables(name: &str, sampler: Sampler, shelf: &Shelf) -> String {
    let collect = |provider, seed| {
        let requests = scored::requests(seed, ANSWERS, TOKENS_MAX);
        scored::collect(shelf, provider, sampler, requests).expect("it runs")
    };
    let honest =
        [Provider::Honest, Provider::Elsewhere(Quantization::Q8_0)].map(|it| collect(it, 1));
    let means = calibrate(shelf, sampler).expect("it runs");
    let cheats = [
        Provider::Serves(Quantization::F16),
        Provider::Serves(Quantization::Q6K),
        Provider::Serves(Quantization::Q4K),
        Provider::Serves(Quantization::Q4_0),
        Provider::OtherModel,
        Provider::Temperature(700_000),
        Provider::Spoofs,
        Provider::Forges,
        Provider::EditsPrompt,
    ];
    let cheats = cheats.map(|it| (it, collect(it, 2)));
    let mut text = String::new();
    let levels: [Level; 2] = [("L1", |it| &it.l1), ("L2", |it| &it.l2)];
    for (label, of) in levels {
        let cells = [level(&honest[0], of), level(&honest[1], of)];
        let mean = if label == "L1" { means.l1 } else { means.l2 };
        let lives = lifetime::live(mean, &cells[1], 1_000, 50_000);
        let _ = writeln!(
            text,
            "\n{label}, draws as {name}; honest mean {:.4}. Of 1 000 lives of 50 000 tokens the highest ln E was {:.1}, of the process per provider {:.1}; the threshold is {:.1}.\n",
            f64::from(mean.ppm()) / 1e6,
            lives.process.0 as f64 / 1e3,
            lives.floored.0 as f64 / 1e3,
            ALONE.0 as f64 / 1e3
        );
        text.push_str("| provider | AUC at 8 / 32 / 128 / 512 tokens | TPR at 128, FPR 10⁻² / 10⁻³ | tokens to 10⁹, median (95 %) |\n|---|---|---|---|\n");
        for (provider, scores) in &cheats {
            let scores = level(scores, of);
            let buckets = |cell: &[Vec<Score>], tokens| statistics::buckets(cell, tokens, BUCKETS);
            let auc = [8, 32, 128, 512].map(|tokens| {
                format!(
                    "{:.3}",
                    statistics::auc(&buckets(&cells[1], tokens), &buckets(&scores, tokens))
                )
            });
            let (clean, cheat) = (buckets(&cells[1], 128), buckets(&scores, 128));
            let tpr =
                [0.01, 0.001].map(|fpr| format!("{:.3}", statistics::tpr(&clean, &cheat, fpr)));
            let tokens = statistics::tokens_to_alone(mean, &scores, 200, 20_000);
            let [median, most] =
                tokens.map(|it| it.map_or("never".to_owned(), |it| it.to_string()));
            let tokens = format!("{median} ({most})");
            let _ = writeln!(
                text,
                "| {} | {} | {} | {tokens} |",
                provider.name(),
                auc.join(" / "),
                tpr.join(" / ")
            );
        }
    }
    text
}

fn costs(shelf: &Shelf) -> String {
    let sampler = Sampler::Llama(OneCandidate::Draws);
    let started = Instant::now();
    let answers: Vec<_> = (0..30)
        .map(|n| {
            Provider::Honest.answer(shelf, sampler, n, request(3, n, TOKENS_MAX)).expect("it runs")
        })
        .collect();
    let generating = started.elapsed();
    let started = Instant::now();
    for answer in &answers {
        scored::positions(shelf.claimed(), answer).expect("it runs");
    }
    let ratio = started.elapsed().as_secs_f64() / generating.as_secs_f64();
    let started = Instant::now();
    let mut tokens = 0;
    for answer in answers.iter().cycle().take(300) {
        let profile = answer.request.profile;
        let mut replay = Replay::of_leaves(&[sampler], profile.settings(), profile.seed);
        for token in &answer.tokens {
            replay.push(token.id(), &token.reported());
            tokens += 1;
        }
    }
    let micros = started.elapsed().as_secs_f64() * 1e6 / f64::from(tokens);
    let share = 0.01 * 2.0 * ratio * 100.0;
    format!(
        "\n| cost | bar | measured |\n|---|---|---|\n| L0, µs per token | at most 20 | {micros:.2} |\n| scoring over generating, token by token | ¼ for who scores in one pass | {ratio:.2} |\n| audits of 1 % by two verifiers that score token by token, % of all computing | | {share:.2} |\n"
    )
}
