//! Properties of WATT and credits: supply, vault, channels, emission, budgets.

use std::collections::BTreeMap;

use types::{ChannelId, Lane, Nusd, Watt, limits::LANES_MAX, state::Account};

use super::{ensure, equal};
use crate::{bank::Module, state::State};

pub(super) fn supply_is_the_sum_of_accounts(state: &State) -> Result<(), String> {
    let sum: Watt = state.accounts().map(|(_, account)| account.watt).sum();
    equal("sum of accounts and supply", sum, state.supply().total)
}

pub(super) fn supply_follows_from_counters(state: &State) -> Result<(), String> {
    let supply = state.supply();
    let total = supply
        .genesis
        .checked_add(supply.minted.total())
        .and_then(|sum| sum.checked_sub(supply.burned.total()));
    equal("genesis + minted − burned and supply", total, Some(supply.total))
}

pub(super) fn balances_are_within_the_supply(state: &State) -> Result<(), String> {
    let supply = state.supply();
    state.accounts().try_for_each(|(address, account)| {
        ensure(
            account.watt <= supply.total && account.credits <= supply.credits_outstanding,
            || format!("{address} holds {:?} and {:?}", account.watt, account.credits),
        )?;
        ensure(*account != Account::default(), || format!("{address} is an empty entry"))
    })
}

pub(super) fn supply_is_within_the_cap(state: &State) -> Result<(), String> {
    let (supply, params) = (state.supply(), &state.params().supply);
    let budgets: Watt = state.vesting().map(|(_, vesting)| vesting.total).sum();
    let bounds = [
        ("the supply", supply.total, params.max),
        ("minted for settlements", supply.minted.settlement, params.settlement_reserve),
        ("minted as emission", supply.minted.emission, params.emission_budget),
        ("minted as vested", supply.minted.vesting, budgets),
    ];
    bounds.into_iter().try_for_each(|(what, amount, max)| {
        ensure(amount <= max, || format!("{what}: {amount:?} exceed {max:?}"))
    })
}

pub(super) fn modules_are_solvent(state: &State) -> Result<(), String> {
    let owed: Watt = state.operators().map(|(_, operator)| operator.outstanding).sum();
    equal("rewards account and what is owed", state.module_balance(Module::Rewards), owed)
}

pub(super) fn modules_are_not_users(state: &State) -> Result<(), String> {
    Module::ALL.iter().try_for_each(|module| {
        let account = state.account(&module.address());
        let plain = Account { watt: account.watt, ..Account::default() };
        equal(module.name(), account, plain)
    })
}

pub(super) fn credits_are_somewhere(state: &State) -> Result<(), String> {
    let free: Nusd = state.accounts().map(|(_, account)| account.credits).sum();
    let held: Nusd = state.channels().map(|(_, channel)| channel.balance()).sum();
    let pending: Nusd = state.pending().map(|(_, _, pending)| pending.credits).sum();
    let arrears: Nusd = state.arrears().map(|(_, refund)| refund.credits).sum();
    let due: Nusd = state.refunds().map(|(_, refund)| refund.credits).sum();
    let refunding = due.saturating_add(arrears);
    let credit = state.credit.get();
    equal("pending claims and their sum", credit.pending, pending)?;
    equal("refunds and their sum", credit.refunding, refunding)?;
    equal("refunds in arrears and their sum", credit.arrears, arrears)?;
    let sum = [free, held, pending, refunding].into_iter().sum::<Nusd>();
    let outstanding = state.supply().credits_outstanding;
    equal("free, held, pending and refunding credits, and outstanding", sum, outstanding)
}

pub(super) fn vault_follows_from_counters(state: &State) -> Result<(), String> {
    let supply = state.supply();
    let left = supply.vault_in.checked_sub(supply.vault_out);
    equal("vault in − out and vault", left, Some(state.module_balance(Module::Vault)))
}

pub(super) fn credits_follow_from_counters(state: &State) -> Result<(), String> {
    let supply = state.supply();
    let gone = supply.credits_settled.checked_add(supply.credits_refunded);
    let left = gone.and_then(|gone| supply.credits_issued.checked_sub(gone));
    equal("issued − settled − refunded and outstanding", left, Some(supply.credits_outstanding))
}

pub(super) fn emission_is_within_its_budget(state: &State) -> Result<(), String> {
    let owed: Watt = state.payouts.iter().map(|(_, payout)| payout.budget).sum();
    let emission = state.emission();
    let all = state.supply().minted.emission.saturating_add(owed);
    let budget = state.params().supply.emission_budget;
    // A payout that is under way counts in both sums, by at most its own budget.
    ensure(all <= budget.saturating_add(owed), || {
        format!("{all:?} of emission, at most {budget:?}")
    })?;
    let epoch = emission.epoch;
    let works = || state.epoch_work.iter().filter(|((worked_in, _), _)| *worked_in == epoch);
    let credits: Nusd = works().map(|(_, work)| work.credits).sum();
    equal("an epoch's work and that of its providers", emission.work.credits, credits)?;
    let weight = works().map(|(_, work)| work.weight.0).fold(0, u128::saturating_add);
    equal("an epoch's weight and that of its providers", emission.work.weight.0, weight)
}

pub(super) fn channels_add_up(state: &State) -> Result<(), String> {
    let mut lanes: BTreeMap<ChannelId, Nusd> = BTreeMap::new();
    for (&(channel, lane), claimed) in state.lanes.iter() {
        ensure(lane < Lane(LANES_MAX), || format!("channel {channel} has a lane {lane}"))?;
        add(&mut lanes, channel, *claimed);
    }
    let mut pending: BTreeMap<ChannelId, Nusd> = BTreeMap::new();
    for (_, channel, entry) in state.pending() {
        ensure(!entry.credits.is_zero(), || format!("channel {channel} waits for nothing"))?;
        add(&mut pending, channel, entry.credits);
    }
    for (id, channel) in state.channels() {
        let what = format!("channel {id}");
        let spent = channel.claimed.checked_add(channel.returned);
        let sum = spent.and_then(|spent| spent.checked_add(channel.balance()));
        equal(&what, sum, Some(channel.deposit))?;
        equal(&what, lanes.remove(id).unwrap_or_default(), channel.claimed)?;
        let waits = pending.remove(id).unwrap_or_default();
        let gone = channel.settled.checked_add(channel.refunded);
        let all = gone.and_then(|gone| gone.checked_add(waits));
        equal(&what, all, Some(channel.claimed))?;
        equal(&what, channel.terms.id(state.chain_id()), *id)?;
        let at_rest = channel.balance().is_zero() && channel.withdraw_at.is_none();
        ensure(channel.open || at_rest, || format!("{what} is closed and holds something"))?;
    }
    ensure(lanes.is_empty(), || format!("lanes without a channel: {:?}", lanes.keys()))?;
    ensure(pending.is_empty(), || format!("claims without a channel: {:?}", pending.keys()))
}

fn add(sums: &mut BTreeMap<ChannelId, Nusd>, channel: ChannelId, amount: Nusd) {
    let sum = sums.entry(channel).or_default();
    *sum = sum.saturating_add(amount);
}

pub(super) fn claims_are_settled(state: &State) -> Result<(), String> {
    let settled: Nusd = state.channels().map(|(_, channel)| channel.settled).sum();
    equal("sum of settlements and settled credits", settled, state.supply().credits_settled)?;
    let refunded: Nusd = state.channels().map(|(_, channel)| channel.refunded).sum();
    equal("sum of refunds and refunded claims", refunded, state.supply().claims_refunded)?;
    let pending: Nusd = state.channels().map(|(_, channel)| channel.pending()).sum();
    equal("claims held back and what waits", pending, state.credit.get().pending)
}

pub(super) fn budgets_are_within_what_vested(state: &State) -> Result<(), String> {
    let mut claimed = Watt::ZERO;
    for (bucket, vesting) in state.vesting() {
        let vested = vesting.vested(state.now());
        ensure(vesting.claimed <= vested && vested <= vesting.total, || {
            format!("{}: {vesting:?}", bucket.name())
        })?;
        claimed = claimed.saturating_add(vesting.claimed);
    }
    equal("minted as vested and claimed", state.supply().minted.vesting, claimed)
}
