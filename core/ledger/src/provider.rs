//! Providers: registration, bond, leaving, and what the end of a block does about those who left
//! or never earned anything.
//!
//! A provider's entry stands as long as a channel to it is open, so what it served can be redeemed.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Address, Nusd, Ppm, PublicKey, Rounding, TimeMs, Watt,
    limits::{NAME_BYTES_MAX, OFFER_MODELS_MAX, PROFILE_TAG_BYTES_MAX},
    mul_div,
    stake::{CommissionTerms, OperatorId},
    state::{Heartbeats, Provider, ProviderProfile, Stage},
};

use crate::{
    audit, bank::Module, error::TxError, event::Event, execute::Context, rewards, stake,
    state::State,
};

/// Entries that one block looks at; the rest follows in the next block.
pub(crate) const DUE_PER_BLOCK_MAX: usize = 1_000;

/// When the end of a block must look at a provider.
pub(crate) fn due(provider: &Provider, idle_ms: u64) -> Option<TimeMs> {
    match provider.stage {
        Stage::Active if provider.bonded => None,
        Stage::Active => Some(provider.active_at.plus_ms(idle_ms)),
        Stage::Unbonding { matures_at } => Some(matures_at),
        Stage::Left => None,
    }
}

/// Whether it takes one of the places for providers without a bond.
pub(crate) fn is_unbonded(provider: &Provider) -> bool {
    !provider.bonded && provider.stage == Stage::Active
}

/// Whose node key it is: those of one account in different roles may be the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum NodeRole {
    Provider,
    Gateway,
    Auditor,
}

/// What a provider registers with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registration<'a> {
    pub(crate) node_key: PublicKey,
    pub(crate) profile: &'a ProviderProfile,
    /// `None`: those it has, or [`CommissionTerms::ALL`].
    pub(crate) commission: Option<CommissionTerms>,
    pub(crate) bond: Watt,
}

/// Registers the signer, or replaces node key and profile. An update raises the bond to `bond` where
/// it is below and never lowers it, so repeating a registration costs no second bond.
pub(crate) fn register(
    state: &mut State,
    context: &mut Context,
    registration: Registration<'_>,
) -> Result<(), TxError> {
    let operator = context.sender;
    check_registration(state, operator, registration)?;
    let Registration { node_key, profile, commission, bond } = registration;
    let before = state.providers.get(&operator).cloned();
    let is_new = before.is_none();
    let mut provider = before.unwrap_or(Provider {
        node_key,
        profile: ProviderProfile::default(),
        bonded: false,
        earned: Watt::ZERO,
        pending: Nusd::ZERO,
        registered_at: context.time,
        active_at: context.time,
        stage: Stage::Active,
        channels_open: 0,
        heartbeats: Heartbeats::default(),
    });
    provider.node_key = node_key;
    provider.profile = profile.clone();
    provider.heartbeats = provider.heartbeats.seen(state.heartbeat_period(context.time));
    let moniker = profile.moniker.clone();
    state.put_provider(operator, Some(provider))?;
    let id = OperatorId::provider(operator);
    state.open_pool(context, id, commission)?;
    if is_new {
        // Of an earlier registration others may have stake here.
        state.set_bonded(id, true)?;
    }
    let added = bond.saturating_sub(state.bond_of(&operator));
    if !added.is_zero() {
        stake::delegate_from(state, context, operator, operator, id, added)?;
    }
    let bond = state.bond_of(&operator);
    state.note_bond(&operator)?;
    context.events.push(if is_new {
        Event::ProviderRegistered { operator, node_key, moniker, bond }
    } else {
        Event::ProviderUpdated { operator, node_key, moniker, bond }
    });
    Ok(())
}

/// Everything about a registration but the money for its bond.
pub(crate) fn check_registration(
    state: &State,
    operator: Address,
    registration: Registration<'_>,
) -> Result<(), TxError> {
    let Registration { node_key, profile, commission, bond } = registration;
    let id = OperatorId::provider(operator);
    check_moniker(&profile.moniker)?;
    check_profile(profile)?;
    state.check_node_key(NodeRole::Provider, node_key, operator)?;
    if state.operator(&id).is_some_and(|it| it.tombstoned) {
        return Err(TxError::Tombstoned { operator: id });
    }
    state.commission_for(&id, commission)?;
    let bond_required = state.bond_required(Nusd::ZERO);
    match state.providers.get(&operator) {
        Some(provider) if provider.is_leaving() => Err(TxError::ProviderLeaving { operator }),
        Some(_) => Ok(()),
        None => {
            let max = state.params().providers.unbonded_max;
            if bond < bond_required && state.credit.get().unbonded_providers >= max {
                return Err(TxError::UnbondedFull { max, bond_required });
            }
            Ok(())
        }
    }
}

/// Monikers are shown in terminals and pages, so control characters stay out.
pub(crate) fn check_moniker(moniker: &str) -> Result<(), TxError> {
    let bytes = moniker.len();
    if bytes == 0 || bytes > NAME_BYTES_MAX || moniker.chars().any(char::is_control) {
        return Err(TxError::Moniker { bytes, bytes_max: NAME_BYTES_MAX });
    }
    Ok(())
}

fn check_profile(profile: &ProviderProfile) -> Result<(), TxError> {
    let tag = |text: &str| {
        text.len() <= PROFILE_TAG_BYTES_MAX
            && text.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
    };
    for (field, text) in [("region", &profile.region), ("class", &profile.class)] {
        if !tag(text) {
            return Err(TxError::ProfileTag { field, bytes_max: PROFILE_TAG_BYTES_MAX });
        }
    }
    let (count, max) = (profile.models.len(), OFFER_MODELS_MAX);
    if count > max || !profile.models.is_sorted_by(|left, right| left < right) {
        return Err(TxError::ProfileModels { count, max });
    }
    Ok(())
}

/// Begins to leave.
pub(crate) fn unbond(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    let operator = context.sender;
    let provider = state.active_provider(operator)?;
    leave(state, context, operator, provider, false)
}

/// The operator's own stake goes on its way back, and no new channels are opened.
fn leave(
    state: &mut State,
    context: &mut Context,
    operator: Address,
    mut provider: Provider,
    idle: bool,
) -> Result<(), TxError> {
    let id = OperatorId::provider(operator);
    let bond = state.bond_of(&operator);
    // Without a bond there is nothing to wait for when nobody wants to stay anyway.
    let wait_ms = if idle && bond.is_zero() { 0 } else { state.params().stake.unbonding_ms };
    let matures_at = context.time.plus_ms(wait_ms);
    stake::unbond_everything(state, context, operator, id)?;
    // What others have staked stays, and is theirs to take.
    provider.stage = Stage::Unbonding { matures_at };
    state.put_provider(operator, Some(provider))?;
    state.set_bonded(id, false)?;
    context.events.push(Event::ProviderLeaving { operator, matures_at, idle });
    Ok(())
}

/// The provider says that it is there.
pub(crate) fn heartbeat(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    let operator = context.sender;
    let mut provider = state.active_provider(operator)?;
    let period = state.heartbeat_period(context.time);
    provider.heartbeats = provider.heartbeats.seen(period);
    state.put_provider(operator, Some(provider))?;
    context.events.push(Event::ProviderSeen { operator, period });
    Ok(())
}

/// At the end of a block: idle providers begin to leave, matured bonds are paid back. At most
/// [`DUE_PER_BLOCK_MAX`] steps; what is left stays due.
pub(crate) fn end_block(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    for _ in 0..DUE_PER_BLOCK_MAX {
        let Some((&(time, operator), ())) = state.due.first() else { return Ok(()) };
        if time > context.time {
            return Ok(());
        }
        let Some(provider) = state.providers.get(&operator).cloned() else {
            state.due.remove(&(time, operator));
            continue;
        };
        match provider.stage {
            Stage::Active => leave(state, context, operator, provider, true)?,
            Stage::Unbonding { .. } | Stage::Left => {
                let left = Provider { stage: Stage::Left, ..provider };
                state.put_provider(operator, Some(left))?;
                context.events.push(Event::ProviderUnbonded { operator });
                state.remove_if_gone(context, operator)?;
            }
        }
    }
    Ok(())
}

impl State {
    /// The full bond of a provider with so many credits held back, at the last price:
    /// `max(floor, k × value at risk)`.
    pub fn bond_required(&self, pending: Nusd) -> Watt {
        let params = &self.params().providers;
        let per_risk = u128::from(params.bond_per_risk_ppm);
        let at_risk = mul_div(pending.0, per_risk, 1_000_000, Rounding::Up).unwrap_or(u128::MAX);
        let bond = params.bond_floor.max(Nusd(at_risk));
        Watt::worth(bond, self.price(), Rounding::Up).unwrap_or(Watt(u128::MAX))
    }

    /// A provider's own stake.
    pub fn bond_of(&self, operator: &Address) -> Watt {
        self.stake_of(operator, &OperatorId::provider(*operator))
    }

    /// Number of the heartbeat period that `time` lies in.
    pub fn heartbeat_period(&self, time: TimeMs) -> u64 {
        time.0.checked_div(self.params().providers.heartbeat_ms).unwrap_or(0)
    }

    /// After a provider's own stake grew: whether its bond is full now.
    pub(crate) fn note_bond(&mut self, operator: &Address) -> Result<(), TxError> {
        let Some(provider) = self.providers.get(operator).cloned() else { return Ok(()) };
        let full = self.bond_of(operator) >= self.bond_required(provider.pending);
        if provider.bonded || !full {
            return Ok(());
        }
        self.put_provider(*operator, Some(Provider { bonded: true, ..provider }))
    }

    /// Stakes `amount`, which is in the vault, for a provider. Returns what was staked: nothing if
    /// its pool takes no stake now.
    pub(crate) fn add_to_bond(
        &mut self,
        context: &mut Context,
        operator: Address,
        amount: Watt,
    ) -> Result<Watt, TxError> {
        let id = OperatorId::provider(operator);
        if amount.is_zero() || self.shares_for(&id, amount).is_err() {
            return Ok(Watt::ZERO);
        }
        let vault = Module::Vault.address();
        stake::delegate_from(self, context, vault, operator, id, amount)?;
        self.note_bond(&operator)?;
        Ok(amount)
    }

    /// Pays a provider's income, which is in the vault: its delegators' share into their rewards,
    /// the rest to its account.
    pub(crate) fn pay_income(
        &mut self,
        context: &mut Context,
        operator: Address,
        income: Watt,
    ) -> Result<(), TxError> {
        let id = OperatorId::provider(operator);
        // Without any stake there is nobody to share with, not even the operator itself.
        let pool = self.operator(&id).filter(|pool| pool.shares.0 > 0);
        let rate = pool.map_or(Ppm::ONE, |pool| pool.commission.rate);
        let kept = Watt(rate.of(income.0, Rounding::Down));
        let shared = income.saturating_sub(kept);
        let vault = Module::Vault.address();
        self.pay(vault, operator, kept)?;
        if shared.is_zero() {
            return Ok(());
        }
        context.events.push(Event::IncomeShared { operator: id, amount: shared });
        rewards::share(self, context, id, Module::Vault, shared)
    }

    /// The entry of a provider that is not leaving.
    pub(crate) fn active_provider(&self, operator: Address) -> Result<Provider, TxError> {
        match self.providers.get(&operator) {
            None => Err(TxError::ProviderUnknown { operator }),
            Some(provider) if provider.is_leaving() => Err(TxError::ProviderLeaving { operator }),
            Some(provider) => Ok(provider.clone()),
        }
    }

    /// One channel to `operator` closed.
    pub(crate) fn count_closed_channel(
        &mut self,
        context: &mut Context,
        operator: Address,
    ) -> Result<(), TxError> {
        let Some(mut provider) = self.providers.get(&operator).cloned() else {
            return Err(TxError::ProviderUnknown { operator });
        };
        provider.channels_open = provider.channels_open.saturating_sub(1);
        self.put_provider(operator, Some(provider))?;
        self.remove_if_gone(context, operator)
    }

    /// Removes the entry of a provider that left, once nothing is owed to it any more.
    pub(crate) fn remove_if_gone(
        &mut self,
        context: &mut Context,
        operator: Address,
    ) -> Result<(), TxError> {
        let Some(provider) = self.providers.get(&operator) else { return Ok(()) };
        let gone = provider.stage == Stage::Left
            && provider.channels_open == 0
            && provider.pending.is_zero()
            && !self.has_unpaid_work(&operator);
        if !gone {
            return Ok(());
        }
        self.put_provider(operator, None)?;
        audit::forget(self, context, operator)?;
        self.close_pool_if_empty(OperatorId::provider(operator))?;
        context.events.push(Event::ProviderRemoved { operator });
        Ok(())
    }

    /// Writes or removes an entry together with all that is derived from it: the node key index,
    /// the queue of due times and the count of unbonded providers.
    pub(crate) fn put_provider(
        &mut self,
        operator: Address,
        after: Option<Provider>,
    ) -> Result<(), TxError> {
        let idle_ms = self.params().providers.idle_ms;
        let before = self.providers.get(&operator).cloned();
        let was_unbonded = before.as_ref().is_some_and(is_unbonded);
        let is_unbonded = after.as_ref().is_some_and(is_unbonded);
        if let Some(before) = before {
            self.node_keys.remove(&(NodeRole::Provider, before.node_key));
            if let Some(time) = due(&before, idle_ms) {
                self.due.remove(&(time, operator));
            }
        }
        match after {
            Some(after) => {
                self.node_keys.insert((NodeRole::Provider, after.node_key), operator);
                if let Some(time) = due(&after, idle_ms) {
                    self.due.insert((time, operator), ());
                }
                self.providers.insert(operator, after);
            }
            None => self.providers.remove(&operator),
        }
        self.count_unbonded(was_unbonded, is_unbonded)
    }

    fn count_unbonded(&mut self, was: bool, is: bool) -> Result<(), TxError> {
        let mut credit = *self.credit.get();
        let count = credit.unbonded_providers;
        let count = match (was, is) {
            (false, true) => count.checked_add(1),
            (true, false) => count.checked_sub(1),
            (true, true) | (false, false) => return Ok(()),
        };
        credit.unbonded_providers =
            count.ok_or(TxError::Overflow { what: "the number of providers" })?;
        self.credit.set(credit);
        Ok(())
    }

    /// Refuses a node key that another operator holds in the same role. Holding a key is not proven
    /// here: the connection proves it, so somebody who registers a stranger's key gains nothing.
    pub(crate) fn check_node_key(
        &self,
        role: NodeRole,
        node_key: PublicKey,
        operator: Address,
    ) -> Result<(), TxError> {
        match self.node_keys.get(&(role, node_key)) {
            Some(&owner) if owner != operator => Err(TxError::NodeKeyTaken { node_key, owner }),
            Some(_) | None => Ok(()),
        }
    }
}
