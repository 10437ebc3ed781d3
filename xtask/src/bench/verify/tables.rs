//! The figures as tables of a document.

use std::fmt::Write as _;

use serde_json::Value;

use super::{bars::Bar, list, number, text, tokens};

/// Audits that a network makes: so many of a hundred answers, by so many verifiers.
const AUDITED_PERCENT: f64 = 1.0;
const VERIFIERS: f64 = 2.0;

/// Writing to a string cannot fail.
macro_rules! line {
    ($text:expr, $($rest:tt)*) => { let _ = writeln!($text, $($rest)*); };
}

pub(super) fn of(figures: &Value, bars: &[Bar]) -> String {
    let mut text = held_against(bars);
    text += &costs(&figures["costs"]);
    for sampler in list(&figures["samplers"]) {
        text += &replays(sampler);
        list(&sampler["levels"]).for_each(|level| text += &scored(sampler, level));
    }
    text
}

fn held_against(bars: &[Bar]) -> String {
    let met = bars.iter().filter(|bar| bar.met).count();
    let mut text = format!("Of {} bars {met} are met.\n\n", bars.len());
    text += "| bar | limit | measured | |\n|---|---|---|---|\n";
    for Bar { what, limit, measured, met } in bars {
        let verdict = if *met { "met" } else { "**not met**" };
        line!(text, "| {what} | {limit} | {measured} | {verdict} |");
    }
    text
}

/// What checking costs beside generating. Whether scoring keeps within a quarter is said and not demanded of candle; what llama.cpp needs,
/// which keeps the logits of all positions, `bench scoring` measures.
fn costs(costs: &Value) -> String {
    let generating = number(&costs["generate_us"]);
    let ratio = |key: &str| number(&costs[key]) / generating;
    let quarter = |key: &str| {
        let met = if ratio(key) <= 0.25 { "met" } else { "**not met**" };
        format!("{:.2} | {met}", ratio(key))
    };
    let mut text = String::from("\n| cost, on one thread | measured | bar of ¼ |\n|---|---|---|\n");
    line!(text, "| generating, µs per token | {generating:.0} | |");
    line!(text, "| L0 over generating | {:.4} | |", ratio("replay_us"));
    line!(text, "| scoring token by token over generating | {} |", quarter("score_us"));
    line!(
        text,
        "| reading an answer in one pass over generating; candle gives no logits but the last | {} |",
        quarter("read_us")
    );
    let project_us = number(&costs["project_us"]);
    line!(text, "| a projection of 128 000 logits, µs | {project_us:.0} | |");
    let share = |key: &str| ratio(key) * AUDITED_PERCENT * VERIFIERS;
    line!(
        text,
        "| audits of {AUDITED_PERCENT} % by {VERIFIERS} verifiers, % of all generating: token by token, in one pass | {:.2}, {:.2} | |",
        share("score_us"),
        share("read_us")
    );
    text
}

fn replays(sampler: &Value) -> String {
    let mut text = format!("\nL0, draws as {}:\n\n", self::text(&sampler["sampler"]));
    text += "| provider | tokens unexplained | excused | first unexplained, median | answers that L0 has audited / suspended | answers with evidence of 10⁹ of their own |\n|---|---|---|---|---|---|\n";
    for row in list(&sampler["replays"]) {
        let cheated = row["cheated"].as_u64();
        let cheated = cheated.map_or(String::new(), |count| format!(" ({count} cheated)"));
        line!(
            text,
            "| {} | {} of {} | {} | {} | {} / {} of {} | {}{cheated} |",
            self::text(&row["provider"]),
            row["unexplained"],
            row["tokens"],
            row["excused"],
            tokens(&row["first_mismatch_p50"]),
            row["audited"],
            row["suspended"],
            row["answers"],
            row["alone"]
        );
    }
    text
}

fn scored(sampler: &Value, level: &Value) -> String {
    let mut text = format!(
        "\n{}, draws as {}; honest mean {:.4}. Of {} lives of {} tokens the highest ln E was {:.1}, and {:.1} is enough; of the process per provider {:.1}, and {:.1} is.\n\n",
        self::text(&level["level"]),
        self::text(&sampler["sampler"]),
        number(&level["honest_mean"]),
        level["lives"],
        level["life_tokens"],
        number(&level["ln_e_max"]),
        number(&level["ln_e_enough"]),
        number(&level["floored_ln_e_max"]),
        number(&level["floored_ln_e_enough"]),
    );
    let sizes: Vec<String> = list(&level["bucket_tokens"]).map(Value::to_string).collect();
    let sizes = sizes.join(" / ");
    line!(
        text,
        "| provider | mean score | AUC at {sizes} tokens | TPR at {sizes}, FPR 10⁻² | the same, FPR 10⁻³ | tokens to 10⁹, median (95 %) |\n|---|---|---|---|---|---|"
    );
    for row in list(&level["rows"]) {
        let each = |figures: Vec<f64>| {
            figures.iter().map(|it| format!("{it:.3}")).collect::<Vec<_>>().join(" / ")
        };
        let tpr = |n: usize| each(list(&row["tpr"]).map(|it| number(&it[n])).collect());
        line!(
            text,
            "| {} | {:.4} | {} | {} | {} | {} ({}) |",
            self::text(&row["provider"]),
            number(&row["mean"]),
            each(list(&row["auc"]).map(number).collect()),
            tpr(0),
            tpr(1),
            tokens(&row["tokens"]["p50"]),
            tokens(&row["tokens"]["p95"]),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::bench::verify::{bars, tests::figures};

    #[test]
    fn tables_say_what_was_measured_and_what_is_missed() {
        let mut figures = figures();
        figures["costs"]["replay_us"] = 30.into();
        let tables = super::of(&figures, &bars::of(&figures));
        for line in [
            "Of 10 bars 9 are met.",
            "| L0, µs per token | at most 20 | 30.00 | **not met** |",
            "| scoring token by token over generating | 0.97 | **not met** |",
            "| greedy | 3000 of 5900 | 0 | never | 60 / 0 of 60 | 0 |",
            "| Q4_K | 0.2000 | 0.900 / 1.000 / 1.000 / 1.000 | 0.100 / 0.900 / 1.000 / 1.000 | 0.000 / 0.800 / 1.000 / 1.000 | 13 (15) |",
        ] {
            assert!(tables.contains(line), "{line} is not in\n{tables}");
        }
    }
}
