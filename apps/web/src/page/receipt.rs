//! A receipt: what provider and payer signed, whether the signatures hold, and the bill worked out
//! again from the counts.

use gateway::{Bought, StoredReceipt};
use keys::Ed25519;
use maud::{Markup, html};
use types::{
    Address, Nusd,
    inference::{CountMethod, FinishReason},
    receipt::{Acknowledgement, Receipt, ServiceReport},
    split::Parts,
};

use super::{
    Tab, document, facts, panel, problem,
    requests::{Terms, bar},
    table, text,
};
use crate::{
    show,
    source::{LedgerView, Site, SourceError},
};

/// `GET /requests/{id}`
pub(crate) fn page(
    site: &Site,
    stored: &StoredReceipt,
    ledger: &Result<LedgerView, SourceError>,
) -> Markup {
    let receipt = &stored.receipt;
    let ack = &receipt.acknowledgement.value;
    let main = html! {
        p.back { a href="/requests" { "← Requests" } }
        (panel("checks", &format!("Receipt of request {}", ack.request_id), &checks(stored)))
        @if !stored.earlier.is_empty() {
            (panel("earlier", "The parts before", &earlier(&stored.earlier)))
        }
        div.columns.even {
            div.column { (panel("bill", "The bill", &bill(ack, receipt.cost()))) }
            @if stored.bought.is_none() {
                div.column { (panel("split", "Who gets it", &split(receipt.cost(), ledger))) }
            }
        }
        (panel("statements", "What each side signed", &statements(receipt)))
        (panel("raw", "The receipt itself", &raw(stored)))
    };
    document(site, Some(Tab::Requests), "Receipt", &main)
}

/// What providers made that failed on the way; this receipt is of whoever made the end.
fn earlier(parts: &[Receipt]) -> Markup {
    html! {
        ul.checks {
            @for part in parts {
                @let ack = &part.acknowledgement.value;
                @let valid = part.verify(&Ed25519).is_ok();
                li class=(if valid { "good" } else { "bad" }) {
                    span.hidden { (if valid { "valid: " } else { "not valid: " }) }
                    (ack.delivered_tokens) " tokens by " (ack.provider) ", " (show::usd_text(part.cost()))
                }
            }
        }
        p.muted {
            "These providers failed in the middle, and the next one went on. The key pays the prompt once; that it "
            "was read again is the gateway's loss."
        }
    }
}

/// One thing that was checked.
struct Check {
    holds: bool,
    what: String,
}

fn checks(stored: &StoredReceipt) -> Markup {
    let StoredReceipt { receipt, bought, .. } = stored;
    let verdict = receipt.verify(&Ed25519);
    html! {
        @match &verdict {
            Ok(()) if let Some(Bought { upstream, model }) = bought => p.notice.waiting role="status" {
                "Valid, with the gateway's statement only: its upstream " (show::foreign(upstream)) " answered, a service "
                "outside the network, with its model " (show::foreign(model)) ". Nobody verifies the answer."
            },
            Ok(()) if receipt.report.is_none() => p.notice.waiting role="status" {
                "Valid, with the payer's statement only: the provider did not finish. "
                "What it delivered is paid."
            },
            Ok(()) if !receipt.agrees() => p.notice.waiting role="status" {
                "Valid, but the two sides state different counts. Both records keep the difference."
            },
            Ok(()) => p.notice.good role="status" { "Valid: both sides signed the same, and the bill adds up." },
            Err(error) => p.notice.problem role="status" { "Not valid: " (error) },
        }
        ul.checks {
            @for check in list(receipt) {
                li class=(if check.holds { "good" } else { "bad" }) {
                    span.hidden { (if check.holds { "holds: " } else { "does not hold: " }) }
                    (check.what)
                }
            }
        }
        p.muted {
            "Check it yourself: "
            code { "peerwatt receipt verify " (receipt.acknowledgement.value.request_id) }
        }
    }
}

fn list(receipt: &Receipt) -> Vec<Check> {
    let ack = &receipt.acknowledgement;
    let due = ack.value.price.charge(ack.value.prompt_tokens, ack.value.delivered_tokens);
    let mut checks = vec![
        Check {
            holds: ack.clone().verify(&receipt.chain_id, &Ed25519).is_ok(),
            what: format!("the payer's signature, by key {}", show::short(&ack.signer.to_string())),
        },
        Check {
            holds: due == receipt.cost(),
            what: format!(
                "the bill: {} for these counts at this price, {} charged",
                show::usd_text(due),
                show::usd_text(receipt.cost())
            ),
        },
    ];
    if let Some(report) = &receipt.report {
        let signed = report.clone().verify(&receipt.chain_id, &Ed25519).is_ok();
        let own_key = Address::of_key(&report.signer) == report.value.provider;
        checks.push(Check {
            holds: signed && own_key,
            what: format!("the provider's signature, by {}", report.value.provider),
        });
        checks.push(Check {
            holds: ack.value.report_hash == Some(types::receipt::report_hash(report)),
            what: "the payer acknowledges this very report".to_owned(),
        });
        checks.push(Check {
            holds: receipt.agrees(),
            what: "both sides counted the same tokens and the same answer".to_owned(),
        });
    }
    checks
}

fn bill(ack: &Acknowledgement, cost: Nusd) -> Markup {
    let price = &ack.price;
    let tokens = |count: u32, rate: Nusd| {
        let tokens = if count == 1 { " token × " } else { " tokens × " };
        html! { (show::count(count)) (tokens) (show::usd(rate)) " / M" }
    };
    facts(&[
        ("Prompt", tokens(ack.prompt_tokens, price.prompt_nusd_per_mtok)),
        ("Answer", tokens(ack.delivered_tokens, price.completion_nusd_per_mtok)),
        ("Per request", show::usd(price.request_nusd)),
        ("Cost", html! { strong { (show::usd(cost)) } " = " (nano_usd(cost)) }),
    ])
}

fn split(cost: Nusd, ledger: &Result<LedgerView, SourceError>) -> Markup {
    let terms = match ledger {
        Ok(ledger) => Terms::of(ledger),
        Err(error) => return problem(error),
    };
    let Some(Parts { provider, stakers, burn, treasury }) = terms.parts(cost) else {
        return html! { p.muted { "What it brings is known when the ledger settles it." } };
    };
    let shares = terms.split.shares();
    let part = |amount, share| html! { (show::watt_unit(amount)) span.unit { " · " (show::percent(share)) } };
    html! {
        (bar(&terms.split))
        (facts(&[
            ("Provider", part(provider, shares.provider)),
            ("Stakers", part(stakers, shares.stakers)),
            ("Burned", part(burn, shares.burn)),
            ("Treasury", part(treasury, shares.treasury)),
        ]))
        p.muted {
            @if let Some(price) = terms.nusd_per_watt {
                "At today's price of " (show::usd(price)) " and today's split; "
            }
            "settled together with other requests, once the provider has claimed them and the "
            "audit window is over."
        }
    }
}

/// A field of both statements, as text.
struct Line {
    name: &'static str,
    provider: Option<String>,
    payer: String,
}

/// The two statements line by line; a line on which they differ is marked.
fn statements(receipt: &Receipt) -> Markup {
    let report = receipt.report.as_ref().map(|report| &report.value);
    let lines = lines(report, &receipt.acknowledgement.value);
    let rows: Vec<Vec<Markup>> = lines.iter().map(row).collect();
    html! {
        (table(
            "statements",
            "Both statements",
            &[text("Field"), text("Provider says"), text("Payer says")],
            &rows,
        ))
        @if let Some(report) = report {
            p.muted {
                "Made by " (show::foreign(&report.engine_version)) " in "
                (show::duration(report.ended_at.ms_since(report.started_at)))
                ", begun " (show::time(report.started_at)) "."
            }
        }
    }
}

fn row(line: &Line) -> Vec<Markup> {
    let Line { name, provider, payer } = line;
    match provider {
        None => vec![html! { (name) }, html! { "–" }, html! { code.value { (payer) } }],
        Some(provider) if provider == payer => vec![
            html! { (name) },
            html! { code.value { (provider) } },
            html! { span.muted { "the same" } },
        ],
        Some(provider) => vec![
            html! { (name) " " span.tag.bad { "differs" } },
            html! { code.value { (provider) } },
            html! { code.value { (payer) } },
        ],
    }
}

fn lines(report: Option<&ServiceReport>, ack: &Acknowledgement) -> Vec<Line> {
    let line = |name, of_provider: fn(&ServiceReport) -> String, payer: String| Line {
        name,
        provider: report.map(of_provider),
        payer,
    };
    vec![
        line("Attempt", |of| of.attempt.to_string(), ack.attempt.to_string()),
        line("Provider", |of| of.provider.to_string(), ack.provider.to_string()),
        line("Model id", |of| of.model.to_string(), ack.model.to_string()),
        line("Prompt tokens", |of| show::count(of.prompt_tokens), show::count(ack.prompt_tokens)),
        line(
            "Answer tokens",
            |of| show::count(of.completion_tokens),
            show::count(ack.delivered_tokens),
        ),
        line("Counted by", |of| counted(of.counted), counted(ack.counted)),
        line("Finish", |of| finish(of.finish), finish(ack.finish)),
        line("Answer digest", |of| of.response_hash.to_string(), ack.response_hash.to_string()),
        line(
            "Transcript root",
            |of| of.transcript_root.to_string(),
            ack.transcript_root.to_string(),
        ),
        line("Prompt digest", |of| of.prompt_hash.to_string(), ack.prompt_hash.to_string()),
        line("Channel", |of| of.channel.to_string(), ack.channel.to_string()),
        line("Lane", |of| of.lane.to_string(), ack.lane.to_string()),
        line("Lane before", |of| nano_usd(of.lane_total_before), nano_usd(ack.lane_total_before)),
        line("Lane after", |of| nano_usd(of.lane_total), nano_usd(ack.lane_total)),
    ]
}

fn nano_usd(amount: Nusd) -> String {
    format!("{} nano-USD", show::count(amount.0))
}

fn counted(method: CountMethod) -> String {
    match method {
        CountMethod::TokenIds => "token ids",
        CountMethod::Chunks => "chunks of the stream",
        CountMethod::Told => "as the service said",
    }
    .to_owned()
}

fn finish(reason: FinishReason) -> String {
    match reason {
        FinishReason::Stop => "the model ended",
        FinishReason::Length => "at the limit",
        FinishReason::Cancelled => "stopped",
        FinishReason::Failed => "failed",
    }
    .to_owned()
}

fn raw(stored: &StoredReceipt) -> Markup {
    html! {
        details {
            summary { "As JSON" }
            @match serde_json::to_string_pretty(stored) {
                Ok(json) => pre tabindex="0" { code { (json) } },
                Err(error) => p.notice.problem { "it cannot be written as JSON: " (error) },
            }
        }
    }
}
