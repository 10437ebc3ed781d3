//! The ledger: what there is, where it is, and what happened last.

use maud::{Markup, html};
use wire::chain::{BlockView, Event, TxResult, TxView};

use super::{
    Tab, document, empty, facts, panel, problem,
    requests::{bar, legend},
};
use crate::{
    page::action,
    show,
    source::{LedgerView, Site, SourceError},
};

/// Blocks shown.
pub(crate) const BLOCKS_SHOWN: u64 = 12;

/// `GET /ledger`
pub(crate) fn page(
    site: &Site,
    ledger: &Result<LedgerView, SourceError>,
    blocks: &Result<Vec<BlockView>, SourceError>,
) -> Markup {
    let or_problem = |show: fn(&LedgerView) -> Markup| match ledger {
        Ok(ledger) => show(ledger),
        Err(error) => problem(error),
    };
    let main = html! {
        div.columns.even {
            div.column {
                (panel("state", "State", &or_problem(state)))
                (panel("price", "Price of a WATT", &or_problem(price)))
                (panel("split", "Split of a payment", &or_problem(split)))
            }
            div.column {
                (panel("supply", "Supply", &or_problem(supply)))
                (panel("credits", "Credits", &or_problem(credits)))
            }
        }
        (panel("blocks", "Latest blocks", &self::blocks(blocks)))
    };
    document(site, Some(Tab::Ledger), "Ledger", &main)
}

fn state(ledger: &LedgerView) -> Markup {
    let status = &ledger.status;
    facts(&[
        ("Network", html! { (status.chain_id) }),
        ("Height", html! { (show::count(status.height.0)) }),
        ("Last block", show::time(status.time)),
        ("Validators", validators(ledger)),
        ("Waiting transactions", html! { (show::count(status.mempool_txs)) }),
        ("State digest", show::id(&status.app_hash.to_string())),
        ("Genesis digest", show::id(&status.genesis_hash.to_string())),
        ("Validator's version", html! { (status.version) }),
    ])
}

/// How many have a seat, of how many, and what is staked behind all of them.
fn validators(ledger: &LedgerView) -> Markup {
    let seats = ledger.validators.iter().filter(|validator| validator.power.is_some()).count();
    let staked = ledger.validators.iter().map(|validator| validator.pool.tokens).sum();
    html! {
        (show::counted(seats, "seat", "seats"))
        @if ledger.validators.len() > seats { " of " (ledger.validators.len()) " registered" }
        ", " (show::watt_unit(staked)) " staked"
    }
}

fn price(ledger: &LedgerView) -> Markup {
    let status = &ledger.status;
    let (oracle, params) = (&status.oracle, &status.params.oracle);
    // As of the last block: a ledger at rest does not age.
    let age_ms = status.time.ms_since(oracle.counted_at);
    html! {
        (facts(&[
            ("In force", show::usd(status.nusd_per_watt)),
            ("Average", html! {
                (show::usd(oracle.average)) " over " (show::duration(params.twap_ms))
            }),
            ("Voted on", show::time(oracle.counted_at)),
        ]))
        @if age_ms > params.max_age_ms {
            p.notice.waiting role="status" {
                "The vote was " (show::duration(age_ms)) " old at the last block, more than "
                (show::duration(params.max_age_ms)) ": what needs a price waits for a new one."
            }
        }
    }
}

/// Credits may not be bought, or soon may not. The state is the ledger's word for it.
pub(super) fn breaker_notice(ledger: &LedgerView) -> Option<Markup> {
    let text = match ledger.status.breaker.as_str() {
        "closed" => return None,
        "warned" => {
            "The vault covers little more than the credits outstanding: if it falls further, purchases of credits are paused."
        }
        "paused" => {
            "Purchases of credits are paused: the vault no longer covers enough of what is outstanding. Credits that were bought keep paying for requests."
        }
        other => {
            return Some(
                html! { p.notice.waiting role="status" { "Purchases of credits: " (other) } },
            );
        }
    };
    Some(html! { p.notice.waiting role="status" { (text) } })
}

fn split(ledger: &LedgerView) -> Markup {
    let params = &ledger.status.params;
    html! {
        (bar(&params.split))
        (legend(&params.split))
        (facts(&[
            ("Spread on credits", html! { (show::percent(params.credits.spread)) }),
            ("Fee of a transaction", html! {
                (show::watt_unit(params.fees.tx)) " + " (show::watt(params.fees.byte)) " a byte"
            }),
            ("Claims are held back", held_back(params.channels.holdback_ms)),
            ("Provider's bond", html! {
                (show::usd(params.providers.bond_floor)) " at least"
            }),
            ("Withheld until bonded", html! { (show::percent(params.providers.withhold)) }),
            ("Unbonding takes", html! { (show::duration(params.stake.unbonding_ms)) }),
        ]))
    }
}

fn held_back(holdback_ms: u64) -> Markup {
    match holdback_ms {
        0 => html! { "not at all" },
        holdback_ms => html! { (show::duration(holdback_ms)) },
    }
}

fn supply(ledger: &LedgerView) -> Markup {
    let supply = &ledger.supply;
    facts(&[
        ("Supply", show::watt_unit(supply.watt_total)),
        ("At genesis", show::watt_unit(supply.watt_genesis)),
        ("Minted since", show::watt_unit(supply.watt_minted)),
        ("Burned", show::watt_unit(supply.watt_burned)),
        ("Vault", show::watt_unit(supply.watt_vault)),
        ("Treasury", show::watt_unit(supply.watt_treasury)),
        ("Rewards not withdrawn", show::watt_unit(supply.watt_stakers)),
        ("Staked", show::watt_unit(supply.watt_bonded)),
        ("Insurance", show::watt_unit(supply.watt_insurance)),
        ("Never more than", show::watt_unit(supply.watt_max)),
    ])
}

fn credits(ledger: &LedgerView) -> Markup {
    let supply = &ledger.supply;
    html! {
        (facts(&[
            ("Outstanding", show::usd(supply.credits_outstanding)),
            ("Claimed, held back", show::usd(supply.credits_pending)),
            ("Issued so far", show::usd(supply.credits_issued)),
            ("Settled so far", show::usd(supply.credits_settled)),
            ("Refunded so far", show::usd(supply.credits_refunded)),
        ]))
        @if let Some(notice) = breaker_notice(ledger) { (notice) }
        p.muted {
            "Credits are US dollars that pay for requests; WATT paid for them wait in the vault. "
            "What a provider claims is held back for the audit window and then settled."
        }
    }
}

fn blocks(blocks: &Result<Vec<BlockView>, SourceError>) -> Markup {
    match blocks {
        Err(error) => problem(error),
        Ok(blocks) if blocks.is_empty() => empty(&html! {
            p { "No block yet." }
            p { "The first transaction makes one: there are no empty blocks." }
        }),
        Ok(blocks) => html! {
            p.lead { "Latest first. Amounts in events are base units: 10⁻⁹ of a WATT or of a dollar." }
            ol.blocks { @for block in blocks { li { (self::block(block)) } } }
        },
    }
}

fn block(block: &BlockView) -> Markup {
    let header = &block.header;
    html! {
        article.block {
            header {
                h3 { "Block " (show::count(header.height.0)) }
                p.muted {
                    (show::time(header.time)) " · " (show::counted(block.txs.len(), "transaction", "transactions")) " · "
                    (show::id(&block.hash.to_string()))
                }
            }
            @if !block.txs.is_empty() { ul.txs { @for tx in &block.txs { li { (self::tx(tx)) } } } }
            (events(&block.events))
        }
    }
}

fn tx(tx: &TxView) -> Markup {
    let action = &tx.tx.value.action;
    html! {
        p.tx {
            strong { (action::title(action)) } " by " (show::address(tx.sender))
            @if let Some(detail) = action::detail(action) { " · " (detail) }
            " · fee " (show::watt_unit(tx.outcome.fee))
        }
        @match &tx.outcome.result {
            TxResult::Applied { events } => (self::events(events)),
            TxResult::Failed { code, message } => {
                p { span.tag.bad { (code) } " " (message) }
            }
        }
    }
}

fn events(events: &[Event]) -> Markup {
    html! {
        @if !events.is_empty() {
            ul.events {
                @for event in events {
                    li {
                        code.kind { (event.kind) }
                        @for (name, value) in &event.fields {
                            " " span.field { (name) " " code title=(value) { (show::short(value)) } }
                        }
                    }
                }
            }
        }
    }
}
