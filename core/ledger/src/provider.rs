//! Providers: registration, bond, leaving, and what the end of a block does about those who left
//! or never earned anything.
//!
//! A provider's entry stands as long as a channel to it is open, so what it served can be redeemed.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{Address, PublicKey, Rounding, TimeMs, Watt, limits::NAME_BYTES_MAX};

use crate::{
    bank::{Module, add},
    error::TxError,
    event::Event,
    execute::Context,
    state::{Market, State},
};

/// Entries that one block looks at; the rest follows in the next block.
pub(crate) const DUE_PER_BLOCK_MAX: usize = 1_000;

/// One registered provider, under its operator's account.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Provider {
    /// Under which gateways see it dial in. No other provider has it.
    pub node_key: PublicKey,
    pub moniker: String,
    /// Held by the bonds account.
    pub bond: Watt,
    /// Whether its bond was full once. Then it no longer counts against the places for providers
    /// without a bond and does not expire.
    pub bonded: bool,
    /// WATT paid to it so far, before withholding and owed fees.
    pub earned: Watt,
    pub registered_at: TimeMs,
    /// Of its registration, or of the last redemption that paid it something.
    pub active_at: TimeMs,
    pub stage: Stage,
    /// Channels to it that are not closed.
    pub channels_open: u64,
}

/// How far a provider is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum Stage {
    Active,
    /// No new channels; the bond is paid back at this time.
    Unbonding {
        matures_at: TimeMs,
    },
    /// The bond was paid back; the entry goes with its last channel.
    Left,
}

impl Provider {
    pub fn is_leaving(&self) -> bool {
        self.stage != Stage::Active
    }

    /// When the end of a block must look at it.
    pub(crate) fn due(&self, idle_ms: u64) -> Option<TimeMs> {
        match self.stage {
            Stage::Active if self.bonded => None,
            Stage::Active => Some(self.active_at.plus_ms(idle_ms)),
            Stage::Unbonding { matures_at } => Some(matures_at),
            Stage::Left => None,
        }
    }

    /// Whether it takes one of the places for providers without a bond.
    pub(crate) fn is_unbonded(&self) -> bool {
        !self.bonded && self.stage == Stage::Active
    }
}

/// Whose node key it is: a provider's and a gateway's may be the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum NodeRole {
    Provider,
    Gateway,
}

/// Registers the signer, or replaces node key and moniker. An update raises the bond to `bond`
/// where it is below and never lowers it, so repeating a registration costs no second bond.
pub(crate) fn register(
    state: &mut State,
    context: &mut Context,
    node_key: PublicKey,
    moniker: &str,
    bond: Watt,
) -> Result<(), TxError> {
    let operator = context.sender;
    check_registration(state, operator, node_key, moniker, bond)?;
    let before = state.providers.get(&operator).cloned();
    let is_new = before.is_none();
    let mut provider = before.unwrap_or(Provider {
        node_key,
        moniker: String::new(),
        bond: Watt::ZERO,
        bonded: false,
        earned: Watt::ZERO,
        registered_at: context.time,
        active_at: context.time,
        stage: Stage::Active,
        channels_open: 0,
    });
    provider.node_key = node_key;
    moniker.clone_into(&mut provider.moniker);
    let added = bond.saturating_sub(provider.bond);
    state.pay(operator, Module::Bonds.address(), added)?;
    state.raise_bond(&mut provider, added)?;
    let (moniker, bond) = (provider.moniker.clone(), provider.bond);
    state.put_provider(operator, Some(provider))?;
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
    node_key: PublicKey,
    moniker: &str,
    bond: Watt,
) -> Result<(), TxError> {
    check_moniker(moniker)?;
    state.check_node_key(NodeRole::Provider, node_key, operator)?;
    let bond_required = state.bond_required();
    match state.providers.get(&operator) {
        Some(provider) if provider.is_leaving() => Err(TxError::ProviderLeaving { operator }),
        Some(_) => Ok(()),
        None => {
            let max = state.params().unbonded_providers_max;
            if bond < bond_required && state.market.get().unbonded_providers >= max {
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

/// Adds to the signer's bond.
pub(crate) fn bond(state: &mut State, context: &mut Context, amount: Watt) -> Result<(), TxError> {
    if amount.is_zero() {
        return Err(TxError::Zero { what: "the bond" });
    }
    let operator = context.sender;
    let mut provider = state.active_provider(operator)?;
    state.pay(operator, Module::Bonds.address(), amount)?;
    state.raise_bond(&mut provider, amount)?;
    let bond = provider.bond;
    state.put_provider(operator, Some(provider))?;
    context.events.push(Event::ProviderBonded { operator, amount, bond });
    Ok(())
}

/// Begins to leave.
pub(crate) fn unbond(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    let operator = context.sender;
    let mut provider = state.active_provider(operator)?;
    let matures_at = context.time.plus_ms(state.params().unbonding_ms);
    provider.stage = Stage::Unbonding { matures_at };
    state.put_provider(operator, Some(provider))?;
    context.events.push(Event::ProviderLeaving { operator, matures_at, idle: false });
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
            Stage::Active => expire(state, context, operator, provider)?,
            Stage::Unbonding { .. } | Stage::Left => mature(state, context, operator, provider)?,
        }
    }
    Ok(())
}

/// An unbonded provider had no income for too long. What was withheld so far waits as long as any
/// other bond; without a bond there is nothing to wait for.
fn expire(
    state: &mut State,
    context: &mut Context,
    operator: Address,
    mut provider: Provider,
) -> Result<(), TxError> {
    let wait_ms = if provider.bond.is_zero() { 0 } else { state.params().unbonding_ms };
    let matures_at = context.time.plus_ms(wait_ms);
    provider.stage = Stage::Unbonding { matures_at };
    state.put_provider(operator, Some(provider))?;
    context.events.push(Event::ProviderLeaving { operator, matures_at, idle: true });
    Ok(())
}

/// The unbonding time is over: owed fees are taken from the bond and the rest is paid back.
fn mature(
    state: &mut State,
    context: &mut Context,
    operator: Address,
    mut provider: Provider,
) -> Result<(), TxError> {
    let bond = state.collect_fee_debt(context, operator, Module::Bonds, provider.bond)?;
    state.pay(Module::Bonds.address(), operator, bond)?;
    provider.bond = Watt::ZERO;
    provider.stage = Stage::Left;
    context.events.push(Event::ProviderUnbonded { operator, bond });
    state.put_or_remove_provider(context, operator, provider)
}

impl State {
    /// The full bond at the price in force.
    pub fn bond_required(&self) -> Watt {
        let bond = self.params().provider_bond;
        Watt::worth(bond, self.price(), Rounding::Up).unwrap_or(Watt(u128::MAX))
    }

    /// The entry of a provider that is not leaving.
    pub(crate) fn active_provider(&self, operator: Address) -> Result<Provider, TxError> {
        match self.providers.get(&operator) {
            None => Err(TxError::ProviderUnknown { operator }),
            Some(provider) if provider.is_leaving() => Err(TxError::ProviderLeaving { operator }),
            Some(provider) => Ok(provider.clone()),
        }
    }

    /// Counts `amount`, which is in the bonds account already, to the provider's bond.
    pub(crate) fn raise_bond(&self, provider: &mut Provider, amount: Watt) -> Result<(), TxError> {
        provider.bond = add(provider.bond, amount, "the bond")?;
        provider.bonded |= provider.bond >= self.bond_required();
        Ok(())
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
        self.put_or_remove_provider(context, operator, provider)
    }

    /// Writes the entry, or removes it if it left and its last channel is closed.
    fn put_or_remove_provider(
        &mut self,
        context: &mut Context,
        operator: Address,
        provider: Provider,
    ) -> Result<(), TxError> {
        let gone = provider.stage == Stage::Left && provider.channels_open == 0;
        if gone {
            context.events.push(Event::ProviderRemoved { operator });
        }
        self.put_provider(operator, (!gone).then_some(provider))
    }

    /// Writes or removes an entry together with all that is derived from it: the node key index,
    /// the queue of due times and the count of unbonded providers.
    pub(crate) fn put_provider(
        &mut self,
        operator: Address,
        after: Option<Provider>,
    ) -> Result<(), TxError> {
        let idle_ms = self.params().provider_idle_ms;
        let before = self.providers.get(&operator).cloned();
        let was_unbonded = before.as_ref().is_some_and(Provider::is_unbonded);
        let is_unbonded = after.as_ref().is_some_and(Provider::is_unbonded);
        if let Some(before) = before {
            self.node_keys.remove(&(NodeRole::Provider, before.node_key));
            if let Some(time) = before.due(idle_ms) {
                self.due.remove(&(time, operator));
            }
        }
        match after {
            Some(after) => {
                self.node_keys.insert((NodeRole::Provider, after.node_key), operator);
                if let Some(time) = after.due(idle_ms) {
                    self.due.insert((time, operator), ());
                }
                self.providers.insert(operator, after);
            }
            None => self.providers.remove(&operator),
        }
        self.count_unbonded(was_unbonded, is_unbonded)
    }

    fn count_unbonded(&mut self, was: bool, is: bool) -> Result<(), TxError> {
        let market = *self.market.get();
        let count = market.unbonded_providers;
        let unbonded_providers = match (was, is) {
            (false, true) => count.checked_add(1),
            (true, false) => count.checked_sub(1),
            (true, true) | (false, false) => return Ok(()),
        };
        let unbonded_providers =
            unbonded_providers.ok_or(TxError::Overflow { what: "the number of providers" })?;
        self.market.set(Market { unbonded_providers, ..market });
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
