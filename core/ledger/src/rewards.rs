//! The stakers' income: fees and the stakers' share of settlements, divided among the validators
//! by power at the end of every block.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{Address, PublicKey, Rounding, Watt, mul_div};

use crate::{
    bank::{Module, add},
    error::TxError,
    event::Event,
    execute::Context,
    state::State,
};

/// One validator, under its consensus key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Validator {
    /// Withdraws the rewards.
    pub operator: Address,
    /// Above zero.
    pub power: u64,
    /// What may be withdrawn; held by the rewards account.
    pub rewards: Watt,
}

/// At the end of a block: each validator's share rounds down, the remainder waits for the next one.
pub(crate) fn end_block(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    let pool = state.module_balance(Module::Stakers);
    if pool.is_zero() {
        return Ok(());
    }
    let validators: Vec<(PublicKey, Validator)> =
        state.validators.iter().map(|(key, validator)| (*key, *validator)).collect();
    let power_sum: u128 = validators.iter().map(|(_, validator)| u128::from(validator.power)).sum();
    let mut amount = Watt::ZERO;
    for (key, mut validator) in validators {
        let share = mul_div(pool.0, u128::from(validator.power), power_sum, Rounding::Down)
            .map(Watt)
            .ok_or(TxError::Overflow { what: "the rewards" })?;
        if share.is_zero() {
            continue;
        }
        validator.rewards = add(validator.rewards, share, "the rewards")?;
        amount = add(amount, share, "the rewards")?;
        state.validators.insert(key, validator);
    }
    if amount.is_zero() {
        return Ok(());
    }
    state.pay(Module::Stakers.address(), Module::Rewards.address(), amount)?;
    let carried = pool.saturating_sub(amount);
    context.events.push(Event::RewardsDistributed { amount, carried });
    Ok(())
}

/// The signer takes what all validators it operates have earned.
pub(crate) fn withdraw(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    let operator = context.sender;
    let own: Vec<(PublicKey, Validator)> = state
        .validators
        .iter()
        .filter(|(_, validator)| validator.operator == operator)
        .map(|(key, validator)| (*key, *validator))
        .collect();
    if own.is_empty() {
        return Err(TxError::NotValidator { operator });
    }
    let mut amount = Watt::ZERO;
    for (key, validator) in own {
        amount = add(amount, validator.rewards, "the rewards")?;
        state.validators.insert(key, Validator { rewards: Watt::ZERO, ..validator });
    }
    if amount.is_zero() {
        return Err(TxError::NoRewards { operator });
    }
    state.pay(Module::Rewards.address(), operator, amount)?;
    context.events.push(Event::RewardsWithdrawn { operator, amount });
    Ok(())
}
