//! What was measured, how it is shown, and the bars that it must meet.

use std::{fmt::Write, time::Duration};

use serde_json::{Value, json};

use super::{
    load::{CLAIMS_MIXED, Growth, Large, Redemption},
    network::HOLDBACK_BLOCKS,
    signed::Round,
};
use crate::bench::figures::median;

/// All measurements of a run.
pub(super) struct Figures {
    pub(super) large: Large,
    pub(super) signed: Vec<Round>,
    pub(super) redemptions: Vec<Redemption>,
    pub(super) growth: Vec<Growth>,
}

/// What a figure must be.
enum Limit {
    AtLeast(f64),
    Below(f64),
}

/// One figure and its limit.
pub(super) struct Bar {
    name: &'static str,
    unit: &'static str,
    limit: Limit,
    pub(super) value: f64,
}

impl Bar {
    pub(super) fn is_met(&self) -> bool {
        match self.limit {
            Limit::AtLeast(limit) => self.value >= limit,
            Limit::Below(limit) => self.value < limit,
        }
    }

    fn line(&self) -> String {
        let Bar { name, unit, limit, value } = self;
        let digits = if *value < 100.0 { 2 } else { 0 };
        let limit = match limit {
            Limit::AtLeast(limit) => format!("at least {limit}"),
            Limit::Below(limit) => format!("below {limit}"),
        };
        let verdict = if self.is_met() { "met" } else { "**not met**" };
        format!("| {name} | {limit} {unit} | {value:.digits$} | {verdict} |")
    }

    fn json(&self) -> Value {
        let (kind, limit) = match self.limit {
            Limit::AtLeast(limit) => ("at_least", limit),
            Limit::Below(limit) => ("below", limit),
        };
        let Bar { name, unit, value, .. } = self;
        json!({ "name": name, "unit": unit, kind: limit, "value": value, "met": self.is_met() })
    }
}

/// Medians of the transfers with signatures.
struct Transfers {
    bare_us: f64,
    form_us: f64,
    whole_us: f64,
    execution_us: f64,
    /// Of the same block, then the median.
    bare_share: f64,
}

impl Figures {
    pub(super) fn bars(&self) -> Vec<Bar> {
        let transfers = self.transfers();
        let redemption_ms = self.redemptions.iter().map(|it| median_ms(&it.redeemed));
        vec![
            Bar {
                name: "signature verification, share of the whole",
                unit: "%",
                limit: Limit::AtLeast(60.0),
                value: transfers.bare_share * 100.0,
            },
            Bar {
                name: "transfers per second on one core, without signatures",
                unit: "",
                limit: Limit::AtLeast(200_000.0),
                value: 1e6 / transfers.execution_us,
            },
            Bar {
                name: "redemption of 1 000 vouchers",
                unit: "ms",
                limit: Limit::Below(25.0),
                value: redemption_ms.fold(0.0, f64::max),
            },
            Bar {
                name: "mixed block of 1 000 on the large state, root included",
                unit: "ms",
                limit: Limit::Below(50.0),
                value: median_ms(&self.large.blocks),
            },
            Bar {
                name: "resident memory with the large state",
                unit: "GiB",
                limit: Limit::Below(1.5),
                value: self.large.resident_kib as f64 / f64::from(1 << 20),
            },
            Bar {
                name: "growth of a transfer's cost over that of log n, 1 k to 1 M accounts",
                unit: "",
                limit: Limit::Below(1.0),
                value: self.growth_over_log(),
            },
        ]
    }

    fn transfers(&self) -> Transfers {
        let over = |of: &dyn Fn(&Round) -> f64| median(self.signed.iter().map(of).collect());
        let micros = |time: Duration, round: &Round| time.as_secs_f64() * 1e6 / round.txs as f64;
        Transfers {
            bare_us: over(&|it| micros(it.bare, it)),
            form_us: over(&|it| micros(it.form, it)),
            whole_us: over(&|it| micros(it.whole, it)),
            execution_us: over(&|it| micros(it.execution, it)),
            bare_share: over(&|it| it.bare.as_secs_f64() / it.whole.as_secs_f64()),
        }
    }

    /// By what factor the cost grew from the first to the last state, over that of log n.
    fn growth_over_log(&self) -> f64 {
        match (self.growth.first(), self.growth.last()) {
            (Some(first), Some(last)) => {
                last.alone_us() / first.alone_us() / (last.log() / first.log())
            }
            _ => f64::NAN,
        }
    }

    /// The tables, in the form that documents use too.
    pub(super) fn table(&self) -> String {
        let mut text = "| bar | limit | measured | |\n|---|---|---|---|\n".to_owned();
        self.bars().iter().for_each(|bar| text += &(bar.line() + "\n"));
        let _ = writeln!(text, "\n| | |\n|---|---|");
        for (name, value) in self.rows() {
            let _ = writeln!(text, "| {name} | {value} |");
        }
        let block_txs = self.growth.first().map_or(0, |it| it.block_txs);
        let _ = writeln!(
            text,
            "\n| accounts n | log2 n | µs alone | µs alone / log2 n | µs in a block of {block_txs} |\n\
             |---|---|---|---|---|"
        );
        for it in &self.growth {
            let (n, log, alone, together) =
                (it.accounts, it.log(), it.alone_us(), it.together_us());
            let ratio = alone / log;
            let _ = writeln!(text, "| {n} | {log:.1} | {alone:.2} | {ratio:.3} | {together:.2} |");
        }
        text
    }

    fn rows(&self) -> Vec<(String, String)> {
        let it = self.transfers();
        let per_second = |us: f64| format!("{us:.2} µs ({:.0}/s)", 1e6 / us);
        let mut rows = vec![
            ("one signature, verified alone".to_owned(), per_second(it.bare_us)),
            ("a transfer from bytes to the kept block".to_owned(), per_second(it.whole_us)),
            ("of that, executing and keeping it".to_owned(), per_second(it.execution_us)),
            ("of that, decoding, digests and copies".to_owned(), format!("{:.2} µs", it.form_us)),
        ];
        for redemption in &self.redemptions {
            let Redemption { channels, vouchers, redeemed, settled } = redemption;
            let ms = median_ms(redeemed);
            rows.push((
                format!("redemption of {vouchers} vouchers on {channels} channels"),
                format!("{ms:.2} ms ({:.2} µs/voucher)", ms * 1e3 / *vouchers as f64),
            ));
            rows.push((
                format!("its settlement, {channels} claims"),
                format!("{:.2} ms", median_ms(settled)),
            ));
        }
        let Large { accounts, channels, block_txs, blocks, resident_kib } = &self.large;
        let slowest = blocks.iter().max().copied().unwrap_or_default();
        rows.push((
            format!("block of {block_txs} on {accounts} accounts, {channels} channels"),
            format!("{:.2} ms, slowest {:.2} ms", median_ms(blocks), millis(slowest)),
        ));
        rows.push((
            "resident memory with that state".to_owned(),
            format!("{} MiB", resident_kib / 1024),
        ));
        rows
    }

    pub(super) fn json(&self) -> String {
        let it = self.transfers();
        let redemptions = self.redemptions.iter().map(|it| {
            json!({
                "channels": it.channels,
                "vouchers": it.vouchers,
                "redeemed_ms": median_ms(&it.redeemed),
                "settled_ms": median_ms(&it.settled),
            })
        });
        let growth = self.growth.iter().map(|it| {
            json!({
                "accounts": it.accounts,
                "alone_us": it.alone_us(),
                "block_txs": it.block_txs,
                "together_us": it.together_us(),
            })
        });
        json!({
            "transfers": {
                "signature_us": it.bare_us,
                "form_us": it.form_us,
                "whole_us": it.whole_us,
                "execution_us": it.execution_us,
                "signature_share": it.bare_share,
            },
            "redemptions": redemptions.collect::<Vec<_>>(),
            "large": {
                "accounts": self.large.accounts,
                "channels": self.large.channels,
                "block_txs": self.large.block_txs,
                "claims_per_redemption": CLAIMS_MIXED,
                "holdback_blocks": HOLDBACK_BLOCKS,
                "block_ms": median_ms(&self.large.blocks),
                "resident_kib": self.large.resident_kib,
            },
            "growth": growth.collect::<Vec<_>>(),
            "bars": self.bars().iter().map(Bar::json).collect::<Vec<_>>(),
        })
        .to_string()
    }
}

impl Growth {
    fn alone_us(&self) -> f64 {
        median_ms(&self.alone) * 1e3
    }

    fn together_us(&self) -> f64 {
        median_ms(&self.together) * 1e3 / self.block_txs as f64
    }

    fn log(&self) -> f64 {
        (self.accounts as f64).log2()
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median_ms(times: &[Duration]) -> f64 {
    median(times.iter().copied().map(millis).collect())
}
