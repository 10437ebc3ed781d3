//! What was measured, and how it is shown: medians over the rounds, beside nginx of the same run.

use std::{fmt::Write, time::Duration};

use serde_json::json;

use super::{
    CONNECTIONS, PLAIN_TOKENS, STREAM_PACE, STREAM_TOKENS,
    load::{Plain, Streams},
};

/// What ratios are taken to.
const REFERENCE: &str = "nginx";

/// One measurement of one target.
pub(super) struct Round {
    pub(super) plain: Plain,
    pub(super) plain_cpu: Duration,
    pub(super) streams: Streams,
    pub(super) streams_cpu: Duration,
}

/// All measurements of a run.
pub(super) struct Figures {
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    idle_kib: u64,
    rounds: Vec<Round>,
}

/// Medians over the rounds of one target.
struct Medians {
    requests_per_second: f64,
    cpu_us_per_request: f64,
    latency_p50_ms: f64,
    latency_p99_ms: f64,
    cpu_us_per_chunk: f64,
    first_chunk_p50_ms: f64,
    first_chunk_p99_ms: f64,
}

impl Figures {
    pub(super) fn new(names: impl IntoIterator<Item = &'static str>) -> Figures {
        let row = |name| Row { name, idle_kib: 0, rounds: Vec::new() };
        Figures { rows: names.into_iter().map(row).collect() }
    }

    pub(super) fn idle(&mut self, name: &str, kib: u64) {
        self.row(name, |row| row.idle_kib = kib);
    }

    pub(super) fn add(&mut self, name: &str, round: Round) {
        self.row(name, |row| row.rounds.push(round));
    }

    fn row(&mut self, name: &str, change: impl FnOnce(&mut Row)) {
        self.rows.iter_mut().find(|row| row.name == name).map(change);
    }

    fn reference(&self) -> Option<Medians> {
        self.rows.iter().find(|row| row.name == REFERENCE).map(Row::medians)
    }

    /// The table, in the form that documents use too.
    pub(super) fn table(&self) -> String {
        let mut table = format!(
            "\
{CONNECTIONS} connections; plain: {PLAIN_TOKENS} tokens, as fast as answered; streams: \
{STREAM_TOKENS} tokens, {} ms apart. In brackets: times nginx.

| | req/s | CPU µs/request | p50 / p99 ms | CPU µs/chunk | first chunk p50 / p99 ms | MiB idle |
|---|---|---|---|---|---|---|
",
            STREAM_PACE.as_millis()
        );
        let reference = self.reference();
        for row in &self.rows {
            let it = row.medians();
            let beside = |value: f64, of: fn(&Medians) -> f64| match &reference {
                Some(reference) if row.name != REFERENCE && value > 0.0 => {
                    format!("{value:.0} ({:.2})", value / of(reference))
                }
                _ => format!("{value:.0}"),
            };
            // Nothing stands in the way of the direct row, so nothing is charged to it.
            let cost = |text: String| if row.idle_kib == 0 { "–".to_owned() } else { text };
            let _ = writeln!(
                table,
                "| {} | {} | {} | {:.2} / {:.2} | {} | {:.2} / {:.2} | {} |",
                row.name,
                beside(it.requests_per_second, |it| it.requests_per_second),
                cost(beside(it.cpu_us_per_request, |it| it.cpu_us_per_request)),
                it.latency_p50_ms,
                it.latency_p99_ms,
                cost(beside(it.cpu_us_per_chunk, |it| it.cpu_us_per_chunk)),
                it.first_chunk_p50_ms,
                it.first_chunk_p99_ms,
                cost(format!("{:.0}", row.idle_kib as f64 / 1024.0)),
            );
        }
        table
    }

    pub(super) fn json(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let it = row.medians();
            json!({
                "name": row.name,
                "rounds": row.rounds.len(),
                "requests_per_second": it.requests_per_second,
                "cpu_us_per_request": it.cpu_us_per_request,
                "latency_p50_ms": it.latency_p50_ms,
                "latency_p99_ms": it.latency_p99_ms,
                "cpu_us_per_chunk": it.cpu_us_per_chunk,
                "first_chunk_p50_ms": it.first_chunk_p50_ms,
                "first_chunk_p99_ms": it.first_chunk_p99_ms,
                "idle_kib": row.idle_kib,
            })
        });
        json!({ "targets": rows.collect::<Vec<_>>() }).to_string()
    }
}

impl Row {
    fn medians(&self) -> Medians {
        let over = |of: &dyn Fn(&Round) -> f64| median(self.rounds.iter().map(of).collect());
        let micros = |time: Duration, count: u64| time.as_secs_f64() * 1e6 / count.max(1) as f64;
        Medians {
            requests_per_second: over(&|it| it.plain.requests as f64 / it.plain.took.as_secs_f64()),
            cpu_us_per_request: over(&|it| micros(it.plain_cpu, it.plain.requests)),
            latency_p50_ms: over(&|it| percentile_ms(&it.plain.latencies, 50)),
            latency_p99_ms: over(&|it| percentile_ms(&it.plain.latencies, 99)),
            cpu_us_per_chunk: over(&|it| {
                micros(it.streams_cpu, it.streams.streams * u64::from(STREAM_TOKENS))
            }),
            first_chunk_p50_ms: over(&|it| percentile_ms(&it.streams.first_chunks, 50)),
            first_chunk_p99_ms: over(&|it| percentile_ms(&it.streams.first_chunks, 99)),
        }
    }
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The smallest of `times` that `percent` of them do not exceed.
fn percentile_ms(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(rank).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_medians_are_values_that_were_measured() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!((percentile_ms(&times, 50), percentile_ms(&times, 99)), (50.0, 99.0));
        assert_eq!((percentile_ms(&times[..1], 99), percentile_ms(&[], 50)), (1.0, 0.0));
        assert_eq!((median(vec![3.0, 1.0, 2.0]), median(vec![])), (2.0, 0.0));
    }
}
