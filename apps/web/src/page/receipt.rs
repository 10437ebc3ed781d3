//! A receipt: what provider and payer signed, whether the signatures hold, and the bill worked out
//! again from the counts.

use gateway::StoredReceipt;
use keys::Ed25519;
use maud::{Markup, html};
use types::{
    Address, Nusd,
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
        (panel("checks", &format!("Receipt of request {}", ack.request_id), &checks(receipt)))
        div.columns.even {
            div.column { (panel("bill", "The bill", &bill(ack, receipt.cost()))) }
            div.column { (panel("split", "Who gets it", &split(receipt.cost(), ledger))) }
        }
        (panel("statements", "What each side signed", &statements(receipt)))
        (panel("raw", "The receipt itself", &raw(stored)))
    };
    document(site, Some(Tab::Requests), "Receipt", &main)
}

/// One thing that was checked.
struct Check {
    holds: bool,
    what: String,
}

fn checks(receipt: &Receipt) -> Markup {
    let verdict = receipt.verify(&Ed25519);
    html! {
        @match &verdict {
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
            "Check it yourself, offline: "
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
        html! { (show::count(count)) " tokens × " (show::usd(rate)) " / M" }
    };
    facts(&[
        ("Prompt", tokens(ack.prompt_tokens, price.prompt_nusd_per_mtok)),
        ("Answer", tokens(ack.delivered_tokens, price.completion_nusd_per_mtok)),
        ("Per request", show::usd(price.request_nusd)),
        ("Cost", html! { strong { (show::usd(cost)) } " = " (show::count(cost.0)) " nano-USD" }),
    ])
}

fn split(cost: Nusd, ledger: &Result<LedgerView, SourceError>) -> Markup {
    let terms = match ledger {
        Ok(ledger) => Terms::of(ledger),
        Err(error) => return problem(error),
    };
    let Some(Parts { provider, stakers, burn, treasury }) = terms.parts(cost) else {
        return html! { p.muted { "The ledger has no price of a WATT now." } };
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
            "At today's price of " (show::usd(terms.nusd_per_watt))
            " and today's split; settled together with other requests when the provider redeems."
        }
    }
}

/// The two statements line by line; a line on which they differ is marked.
fn statements(receipt: &Receipt) -> Markup {
    let ack = &receipt.acknowledgement.value;
    let report = receipt.report.as_ref().map(|report| &report.value);
    let line = |name: &'static str, from: &dyn Fn(&ServiceReport) -> String, payer: String| {
        let provider = report.map_or_else(|| "–".to_owned(), from);
        let differs = report.is_some() && provider != payer;
        vec![
            html! { (name) @if differs { " " span.tag.bad { "differs" } } },
            html! { code.value { (provider) } },
            html! { code.value { (payer) } },
        ]
    };
    let rows = [
        line("Attempt", &|report| report.attempt.to_string(), ack.attempt.to_string()),
        line("Provider", &|report| report.provider.to_string(), ack.provider.to_string()),
        line("Model id", &|report| report.model.to_string(), ack.model.to_string()),
        line(
            "Prompt tokens",
            &|report| report.prompt_tokens.to_string(),
            ack.prompt_tokens.to_string(),
        ),
        line(
            "Answer tokens",
            &|report| report.completion_tokens.to_string(),
            ack.delivered_tokens.to_string(),
        ),
        line("Counted by", &|report| format!("{:?}", report.counted), format!("{:?}", ack.counted)),
        line("Finish", &|report| format!("{:?}", report.finish), format!("{:?}", ack.finish)),
        line(
            "Answer digest",
            &|report| report.response_hash.to_string(),
            ack.response_hash.to_string(),
        ),
        line(
            "Transcript root",
            &|report| report.transcript_root.to_string(),
            ack.transcript_root.to_string(),
        ),
        line(
            "Prompt digest",
            &|report| report.prompt_hash.to_string(),
            ack.prompt_hash.to_string(),
        ),
        line("Channel", &|report| report.channel.to_string(), ack.channel.to_string()),
        line("Lane", &|report| report.lane.to_string(), ack.lane.to_string()),
        line(
            "Lane before",
            &|report| report.lane_total_before.to_string(),
            ack.lane_total_before.to_string(),
        ),
        line("Lane after", &|report| report.lane_total.to_string(), ack.lane_total.to_string()),
    ];
    html! {
        (table(
            "statements",
            "Both statements",
            &[text("Field"), text("Provider says"), text("Payer says")],
            &rows,
        ))
        @if let Some(report) = report {
            p.muted {
                "Made by " (show::foreign(&report.engine_version)) " from " (show::time(report.started_at))
                " to " (show::time(report.ended_at)) "."
            }
        }
    }
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
