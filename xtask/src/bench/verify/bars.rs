//! What audits are held against. The example says which provider is to be found by what and how soon; this reads what was
//! measured beside it.

use serde_json::Value;

use super::{list, number, text, tokens};

/// L0 of one token.
const REPLAY_US_MAX: f64 = 20.0;

/// One bar, and whether it is met.
#[derive(Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) what: String,
    pub(super) limit: String,
    pub(super) measured: String,
    pub(super) met: bool,
}

pub(super) fn of(figures: &Value) -> Vec<Bar> {
    let mut bars = Vec::new();
    for sampler in list(&figures["samplers"]) {
        let name = text(&sampler["sampler"]);
        bars.extend(list(&sampler["replays"]).flat_map(|row| replays(name, row)));
        for level in list(&sampler["levels"]) {
            bars.extend(lives(name, level));
            bars.extend(list(&level["rows"]).filter_map(|row| found(name, level, row)));
        }
    }
    let replay_us = number(&figures["costs"]["replay_us"]);
    bars.push(Bar {
        what: "L0, µs per token".to_owned(),
        limit: format!("at most {REPLAY_US_MAX}"),
        measured: format!("{replay_us:.2}"),
        met: replay_us <= REPLAY_US_MAX,
    });
    bars
}

/// Of the honest no token is unexplained and no answer is audited; of cheats with a bar so many answers are.
fn replays(sampler: &str, row: &Value) -> Vec<Bar> {
    let provider = text(&row["provider"]);
    let mut bars = Vec::new();
    if row["is_honest"] == true {
        for (what, key) in [("tokens unexplained", "unexplained"), ("answers audited", "audited")] {
            bars.push(Bar {
                what: format!("{provider}, {sampler}: {what} by L0"),
                limit: "0".to_owned(),
                measured: number(&row[key]).to_string(),
                met: row[key] == 0,
            });
        }
    }
    if let Some(least) = row["audited_min"].as_f64() {
        bars.push(Bar {
            what: format!("{provider}, {sampler}: answers found by L0, of {}", row["answers"]),
            limit: format!("at least {least}"),
            measured: number(&row["audited"]).to_string(),
            met: number(&row["audited"]) >= least,
        });
    }
    if let Some(most) = row["first_mismatch_max"].as_f64() {
        bars.push(Bar {
            what: format!("{provider}, {sampler}: first token that L0 does not explain, median"),
            limit: format!("at most {most}"),
            measured: tokens(&row["first_mismatch_p50"]),
            met: number(&row["first_mismatch_p50"]) <= most,
        });
    }
    bars
}

/// What the evidence against the honest ever rises to.
fn lives(sampler: &str, level: &Value) -> [Bar; 2] {
    let name = text(&level["level"]);
    let bar = |process: &str, most: f64, enough: f64| Bar {
        what: format!("honest lives, {sampler}, {name}: highest ln E {process}"),
        limit: format!("below {enough:.1}"),
        measured: format!("{most:.1}"),
        met: most < enough,
    };
    let of = |key: &str| number(&level[key]);
    [
        bar("of an audit", of("ln_e_max"), of("ln_e_enough")),
        bar("per provider", of("floored_ln_e_max"), of("floored_ln_e_enough")),
    ]
}

/// How soon a cheat is found, in 95 % of the runs.
fn found(sampler: &str, level: &Value, row: &Value) -> Option<Bar> {
    let most = row["tokens_max"].as_f64()?;
    let (provider, level) = (text(&row["provider"]), text(&level["level"]));
    Some(Bar {
        what: format!("{provider}, {sampler}: tokens to 10⁹ by {level}, 95 %"),
        limit: format!("at most {most}"),
        measured: tokens(&row["tokens"]["p95"]),
        met: number(&row["tokens"]["p95"]) <= most,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::verify::tests::figures;

    fn missed(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut figures = figures();
        change(&mut figures);
        of(&figures).into_iter().filter(|bar| !bar.met).map(|bar| bar.what).collect()
    }

    #[test]
    fn a_bar_that_is_missed_is_named() {
        assert_eq!(of(&figures()).len(), 10);
        assert!(missed(|_| {}).is_empty());
        let sampler = |figures: &mut Value, path: &str, to: Value| {
            *figures.pointer_mut(&format!("/samplers/0/{path}")).unwrap() = to;
        };
        for (path, to, expected) in [
            ("replays/0/unexplained", json!(1), "honest, llama.cpp: tokens unexplained by L0"),
            ("replays/1/audited", json!(59), "greedy, llama.cpp: answers found by L0, of 60"),
            (
                "levels/1/floored_ln_e_max",
                json!(27.7),
                "honest lives, llama.cpp, L2: highest ln E per provider",
            ),
            (
                "levels/0/rows/1/tokens/p95",
                Value::Null,
                "Q4_K, llama.cpp: tokens to 10⁹ by L1, 95 %",
            ),
        ] {
            assert_eq!(missed(|figures| sampler(figures, path, to)), [expected]);
        }
        assert_eq!(missed(|it| it["costs"]["replay_us"] = json!(20.1)), ["L0, µs per token"]);
    }
}
