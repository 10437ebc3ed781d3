//! What was measured, and how it is shown: medians over the rounds, beside nginx of the same run.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::json;

use super::{
    STREAM_PACE, STREAM_TOKENS, bars,
    load::PLAIN_TOKENS,
    rows::Row,
    scenarios::{
        CONNECTIONS, CROWD_PER_SECOND, CROWDS, LONG_CONNECTIONS, STEADY_PER_SECOND, Sample,
        Scenario,
    },
};

/// What ratios are taken to.
const REFERENCE: Row = Row::Nginx;

/// All measurements of a run.
#[derive(Default)]
pub(super) struct Figures {
    rows: BTreeMap<Row, Measured>,
    left_out: Vec<(Row, String)>,
}

#[derive(Default)]
struct Measured {
    idle_kib: u64,
    samples: BTreeMap<Scenario, Vec<Sample>>,
}

impl Figures {
    pub(super) fn leave_out(&mut self, left_out: Vec<(Row, String)>) {
        self.left_out.extend(left_out);
    }

    pub(super) fn idle(&mut self, row: Row, kib: u64) {
        self.rows.entry(row).or_default().idle_kib = kib;
    }

    pub(super) fn add(&mut self, row: Row, scenario: Scenario, sample: Sample) {
        let measured = self.rows.entry(row).or_default();
        measured.samples.entry(scenario).or_default().push(sample);
    }

    /// The medians of a row in a scenario, if it was measured.
    pub(super) fn of(&self, row: Row, scenario: Scenario) -> Option<Sample> {
        let samples = self.rows.get(&row)?.samples.get(&scenario)?;
        let over = |of: fn(&Sample) -> f64| median(samples.iter().map(of).collect());
        Some(Sample {
            requests_per_second: over(|it| it.requests_per_second),
            cpu_us: over(|it| it.cpu_us),
            p50_ms: over(|it| it.p50_ms),
            p99_ms: over(|it| it.p99_ms),
            memory_kib: samples.iter().map(|it| it.memory_kib).max().unwrap_or_default(),
        })
    }

    pub(super) fn idle_mib(&self, row: Row) -> Option<f64> {
        let kib = self.rows.get(&row)?.idle_kib;
        (kib > 0).then_some(kib as f64 / 1024.0)
    }

    /// The tables, in the form that documents use too.
    pub(super) fn tables(&self) -> String {
        let mut text = bars::table(self);
        text += &self.plain();
        text += &self.streams();
        text += &self.crowds();
        for (row, why) in &self.left_out {
            let _ = writeln!(text, "\nNot measured: {}, because {why}.", row.name());
        }
        text
    }

    fn plain(&self) -> String {
        let mut text = format!(
            "\nPlain requests of {PLAIN_TOKENS} tokens over {CONNECTIONS} connections, as fast as they are answered; at {STEADY_PER_SECOND} a second; with prompts \
             of 100 kB over {LONG_CONNECTIONS} connections. In brackets: times nginx.\n\n\
             | | req/s | CPU µs/request | p50 / p99 ms | p50 / p99 ms at {STEADY_PER_SECOND}/s | 100 kB: CPU µs/request | MiB idle |\n|---|---|---|---|---|---|---|\n",
        );
        for &row in self.rows.keys() {
            let plain = self.of(row, Scenario::Plain);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} |",
                row.name(),
                self.beside(row, Scenario::Plain, |it| it.requests_per_second),
                self.cpu(row, Scenario::Plain),
                times(plain),
                times(self.of(row, Scenario::Steady)),
                self.cpu(row, Scenario::Long),
                self.idle_mib(row).map_or("–".to_owned(), |mib| format!("{mib:.0}")),
            );
        }
        text
    }

    fn streams(&self) -> String {
        let mut text = format!(
            "\n{CONNECTIONS} streams at once of {STREAM_TOKENS} tokens, {} ms apart, the first after as long; and the same number of tokens at once.\n\n\
             | | CPU µs/chunk | first chunk p50 / p99 ms | at once: req/s | CPU µs/request |\n|---|---|---|---|---|\n",
            STREAM_PACE.as_millis()
        );
        for &row in self.rows.keys() {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                row.name(),
                self.cpu(row, Scenario::Paced),
                times(self.of(row, Scenario::Paced)),
                self.beside(row, Scenario::Burst, |it| it.requests_per_second),
                self.cpu(row, Scenario::Burst),
            );
        }
        text
    }

    fn crowds(&self) -> String {
        let heads = CROWDS.map(|streams| format!(" {streams} streams |")).concat();
        let mut text = format!(
            "\nTime to the first token, p50 / p99 ms, while so many streams are open and {CROWD_PER_SECOND} begin in a second; MiB resident with the most of them.\n\n\
             | |{heads} MiB |\n|---|{}---|\n",
            "---|".repeat(CROWDS.len())
        );
        for &row in self.rows.keys() {
            let cells = CROWDS
                .map(|streams| format!(" {} |", times(self.of(row, Scenario::Crowd(streams)))));
            let most = CROWDS.into_iter().rev().find_map(|it| self.of(row, Scenario::Crowd(it)));
            let mib = most
                .filter(|it| it.memory_kib > 0)
                .map_or("–".to_owned(), |it| format!("{:.0}", it.memory_kib as f64 / 1024.0));
            let _ = writeln!(text, "| {} |{} {mib} |", row.name(), cells.concat());
        }
        text
    }

    /// Nothing stands in the way of the direct row, so nothing is charged to it.
    fn cpu(&self, row: Row, scenario: Scenario) -> String {
        if row == Row::Direct {
            "–".to_owned()
        } else {
            self.beside(row, scenario, |it| it.cpu_us)
        }
    }

    fn beside(&self, row: Row, scenario: Scenario, of: fn(&Sample) -> f64) -> String {
        let Some(value) = self.of(row, scenario).map(|it| of(&it)) else { return "–".to_owned() };
        match self.of(REFERENCE, scenario).map(|it| of(&it)).filter(|it| *it > 0.0) {
            Some(reference) if row != REFERENCE => format!("{value:.0} ({:.2})", value / reference),
            _ => format!("{value:.0}"),
        }
    }

    pub(super) fn json(&self) -> String {
        let rows = self.rows.iter().map(|(row, measured)| {
            let scenarios = measured.samples.keys().filter_map(|&scenario| {
                let it = self.of(*row, scenario)?;
                let figures = json!({
                    "rounds": measured.samples[&scenario].len(),
                    "requests_per_second": it.requests_per_second,
                    "cpu_us": it.cpu_us,
                    "p50_ms": it.p50_ms,
                    "p99_ms": it.p99_ms,
                    "memory_kib": it.memory_kib,
                });
                Some((scenario.name(), figures))
            });
            let scenarios: serde_json::Map<_, _> = scenarios.collect();
            json!({ "name": row.name(), "idle_kib": measured.idle_kib, "scenarios": scenarios })
        });
        let left_out =
            self.left_out.iter().map(|(row, why)| json!({ "name": row.name(), "why": why }));
        json!({
            "rows": rows.collect::<Vec<_>>(),
            "left_out": left_out.collect::<Vec<_>>(),
            "bars": bars::json(self),
        })
        .to_string()
    }
}

fn times(sample: Option<Sample>) -> String {
    sample.map_or("–".to_owned(), |it| format!("{:.2} / {:.2}", it.p50_ms, it.p99_ms))
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_a_value_that_was_measured() {
        assert_eq!((median(vec![3.0, 1.0, 2.0]), median(vec![])), (2.0, 0.0));
    }
}
