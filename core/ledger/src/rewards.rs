//! Rewards of those who stake (ECONOMICS E10): fees and the stakers' share of settlements, divided
//! among the seats by power at the end of every block, and within a pool by shares.
//!
//! This is F1 distribution with shares as its unit: a pool keeps one index, the rewards ever
//! allocated per share, and a delegation remembers the index when it was last paid. A slash changes
//! what a share is worth and not how many there are, so it needs no correction here
//! (`docs/adr/0007-rewards-by-share.md`). Every step rounds down; what that leaves stays in the pool and goes to
//! the treasury with its last share.

use types::{
    Address, PublicKey, Rounding, Watt, mul_div,
    stake::{OperatorId, Role},
    state::RewardIndex,
};

use crate::{
    bank::{Module, add},
    error::TxError,
    event::Event,
    execute::Context,
    stake::Delegation,
    state::State,
    validator::ActiveValidator,
};

/// One of the reward index. With 10⁹ shares per base unit, an allocation loses at most one base unit
/// to rounding as long as a pool holds less than 10¹⁸ of them.
const INDEX_ONE: u128 = 1_000_000_000_000_000_000_000_000_000;

/// At the end of a block: each seat's share rounds down, the remainder waits for the next one.
pub(crate) fn end_block(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    let income = state.module_balance(Module::Stakers);
    if income.is_zero() {
        return Ok(());
    }
    let seats: Vec<(PublicKey, ActiveValidator)> =
        state.active.iter().map(|(key, seat)| (*key, *seat)).collect();
    let power_sum = state.total_power();
    let mut amount = Watt::ZERO;
    for (_, seat) in seats {
        let share = mul_div(income.0, u128::from(seat.power), power_sum, Rounding::Down)
            .map(Watt)
            .ok_or(TxError::Overflow { what: "the rewards" })?;
        if share.is_zero() {
            continue;
        }
        amount = add(amount, share, "the rewards")?;
        allocate(state, context, OperatorId::validator(seat.operator), Module::Stakers, share)?;
    }
    if amount.is_zero() {
        return Ok(());
    }
    let carried = income.saturating_sub(amount);
    context.events.push(Event::RewardsDistributed { amount, carried });
    Ok(())
}

/// Gives `amount`, held by `from`, to an operator and its delegators: commission first.
fn allocate(
    state: &mut State,
    context: &mut Context,
    id: OperatorId,
    from: Module,
    amount: Watt,
) -> Result<(), TxError> {
    let mut operator = state.known_operator(&id)?;
    let commission = Watt(operator.commission.rate.of(amount.0, Rounding::Down));
    operator.commission_due = add(operator.commission_due, commission, "the commission")?;
    operator.outstanding = add(operator.outstanding, commission, "the rewards")?;
    state.put_operator(context.height, id, operator);
    state.pay(from.address(), Module::Rewards.address(), commission)?;
    share(state, context, id, from, amount.saturating_sub(commission))
}

/// Gives `amount`, held by `from`, to the delegators of an operator by their shares. To the treasury
/// if there are none, or if it is more per share than the index can hold.
pub(crate) fn share(
    state: &mut State,
    context: &mut Context,
    id: OperatorId,
    from: Module,
    amount: Watt,
) -> Result<(), TxError> {
    let mut operator = state.known_operator(&id)?;
    let per_share = mul_div(amount.0, INDEX_ONE, operator.shares.0, Rounding::Down);
    let index = per_share.and_then(|per_share| operator.reward_index.0.checked_add(per_share));
    state.pay(from.address(), Module::Rewards.address(), amount)?;
    let Some(index) = index else {
        return sweep(state, context, id, amount);
    };
    operator.reward_index = RewardIndex(index);
    operator.outstanding = add(operator.outstanding, amount, "the rewards")?;
    state.put_operator(context.height, id, operator);
    Ok(())
}

/// Gives what is in the rewards account and belongs to nobody to the treasury.
fn sweep(
    state: &mut State,
    context: &mut Context,
    operator: OperatorId,
    amount: Watt,
) -> Result<(), TxError> {
    if amount.is_zero() {
        return Ok(());
    }
    state.pay(Module::Rewards.address(), Module::Treasury.address(), amount)?;
    context.events.push(Event::RewardsSwept { operator, amount });
    Ok(())
}

/// Pays a delegation what it has earned; the caller is about to change its shares. Returns it.
pub(crate) fn pay_delegation(
    state: &mut State,
    context: &mut Context,
    id: OperatorId,
    delegator: Address,
) -> Result<Watt, TxError> {
    let Some(delegation) = state.delegations.get(&(id, delegator)).copied() else {
        return Ok(Watt::ZERO);
    };
    let mut operator = state.known_operator(&id)?;
    let amount = earned(operator.reward_index, &delegation)
        .ok_or(TxError::Overflow { what: "the rewards" })?;
    let reward_index = operator.reward_index;
    state.put_delegation(id, delegator, Some(Delegation { reward_index, ..delegation }));
    if amount.is_zero() {
        return Ok(amount);
    }
    operator.outstanding = operator
        .outstanding
        .checked_sub(amount)
        .ok_or(TxError::Overflow { what: "the rewards outstanding" })?;
    state.put_operator(context.height, id, operator);
    state.pay(Module::Rewards.address(), delegator, amount)?;
    context.events.push(Event::RewardsWithdrawn { delegator, operator: id, amount });
    Ok(amount)
}

/// What a delegation has earned since it was last paid.
fn earned(reward_index: RewardIndex, delegation: &Delegation) -> Option<Watt> {
    let grown = reward_index.0.checked_sub(delegation.reward_index.0)?;
    mul_div(delegation.shares.0, grown, INDEX_ONE, Rounding::Down).map(Watt)
}

/// The signer takes what its stake behind one operator has earned.
pub(crate) fn withdraw(
    state: &mut State,
    context: &mut Context,
    id: OperatorId,
) -> Result<(), TxError> {
    let delegator = context.sender;
    if !state.delegations.contains(&(id, delegator)) {
        return Err(TxError::NotDelegated { delegator, operator: id });
    }
    let amount = pay_delegation(state, context, id, delegator)?;
    if amount.is_zero() {
        return Err(TxError::NoRewards { operator: id });
    }
    Ok(())
}

/// The signer takes what it earned as an operator.
pub(crate) fn withdraw_commission(
    state: &mut State,
    context: &mut Context,
    role: Role,
) -> Result<(), TxError> {
    let id = OperatorId { role, account: context.sender };
    let mut operator = state.known_operator(&id)?;
    let amount = operator.commission_due;
    if amount.is_zero() {
        return Err(TxError::NoRewards { operator: id });
    }
    operator.commission_due = Watt::ZERO;
    operator.outstanding = operator.outstanding.saturating_sub(amount);
    state.put_operator(context.height, id, operator);
    state.pay(Module::Rewards.address(), id.account, amount)?;
    context.events.push(Event::CommissionWithdrawn { operator: id, amount });
    state.close_pool_if_empty(id)
}

/// When the last share has gone: what rounding left goes to the treasury.
pub(crate) fn sweep_if_empty(
    state: &mut State,
    context: &mut Context,
    id: OperatorId,
) -> Result<(), TxError> {
    let mut operator = state.known_operator(&id)?;
    if operator.shares.0 > 0 {
        return Ok(());
    }
    let left = operator.outstanding.saturating_sub(operator.commission_due);
    if !left.is_zero() {
        operator.outstanding = operator.commission_due;
        state.operators.insert(id, operator);
        sweep(state, context, id, left)?;
    }
    state.close_pool_if_empty(id)
}

impl State {
    /// What a delegation could withdraw now.
    pub fn rewards_of(&self, delegator: &Address, id: &OperatorId) -> Watt {
        let (Some(operator), Some(delegation)) =
            (self.operator(id), self.delegation(delegator, id))
        else {
            return Watt::ZERO;
        };
        earned(operator.reward_index, delegation).unwrap_or_default()
    }
}
