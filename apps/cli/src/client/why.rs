//! `peerwatt provider why`: what gateways did with this provider, hour by hour, and what would change it.
//! The provider writes it into its data folder; nothing is asked over a network.

use std::{collections::BTreeMap, time::SystemTime};

use anyhow::bail;
use provider::{LinkState, Why, WhyHour, read_why};
use serde::Serialize;
use types::{PublicKey, TimeMs};
use wire::serve::PassedFor;

use crate::{
    args::WhyArgs,
    home::Home,
    output::{Output, utc},
};

const HOUR_MS: u64 = 60 * 60 * 1_000;
/// A provider that runs has written within this time.
const FRESH_MS: u64 = 60_000;
/// Errors that are shown to people.
const ERRORS_SHOWN: usize = 3;

#[derive(Serialize)]
struct Report {
    /// When the provider wrote it.
    at: TimeMs,
    running: bool,
    models: Vec<String>,
    slots: u32,
    gateways: Vec<Gateway>,
    errors: Vec<Problem>,
    /// Oldest first; an hour of a model that nobody looked at is absent.
    hours: Vec<Hour>,
    /// What would change it, of the reasons in `hours`.
    advice: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
struct Gateway {
    node_key: PublicKey,
    state: &'static str,
    since: TimeMs,
}

#[derive(Serialize)]
struct Problem {
    at: TimeMs,
    what: String,
}

#[derive(Serialize)]
struct Hour {
    /// When it began.
    hour: TimeMs,
    model: String,
    considered: u64,
    chosen: u64,
    /// Of the chosen.
    second: u64,
    passed: BTreeMap<&'static str, u64>,
}

pub(crate) fn run(home: &Home, args: WhyArgs, output: Output) -> anyhow::Result<()> {
    let Some(why) = read_why(&home.part("provider"))? else {
        bail!("no provider has run from this data folder; start one with `peerwatt provide`");
    };
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = TimeMs(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
    let report = report(why, &args, now);
    output.result(&report, describe(&report))
}

fn report(why: Why, args: &WhyArgs, now: TimeMs) -> Report {
    let Why { at, models, slots, links, errors, hours } = why;
    let first = now.0.saturating_sub(u64::from(args.hours).saturating_mul(HOUR_MS));
    let is_wanted = |row: &WhyHour| {
        row.hour.0 > first && args.model.as_ref().is_none_or(|model| *model == row.alias)
    };
    let hours: Vec<WhyHour> = hours.into_iter().filter(is_wanted).collect();
    let reasons = hours.iter().flat_map(WhyHour::passed);
    let advice = reasons.map(|(reason, _)| (reason.name(), advice(reason))).collect();
    let gateways = links.into_iter().map(|link| Gateway {
        node_key: link.gateway,
        state: state(link.state),
        since: link.since,
    });
    let hour = |row: WhyHour| Hour {
        hour: row.hour,
        considered: row.considered(),
        chosen: row.chosen,
        second: row.second,
        passed: row.passed().map(|(reason, count)| (reason.name(), count)).collect(),
        model: row.alias,
    };
    Report {
        at,
        running: now.ms_since(at) < FRESH_MS,
        models,
        slots,
        gateways: gateways.collect(),
        errors: errors.into_iter().map(|it| Problem { at: it.at, what: it.what }).collect(),
        hours: hours.into_iter().map(hour).collect(),
        advice,
    }
}

fn state(state: LinkState) -> &'static str {
    match state {
        LinkState::Dialling => "dialling",
        LinkState::Connected => "connected",
        LinkState::Leaving => "leaving",
        LinkState::Waiting => "waiting",
    }
}

fn describe(report: &Report) -> String {
    let Report { at, running, models, slots, gateways, errors, hours, advice } = report;
    let connected = gateways.iter().filter(|it| it.state == "connected").count();
    let mut lines = vec![format!(
        "as of {}{}: connected to {connected} of {} gateways, {} models, {slots} slots",
        utc(*at),
        if *running { "" } else { ", when it ran last" },
        gateways.len(),
        models.len(),
    )];
    if connected == 0 {
        let shown = errors.iter().rev().take(ERRORS_SHOWN);
        lines.extend(shown.map(|error| format!("  {}  {}", utc(error.at), error.what)));
    }
    if models.is_empty() {
        lines.push("  it offers no model: is the engine running, and does it have one?".to_owned());
    }
    if hours.is_empty() {
        lines.push(
            "no gateway has looked at it in this time: nobody asked for its models".to_owned(),
        );
        return lines.join("\n");
    }
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (&reason, &count) in hours.iter().flat_map(|hour| &hour.passed) {
        let sum = sums.entry(reason).or_default();
        *sum = sum.saturating_add(count);
    }
    let mut reasons: Vec<(&str, u64)> = sums.into_iter().collect();
    reasons.sort_by_key(|&(name, count)| (std::cmp::Reverse(count), name));
    lines.push(String::new());
    lines.extend(table(hours, &reasons));
    lines.push(String::new());
    for (name, count) in reasons {
        lines.push(format!("{name:>11}  {count:>8}  {}", advice.get(name).unwrap_or(&"")));
    }
    lines.join("\n")
}

/// One line per hour, over all models.
fn table(hours: &[Hour], reasons: &[(&str, u64)]) -> Vec<String> {
    let width = |name: &str| name.len().max(7);
    let mut head = format!("{:<23}  considered   chosen", "hour that begins");
    for (name, _) in reasons {
        head.push_str(&format!("  {name:>0$}", width(name)));
    }
    let mut lines = vec![head];
    for models in hours.chunk_by(|one, next| one.hour == next.hour) {
        let sum = |of: &dyn Fn(&Hour) -> u64| models.iter().map(of).fold(0, u64::saturating_add);
        let Some(first) = models.first() else { continue };
        let mut line = format!(
            "{:<23}  {:>10}  {:>7}",
            utc(first.hour),
            sum(&|hour| hour.considered),
            sum(&|hour| hour.chosen)
        );
        for (name, _) in reasons {
            let count = sum(&|hour| hour.passed.get(name).copied().unwrap_or(0));
            line.push_str(&format!("  {count:>0$}", width(name)));
        }
        lines.push(line);
    }
    lines
}

/// What happened, and what the provider's operator can do about it.
fn advice(reason: PassedFor) -> &'static str {
    match reason {
        PassedFor::OtherModel => {
            "more providers offer another model under this name: offer the file or tag that they offer"
        }
        PassedFor::Tried => {
            "asked before for the same request: see its log for why that did not do"
        }
        PassedFor::Completions => {
            "text was wanted of a model that makes embeddings only: nothing here changes that"
        }
        PassedFor::Embeddings => {
            "embeddings, or a dimension of them, were wanted: offer a model made for them, on an engine that says so"
        }
        PassedFor::Logprobs => {
            "log-probabilities were wanted: offer the model with an engine that tells them"
        }
        PassedFor::Json => {
            "JSON was demanded: offer the model with an engine that can be held to it"
        }
        PassedFor::Tools => {
            "tools were given: offer a model whose template knows them, on llama-server, vLLM or Ollama"
        }
        PassedFor::Samplers => {
            "top_k, min_p or a repeat penalty was wanted: offer the model with an engine that knows them"
        }
        PassedFor::Context => {
            "the prompt was too long: give the model a larger context in its engine"
        }
        PassedFor::Pinned => "the client wanted another provider: nothing here changes that",
        PassedFor::Region => "the client wanted another region: is --region right, or missing?",
        PassedFor::PriceMax => {
            "above what the client pays: lower --prompt-price or --completion-price"
        }
        PassedFor::Unfunded => {
            "the gateway has not funded its channel yet: it does so by itself; if it lasts, ask its operator"
        }
        PassedFor::Full => "all slots were in use: serve more at once, if the machine can",
        PassedFor::Busy => {
            "it had just refused because it was busy: serve more at once, if the machine can"
        }
        PassedFor::Quarantined => {
            "failed three times in a row: see its log; the quarantine ends after 30 s to 30 min"
        }
        PassedFor::Probation => {
            "failed before and not served since: it ends with the first answer that succeeds"
        }
        PassedFor::Price => {
            "another one costs less for its time: lower --prompt-price, --completion-price or --request-price"
        }
        PassedFor::Speed => {
            "another one answers faster for its price: a faster engine or smaller model file, or a lower price"
        }
        PassedFor::Load => {
            "it had more requests in work than another one: more slots, or nothing: it is earning"
        }
        PassedFor::Drawn => {
            "about as good as another one, which was less busy or drawn: a lower price or a faster answer sets it apart"
        }
        PassedFor::Explored => "another one was asked to measure it: its turn comes too",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_what_would_change_it() {
        let hour = |hour: u64, model: &str, chosen, passed: &[(&'static str, u64)]| Hour {
            hour: TimeMs(1_700_000_000_000 / HOUR_MS * HOUR_MS + hour * HOUR_MS),
            model: model.to_owned(),
            considered: chosen + passed.iter().map(|(_, count)| count).sum::<u64>(),
            chosen,
            second: 0,
            passed: passed.iter().copied().collect(),
        };
        let mut report = Report {
            at: TimeMs(1_700_000_000_000),
            running: true,
            models: vec!["small".to_owned()],
            slots: 4,
            gateways: Vec::new(),
            errors: vec![Problem { at: TimeMs(1_700_000_000_000), what: "not registered".into() }],
            hours: Vec::new(),
            advice: BTreeMap::new(),
        };
        let nobody = describe(&report);
        report.hours = vec![
            hour(0, "large", 1, &[("price", 2)]),
            hour(0, "small", 0, &[("price", 10), ("full", 3)]),
            hour(1, "small", 7, &[("full", 1_000_000)]),
        ];
        report.advice = BTreeMap::from([("full", "more slots"), ("price", "a lower price")]);
        expect_test::expect![[r#"
            as of 2023-11-14 22:13:20 UTC: connected to 0 of 0 gateways, 1 models, 4 slots
              2023-11-14 22:13:20 UTC  not registered
            no gateway has looked at it in this time: nobody asked for its models

            as of 2023-11-14 22:13:20 UTC: connected to 0 of 0 gateways, 1 models, 4 slots
              2023-11-14 22:13:20 UTC  not registered

            hour that begins         considered   chosen     full    price
            2023-11-14 22:00:00 UTC          16        1        3       12
            2023-11-14 23:00:00 UTC     1000007        7  1000000        0

                   full   1000003  more slots
                  price        12  a lower price
        "#]]
        .assert_eq(&format!("{nobody}\n\n{}\n", describe(&report)));
    }
}
