//! `cargo xtask bench scoring`: what scoring an answer costs an auditor beside what making it cost the provider, by either library of the embedded engine.
//!
//! The measuring is an example of `audit-lab` with the feature `llama`, started as a process.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use serde_json::Value;

use super::{bars::Bar, document, example, list, number, text};

/// Scoring over making, and audits over all that a network makes.
const SHARE_MAX: f64 = 0.25;
const AUDITS_PERCENT_MAX: f64 = 1.0;
/// So many of a hundred answers are audited, by so many verifiers.
const AUDITED_PERCENT: f64 = 1.0;
const VERIFIERS: f64 = 2.0;

/// Measures, prints, and writes the table if asked to.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let (mut check, mut out) = (false, None::<PathBuf>);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "--check" => check = true,
            "--out" => out = Some(arguments.next().context("--out needs a file")?.into()),
            other => bail!("bench scoring has no option `{other}`; see `cargo xtask help`"),
        }
    }
    let features = ["--features", "audit-lab/llama,engine/llama"];
    let figures = example("scoring", &features, None)?;
    let table = table(&figures);
    print!("{table}");
    if let Some(document) = &out {
        document::replace_in(document, "scoring figures", &table)?;
        eprintln!("wrote {}", document.display());
    }
    let missed: Vec<Bar> = bars(&figures).into_iter().filter(|bar| !bar.met).collect();
    for bar in &missed {
        eprintln!("missed: {}: {}, measured {}", bar.what, bar.limit, bar.measured);
    }
    Ok(if check && !missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn share(row: &Value) -> f64 {
    number(&row["score_us"]) / number(&row["generate_us"])
}

/// Of all that a network computes, in percent.
fn audits(row: &Value) -> f64 {
    share(row) * AUDITED_PERCENT * VERIFIERS
}

/// llama.cpp is held to them: candle gives no logits but a text's last from one pass.
fn bars(figures: &Value) -> Vec<Bar> {
    let mut bars = Vec::new();
    for model in list(&figures["models"]) {
        for row in list(&model["rows"]).filter(|row| row["library"] == "llama.cpp") {
            let bar = |what: &str, measured: f64, most: f64| Bar {
                what: format!("{}, {what}", text(&model["model"])),
                limit: format!("at most {most}"),
                measured: format!("{measured:.2}"),
                met: measured <= most,
            };
            bars.push(bar("scoring over making", share(row), SHARE_MAX));
            bars.push(bar("audits, % of all computing", audits(row), AUDITS_PERCENT_MAX));
        }
    }
    bars
}

fn table(figures: &Value) -> String {
    let mut table = format!(
        "| model | library | making a token, µs | scoring it, µs | scoring over making, bar {SHARE_MAX} | audits of {AUDITED_PERCENT} % by {VERIFIERS} verifiers, % of all computing, bar {AUDITS_PERCENT_MAX} |\n|---|---|---|---|---|---|\n"
    );
    for model in list(&figures["models"]) {
        for row in list(&model["rows"]) {
            let verdict = |met: bool| if met { "met" } else { "**not met**" };
            // Writing to a string cannot fail.
            let _ = writeln!(
                table,
                "| {} | {} | {:.0} | {:.0} | {:.2}, {} | {:.2}, {} |",
                text(&model["model"]),
                text(&row["library"]),
                number(&row["generate_us"]),
                number(&row["score_us"]),
                share(row),
                verdict(share(row) <= SHARE_MAX),
                audits(row),
                verdict(audits(row) <= AUDITS_PERCENT_MAX),
            );
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shares_are_told_and_llama_is_held_to_them() {
        let row =
            |library, score| json!({ "library": library, "generate_us": 200.0, "score_us": score });
        let rows = json!([row("candle", 190.0), row("llama.cpp", 60.0)]);
        let figures = json!({ "models": [{ "model": "small", "rows": rows }] });
        let table = table(&figures);
        for line in [
            "| small | candle | 200 | 190 | 0.95, **not met** | 1.90, **not met** |",
            "| small | llama.cpp | 200 | 60 | 0.30, **not met** | 0.60, met |",
        ] {
            assert!(table.contains(line), "{line} is not in\n{table}");
        }
        let missed: Vec<String> =
            bars(&figures).into_iter().filter(|bar| !bar.met).map(|bar| bar.what).collect();
        assert_eq!(missed, ["small, scoring over making"]);
    }
}
