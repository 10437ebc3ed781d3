//! L1, L2 and projections: curves, and tokens until evidence is enough alone.

use audit_lab::{
    lifetime,
    provider::Provider,
    scored::Scores,
    statistics,
    weights::Quantization::{Q4_0, Q4K, Q6K, Q8_0},
};
use serde_json::{Value, json};
use verify::{
    audit::Means,
    eprocess::{ALONE, FLOORED, HonestMean},
    score::Score,
};

use crate::Cell;

const BUCKETS: u32 = 2_000;
/// Tokens of the buckets of which the tables and the curves are.
const BUCKET_TOKENS: [usize; 4] = [8, 32, 128, 512];
const RUNS: u32 = 400;
const RUN_TOKENS_MAX: u32 = 20_000;
const LIVES: u32 = 1_000;
const LIFE_TOKENS: u32 = 50_000;

/// A level, what it bets against and where its scores are.
type Level = (&'static str, HonestMean, fn(&Scores) -> &Vec<Score>);

pub(crate) fn figures(means: Means, cells: &[Cell]) -> Vec<Value> {
    let mut levels: Vec<Level> = vec![("L1", means.l1, |it| &it.l1), ("L2", means.l2, |it| &it.l2)];
    let projections = |mean| -> Level { ("Projections", mean, |it| &it.projections) };
    levels.extend(means.projections.map(projections));
    std::thread::scope(|scope| {
        let spawned = |level| scope.spawn(move || of_level(level, cells));
        let measuring: Vec<_> = levels.into_iter().map(spawned).collect();
        let joined = measuring.into_iter().map(|thread| thread.join());
        joined.map(|measured| measured.expect("it does not panic")).collect()
    })
}

fn of_level((name, mean, of): Level, cells: &[Cell]) -> Value {
    let scores = |cell: &Cell| -> Vec<Vec<Score>> {
        cell.scores.iter().map(|scores| of(scores).clone()).collect()
    };
    let is_elsewhere = |cell: &&Cell| cell.provider == Provider::Elsewhere(Q8_0);
    let honest = scores(cells.iter().find(is_elsewhere).expect("it was measured"));
    let lives = lifetime::live(mean, &honest, LIVES, LIFE_TOKENS);
    let clean = BUCKET_TOKENS.map(|tokens| statistics::buckets(&honest, tokens, BUCKETS));
    let row = |cell: &Cell| {
        let scores = scores(cell);
        let cheat = BUCKET_TOKENS.map(|tokens| statistics::buckets(&scores, tokens, BUCKETS));
        let each = |figure: &dyn Fn(&[f64], &[f64]) -> Value| -> Vec<Value> {
            clean.iter().zip(&cheat).map(|(clean, cheat)| figure(clean, cheat)).collect()
        };
        let [median, most] = statistics::tokens_to_alone(mean, &scores, RUNS, RUN_TOKENS_MAX);
        json!({
            "provider": cell.provider.name(),
            "mean": statistics::mean(&scores),
            "auc": each(&|clean, cheat| statistics::auc(clean, cheat).into()),
            "tpr": each(&|clean, cheat| {
                [0.01, 0.001].map(|fpr| statistics::tpr(clean, cheat, fpr)).to_vec().into()
            }),
            "curves": each(&|clean, cheat| {
                let curve = statistics::curve(clean, cheat);
                curve.iter().map(|(fpr, tpr)| json!([fpr, tpr])).collect()
            }),
            "tokens": { "p50": median, "p95": most },
            "tokens_max": tokens_max(name, cell.provider),
        })
    };
    json!({
        "level": name,
        "honest_mean": f64::from(mean.ppm()) / 1e6,
        "lives": lives.lives,
        "life_tokens": lives.tokens,
        "ln_e_max": lives.process.0 as f64 / 1e3,
        "ln_e_enough": ALONE.0 as f64 / 1e3,
        "floored_ln_e_max": lives.floored.0 as f64 / 1e3,
        "floored_ln_e_enough": FLOORED.0 as f64 / 1e3,
        "bucket_tokens": BUCKET_TOKENS,
        "rows": cells.iter().map(row).collect::<Vec<_>>(),
    })
}

/// The bars: of 95 % of the runs, this level has evidence that is enough alone after so many tokens. Of who is not named
/// here it need not: other levels find it, or nobody is to find it.
fn tokens_max(level: &str, provider: Provider) -> Option<u32> {
    match (level, provider) {
        (_, Provider::OtherModel) => Some(32),
        ("L1" | "Projections", Provider::Serves(Q4K | Q4_0) | Provider::Elsewhere(Q4K)) => Some(32),
        ("L2", Provider::Serves(Q4K | Q4_0) | Provider::Elsewhere(Q4K)) => Some(150),
        ("L2", Provider::Spoofs | Provider::Forges) => Some(150),
        ("L2", Provider::EditsPrompt) => Some(300),
        ("L1", Provider::Serves(Q6K) | Provider::EditsPrompt) => Some(100),
        ("Projections", Provider::Serves(Q6K)) => Some(100),
        _ => None,
    }
}
