//! Properties of stake, rewards and seats.

use std::collections::BTreeMap;

use types::{Address, PublicKey, Watt, stake::OperatorId};

use super::{ensure, equal};
use crate::{bank::Module, state::State};

pub(super) fn pools_hold_the_stake(state: &State) -> Result<(), String> {
    let (mut bonded, mut other) = (Watt::ZERO, Watt::ZERO);
    for (id, operator) in state.operators() {
        let sum = if state.is_bonded(id) { &mut bonded } else { &mut other };
        *sum = sum.saturating_add(operator.tokens);
    }
    let unbonding: Watt =
        state.unbondings().flat_map(|(_, entries)| entries).map(|entry| entry.balance).sum();
    equal("bonded account and bonded stake", state.module_balance(Module::Bonded), bonded)?;
    let other = other.saturating_add(unbonding);
    equal("the other account and other stake", state.module_balance(Module::NotBonded), other)
}

pub(super) fn seats_belong_to_validators(state: &State) -> Result<(), String> {
    let expected: BTreeMap<PublicKey, Address> = state
        .validators()
        .filter(|(_, entry)| entry.seated)
        .map(|(operator, entry)| (entry.consensus_key, *operator))
        .collect();
    let seats = state.active_validators().map(|(key, seat)| (*key, seat.operator)).collect();
    equal("seats and seated validators", seats, expected)?;
    let windows: Vec<&PublicKey> = state.signings().map(|(key, _)| key).collect();
    let seats: Vec<&PublicKey> = state.active_validators().map(|(key, _)| key).collect();
    equal("windows and seats", windows, seats)
}

pub(super) fn delegations_are_positive(state: &State) -> Result<(), String> {
    state.delegations().try_for_each(|((id, delegator), delegation)| {
        let known = state
            .operator(id)
            .is_some_and(|operator| operator.reward_index >= delegation.reward_index);
        ensure(delegation.shares.0 > 0 && known, || format!("{delegator} at {id}: {delegation:?}"))
    })
}

pub(super) fn shares_add_up(state: &State) -> Result<(), String> {
    let mut sums: BTreeMap<OperatorId, u128> = BTreeMap::new();
    for ((id, _), delegation) in state.delegations() {
        let sum = sums.entry(*id).or_default();
        *sum = sum.saturating_add(delegation.shares.0);
    }
    state.operators().try_for_each(|(id, operator)| {
        let sum = sums.get(id).copied().unwrap_or_default();
        equal(&format!("shares of {id}"), operator.shares.0, sum)?;
        let backed = operator.tokens.is_zero() || operator.shares.0 > 0;
        ensure(backed, || format!("{id} holds {:?} that belong to nobody", operator.tokens))
    })
}

pub(super) fn windows_count_their_bits(state: &State) -> Result<(), String> {
    state.signings().try_for_each(|(key, signing)| {
        let ones = signing.bits.iter().map(|bits| bits.count_ones()).sum();
        equal(&format!("missed blocks of {key}"), signing.missed, ones)
    })
}

pub(super) fn everybody_can_withdraw(state: &State) -> Result<(), String> {
    let mut owed: BTreeMap<OperatorId, Watt> = BTreeMap::new();
    for ((id, delegator), _) in state.delegations() {
        let sum = owed.entry(*id).or_default();
        *sum = sum.saturating_add(state.rewards_of(delegator, id));
    }
    state.operators().try_for_each(|(id, operator)| {
        let rewards = owed.get(id).copied().unwrap_or_default();
        let owed = rewards.saturating_add(operator.commission_due);
        ensure(owed <= operator.outstanding, || {
            format!("{id} owes {owed:?} and has {:?}", operator.outstanding)
        })
    })
}

pub(super) fn seats_have_power(state: &State) -> Result<(), String> {
    ensure(state.active_validators().next().is_some(), || "there are no seats".to_owned())?;
    state.active_validators().try_for_each(|(key, seat)| {
        ensure(seat.power > 0, || format!("the seat of {key} has no power"))
    })
}
