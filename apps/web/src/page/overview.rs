//! The first page: what runs, what was asked, what is held.

use gateway::{AccountSummary, ProviderView, RequestView};
use maud::{Markup, html};

use super::{
    audits,
    chat::{self, ChatView},
    document, empty, facts,
    ledger::breaker_notice,
    models, number, panel, problem, requests, table, text,
};
use crate::{
    page::Tab,
    show,
    source::{Audits, Balance, LedgerView, Site, SourceError},
};

/// Requests shown here; more are on their own page.
pub(crate) const REQUESTS_SHOWN: usize = 8;

/// All of the first page.
pub(crate) struct Overview {
    pub(crate) account: AccountSummary,
    pub(crate) providers: Vec<ProviderView>,
    pub(crate) requests: Vec<RequestView>,
    pub(crate) ledger: Result<LedgerView, SourceError>,
    pub(crate) balances: Result<Vec<Balance>, SourceError>,
    pub(crate) audits: Result<Audits, SourceError>,
    pub(crate) chat: ChatView,
}

/// `GET /`
pub(crate) fn page(site: &Site, view: &Overview) -> Markup {
    let terms = view.ledger.as_ref().ok().map(requests::Terms::of);
    let last = html! {
        (requests::short_table(&view.requests, terms.as_ref()))
        @if !view.requests.is_empty() { p.more { a href="/requests" { "All requests" } } }
    };
    let main = html! {
        (tiles(site, view))
        div.columns {
            div.column.main-column {
                (chat::section(&view.chat))
                (panel("requests", "Last requests", &last))
            }
            div.column {
                (panel("models", "Models", &models::short_table(&view.chat.models)))
                (panel("balances", "Balances", &balances(view)))
                (panel("supply", "Supply and burn", &supply(&view.ledger)))
            }
        }
        (panel("providers", "Providers", &html! {
            (providers(&view.providers))
            @if let Some(line) = audits::line(&view.audits, &view.ledger) { (line) }
        }))
    };
    document(site, Some(Tab::Overview), "Overview", &main)
}

/// How a part is.
#[derive(Clone, Copy)]
enum Health {
    Good,
    Waiting,
    Bad,
}

fn tile(health: Health, name: &str, state: &str, detail: &Markup) -> Markup {
    let class = match health {
        Health::Good => "good",
        Health::Waiting => "waiting",
        Health::Bad => "bad",
    };
    html! {
        li class={ "tile " (class) } {
            h3 { (name) }
            p.state { (state) }
            div.detail { (detail) }
        }
    }
}

fn tiles(site: &Site, view: &Overview) -> Markup {
    html! {
        section #running data-live aria-labelledby="running-title" {
            h2.hidden #running-title { "What is running" }
            ul.tiles {
                (ledger_tile(&view.ledger))
                (gateway_tile(site, &view.account))
                (providers_tile(&view.providers))
            }
        }
    }
}

fn ledger_tile(ledger: &Result<LedgerView, SourceError>) -> Markup {
    match ledger {
        Ok(LedgerView { status, .. }) => tile(
            Health::Good,
            "Validator",
            &format!("block {}", show::count(status.height.0)),
            &html! {
                p { (status.chain_id) " · " (show::time(status.time)) }
                @if status.mempool_txs > 0 {
                    p {
                        (show::counted(
                            usize::try_from(status.mempool_txs).unwrap_or(usize::MAX),
                            "transaction waits",
                            "transactions wait",
                        ))
                    }
                }
            },
        ),
        Err(error) => tile(
            Health::Bad,
            "Validator",
            "not reachable",
            &html! { p { (error.chain_text()) } p { "Requests go on as long as channels have credit." } },
        ),
    }
}

fn gateway_tile(site: &Site, account: &AccountSummary) -> Markup {
    let detail = html! {
        p { (show::foreign(&site.moniker)) " · " (show::address(account.address)) }
        @if let Some(problem) = &account.problem { p { (problem) } }
    };
    match (account.registered, &account.problem) {
        (true, None) => tile(Health::Good, "Gateway", "serving", &detail),
        (true, Some(_)) => {
            tile(Health::Waiting, "Gateway", "serving; the ledger is behind", &detail)
        }
        (false, None) => tile(Health::Waiting, "Gateway", "joining the ledger", &detail),
        (false, Some(_)) => tile(Health::Bad, "Gateway", "not on the ledger", &detail),
    }
}

fn providers_tile(providers: &[ProviderView]) -> Markup {
    let payable = providers.iter().filter(|provider| provider.payable).count();
    let slots: u64 = providers.iter().map(|provider| u64::from(provider.slots)).sum();
    let active: u64 = providers.iter().map(|provider| u64::from(provider.active)).sum();
    let detail = html! {
        p { (show::count(active)) " of " (show::count(slots)) " slots in use" }
    };
    match (providers.len(), payable) {
        (0, _) => tile(
            Health::Bad,
            "Providers",
            "none connected",
            &html! { p { "Start one with " code { "peerwatt provide" } "." } },
        ),
        (all, 0) => tile(
            Health::Waiting,
            "Providers",
            &format!("{all} connected"),
            &html! { p { "A channel to pay them is being opened." } },
        ),
        (all, _) => tile(Health::Good, "Providers", &format!("{all} connected"), &detail),
    }
}

fn balances(view: &Overview) -> Markup {
    html! {
        @match &view.balances {
            Ok(balances) => {
                (table(
                    "slim",
                    "What the accounts of the gateway and its providers hold",
                    &[text("Account"), number("WATT"), number("Credits")],
                    &balances.iter().map(balance_row).collect::<Vec<_>>(),
                ))
            }
            Err(error) => (problem(error)),
        }
        @if !view.account.channels.is_empty() { (channels(&view.account)) }
    }
}

fn balance_row(balance: &Balance) -> Vec<Markup> {
    let account = &balance.account;
    vec![
        html! { span title=(account.address) { (show::foreign(&balance.label)) } },
        show::watt(account.watt),
        show::usd(account.credits),
    ]
}

fn channels(account: &AccountSummary) -> Markup {
    let columns = [text("Channel to"), number("Deposit"), number("Charged")];
    let rows: Vec<Vec<Markup>> = account
        .channels
        .iter()
        .map(|channel| {
            vec![
                html! {
                    span title={ "channel " (channel.id) ", " (channel.lanes) " lanes" } {
                        (show::address(channel.provider))
                    }
                },
                show::usd(channel.deposit),
                html! {
                    span title={ "promised by vouchers: " (show::usd_text(channel.promised)) } {
                        (show::usd(channel.charged))
                    }
                },
            ]
        })
        .collect();
    html! {
        h3 { "Channels" }
        (table("slim", "Payment channels of this gateway", &columns, &rows))
    }
}

fn supply(ledger: &Result<LedgerView, SourceError>) -> Markup {
    let ledger = match ledger {
        Ok(ledger) => ledger,
        Err(error) => return problem(error),
    };
    let supply = &ledger.supply;
    html! {
        (facts(&[
            ("Supply", show::watt_unit(supply.watt_total)),
            ("Minted", show::watt_unit(supply.watt_minted)),
            ("Burned", show::watt_unit(supply.watt_burned)),
            ("Vault", show::watt_unit(supply.watt_vault)),
            ("Credits outstanding", show::usd(supply.credits_outstanding)),
            ("Price of a WATT", show::usd(supply.nusd_per_watt)),
        ]))
        @if let Some(notice) = breaker_notice(ledger) { (notice) }
        p.more { a href="/ledger" { "The ledger" } }
    }
}

fn providers(providers: &[ProviderView]) -> Markup {
    if providers.is_empty() {
        return empty(&html! {
            p { "No provider is connected." }
            p {
                "On any machine: " code { "peerwatt provide --chain URL" }
                ", with the address of the validator's chain API. No port needs to be open."
            }
        });
    }
    let columns = [
        text("Provider"),
        text("Models"),
        number("In use"),
        number("Served"),
        number("Failed"),
        text("Connected"),
        text("State"),
    ];
    let rows: Vec<Vec<Markup>> = providers.iter().map(provider_row).collect();
    table("", "Connected providers", &columns, &rows)
}

fn provider_row(provider: &ProviderView) -> Vec<Markup> {
    vec![
        html! {
            (show::foreign(&provider.moniker)) " "
            a href=(audits::link_of(provider.operator)) title="its audits" { (show::address(provider.operator)) }
        },
        html! {
            @for (index, model) in provider.models.iter().enumerate() {
                @if index > 0 { ", " }
                span title=(model.engine_version) { (show::foreign(&model.alias)) }
            }
        },
        html! { (show::count(provider.active)) " of " (show::count(provider.slots)) },
        html! { (show::count(provider.served)) },
        html! { (show::count(provider.failed)) },
        show::time(provider.connected_at),
        provider_state(provider),
    ]
}

fn provider_state(provider: &ProviderView) -> Markup {
    html! {
        @if !provider.payable {
            span.tag title="A channel to it is being opened." { "waiting for a channel" }
        } @else if provider.health == "ok" {
            span.tag.good { "ok" }
        } @else {
            span.tag.bad { (provider.health) }
        }
        @if let Some(problem) = &provider.last_problem {
            " " span.muted title=(problem) { "last problem: " (show::foreign(problem)) }
        }
    }
}
