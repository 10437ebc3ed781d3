//! What the gateway is held against. Each bar is a figure of one run, most of them a ratio to another row of it, and
//! applies to the gateway before an HTTP upstream, before a provider over iroh, or both.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{
    figures::Figures,
    rows::Row,
    scenarios::{STEADY_PER_SECOND, Sample, Scenario},
};

struct Bar {
    what: String,
    /// Of the gateway before an HTTP upstream, and before a provider.
    limits: [Option<Limit>; 2],
    /// `None` if it was not measured.
    measured: [Option<f64>; 2],
}

#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

use Limit::{AtLeast, AtMost};

impl Limit {
    fn is_met(self, measured: f64) -> bool {
        match self {
            AtMost(limit) => measured <= limit,
            AtLeast(limit) => measured >= limit,
        }
    }

    fn text(self) -> String {
        match self {
            AtMost(limit) => format!("≤ {limit}"),
            AtLeast(limit) => format!("≥ {limit}"),
        }
    }
}

/// The rows that are held against bars.
const ROWS: [Row; 2] = [Row::GatewayHttp, Row::Gateway];

fn bars(figures: &Figures) -> Vec<Bar> {
    let ratio = |scenario: Scenario, to: Row, of: fn(&Sample) -> f64| {
        ROWS.map(|row| {
            let to = figures.of(to, scenario).map(|it| of(&it)).filter(|it| *it > 0.0)?;
            Some(of(&figures.of(row, scenario)?) / to)
        })
    };
    let above = |scenario: Scenario, to: Row, of: fn(&Sample) -> f64| {
        ROWS.map(|row| Some(of(&figures.of(row, scenario)?) - of(&figures.of(to, scenario)?)))
    };
    let crowd = |streams: usize| {
        ROWS.map(|row| {
            let few = figures.of(row, Scenario::Crowd(16))?;
            Some(figures.of(row, Scenario::Crowd(streams))?.p99_ms / few.p99_ms)
        })
    };
    let memory = ROWS.map(|row| {
        Some(figures.of(row, Scenario::Crowd(1_000))?.memory_kib as f64 * 1_024.0 / 1e6)
    });
    let idle = ROWS.map(|row| figures.idle_mib(row).map(|mib| mib * 1.048_576));
    let both = |limit: Limit| [Some(limit), Some(limit)];
    let bar = |what: &str, limits, measured| Bar { what: what.to_owned(), limits, measured };
    let rate: fn(&Sample) -> f64 = |it| it.requests_per_second;
    let cpu: fn(&Sample) -> f64 = |it| it.cpu_us;
    vec![
        bar(
            "plain request: CPU over nginx's",
            [Some(AtMost(2.5)), None],
            ratio(Scenario::Plain, Row::Nginx, cpu),
        ),
        bar(
            "paced chunk: CPU over nginx's",
            [Some(AtMost(1.3)), Some(AtMost(2.2))],
            ratio(Scenario::Paced, Row::Nginx, cpu),
        ),
        bar(
            "first chunk, p50: ms after nginx",
            both(AtMost(1.0)),
            above(Scenario::Paced, Row::Nginx, |it| it.p50_ms),
        ),
        bar(
            "plain requests per second over sglang-router's",
            both(AtLeast(2.5)),
            ratio(Scenario::Plain, Row::SglangRouter, rate),
        ),
        bar(
            "plain requests per second over LiteLLM's",
            both(AtLeast(100.0)),
            ratio(Scenario::Plain, Row::Litellm, rate),
        ),
        bar(
            "64 chunks at once: requests per second over a bare hyper relay's",
            both(AtLeast(3.0)),
            ratio(Scenario::Burst, Row::Relay, rate),
        ),
        bar(
            "prompt of 100 kB: CPU over a bare hyper relay's",
            both(AtMost(2.0)),
            ratio(Scenario::Long, Row::Relay, cpu),
        ),
        bar(
            &format!("at {STEADY_PER_SECOND} requests per second, p50: ms above direct"),
            both(AtMost(0.4)),
            above(Scenario::Steady, Row::Direct, |it| it.p50_ms),
        ),
        bar(
            &format!("at {STEADY_PER_SECOND} requests per second, p99: ms above direct"),
            both(AtMost(1.0)),
            above(Scenario::Steady, Row::Direct, |it| it.p99_ms),
        ),
        bar("256 streams: first token p99 over that with 16", both(AtMost(2.0)), crowd(256)),
        bar("1 000 streams: first token p99 over that with 16", both(AtMost(2.0)), crowd(1_000)),
        bar("resident with 1 000 streams, MB", both(AtMost(100.0)), memory),
        bar("resident idle, MB", both(AtMost(30.0)), idle),
    ]
}

/// Each bar with what was measured and whether it is met.
pub(super) fn table(figures: &Figures) -> String {
    let mut text = String::from(
        "| bar | by HTTP upstream | | by iroh, with vouchers | |\n|---|---|---|---|---|\n",
    );
    for Bar { what, limits, measured } in bars(figures) {
        let _ = write!(text, "| {what} |");
        for (limit, measured) in limits.into_iter().zip(measured) {
            let Some(limit) = limit else {
                let measured = measured.map_or("–".to_owned(), |it| format!("{it:.2}"));
                let _ = write!(text, " no bar | {measured} |");
                continue;
            };
            let verdict = match measured {
                Some(it) if limit.is_met(it) => format!("{it:.2}, met"),
                Some(it) => format!("{it:.2}, **not met**"),
                None => "not measured".to_owned(),
            };
            let _ = write!(text, " {} | {verdict} |", limit.text());
        }
        text.push('\n');
    }
    text
}

pub(super) fn json(figures: &Figures) -> Value {
    let bars = bars(figures).into_iter().flat_map(|Bar { what, limits, measured }| {
        let of_each = ROWS.into_iter().zip(limits).zip(measured);
        of_each
            .filter_map(|((row, limit), measured)| {
                let limit = limit?;
                Some(json!({
                    "what": what,
                    "row": row.name(),
                    "limit": limit.text(),
                    "measured": measured,
                    "met": measured.map(|measured| limit.is_met(measured)),
                }))
            })
            .collect::<Vec<_>>()
    });
    bars.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_at_its_limit() {
        assert!(AtMost(2.0).is_met(2.0) && !AtMost(2.0).is_met(2.1));
        assert!(AtLeast(2.0).is_met(2.0) && !AtLeast(2.0).is_met(1.9));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let table = table(&Figures::default());
        assert!(table.contains("| ≤ 30 | not measured | ≤ 30 | not measured |"), "{table}");
    }
}
