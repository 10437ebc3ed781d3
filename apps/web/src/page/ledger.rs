//! The ledger: what there is, where it is, and what happened last.

use maud::{Markup, html};
use types::tx::{Action, CreditPurchase};
use wire::chain::{BlockView, Event, TxResult, TxView};

use super::{
    Tab, document, empty, facts, panel, problem,
    requests::{bar, legend},
};
use crate::{
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
        ("Price of a WATT", show::usd(status.nusd_per_watt)),
        ("Waiting transactions", html! { (show::count(status.mempool_txs)) }),
        ("State digest", show::id(&status.app_hash.to_string())),
        ("Genesis digest", show::id(&status.genesis_hash.to_string())),
        ("Validator's version", html! { (status.version) }),
    ])
}

fn split(ledger: &LedgerView) -> Markup {
    let params = &ledger.status.params;
    html! {
        (bar(&params.split))
        (legend(&params.split))
        (facts(&[
            ("Spread on credits", html! { (show::percent(params.credit_spread)) }),
            ("Fee of a transaction", html! {
                (show::watt_unit(params.fee_tx)) " + " (show::watt(params.fee_byte)) " a byte"
            }),
            ("Provider's bond", show::usd(params.provider_bond)),
            ("Withheld until bonded", html! { (show::percent(params.withhold)) }),
            ("Unbonding takes", html! { (show::duration(params.unbonding_ms)) }),
        ]))
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
        ("Stakers", show::watt_unit(supply.watt_stakers)),
        ("Bonded", show::watt_unit(supply.watt_bonded)),
        ("Never more than", show::watt_unit(supply.watt_max)),
    ])
}

fn credits(ledger: &LedgerView) -> Markup {
    let supply = &ledger.supply;
    html! {
        (facts(&[
            ("Outstanding", show::usd(supply.credits_outstanding)),
            ("Issued so far", show::usd(supply.credits_issued)),
            ("Settled so far", show::usd(supply.credits_settled)),
        ]))
        p.muted { "Credits are US dollars that pay for requests; WATT paid for them wait in the vault until providers redeem." }
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
    let (name, detail) = action(&tx.tx.value.action);
    html! {
        p.tx {
            strong { (name) } " by " (show::address(tx.sender))
            @if let Some(detail) = detail { " · " (detail) }
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

/// What a transaction does, for people.
fn action(action: &Action) -> (&'static str, Option<Markup>) {
    match action {
        Action::Transfer { to, amount } => {
            ("Transfer", Some(html! { (show::watt_unit(*amount)) " to " (show::address(*to)) }))
        }
        Action::BuyCredits(CreditPurchase::Pay { watt }) => {
            ("Buy credits", Some(html! { "for " (show::watt_unit(*watt)) }))
        }
        Action::BuyCredits(CreditPurchase::Receive { credits, .. }) => {
            ("Buy credits", Some(show::usd(*credits)))
        }
        Action::RegisterProvider { moniker, bond, .. } => (
            "Register provider",
            Some(html! { (show::foreign(moniker)) ", bond " (show::watt_unit(*bond)) }),
        ),
        Action::BondProvider { amount } => ("Add to the bond", Some(show::watt_unit(*amount))),
        Action::UnbondProvider => ("Leave as provider", None),
        Action::RegisterGateway { moniker, .. } => {
            ("Register gateway", Some(show::foreign(moniker)))
        }
        Action::OpenChannel { terms, deposit } => (
            "Open channel",
            Some(html! { (show::usd(*deposit)) " to " (show::address(terms.receiver)) }),
        ),
        Action::TopUpChannel { channel, amount } => (
            "Top up channel",
            Some(html! { (show::usd(*amount)) " into " (show::id(&channel.to_string())) }),
        ),
        Action::RedeemVouchers { claims } => {
            ("Redeem vouchers", Some(html! { (show::counted(claims.len(), "lane", "lanes")) }))
        }
        Action::RequestWithdraw { channel } => {
            ("Ask for a channel's rest", Some(show::id(&channel.to_string())))
        }
        Action::FinalizeWithdraw { channel } => {
            ("Take a channel's rest", Some(show::id(&channel.to_string())))
        }
        Action::CloseChannel { channel } => ("Close channel", Some(show::id(&channel.to_string()))),
        Action::WithdrawRewards => ("Withdraw rewards", None),
        Action::SetPrice { nusd_per_watt } => ("Set price", Some(show::usd(*nusd_per_watt))),
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
