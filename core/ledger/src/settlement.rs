//! Redemption of vouchers and its settlement (ECONOMICS E1 policy P3, E2): credits are burned, WATT
//! are paid from the vault, what it lacks is minted, and the payment is split.
//!
//! Planned first, then executed: the plan checks every claim and changes nothing, so that the
//! mempool can ask whether a redemption would pay its own fee.

use std::collections::BTreeMap;

use types::{
    Address, ChannelId, Lane, Nusd, Rounding, Watt,
    limits::{LANES_MAX, VOUCHERS_PER_REDEEM_MAX},
    tx::VoucherClaim,
};

use crate::{
    bank::{Module, add},
    channel::Channel,
    error::TxError,
    event::{Event, Redeemed},
    execute::Context,
    provider::Stage,
    state::State,
};

/// What a redemption does to each channel in it.
#[derive(Debug)]
pub(crate) struct Plan {
    channels: BTreeMap<ChannelId, Claimed>,
}

/// What a redemption does to one channel.
#[derive(Debug)]
struct Claimed {
    channel: Channel,
    /// New totals of the lanes that grow.
    lanes: BTreeMap<Lane, Nusd>,
    /// What all lanes together add; within the channel's balance.
    credits: Nusd,
    /// What that is worth at the price in force, rounded down.
    watt: Watt,
}

/// The receiver claims what vouchers promise.
pub(crate) fn redeem(
    state: &mut State,
    context: &mut Context,
    claims: &[VoucherClaim],
) -> Result<(), TxError> {
    let Plan { channels } = plan(state, context.sender, claims)?;
    for (id, claimed) in channels {
        if !claimed.credits.is_zero() {
            settle(state, context, id, claimed)?;
        }
    }
    Ok(())
}

/// Checks every claim and adds up per channel. A claim that is not above what its lane has claimed
/// already has no effect, so sending one twice is harmless; of several claims on one lane the
/// largest counts.
pub(crate) fn plan(
    state: &State,
    sender: Address,
    claims: &[VoucherClaim],
) -> Result<Plan, TxError> {
    let (count, max) = (claims.len(), VOUCHERS_PER_REDEEM_MAX);
    if count == 0 || count > max {
        return Err(TxError::ClaimsCount { count, max });
    }
    let mut channels = BTreeMap::new();
    for claim in claims {
        let id = claim.voucher.value.channel;
        let claimed = match channels.entry(id) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Claimed {
                channel: state.channel_of_receiver(id, sender)?,
                lanes: BTreeMap::new(),
                credits: Nusd::ZERO,
                watt: Watt::ZERO,
            }),
        };
        check_claim(&claimed.channel, claim)?;
        let lane = claim.voucher.value.lane;
        let before = match claimed.lanes.get(&lane) {
            Some(total) => *total,
            None => state.lanes.get(&(id, lane)).copied().unwrap_or_default(),
        };
        if claim.total > before {
            let delta = claim.total.saturating_sub(before);
            claimed.credits = claimed
                .credits
                .checked_add(delta)
                .ok_or(TxError::Overflow { what: "the sum of the claims" })?;
            claimed.lanes.insert(lane, claim.total);
        }
    }
    for (id, claimed) in &mut channels {
        let balance = claimed.channel.balance();
        if claimed.credits > balance {
            return Err(TxError::ChannelShort { channel: *id, needed: claimed.credits, balance });
        }
        claimed.watt = Watt::worth(claimed.credits, state.price(), Rounding::Down)
            .ok_or(TxError::Overflow { what: "the settlement" })?;
    }
    Ok(Plan { channels })
}

fn check_claim(channel: &Channel, claim: &VoucherClaim) -> Result<(), TxError> {
    let voucher = &claim.voucher.value;
    let (id, lane, signer) = (voucher.channel, voucher.lane, claim.voucher.signer);
    let payer_key = channel.terms.payer_key;
    if signer != payer_key {
        return Err(TxError::VoucherSigner { channel: id, signer, payer_key });
    }
    if lane.0 >= LANES_MAX {
        let last = Lane(LANES_MAX.saturating_sub(1));
        return Err(TxError::LaneTooHigh { channel: id, lane, last });
    }
    if claim.total > voucher.total {
        let (claimed, total) = (claim.total, voucher.total);
        return Err(TxError::ClaimAboveVoucher { channel: id, lane, claimed, total });
    }
    Ok(())
}

impl Plan {
    /// What the provider's share of the whole redemption is, before owed fees and withholding.
    pub(crate) fn provider_income(&self, state: &State) -> Watt {
        let split = &state.params().split;
        self.channels.values().map(|claimed| split.distribute(claimed.watt).provider).sum()
    }
}

/// Burns one channel's claimed credits and pays for them.
fn settle(
    state: &mut State,
    context: &mut Context,
    id: ChannelId,
    claimed: Claimed,
) -> Result<(), TxError> {
    let Claimed { mut channel, lanes, credits, watt } = claimed;
    let (payer, receiver) = (channel.terms.payer, channel.terms.receiver);
    channel.claimed = channel
        .claimed
        .checked_add(credits)
        .ok_or(TxError::Overflow { what: "the channel's claimed total" })?;
    state.channels.insert(id, channel);
    for (lane, total) in lanes {
        state.lanes.insert((id, lane), total);
    }
    burn_credits(state, credits)?;
    let minted = fill_vault(state, watt)?;

    let parts = state.params().split.distribute(watt);
    let vault = Module::Vault.address();
    state.pay(vault, Module::Stakers.address(), parts.stakers)?;
    state.pay(vault, Module::Treasury.address(), parts.treasury)?;
    state.burn_by_split(parts.burn)?;
    let withheld = pay_provider(state, context, receiver, parts.provider)?;
    context.events.push(Event::ChannelRedeemed(Redeemed {
        channel: id,
        payer,
        receiver,
        credits,
        watt,
        parts,
        withheld,
        minted,
        nusd_per_watt: state.price(),
    }));
    Ok(())
}

fn burn_credits(state: &mut State, credits: Nusd) -> Result<(), TxError> {
    let mut supply = *state.supply();
    let overflow = TxError::Overflow { what: "the settled credits" };
    supply.credits_settled = supply.credits_settled.checked_add(credits).ok_or(overflow.clone())?;
    supply.credits_outstanding = supply.credits_outstanding.checked_sub(credits).ok_or(overflow)?;
    state.supply.set(supply);
    Ok(())
}

/// Takes `watt` from what the vault holds and mints the shortfall into it. Returns what was minted.
fn fill_vault(state: &mut State, watt: Watt) -> Result<Watt, TxError> {
    let used = watt.min(state.module_balance(Module::Vault));
    let mut supply = *state.supply();
    supply.vault_out = add(supply.vault_out, used, "the vault's expense")?;
    state.supply.set(supply);
    let shortfall = watt.saturating_sub(used);
    if !shortfall.is_zero() {
        state.mint_for_settlement(shortfall)?;
    }
    Ok(shortfall)
}

/// Pays a provider its part, which is in the vault: first the fees it owes, then a share into its
/// bond until that is full, the rest to its account. Returns what went into the bond.
fn pay_provider(
    state: &mut State,
    context: &mut Context,
    operator: Address,
    part: Watt,
) -> Result<Watt, TxError> {
    let Some(mut provider) = state.providers.get(&operator).cloned() else {
        return Err(TxError::ProviderUnknown { operator });
    };
    if part.is_zero() {
        return Ok(Watt::ZERO);
    }
    let income = state.collect_fee_debt(context, operator, Module::Vault, part)?;
    let missing = match provider.stage {
        Stage::Active | Stage::Unbonding { .. } => {
            state.bond_required().saturating_sub(provider.bond)
        }
        // Its bond was paid back: nobody would pay this one back.
        Stage::Left => Watt::ZERO,
    };
    // Up, because the provider chooses how often it redeems.
    let share = Watt(state.params().withhold.of(income.0, Rounding::Up));
    let withheld = share.min(missing);
    let vault = Module::Vault.address();
    state.pay(vault, Module::Bonds.address(), withheld)?;
    state.pay(vault, operator, income.saturating_sub(withheld))?;
    if provider.stage != Stage::Left {
        state.raise_bond(&mut provider, withheld)?;
    }
    provider.earned = add(provider.earned, part, "the provider's earnings")?;
    provider.active_at = context.time;
    state.put_provider(operator, Some(provider))?;
    Ok(withheld)
}
