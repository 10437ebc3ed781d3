//! The last requests: what each cost, and who gets which part of it.

use gateway::RequestView;
use maud::{Markup, html};
use types::{
    Nusd, Rounding, Watt,
    inference::FinishReason,
    params::CreditPolicy,
    split::{Parts, Split},
};

use wire::chain::ChainStatus;

use super::{Column, document, empty, number, panel, problem, table, text};
use crate::{
    page::Tab,
    show,
    source::{LedgerView, Site, SourceError},
};

/// How a payment divides now. The ledger settles many requests at once, at the price of that
/// moment, so what a request shows is its part at today's terms.
pub(crate) struct Terms {
    /// `None`: what a credit brings does not follow from the price alone.
    pub(crate) nusd_per_watt: Option<Nusd>,
    pub(crate) split: Split,
}

impl Terms {
    pub(crate) fn of(ledger: &LedgerView) -> Terms {
        let ChainStatus { nusd_per_watt, params, .. } = &ledger.status;
        let nusd_per_watt = match params.credits.policy {
            CreditPolicy::Vault => Some(*nusd_per_watt),
            CreditPolicy::Split | CreditPolicy::Emission => None,
        };
        Terms { nusd_per_watt, split: params.split }
    }

    /// `None` while nobody can say.
    pub(crate) fn parts(&self, cost: Nusd) -> Option<Parts> {
        let gross = Watt::worth(cost, self.nusd_per_watt?, Rounding::Down)?;
        Some(self.split.distribute(gross))
    }
}

const SHORT: [Column; 7] = [
    text("When"),
    text("Model"),
    text("Provider"),
    number("Tokens"),
    number("Speed"),
    number("Cost"),
    text("Split"),
];

/// The table of the overview.
pub(crate) fn short_table(requests: &[RequestView], terms: Option<&Terms>) -> Markup {
    if requests.is_empty() {
        return nothing_yet();
    }
    let rows: Vec<Vec<Markup>> = requests
        .iter()
        .map(|request| {
            let mut row = common_cells(request);
            row.push(match terms.filter(|_| request.upstream.is_none()) {
                Some(terms) => bar(&terms.split),
                None => html! { "–" },
            });
            row
        })
        .collect();
    html! {
        (table("requests", "The last requests, latest first", &SHORT, &rows))
        @if let Some(terms) = terms { (legend(&terms.split)) }
    }
}

const LONG: [Column; 11] = [
    text("When"),
    text("Model"),
    text("Provider"),
    number("Tokens"),
    number("Speed"),
    number("Cost"),
    number("Provider gets"),
    number("Stakers"),
    number("Burned"),
    number("Treasury"),
    text("Paid by"),
];

/// `GET /requests`
pub(crate) fn page(
    site: &Site,
    requests: &[RequestView],
    ledger: &Result<LedgerView, SourceError>,
) -> Markup {
    let terms = ledger.as_ref().ok().map(Terms::of);
    let body = html! {
        @if let Err(error) = ledger { (problem(error)) }
        @if requests.is_empty() {
            (nothing_yet())
        } @else {
            @if let Some(terms) = &terms {
                p.lead {
                    "Costs are US dollars; "
                    @match terms.nusd_per_watt {
                        Some(price) => {
                            "the four parts are WATT at today's price of " (show::usd(price)) ". "
                        }
                        None => "what the four parts come to is known when they are settled. ",
                    }
                    "Providers claim many requests at once, and what they claim is split when it "
                    "is settled."
                }
                (legend(&terms.split))
            }
            (table("wide", "The last requests, latest first", &LONG, &long_rows(requests, terms.as_ref())))
        }
    };
    document(site, Some(Tab::Requests), "Requests", &panel("requests", "Last requests", &body))
}

fn long_rows(requests: &[RequestView], terms: Option<&Terms>) -> Vec<Vec<Markup>> {
    let row = |request: &RequestView| {
        // What is bought outside the network is not split.
        let split = terms.filter(|_| request.upstream.is_none());
        let parts = split.and_then(|terms| terms.parts(request.cost));
        let part = |choose: fn(&Parts) -> Watt| match &parts {
            Some(parts) => show::watt_exact(choose(parts)),
            None => html! { "–" },
        };
        let mut row = common_cells(request);
        row.push(part(|parts| parts.provider));
        row.push(part(|parts| parts.stakers));
        row.push(part(|parts| parts.burn));
        row.push(part(|parts| parts.treasury));
        row.push(show::foreign(&request.key));
        row
    };
    requests.iter().map(row).collect()
}

fn common_cells(request: &RequestView) -> Vec<Markup> {
    let receipt = format!("/requests/{}", request.id);
    let tokens = request.completion_tokens;
    vec![
        html! {
            a href=(receipt) title={ "Receipt of request " (request.id) } {
                (show::time(request.started_at))
            }
        },
        html! { (show::foreign(&request.model)) (finish_mark(request.finish)) },
        match &request.upstream {
            Some(name) => {
                html! { span title="a service outside the network; not verified" { (show::foreign(name)) } }
            }
            None => show::address(request.provider),
        },
        html! {
            span title="tokens of the prompt, tokens of the answer" {
                (show::count(request.prompt_tokens)) " → " (show::count(tokens))
            }
        },
        html! {
            span title={ "in " (show::duration(request.duration_ms)) } {
                (show::speed(tokens, request.duration_ms).unwrap_or_else(|| "–".to_owned()))
            }
        },
        show::usd_exact(request.cost),
    ]
}

/// What is not the ordinary end of an answer.
fn finish_mark(finish: FinishReason) -> Markup {
    let (class, word) = match finish {
        FinishReason::Stop => return Markup::default(),
        FinishReason::Length => ("tag", "cut at limit"),
        FinishReason::Cancelled => ("tag", "stopped"),
        FinishReason::Failed => ("tag bad", "failed"),
    };
    html! { " " span class=(class) { (word) } }
}

fn nothing_yet() -> Markup {
    empty(&html! {
        p { "Nothing was asked yet." }
        p {
            "Say something in the " a href="/chat" { "chat box" }
            ", or paste the " code { "curl" } " of a " a href="/models" { "model" }
            " into a terminal. Each answer appears here with what it cost and a receipt."
        }
    })
}

/// The shares as one bar.
pub(crate) fn bar(split: &Split) -> Markup {
    let shares = split.shares();
    let of = [
        ("provider", shares.provider),
        ("stakers", shares.stakers),
        ("burn", shares.burn),
        ("treasury", shares.treasury),
    ];
    let mut left = 0;
    let pieces: Vec<(&str, u32, u32)> = of
        .iter()
        .map(|(class, share)| {
            let x = left;
            left += share.get();
            (*class, x, share.get())
        })
        .collect();
    let label = format!(
        "provider {}, stakers {}, burned {}, treasury {}",
        show::percent(shares.provider),
        show::percent(shares.stakers),
        show::percent(shares.burn),
        show::percent(shares.treasury)
    );
    html! {
        svg.split viewBox="0 0 1000000 1" preserveAspectRatio="none" role="img" aria-label=(label) {
            title { (label) }
            @for (class, x, width) in pieces {
                rect class=(class) x=(x) y="0" width=(width) height="1" {}
            }
        }
    }
}

/// What the colours of the bar mean.
pub(crate) fn legend(split: &Split) -> Markup {
    let shares = split.shares();
    html! {
        ul.legend aria-label="Split of a payment" {
            li.provider { "provider " (show::percent(shares.provider)) }
            li.stakers { "stakers " (show::percent(shares.stakers)) }
            li.burn { "burned " (show::percent(shares.burn)) }
            li.treasury { "treasury " (show::percent(shares.treasury)) }
        }
    }
}
