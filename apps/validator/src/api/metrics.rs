//! Figures for Prometheus, in its text format.

use std::fmt::Write;

use axum::{http::header, response::IntoResponse};

use super::Live;

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One figure with its kind and what it means.
struct Figure {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    /// Labels in braces, or nothing, and the value.
    samples: Vec<(String, String)>,
}

pub(super) async fn metrics(Live(api): Live) -> impl IntoResponse {
    let status = api.replica.status();
    let (missed, seats) = {
        let state = api.state.read().await;
        let missed: Vec<(String, u32)> =
            state.signings().map(|(key, window)| (key.to_string(), window.missed)).collect();
        (missed, state.active_validators().count())
    };
    let one = |value: u64| vec![(String::new(), value.to_string())];
    let seconds = format!("{:.6}", status.decision_time.as_secs_f64());
    let by_key = missed.into_iter().map(|(key, count)| (label(&key), count.to_string()));
    let figures = [
        Figure {
            name: "peerwatt_height",
            kind: "gauge",
            help: "Height of the newest durable block",
            samples: one(status.tip.height.0),
        },
        Figure {
            name: "peerwatt_block_time_seconds",
            kind: "gauge",
            help: "Time in the header of the newest block, seconds since 1970",
            samples: one(status.tip.time.0 / 1_000),
        },
        Figure {
            name: "peerwatt_round",
            kind: "gauge",
            help: "Round of the height that is being decided; above 0 somebody was late or away",
            samples: one(u64::from(status.round)),
        },
        Figure {
            name: "peerwatt_decided_blocks_total",
            kind: "counter",
            help: "Blocks decided since the start",
            samples: one(status.decided),
        },
        Figure {
            name: "peerwatt_decision_seconds_total",
            kind: "counter",
            help: "From the beginning of a height to the durable block, summed",
            samples: vec![(String::new(), seconds)],
        },
        Figure {
            name: "peerwatt_caught_up_blocks_total",
            kind: "counter",
            help: "Blocks that came from peers after they were decided",
            samples: one(status.caught_up),
        },
        Figure {
            name: "peerwatt_mempool_transactions",
            kind: "gauge",
            help: "Transactions that wait for a block",
            samples: one(status.mempool_txs),
        },
        Figure {
            name: "peerwatt_peers",
            kind: "gauge",
            help: "Connected nodes",
            samples: one(status.peers),
        },
        Figure {
            name: "peerwatt_validators",
            kind: "gauge",
            help: "Validators that decide the next block",
            samples: one(seats as u64),
        },
        Figure {
            name: "peerwatt_missed_blocks",
            kind: "gauge",
            help: "Blocks of its window that a validator did not sign, by consensus key",
            samples: by_key.collect(),
        },
        Figure {
            name: "peerwatt_halted",
            kind: "gauge",
            help: "1 once no more blocks are made here",
            samples: one(u64::from(status.halted)),
        },
    ];
    ([(header::CONTENT_TYPE, FORMAT)], render(&figures))
}

fn label(key: &str) -> String {
    format!("{{validator=\"{key}\"}}")
}

fn render(figures: &[Figure]) -> String {
    let mut text = String::new();
    for Figure { name, kind, help, samples } in figures {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    }
    text
}
