//! Redemption of vouchers, and its settlement after the audit window (ECONOMICS E1, E2, E5a).
//!
//! A redemption claims: the credits leave the channel and wait, so that an audit that ends badly for
//! the provider still finds them. Once the window is over they are settled by the policy in force:
//! burned, paid for in WATT, and the payment is split. Planned first, then executed: the plan of a
//! redemption checks every claim and changes nothing, so that the mempool can ask whether it would
//! pay its own fee.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Address, ChannelId, Lane, Nusd, Rounding, TimeMs, Watt,
    amount::mul_div,
    limits::{LANES_MAX, VOUCHERS_PER_REDEEM_MAX},
    params::CreditPolicy,
    split::{Parts, Split},
    state::{Channel, Stage},
    tx::VoucherClaim,
};

use crate::{
    audit::{self, Disposition},
    bank::{Burn, Mint, Module, add, add_credits},
    error::TxError,
    event::{Event, Settled},
    execute::Context,
    state::State,
};

/// Settlements of one block; the rest follows in the next block.
pub(crate) const SETTLEMENTS_PER_BLOCK_MAX: usize = 1_000;

/// Claims of one channel that are settled together.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Pending {
    pub credits: Nusd,
    /// The split in force when they were claimed.
    pub split: Split,
}

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
}

/// The receiver claims what vouchers promise.
pub(crate) fn redeem(
    state: &mut State,
    context: &mut Context,
    claims: &[VoucherClaim],
) -> Result<(), TxError> {
    let plan = plan(state, context.sender, claims)?;
    let total = plan.credits();
    if total.is_zero() {
        return Ok(());
    }
    let receiver = context.sender;
    let Some(mut provider) = state.providers.get(&receiver).cloned() else {
        return Err(TxError::ProviderUnknown { operator: receiver });
    };
    provider.pending = add_credits(provider.pending, total, "the provider's pending claims")?;
    provider.heartbeats = provider.heartbeats.seen(state.heartbeat_period(context.time));
    state.put_provider(receiver, Some(provider))?;
    let mut credit = *state.credit.get();
    credit.pending = add_credits(credit.pending, total, "the pending claims")?;
    state.credit.set(credit);
    let settles_at = context.time.plus_ms(state.params().channels.holdback_ms);
    let split = state.params().split;
    for (id, claimed) in plan.channels {
        let Claimed { mut channel, lanes, credits } = claimed;
        if credits.is_zero() {
            continue;
        }
        let payer = channel.terms.payer;
        channel.claimed = add_credits(channel.claimed, credits, "the channel's claimed total")?;
        state.channels.insert(id, channel);
        for (lane, total) in lanes {
            state.lanes.insert((id, lane), total);
        }
        let waiting = state.pending.get(&(settles_at, id)).map_or(Nusd::ZERO, |it| it.credits);
        let waiting = add_credits(waiting, credits, "the channel's pending claims")?;
        let pending = Pending { credits: waiting, split };
        state.put_pending((settles_at, id), receiver, Some(pending));
        context.events.push(Event::ChannelClaimed {
            channel: id,
            payer,
            receiver,
            credits,
            settles_at,
        });
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
            claimed.credits = add_credits(claimed.credits, delta, "the sum of the claims")?;
            claimed.lanes.insert(lane, claim.total);
        }
    }
    for (id, claimed) in &channels {
        let balance = claimed.channel.balance();
        if claimed.credits > balance {
            return Err(TxError::ChannelShort { channel: *id, needed: claimed.credits, balance });
        }
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
    pub(crate) fn credits(&self) -> Nusd {
        self.channels.values().map(|claimed| claimed.credits).sum()
    }
}

impl State {
    /// Claims that wait for their settlement, by when.
    pub fn pending(&self) -> impl Iterator<Item = (TimeMs, ChannelId, &Pending)> {
        self.pending.iter().map(|((time, channel), pending)| (*time, *channel, pending))
    }

    /// Writes or removes what waits, with its place among the receiver's claims.
    pub(crate) fn put_pending(
        &mut self,
        key: (TimeMs, ChannelId),
        receiver: Address,
        after: Option<Pending>,
    ) {
        let (settles_at, channel) = key;
        match after {
            Some(after) => {
                self.pending.insert(key, after);
                self.claims.insert((receiver, settles_at, channel), ());
            }
            None => {
                self.pending.remove(&key);
                self.claims.remove(&(receiver, settles_at, channel));
            }
        }
    }

    /// What credits bring under P1, at the last price, however old that is.
    fn split_value(&self, credits: Nusd) -> Option<Watt> {
        let share = self.vault_share(credits)?;
        Some(share.min(Watt::worth(credits, self.price(), Rounding::Down)?))
    }

    /// All credits that were claimed and are held back.
    pub fn pending_credits(&self) -> Nusd {
        self.credit.get().pending
    }

    /// What a provider's pending claims and `more` of them will bring it, by what is known now.
    pub(crate) fn expected_income(
        &self,
        operator: &Address,
        more: Nusd,
        time: TimeMs,
    ) -> Result<Watt, TxError> {
        let pending = self.providers.get(operator).map_or(Nusd::ZERO, |provider| provider.pending);
        let credits = pending.saturating_add(more);
        let watt = match self.params().credits.policy {
            CreditPolicy::Vault => Watt::worth(credits, self.fresh_price(time)?, Rounding::Down),
            CreditPolicy::Split => self.split_value(credits),
            // What an epoch will pay nobody knows.
            CreditPolicy::Emission => Some(Watt::ZERO),
        };
        let watt = watt.ok_or(TxError::Overflow { what: "the expected income" })?;
        Ok(self.params().split.distribute(watt).provider)
    }
}

/// One pending entry that is due, and what it is worth.
struct Due {
    key: (TimeMs, ChannelId),
    pending: Pending,
    watt: Watt,
}

/// At the end of a block: settles what has waited long enough and is not in doubt.
pub(crate) fn end_block(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    set_aside(state, context)?;
    match state.params().credits.policy {
        CreditPolicy::Vault => settle_from_vault(state, context),
        CreditPolicy::Split => settle_shares(state, context),
        CreditPolicy::Emission => settle_as_work(state, context),
    }
}

fn due(state: &State, time: TimeMs) -> Vec<((TimeMs, ChannelId), Pending)> {
    state
        .pending
        .iter()
        .take_while(|((settles_at, _), _)| *settles_at <= time)
        .take(SETTLEMENTS_PER_BLOCK_MAX)
        .map(|(key, pending)| (*key, pending.clone()))
        .collect()
}

/// Of what is due, what audits have put in doubt goes back to its payers, or waits on at a later time, where it
/// stands in nobody's way.
fn set_aside(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    for (key, pending) in due(state, context.time) {
        let (settles_at, id) = key;
        let Some(channel) = state.channels.get(&id) else { continue };
        let receiver = channel.terms.receiver;
        match audit::disposition(state, &receiver, settles_at, context.time) {
            Disposition::Settle => {}
            Disposition::Refund => refund_claim(state, context, key)?,
            Disposition::Hold(settles_at) => {
                let later = state.pending.get(&(settles_at, id)).map(|it| it.credits);
                let both = later.unwrap_or_default();
                let credits = add_credits(both, pending.credits, "the pending claims")?;
                state.put_pending(key, receiver, None);
                let held = Pending { credits, ..pending };
                state.put_pending((settles_at, id), receiver, Some(held));
                let credits = pending.credits;
                let held = Event::ClaimHeld { channel: id, receiver, credits, settles_at };
                context.events.push(held);
            }
        }
    }
    Ok(())
}

/// P3: what the credits are worth, from the vault first, then minted. What the reserve does not
/// cover is paid pro rata; the rest of each claim waits on. Without a fresh price all wait. What
/// the division leaves goes to the oldest claims, a unit each, so that a short vault gets empty and
/// the ledger has nothing to do until somebody pays into it.
fn settle_from_vault(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    let due = due(state, context.time);
    if due.is_empty() {
        return Ok(());
    }
    let Ok(price) = state.fresh_price(context.time) else { return Ok(()) };
    let overflow = || TxError::Overflow { what: "the settlement" };
    let mut entries = Vec::with_capacity(due.len());
    let mut total = Watt::ZERO;
    for (key, pending) in due {
        let watt = Watt::worth(pending.credits, price, Rounding::Down).ok_or_else(overflow)?;
        total = add(total, watt, "the settlements")?;
        entries.push(Due { key, pending, watt });
    }
    let room = state.mint_room(Mint::Settlement);
    let available = state.module_balance(Module::Vault).saturating_add(room);
    if total <= available {
        for Due { key, pending, watt } in entries {
            let credits = pending.credits;
            settle(state, context, key, pending, credits, watt)?;
        }
        return Ok(());
    }
    let mut parts = Vec::with_capacity(entries.len());
    let mut left = available;
    for Due { watt, .. } in &entries {
        let part = mul_div(watt.0, available.0, total.0, Rounding::Down).map(Watt);
        let part = part.ok_or_else(overflow)?;
        left = left.saturating_sub(part);
        parts.push(part);
    }
    for (Due { key, pending, watt }, part) in entries.into_iter().zip(parts) {
        let more = left.min(Watt(1)).min(watt.saturating_sub(part));
        left = left.saturating_sub(more);
        let part = part.saturating_add(more);
        // Up: what is paid never exceeds what is burned for it.
        let credits = Nusd::worth(part, price, Rounding::Up).ok_or_else(overflow)?;
        let credits = credits.min(pending.credits);
        if !part.is_zero() {
            settle(state, context, key, pending, credits, part)?;
        }
    }
    Ok(())
}

/// P1: the credits' share of the vault, and no more than they are worth: whoever buys at a high price
/// has more credits for its WATT than those who came before, and would take a part of theirs.
fn settle_shares(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    for (key, pending) in due(state, context.time) {
        let watt = state.split_value(pending.credits);
        let watt = watt.ok_or(TxError::Overflow { what: "the settlement" })?;
        let credits = pending.credits;
        settle(state, context, key, pending, credits, watt)?;
    }
    Ok(())
}

/// P2: the credits are burned and count as work of the epoch.
fn settle_as_work(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    for (key, pending) in due(state, context.time) {
        let credits = pending.credits;
        let channel = burn_claim(state, key, pending, credits)?;
        let receiver = channel.terms.receiver;
        state.count_work(receiver, credits, context.time)?;
        context.events.push(Event::ChannelWorked { channel: key.1, receiver, credits });
        state.remove_if_gone(context, receiver)?;
    }
    Ok(())
}

/// Burns `credits` of a pending entry and pays `watt` for them.
fn settle(
    state: &mut State,
    context: &mut Context,
    key: (TimeMs, ChannelId),
    pending: Pending,
    credits: Nusd,
    watt: Watt,
) -> Result<(), TxError> {
    let split = pending.split;
    let channel = burn_claim(state, key, pending, credits)?;
    let (payer, receiver) = (channel.terms.payer, channel.terms.receiver);
    let minted = fill_vault(state, watt)?;
    let (parts, withheld) = pay_parts(state, context, receiver, &split, watt)?;
    context.events.push(Event::ChannelSettled(Settled {
        channel: key.1,
        payer,
        receiver,
        credits,
        watt,
        parts,
        withheld,
        minted,
    }));
    state.remove_if_gone(context, receiver)
}

/// Takes `credits` out of a pending entry and out of the world. Returns the channel.
fn burn_claim(
    state: &mut State,
    key: (TimeMs, ChannelId),
    pending: Pending,
    credits: Nusd,
) -> Result<Channel, TxError> {
    let mut channel = take_claim(state, key, pending, credits)?;
    channel.settled = add_credits(channel.settled, credits, "the channel's settled total")?;
    state.channels.insert(key.1, channel.clone());
    let mut supply = *state.supply();
    let overflow = TxError::Overflow { what: "the settled credits" };
    supply.credits_settled = add_credits(supply.credits_settled, credits, "the settled credits")?;
    supply.credits_outstanding = supply.credits_outstanding.checked_sub(credits).ok_or(overflow)?;
    state.supply.set(supply);
    Ok(channel)
}

/// Gives a whole pending entry back to who pays into the channel.
pub(crate) fn refund_claim(
    state: &mut State,
    context: &mut Context,
    key: (TimeMs, ChannelId),
) -> Result<(), TxError> {
    let Some(pending) = state.pending.get(&key).cloned() else { return Ok(()) };
    let (id, credits) = (key.1, pending.credits);
    let mut channel = take_claim(state, key, pending, credits)?;
    channel.refunded = add_credits(channel.refunded, credits, "the channel's refunded total")?;
    let (payer, receiver) = (channel.terms.payer, channel.terms.receiver);
    state.channels.insert(id, channel);
    let mut supply = *state.supply();
    supply.claims_refunded = add_credits(supply.claims_refunded, credits, "the refunded claims")?;
    state.supply.set(supply);
    state.give_credits(payer, credits)?;
    context.events.push(Event::ClaimRefunded { channel: id, payer, receiver, credits });
    state.remove_if_gone(context, receiver)
}

/// Takes `credits` out of a pending entry and of what counts pending claims. Returns the channel as it was.
fn take_claim(
    state: &mut State,
    key: (TimeMs, ChannelId),
    mut pending: Pending,
    credits: Nusd,
) -> Result<Channel, TxError> {
    let overflow = TxError::Overflow { what: "the pending claims" };
    let Some(channel) = state.channels.get(&key.1).cloned() else {
        return Err(TxError::ChannelUnknown { channel: key.1 });
    };
    let receiver = channel.terms.receiver;
    pending.credits = pending.credits.checked_sub(credits).ok_or(overflow.clone())?;
    let rest = (!pending.credits.is_zero()).then_some(pending);
    state.put_pending(key, receiver, rest);
    let Some(mut provider) = state.providers.get(&receiver).cloned() else {
        return Err(TxError::ProviderUnknown { operator: receiver });
    };
    provider.pending = provider.pending.checked_sub(credits).ok_or(overflow.clone())?;
    state.put_provider(receiver, Some(provider))?;
    let mut credit = *state.credit.get();
    credit.pending = credit.pending.checked_sub(credits).ok_or(overflow)?;
    state.credit.set(credit);
    Ok(channel)
}

/// Takes `watt` from what the vault holds and mints the shortfall into it. Returns what was minted.
fn fill_vault(state: &mut State, watt: Watt) -> Result<Watt, TxError> {
    let used = watt.min(state.module_balance(Module::Vault));
    let mut supply = *state.supply();
    supply.vault_out = add(supply.vault_out, used, "the vault's expense")?;
    state.supply.set(supply);
    let shortfall = watt.saturating_sub(used);
    state.mint(Mint::Settlement, Module::Vault, shortfall)?;
    Ok(shortfall)
}

/// Splits `watt`, which are in the vault, for work of `operator`. Returns the parts and what of the
/// provider's went into its bond.
pub(crate) fn pay_parts(
    state: &mut State,
    context: &mut Context,
    operator: Address,
    split: &Split,
    watt: Watt,
) -> Result<(Parts, Watt), TxError> {
    let parts = split.distribute(watt);
    let vault = Module::Vault.address();
    state.pay(vault, Module::Stakers.address(), parts.stakers)?;
    state.pay(vault, Module::Treasury.address(), parts.treasury)?;
    state.burn(Burn::Split, Module::Vault, parts.burn)?;
    let withheld = pay_provider(state, context, operator, parts.provider)?;
    Ok((parts, withheld))
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
    provider.earned = add(provider.earned, part, "the provider's earnings")?;
    provider.active_at = context.time;
    let period = state.heartbeat_period(context.time);
    provider.heartbeats = provider.heartbeats.seen(period);
    let missing = match provider.stage {
        Stage::Active => {
            let required = state.bond_required(provider.pending);
            required.saturating_sub(state.bond_of(&operator))
        }
        // Its bond is on the way back, or was paid back: nobody would pay this one back.
        Stage::Unbonding { .. } | Stage::Left => Watt::ZERO,
    };
    state.put_provider(operator, Some(provider))?;
    let income = state.collect_fee_debt(context, operator, Module::Vault, part)?;
    // Up, because the provider chooses how often it redeems.
    let share = Watt(state.params().providers.withhold.of(income.0, Rounding::Up));
    let withheld = share.min(missing);
    let withheld = state.add_to_bond(context, operator, withheld)?;
    state.pay_income(context, operator, income.saturating_sub(withheld))?;
    Ok(withheld)
}
