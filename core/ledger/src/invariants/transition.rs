//! What a single state cannot show, because it is about change.

use std::collections::{BTreeMap, BTreeSet};

use types::{Address, Nusd, state::Channel};

use super::{Violation, audits, ensure, equal};
use crate::{credits::Breaker, state::State};

/// What must hold between a state and a later one when `signers` made the transactions in between:
/// L2, L6, BME5, BME6, CH2, N1, SL4 and AU8.
pub fn check_transition(
    before: &State,
    after: &State,
    signers: &BTreeSet<Address>,
) -> Result<(), Violation> {
    let broken = |number| move |detail| Violation { number, detail };
    counters_only_grow(before, after).map_err(broken("L2"))?;
    only_signers_pay(before, after, signers).map_err(broken("L6"))?;
    credits_stay_with_their_owner(before, after, signers).map_err(broken("BME5"))?;
    nothing_is_issued_while_paused(before, after).map_err(broken("BME6"))?;
    claims_only_grow(before, after).map_err(broken("CH2"))?;
    nonces_only_grow(before, after).map_err(broken("N1"))?;
    tombstones_stay(before, after).map_err(broken("SL4"))?;
    audits::nothing_is_taken_in_the_shadow(before, after).map_err(broken("AU8"))
}

fn counters_only_grow(before: &State, after: &State) -> Result<(), String> {
    let (old, new) = (before.supply(), after.supply());
    let watt = [
        ("minted by settlement", old.minted.settlement, new.minted.settlement),
        ("minted by emission", old.minted.emission, new.minted.emission),
        ("minted by vesting", old.minted.vesting, new.minted.vesting),
        ("burned by split", old.burned.split, new.burned.split),
        ("burned by purchase", old.burned.purchase, new.burned.purchase),
        ("burned by slash", old.burned.slash, new.burned.slash),
        ("vault in", old.vault_in, new.vault_in),
        ("vault out", old.vault_out, new.vault_out),
    ];
    for (what, old, new) in watt {
        ensure(old <= new, || format!("{what} fell from {old:?} to {new:?}"))?;
    }
    let credits = [
        ("credits issued", old.credits_issued, new.credits_issued),
        ("credits settled", old.credits_settled, new.credits_settled),
        ("credits refunded", old.credits_refunded, new.credits_refunded),
        ("claims refunded", old.claims_refunded, new.claims_refunded),
    ];
    for (what, old, new) in credits {
        ensure(old <= new, || format!("{what} fell from {old:?} to {new:?}"))?;
    }
    equal("genesis supply", new.genesis, old.genesis)
}

/// Balances of users who signed nothing do not fall.
fn only_signers_pay(
    before: &State,
    after: &State,
    signers: &BTreeSet<Address>,
) -> Result<(), String> {
    let others =
        before.accounts().filter(|(address, _)| !signers.contains(address) && !address.is_module());
    others.into_iter().try_for_each(|(address, old)| {
        let new = after.account(address);
        ensure(new.watt >= old.watt && new.credits >= old.credits, || {
            format!("{address} signed nothing and went from {old:?} to {new:?}")
        })
    })
}

/// What somebody owns, free and in channels it pays into, grows by its own purchases and by what came back
/// of claims only.
fn credits_stay_with_their_owner(
    before: &State,
    after: &State,
    signers: &BTreeSet<Address>,
) -> Result<(), String> {
    let (old, new) = (credits_by_owner(before), credits_by_owner(after));
    let others = new.iter().filter(|(address, _)| !signers.contains(address));
    others.into_iter().try_for_each(|(address, new)| {
        let old = old.get(address).copied().unwrap_or_default();
        let came_back = new.came_back.saturating_sub(old.came_back);
        ensure(new.owned <= old.owned.saturating_add(came_back), || {
            format!("{address} bought nothing and has {:?} after {:?}", new.owned, old.owned)
        })
    })
}

/// What one account has in credits, and all that ever came back to it of claims.
#[derive(Clone, Copy, Default)]
struct Credits {
    owned: Nusd,
    came_back: Nusd,
}

fn credits_by_owner(state: &State) -> BTreeMap<Address, Credits> {
    let mut owners: BTreeMap<Address, Credits> = BTreeMap::new();
    for (address, account) in state.accounts() {
        owners.entry(*address).or_default().owned = account.credits;
    }
    for (_, channel) in state.channels() {
        let credits = owners.entry(channel.terms.payer).or_default();
        credits.owned = credits.owned.saturating_add(channel.balance());
        credits.came_back = credits.came_back.saturating_add(channel.refunded);
    }
    owners
}

/// A pause that was there before and is there still kept everybody from buying.
fn nothing_is_issued_while_paused(before: &State, after: &State) -> Result<(), String> {
    match (before.breaker(), after.breaker()) {
        (Breaker::Paused { since }, Breaker::Paused { since: still }) if since == still => {
            let issued = |state: &State| state.supply().credits_issued;
            equal("credits issued during a pause", issued(after), issued(before))
        }
        _ => Ok(()),
    }
}

fn claims_only_grow(before: &State, after: &State) -> Result<(), String> {
    for (key, old) in before.lanes.iter() {
        let new = after.lanes.get(key);
        ensure(new.is_some_and(|new| new >= old), || {
            format!("lane {} of channel {} went from {old:?} to {new:?}", key.1, key.0)
        })?;
    }
    before.channels().try_for_each(|(id, old)| {
        let new = after.channel(id);
        ensure(new.is_some_and(|new| channel_follows(old, new)), || {
            format!("channel {id} went from {old:?} to {new:?}")
        })
    })
}

fn channel_follows(old: &Channel, new: &Channel) -> bool {
    let grows = old.deposit <= new.deposit
        && old.claimed <= new.claimed
        && old.settled <= new.settled
        && old.refunded <= new.refunded
        && old.returned <= new.returned;
    let (settled, refunded) = (new.settled, new.refunded);
    let closed = Channel { settled, refunded, ..old.clone() };
    let stays_closed = old.open || *new == closed;
    old.terms == new.terms && old.opened_at == new.opened_at && grows && stays_closed
}

fn nonces_only_grow(before: &State, after: &State) -> Result<(), String> {
    before.accounts().try_for_each(|(address, old)| {
        let new = after.account(address).nonce;
        ensure(old.nonce <= new, || format!("nonce of {address} fell from {} to {new}", old.nonce))
    })
}

fn tombstones_stay(before: &State, after: &State) -> Result<(), String> {
    let mut buried = before.operators().filter(|(_, operator)| operator.tombstoned);
    buried.try_for_each(|(id, _)| {
        let still = after.operator(id).is_some_and(|operator| operator.tombstoned);
        ensure(still, || format!("{id} came back"))
    })
}
