//! Stake: pools of tokens behind operators, shares of delegators, and stake on its way back
//! (ECONOMICS E7).
//!
//! A share is worth `tokens / shares` of its pool. Delegating and undelegating round against
//! whoever does it, so that rate never falls but by slashing. What is undelegated waits out the
//! unbonding time and can be slashed until then for faults from before; so can stake that moved to
//! another operator, which may not move on before that time is over.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Address, Height, Ppm, Rounding, TimeMs, Watt, mul_div,
    stake::{CommissionTerms, OperatorId, Role},
    state::{Operator, RewardIndex, Shares, Stage},
};

use crate::{
    bank::{Module, add},
    error::TxError,
    event::Event,
    execute::Context,
    rewards,
    state::State,
};

/// Shares of the first delegator per base unit. Large, so that rounding a share is worth nothing.
const SHARES_PER_UNIT: u128 = 1_000_000_000;
/// Entries that one block pays back; the rest follows in the next block.
pub(crate) const MATURED_PER_BLOCK_MAX: usize = 1_000;
/// Points of an operator's history that are kept as they are. Of older ones two remain for each hour:
/// the largest stake in it and the last one. So a history is bounded by hours, and nobody can wash out
/// what was at stake by moving dust.
const HISTORY_POINTS_MAX: usize = 64;

/// One delegator's stake behind one operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Delegation {
    pub shares: Shares,
    /// The pool's reward index when rewards were last paid.
    pub reward_index: RewardIndex,
}

/// Stake on its way back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct UnbondingEntry {
    pub created_at: Height,
    pub matures_at: TimeMs,
    pub initial: Watt,
    /// Of that, what was not slashed.
    pub balance: Watt,
}

/// Stake that moved and can still be slashed for faults of where it came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct RedelegationEntry {
    pub created_at: Height,
    pub matures_at: TimeMs,
    pub initial: Watt,
    /// What it received where it went.
    pub shares: Shares,
}

/// The signer stakes behind an operator.
pub(crate) fn delegate(
    state: &mut State,
    context: &mut Context,
    id: OperatorId,
    amount: Watt,
) -> Result<(), TxError> {
    let delegator = context.sender;
    state.check_accepts_stake(&id)?;
    delegate_from(state, context, delegator, delegator, id, amount)?;
    if id == OperatorId::provider(delegator) {
        state.note_bond(&delegator)?;
    }
    Ok(())
}

/// Stakes `amount` of `payer` for `delegator`.
pub(crate) fn delegate_from(
    state: &mut State,
    context: &mut Context,
    payer: Address,
    delegator: Address,
    id: OperatorId,
    amount: Watt,
) -> Result<(), TxError> {
    if amount.is_zero() {
        return Err(TxError::Zero { what: "the stake" });
    }
    let shares = add_stake(state, context, delegator, id, amount)?;
    let pool = state.pool_of(&id).address();
    state.pay(payer, pool, amount)?;
    context.events.push(Event::Delegated { delegator, operator: id, amount, shares });
    Ok(())
}

/// Counts `amount`, which the caller puts into the pool, to a delegation.
fn add_stake(
    state: &mut State,
    context: &mut Context,
    delegator: Address,
    id: OperatorId,
    amount: Watt,
) -> Result<Shares, TxError> {
    let shares = state.shares_for(&id, amount)?;
    rewards::pay_delegation(state, context, id, delegator)?;
    let overflow = TxError::Overflow { what: "the shares" };
    let mut operator = state.known_operator(&id)?;
    operator.shares = Shares(operator.shares.0.checked_add(shares.0).ok_or(overflow.clone())?);
    operator.tokens = add(operator.tokens, amount, "the stake")?;
    let reward_index = operator.reward_index;
    let before = state.delegations.get(&(id, delegator)).map_or(Shares(0), |it| it.shares);
    let held = Shares(before.0.checked_add(shares.0).ok_or(overflow)?);
    state.put_delegation(id, delegator, Some(Delegation { shares: held, reward_index }));
    state.put_operator(context.height, id, operator);
    Ok(shares)
}

/// Takes `amount` of a delegation out of the pool's books, where it is worth that much: rounds the
/// shares up, and whoever is the last takes all. Returns what it is worth.
fn take_stake(
    state: &mut State,
    context: &mut Context,
    delegator: Address,
    id: OperatorId,
    amount: Watt,
) -> Result<Watt, TxError> {
    let mut operator = state.known_operator(&id)?;
    let Some(delegation) = state.delegations.get(&(id, delegator)).copied() else {
        return Err(TxError::NotDelegated { delegator, operator: id });
    };
    let held = state.stake_of(&delegator, &id);
    if amount > held {
        return Err(TxError::StakeShort { delegator, operator: id, held, needed: amount });
    }
    rewards::pay_delegation(state, context, id, delegator)?;
    let overflow = TxError::Overflow { what: "the shares" };
    let shares = if amount == held {
        delegation.shares.0
    } else {
        mul_div(amount.0, operator.shares.0, operator.tokens.0, Rounding::Up)
            .ok_or(overflow.clone())?
            .min(delegation.shares.0)
    };
    let value = if shares == operator.shares.0 {
        operator.tokens
    } else {
        mul_div(shares, operator.tokens.0, operator.shares.0, Rounding::Down)
            .map(Watt)
            .ok_or(overflow.clone())?
    };
    // Rewards were paid above, which changed the operator.
    operator = state.known_operator(&id)?;
    operator.shares = Shares(operator.shares.0.checked_sub(shares).ok_or(overflow.clone())?);
    operator.tokens = operator.tokens.checked_sub(value).ok_or(overflow)?;
    let rest = delegation.shares.0.saturating_sub(shares);
    let reward_index = operator.reward_index;
    let after = (rest > 0).then_some(Delegation { shares: Shares(rest), reward_index });
    state.put_delegation(id, delegator, after);
    state.put_operator(context.height, id, operator);
    rewards::sweep_if_empty(state, context, id)?;
    Ok(value)
}

/// The signer takes stake back.
pub(crate) fn undelegate(
    state: &mut State,
    context: &mut Context,
    id: OperatorId,
    amount: Watt,
) -> Result<(), TxError> {
    let delegator = context.sender;
    if amount.is_zero() {
        return Err(TxError::Zero { what: "the stake" });
    }
    state.check_leaves_bond(&id, delegator, amount)?;
    let max = state.params().stake.entries_max;
    if state.unbondings.get(&(id, delegator)).is_some_and(|it| it.len() >= usize_of(max)) {
        return Err(TxError::TooManyUnbondings { operator: id, max });
    }
    begin_unbonding(state, context, delegator, id, amount)
}

/// All of an operator's own stake at once, whatever else is on its way back.
pub(crate) fn unbond_everything(
    state: &mut State,
    context: &mut Context,
    delegator: Address,
    id: OperatorId,
) -> Result<(), TxError> {
    let held = state.stake_of(&delegator, &id);
    if held.is_zero() {
        return Ok(());
    }
    begin_unbonding(state, context, delegator, id, held)
}

fn begin_unbonding(
    state: &mut State,
    context: &mut Context,
    delegator: Address,
    id: OperatorId,
    amount: Watt,
) -> Result<(), TxError> {
    let pool = state.pool_of(&id);
    let value = take_stake(state, context, delegator, id, amount)?;
    state.pay(pool.address(), Module::NotBonded.address(), value)?;
    let matures_at = context.time.plus_ms(state.params().stake.unbonding_ms);
    let mut entries = state.unbondings.get(&(id, delegator)).cloned().unwrap_or_default();
    entries.push(UnbondingEntry {
        created_at: context.height,
        matures_at,
        initial: value,
        balance: value,
    });
    state.put_unbondings(id, delegator, entries);
    state.maturing.insert((matures_at, id, delegator), ());
    context.events.push(Event::Undelegated { delegator, operator: id, amount: value, matures_at });
    Ok(())
}

/// The signer moves stake to another operator of the same role.
pub(crate) fn redelegate(
    state: &mut State,
    context: &mut Context,
    from: OperatorId,
    to: OperatorId,
    amount: Watt,
) -> Result<(), TxError> {
    let delegator = context.sender;
    if amount.is_zero() {
        return Err(TxError::Zero { what: "the stake" });
    }
    if from == to || from.role != to.role {
        return Err(TxError::RedelegationPair { from, to });
    }
    let has_arrived = state
        .arrivals
        .iter_from((delegator, from, first_operator()))
        .next()
        .is_some_and(|((whose, at, _), ())| *whose == delegator && *at == from);
    if has_arrived {
        return Err(TxError::RedelegationHop { operator: from });
    }
    let max = state.params().stake.entries_max;
    let key = (from, delegator, to);
    if state.redelegations.get(&key).is_some_and(|it| it.len() >= usize_of(max)) {
        return Err(TxError::TooManyUnbondings { operator: from, max });
    }
    state.check_accepts_stake(&to)?;
    state.check_leaves_bond(&from, delegator, amount)?;
    let source = state.pool_of(&from);
    let value = take_stake(state, context, delegator, from, amount)?;
    let shares = add_stake(state, context, delegator, to, value)?;
    state.pay(source.address(), state.pool_of(&to).address(), value)?;
    if to == OperatorId::provider(delegator) {
        state.note_bond(&delegator)?;
    }
    let matures_at = context.time.plus_ms(state.params().stake.unbonding_ms);
    let created_at = context.height;
    let mut entries = state.redelegations.get(&key).cloned().unwrap_or_default();
    entries.push(RedelegationEntry { created_at, matures_at, initial: value, shares });
    state.redelegations.insert(key, entries);
    state.returning.insert((matures_at, from, delegator, to), ());
    state.arrivals.insert((delegator, to, from), ());
    context.events.push(Event::Redelegated { delegator, from, to, amount: value, matures_at });
    Ok(())
}

/// At the end of a block: pays back what has waited long enough.
pub(crate) fn end_block(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    for _ in 0..MATURED_PER_BLOCK_MAX {
        let Some((&(time, id, delegator), ())) = state.maturing.first() else { break };
        if time > context.time {
            break;
        }
        state.maturing.remove(&(time, id, delegator));
        pay_matured(state, context, id, delegator)?;
    }
    for _ in 0..MATURED_PER_BLOCK_MAX {
        let Some((&(time, from, delegator, to), ())) = state.returning.first() else { break };
        if time > context.time {
            break;
        }
        state.returning.remove(&(time, from, delegator, to));
        let key = (from, delegator, to);
        let mut entries = state.redelegations.get(&key).cloned().unwrap_or_default();
        entries.retain(|entry| entry.matures_at > time);
        if entries.is_empty() {
            state.redelegations.remove(&key);
            state.arrivals.remove(&(delegator, to, from));
        } else {
            state.redelegations.insert(key, entries);
        }
    }
    Ok(())
}

fn pay_matured(
    state: &mut State,
    context: &mut Context,
    id: OperatorId,
    delegator: Address,
) -> Result<(), TxError> {
    let mut entries = state.unbondings.get(&(id, delegator)).cloned().unwrap_or_default();
    let is_mature = |entry: &UnbondingEntry| entry.matures_at <= context.time;
    let amount: Watt =
        entries.iter().filter(|entry| is_mature(entry)).map(|entry| entry.balance).sum();
    // Those with the same time have one place in the queue; others keep theirs.
    for entry in entries.iter().filter(|entry| is_mature(entry)) {
        state.maturing.remove(&(entry.matures_at, id, delegator));
    }
    entries.retain(|entry| !is_mature(entry));
    state.put_unbondings(id, delegator, entries);
    let rest = state.collect_fee_debt(context, delegator, Module::NotBonded, amount)?;
    state.pay(Module::NotBonded.address(), delegator, rest)?;
    context.events.push(Event::Unbonded { delegator, operator: id, amount: rest });
    Ok(())
}

/// Changes what an operator keeps, within its own terms.
pub(crate) fn set_commission(
    state: &mut State,
    context: &mut Context,
    role: Role,
    rate: Ppm,
) -> Result<(), TxError> {
    let id = OperatorId { role, account: context.sender };
    let mut operator = state.known_operator(&id)?;
    let CommissionTerms { rate: before, rate_max, change_max } = operator.commission;
    let since_ms = context.time.ms_since(operator.commission_changed_at);
    if since_ms < state.params().stake.commission_period_ms {
        let changed_at = operator.commission_changed_at;
        let until = changed_at.plus_ms(state.params().stake.commission_period_ms);
        return Err(TxError::CommissionEarly { until });
    }
    let change = rate.get().abs_diff(before.get());
    if rate > rate_max || change > change_max.get() {
        return Err(TxError::CommissionTerms { rate, before, rate_max, change_max });
    }
    operator.commission.rate = rate;
    operator.commission_changed_at = context.time;
    state.put_operator(context.height, id, operator);
    context.events.push(Event::CommissionSet { operator: id, before, after: rate });
    Ok(())
}

/// The place of a validator among the candidates, if it may be one.
pub(crate) fn candidate(
    id: &OperatorId,
    operator: &Operator,
    bond_min: Watt,
) -> Option<(Reverse<Watt>, Address)> {
    let may = id.role == Role::Validator && !operator.is_jailed() && operator.tokens >= bond_min;
    may.then_some((Reverse(operator.tokens), id.account))
}

fn first_operator() -> OperatorId {
    OperatorId::validator(Address([0; 20]))
}

fn usize_of(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl State {
    pub fn operator(&self, id: &OperatorId) -> Option<&Operator> {
        self.operators.get(id)
    }

    pub fn operators(&self) -> impl Iterator<Item = (&OperatorId, &Operator)> {
        self.operators.iter()
    }

    pub fn delegation(&self, delegator: &Address, id: &OperatorId) -> Option<&Delegation> {
        self.delegations.get(&(*id, *delegator))
    }

    /// Of all delegators, by operator.
    pub fn delegations(&self) -> impl Iterator<Item = (&(OperatorId, Address), &Delegation)> {
        self.delegations.iter()
    }

    /// The operators that `delegator` has stake behind.
    pub fn stakes_of(&self, delegator: Address) -> impl Iterator<Item = (OperatorId, Delegation)> {
        self.stakes
            .iter_from((delegator, first_operator()))
            .take_while(move |((whose, _), ())| *whose == delegator)
            .filter_map(move |((_, id), ())| Some((*id, *self.delegation(&delegator, id)?)))
    }

    /// Stake on its way back.
    pub fn unbondings(
        &self,
    ) -> impl Iterator<Item = (&(OperatorId, Address), &Vec<UnbondingEntry>)> {
        self.unbondings.iter()
    }

    /// The operators from which `delegator` has stake on its way back.
    pub fn unbonding_from(&self, delegator: Address) -> impl Iterator<Item = OperatorId> {
        self.departures
            .iter_from((delegator, first_operator()))
            .take_while(move |((whose, _), ())| *whose == delegator)
            .map(|((_, id), ())| *id)
    }

    pub fn unbondings_of(&self, delegator: &Address, id: &OperatorId) -> &[UnbondingEntry] {
        self.unbondings.get(&(*id, *delegator)).map_or(&[], Vec::as_slice)
    }

    /// What a delegation is worth, rounded down.
    pub fn stake_of(&self, delegator: &Address, id: &OperatorId) -> Watt {
        let (Some(operator), Some(delegation)) =
            (self.operators.get(id), self.delegations.get(&(*id, *delegator)))
        else {
            return Watt::ZERO;
        };
        let (shares, tokens) = (operator.shares.0, operator.tokens.0);
        mul_div(delegation.shares.0, tokens, shares, Rounding::Down).map_or(Watt::ZERO, Watt)
    }

    /// What an operator had staked behind it when the block of `height` was made: after the block
    /// before it.
    pub fn stake_at(&self, id: &OperatorId, height: Height) -> Watt {
        let points = self.histories.get(id).map_or(&[][..], Vec::as_slice);
        let before = points.partition_point(|(at, _)| *at < height);
        let point = before.checked_sub(1).and_then(|place| points.get(place));
        point.map_or(Watt::ZERO, |(_, tokens)| *tokens)
    }

    pub(crate) fn known_operator(&self, id: &OperatorId) -> Result<Operator, TxError> {
        self.operators.get(id).cloned().ok_or(TxError::OperatorUnknown { operator: *id })
    }

    /// The module that holds an operator's stake.
    pub(crate) fn pool_of(&self, id: &OperatorId) -> Module {
        if self.is_bonded(id) { Module::Bonded } else { Module::NotBonded }
    }

    /// Whether the operator has a seat, or serves.
    pub(crate) fn is_bonded(&self, id: &OperatorId) -> bool {
        match id.role {
            Role::Validator => {
                let entry = self.validators.get(&id.account);
                entry.is_some_and(|entry| entry.seated)
            }
            Role::Provider => {
                let entry = self.providers.get(&id.account);
                entry.is_some_and(|provider| provider.stage == Stage::Active)
            }
        }
    }

    /// Moves an operator's stake after [`State::is_bonded`] changed to `bonded`.
    pub(crate) fn set_bonded(&mut self, id: OperatorId, bonded: bool) -> Result<(), TxError> {
        let tokens = self.operators.get(&id).map_or(Watt::ZERO, |operator| operator.tokens);
        let (from, to) = if bonded {
            (Module::NotBonded, Module::Bonded)
        } else {
            (Module::Bonded, Module::NotBonded)
        };
        self.pay(from.address(), to.address(), tokens)
    }

    /// The shares that `amount` buys, rounded down.
    pub(crate) fn shares_for(&self, id: &OperatorId, amount: Watt) -> Result<Shares, TxError> {
        let operator = self.known_operator(id)?;
        let shares = if operator.shares.0 == 0 {
            amount.0.checked_mul(SHARES_PER_UNIT)
        } else {
            // Everything was slashed: a share is worth nothing, and a stake would be given away.
            mul_div(amount.0, operator.shares.0, operator.tokens.0, Rounding::Down)
        };
        match shares {
            Some(shares) if shares > 0 => Ok(Shares(shares)),
            Some(_) | None => Err(TxError::ExchangeRate { operator: *id }),
        }
    }

    /// SL7: nobody gives work to an operator in jail.
    pub(crate) fn check_not_jailed(&self, id: &OperatorId) -> Result<(), TxError> {
        let Some(operator) = self.operator(id) else { return Ok(()) };
        if operator.tombstoned {
            return Err(TxError::Tombstoned { operator: *id });
        }
        match operator.jailed_until {
            Some(until) => Err(TxError::JailedUntil { operator: *id, until }),
            None => Ok(()),
        }
    }

    fn check_accepts_stake(&self, id: &OperatorId) -> Result<(), TxError> {
        if self.known_operator(id)?.tombstoned {
            return Err(TxError::Tombstoned { operator: *id });
        }
        match (id.role, self.providers.get(&id.account)) {
            (Role::Provider, Some(provider)) if provider.is_leaving() => {
                Err(TxError::ProviderLeaving { operator: id.account })
            }
            (Role::Provider, None) => Err(TxError::ProviderUnknown { operator: id.account }),
            (Role::Provider, Some(_)) | (Role::Validator, _) => Ok(()),
        }
    }

    /// A provider that serves keeps its bond: the way to take that back is to leave.
    fn check_leaves_bond(
        &self,
        id: &OperatorId,
        delegator: Address,
        amount: Watt,
    ) -> Result<(), TxError> {
        if *id != OperatorId::provider(delegator) {
            return Ok(());
        }
        let Some(provider) = self.providers.get(&delegator) else { return Ok(()) };
        if provider.is_leaving() {
            return Ok(());
        }
        let required = self.bond_required(provider.pending);
        let free = self.bond_of(&delegator).saturating_sub(required);
        if amount > free {
            return Err(TxError::BondNeeded { required, free });
        }
        Ok(())
    }

    /// The commission of an operator that registers with `given`. Its pool may be there already, also
    /// without an entry in the registry; then it keeps what it declared first, so that nobody who
    /// delegated is surprised.
    pub(crate) fn commission_for(
        &self,
        id: &OperatorId,
        given: Option<CommissionTerms>,
    ) -> Result<CommissionTerms, TxError> {
        if let Some(Operator { commission: terms, .. }) = self.operators.get(id) {
            return match given {
                Some(given) if given != *terms => {
                    Err(TxError::CommissionDiffers { operator: *id, terms: *terms })
                }
                Some(_) | None => Ok(*terms),
            };
        }
        let terms = given.unwrap_or(CommissionTerms::ALL);
        if !terms.is_consistent() {
            let CommissionTerms { rate, rate_max, change_max } = terms;
            let before = Ppm::default();
            return Err(TxError::CommissionTerms { rate, before, rate_max, change_max });
        }
        Ok(terms)
    }

    /// Makes the pool of an operator unless there is one.
    pub(crate) fn open_pool(
        &mut self,
        context: &Context,
        id: OperatorId,
        commission: Option<CommissionTerms>,
    ) -> Result<(), TxError> {
        let commission = self.commission_for(&id, commission)?;
        if self.operators.contains(&id) {
            return Ok(());
        }
        let operator = Operator {
            tokens: Watt::ZERO,
            shares: Shares(0),
            commission,
            commission_changed_at: context.time,
            reward_index: RewardIndex::default(),
            outstanding: Watt::ZERO,
            commission_due: Watt::ZERO,
            jailed_until: None,
            tombstoned: false,
        };
        self.put_operator(context.height, id, operator);
        Ok(())
    }

    /// Removes the pool of an operator that is registered no more, once nobody has stake in it and
    /// nothing is owed to it. A tombstone stays.
    pub(crate) fn close_pool_if_empty(&mut self, id: OperatorId) -> Result<(), TxError> {
        let Some(operator) = self.operators.get(&id) else { return Ok(()) };
        let registered = match id.role {
            Role::Validator => self.validators.contains(&id.account),
            Role::Provider => self.providers.contains(&id.account),
        };
        let empty = operator.shares.0 == 0 && operator.outstanding.is_zero();
        if !registered && empty && !operator.tombstoned {
            self.operators.remove(&id);
            self.histories.remove(&id);
        }
        Ok(())
    }

    /// Writes an operator with what is derived from it: its history and its place among candidates.
    pub(crate) fn put_operator(&mut self, height: Height, id: OperatorId, after: Operator) {
        let bond_min = self.params().stake.validator_bond_min;
        let before = self.operators.get(&id);
        let tokens_before = before.map(|before| before.tokens);
        if let Some(key) = before.and_then(|before| candidate(&id, before, bond_min)) {
            self.candidates.remove(&key);
        }
        if let Some(key) = candidate(&id, &after, bond_min) {
            self.candidates.insert(key, ());
        }
        if tokens_before.unwrap_or_default() != after.tokens {
            self.note_history(height, id, after.tokens);
        }
        self.operators.insert(id, after);
    }

    fn note_history(&mut self, height: Height, id: OperatorId, tokens: Watt) {
        let mut points = self.histories.get(&id).cloned().unwrap_or_default();
        match points.last_mut() {
            Some((at, last)) if *at == height => *last = tokens,
            Some(_) | None => points.push((height, tokens)),
        }
        if points.len() > HISTORY_POINTS_MAX {
            let young = points.split_off(HISTORY_POINTS_MAX / 2);
            let hours =
                points.chunk_by(|left, right| self.hour_of(left.0) == self.hour_of(right.0));
            points = hours.flat_map(|hour| self.largest_and_last(hour)).chain(young).collect();
        }
        self.histories.insert(id, points);
    }

    /// The block with the time mark that `height` belongs to. `None`: older than all marks.
    fn hour_of(&self, height: Height) -> Option<Height> {
        self.marks.range(..=height).next_back().map(|(at, _)| *at)
    }

    /// What remains of the points of one hour. Of those that are older than all marks, and than any
    /// evidence may be, only what was at stake at their end.
    fn largest_and_last(&self, hour: &[(Height, Watt)]) -> Vec<(Height, Watt)> {
        let Some((last, before)) = hour.split_last() else { return Vec::new() };
        let most = before.iter().map(|(_, tokens)| *tokens).max();
        match (before.first(), most) {
            (Some((at, _)), Some(most)) if self.hour_of(*at).is_some() => vec![(*at, most), *last],
            _ => vec![*last],
        }
    }

    /// Writes what a delegator has on its way back from an operator, nothing included, and its place
    /// in the index.
    fn put_unbondings(&mut self, id: OperatorId, delegator: Address, entries: Vec<UnbondingEntry>) {
        if entries.is_empty() {
            self.unbondings.remove(&(id, delegator));
            self.departures.remove(&(delegator, id));
        } else {
            self.unbondings.insert((id, delegator), entries);
            self.departures.insert((delegator, id), ());
        }
    }

    /// Writes or removes a delegation and its place in the index.
    pub(crate) fn put_delegation(
        &mut self,
        id: OperatorId,
        delegator: Address,
        after: Option<Delegation>,
    ) {
        match after {
            Some(after) => {
                self.delegations.insert((id, delegator), after);
                self.stakes.insert((delegator, id), ());
            }
            None => {
                self.delegations.remove(&(id, delegator));
                self.stakes.remove(&(delegator, id));
            }
        }
    }
}
