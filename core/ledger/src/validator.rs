//! Validators: who stands for a seat, and who has one.
//!
//! The seats go to the candidates with the largest stake who have the smallest bond of their own at
//! stake and are not jailed; power is stake in whole WATT. The set is drawn anew at the end of every
//! block, for the block after it. When nobody may have a seat, the old set keeps them: a chain
//! without validators could never change anything again.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Address, PublicKey, TimeMs, Watt,
    amount::UNIT,
    stake::{CommissionTerms, OperatorId, Role},
};

use crate::{
    error::TxError, event::Event, execute::Context, provider::check_moniker, signing::Signing,
    stake, state::State,
};

/// One registered validator, under its operator's account.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ValidatorEntry {
    /// Signs blocks. No other validator has it, and it does not change.
    pub consensus_key: PublicKey,
    pub moniker: String,
    pub registered_at: TimeMs,
    /// Whether it has a seat.
    pub seated: bool,
}

/// One seat of the set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ActiveValidator {
    pub operator: Address,
    /// Above zero.
    pub power: u64,
}

/// Makes the signer a candidate, or replaces its moniker.
pub(crate) fn register(
    state: &mut State,
    context: &mut Context,
    consensus_key: PublicKey,
    moniker: &str,
    commission: CommissionTerms,
    bond: Watt,
) -> Result<(), TxError> {
    let operator = context.sender;
    let id = OperatorId::validator(operator);
    check_moniker(moniker)?;
    state.commission_for(&id, Some(commission))?;
    match state.consensus_keys.get(&consensus_key) {
        Some(&owner) if owner != operator => {
            return Err(TxError::ConsensusKeyTaken { consensus_key, owner });
        }
        Some(_) | None => {}
    }
    let before = state.validators.get(&operator).cloned();
    if before.as_ref().is_some_and(|before| before.consensus_key != consensus_key) {
        return Err(TxError::ConsensusKeyFixed { operator });
    }
    if state.operator(&id).is_some_and(|operator| operator.tombstoned) {
        return Err(TxError::Tombstoned { operator: id });
    }
    let min = state.params().stake.validator_bond_min;
    let held = state.stake_of(&operator, &id);
    if bond.max(held) < min {
        return Err(TxError::ValidatorBond { min, given: bond });
    }
    let seated = before.as_ref().is_some_and(|before| before.seated);
    let registered_at = before.map_or(context.time, |before| before.registered_at);
    state.open_pool(context, id, Some(commission))?;
    let entry =
        ValidatorEntry { consensus_key, moniker: moniker.to_owned(), registered_at, seated };
    state.validators.insert(operator, entry);
    state.consensus_keys.insert(consensus_key, operator);
    let added = bond.saturating_sub(held);
    if !added.is_zero() {
        stake::delegate_from(state, context, operator, operator, id, added)?;
    }
    context.events.push(Event::ValidatorRegistered {
        operator,
        consensus_key,
        moniker: moniker.to_owned(),
    });
    Ok(())
}

/// At the end of a block: who has a seat in the next one.
pub(crate) fn end_block(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    let params = &state.params().stake;
    let (seats_max, bond_min) = (params.validators_max, params.validator_bond_min);
    let mut set: BTreeMap<PublicKey, ActiveValidator> = BTreeMap::new();
    for ((_, operator), ()) in state.candidates.iter() {
        if set.len() >= usize::try_from(seats_max).unwrap_or(usize::MAX) {
            break;
        }
        let id = OperatorId::validator(*operator);
        let bond = state.stake_of(operator, &id);
        let (Some(entry), Some(pool)) = (state.validators.get(operator), state.operator(&id))
        else {
            continue;
        };
        let power = power_of(pool.tokens);
        if bond < bond_min || power == 0 {
            continue;
        }
        set.insert(entry.consensus_key, ActiveValidator { operator: *operator, power });
    }
    if set.is_empty() || state.active.iter().map(|(key, seat)| (*key, *seat)).eq(set.clone()) {
        return Ok(());
    }
    let before: BTreeMap<PublicKey, ActiveValidator> =
        state.active.iter().map(|(key, seat)| (*key, *seat)).collect();
    for (key, seat) in &before {
        if !set.contains_key(key) {
            state.active.remove(key);
            state.signings.remove(key);
            state.seat(seat.operator, false)?;
            let operator = seat.operator;
            context.events.push(Event::ValidatorUnseated { operator, consensus_key: *key });
        }
    }
    for (key, seat) in set {
        let old = before.get(&key);
        if old == Some(&seat) {
            continue;
        }
        if old.is_none() {
            state.seat(seat.operator, true)?;
            state.signings.insert(key, Signing::starting(context.height));
        }
        state.active.insert(key, seat);
        let ActiveValidator { operator, power } = seat;
        context.events.push(Event::ValidatorPower { operator, consensus_key: key, power });
    }
    Ok(())
}

/// Whole WATT. The supply is below 2⁶³ base units, so the sum of all powers fits.
pub(crate) fn power_of(tokens: Watt) -> u64 {
    u64::try_from(tokens.0.checked_div(UNIT).unwrap_or(0)).unwrap_or(u64::MAX)
}

/// The signer comes back from jail.
pub(crate) fn unjail(state: &mut State, context: &mut Context, role: Role) -> Result<(), TxError> {
    let id = OperatorId { role, account: context.sender };
    let mut operator = state.known_operator(&id)?;
    if operator.tombstoned {
        return Err(TxError::Tombstoned { operator: id });
    }
    let until = operator.jailed_until.ok_or(TxError::NotJailed { operator: id })?;
    if context.time < until {
        return Err(TxError::JailedUntil { operator: id, until });
    }
    let min = match role {
        Role::Validator => state.params().stake.validator_bond_min,
        Role::Provider => Watt::ZERO,
    };
    let held = state.stake_of(&id.account, &id);
    if held < min {
        return Err(TxError::ValidatorBond { min, given: held });
    }
    operator.jailed_until = None;
    state.put_operator(context.height, id, operator);
    context.events.push(Event::Unjailed { operator: id });
    Ok(())
}

impl State {
    /// Who signs the next block, by consensus key.
    pub fn active_validators(&self) -> impl Iterator<Item = (&PublicKey, &ActiveValidator)> {
        self.active.iter()
    }

    pub fn validator(&self, operator: &Address) -> Option<&ValidatorEntry> {
        self.validators.get(operator)
    }

    /// All that are registered, by operator.
    pub fn validators(&self) -> impl Iterator<Item = (&Address, &ValidatorEntry)> {
        self.validators.iter()
    }

    /// Gives a validator a seat or takes it, and moves its stake to where it belongs then.
    pub(crate) fn seat(&mut self, operator: Address, seated: bool) -> Result<(), TxError> {
        let Some(entry) = self.validators.get(&operator).cloned() else {
            return Err(TxError::NotValidator { operator });
        };
        if entry.seated == seated {
            return Ok(());
        }
        self.validators.insert(operator, ValidatorEntry { seated, ..entry });
        self.set_bonded(OperatorId::validator(operator), seated)
    }
}
