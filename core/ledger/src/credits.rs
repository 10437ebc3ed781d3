//! Credits: bought for WATT, refunded for WATT after a delay, and the breaker that stops purchases
//! when the vault no longer covers what is outstanding (ECONOMICS E1).
//!
//! Both directions of a purchase are one fraction with one rounding against the buyer, so neither
//! form is better than the other and splitting one never pays. Purchases are made at the lower, and
//! refunds at the higher one of the price and its time-weighted average, so a lagging price cannot
//! be exploited in either direction.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Address, Height, Nusd, Ppm, Rounding, TimeMs, Watt,
    amount::{UNIT, mul_div},
    params::CreditPolicy,
    tx::CreditPurchase,
};

use crate::{
    bank::{Burn, Module, add, add_credits},
    error::TxError,
    event::Event,
    execute::Context,
    oracle::PriceRange,
    state::State,
};

/// Refunds that one block pays; the rest follows in the next block.
pub(crate) const REFUNDS_PER_BLOCK_MAX: usize = 1_000;

/// Single values around credits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Credit {
    pub(crate) breaker: Breaker,
    /// The block that last issued credits, and how many it has issued so far.
    pub(crate) issued_at: Height,
    pub(crate) issued: Nusd,
    /// Credits in [`State::refunds`] and [`State::arrears`], of them those in arrears, and the number
    /// of the next refund.
    pub(crate) refunding: Nusd,
    pub(crate) arrears: Nusd,
    pub(crate) refund_next: u64,
    /// Credits in [`State::pending`].
    pub(crate) pending: Nusd,
    /// Active providers whose bond was never full.
    pub(crate) unbonded_providers: u32,
}

/// Whether credits may be bought.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub enum Breaker {
    #[default]
    Closed,
    /// The vault covers less than the warning ratio.
    Warned,
    /// No purchases; at the earliest until the time of the parameters has passed.
    Paused { since: TimeMs },
}

impl Breaker {
    pub fn name(self) -> &'static str {
        match self {
            Breaker::Closed => "closed",
            Breaker::Warned => "warned",
            Breaker::Paused { .. } => "paused",
        }
    }
}

/// Credits on their way back into WATT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Refund {
    pub owner: Address,
    pub credits: Nusd,
}

/// Pays WATT and receives credits.
pub(crate) fn buy(
    state: &mut State,
    context: &mut Context,
    purchase: CreditPurchase,
) -> Result<(), TxError> {
    if let Breaker::Paused { since } = state.credit.get().breaker {
        let until = since.plus_ms(state.params().credits.pause_ms);
        return Err(TxError::PurchasesPaused { until });
    }
    let nusd_per_watt = state.price_range(context.time)?.low;
    let (watt, credits) = quote(state, purchase, nusd_per_watt)?;
    state.count_issued(context.height, credits)?;
    state.pay(context.sender, Module::Vault.address(), watt)?;
    state.give_credits(context.sender, credits)?;
    let mut supply = *state.supply();
    supply.credits_issued = add_credits(supply.credits_issued, credits, "the issued credits")?;
    supply.credits_outstanding =
        add_credits(supply.credits_outstanding, credits, "the credits outstanding")?;
    match state.params().credits.policy {
        CreditPolicy::Split | CreditPolicy::Vault => {
            supply.vault_in = add(supply.vault_in, watt, "the vault's income")?;
            state.supply.set(supply);
        }
        CreditPolicy::Emission => {
            state.supply.set(supply);
            state.burn(Burn::Purchase, Module::Vault, watt)?;
            state.count_purchase(watt)?;
        }
    }
    context.events.push(Event::CreditsBought {
        buyer: context.sender,
        watt,
        credits,
        nusd_per_watt,
    });
    Ok(())
}

/// What a purchase would cost now; nothing if there is no price, for then it fails.
pub(crate) fn price_of(state: &State, purchase: CreditPurchase) -> Watt {
    let quoted = state.price_range(state.time());
    let quoted = quoted.and_then(|range| quote(state, purchase, range.low));
    quoted.map_or(Watt::ZERO, |(watt, _)| watt)
}

/// What a purchase costs and what it brings, both above zero.
fn quote(
    state: &State,
    purchase: CreditPurchase,
    nusd_per_watt: Nusd,
) -> Result<(Watt, Nusd), TxError> {
    const ONE_PPM: u128 = 1_000_000;
    let kept = u128::from(state.params().credits.spread.get());
    // credits = watt · price · (1 − spread) / 10⁹, over a denominator without fractions.
    let numerator = nusd_per_watt.0.saturating_mul(ONE_PPM.saturating_sub(kept));
    let denominator = UNIT.saturating_mul(ONE_PPM);
    let overflow = TxError::Overflow { what: "the purchase" };
    match purchase {
        CreditPurchase::Pay { watt } => {
            if watt.is_zero() {
                return Err(TxError::Zero { what: "the payment" });
            }
            let credits =
                mul_div(watt.0, numerator, denominator, Rounding::Down).ok_or(overflow)?;
            if credits == 0 {
                return Err(TxError::NoCredits { watt, nusd_per_watt });
            }
            Ok((watt, Nusd(credits)))
        }
        CreditPurchase::Receive { credits, watt_max } => {
            if credits.is_zero() {
                return Err(TxError::Zero { what: "the amount of credits" });
            }
            let needed =
                mul_div(credits.0, denominator, numerator, Rounding::Up).ok_or(overflow)?;
            let needed = Watt(needed);
            if needed > watt_max {
                return Err(TxError::WattMax { needed, watt_max });
            }
            Ok((needed, credits))
        }
    }
}

/// Asks for WATT back.
pub(crate) fn request_refund(
    state: &mut State,
    context: &mut Context,
    credits: Nusd,
) -> Result<(), TxError> {
    let params = &state.params().credits;
    if !params.refunds || params.policy == CreditPolicy::Emission {
        return Err(TxError::NoRefunds);
    }
    if credits.is_zero() {
        return Err(TxError::Zero { what: "the amount of credits" });
    }
    let due_at = context.time.plus_ms(params.refund_delay_ms);
    let owner = context.sender;
    state.take_credits(owner, credits)?;
    let mut credit = *state.credit.get();
    let number = credit.refund_next;
    credit.refund_next = number.saturating_add(1);
    credit.refunding = add_credits(credit.refunding, credits, "the refunds")?;
    state.credit.set(credit);
    state.refunds.insert((due_at, number), Refund { owner, credits });
    context.events.push(Event::RefundRequested { owner, credits, due_at });
    Ok(())
}

/// At the end of a block: pays the refunds that are due. They wait while there is no fresh price.
pub(crate) fn end_block(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    pay_refunds(state, context)?;
    move_breaker(state, context);
    Ok(())
}

fn pay_refunds(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    let Ok(prices) = state.price_range(context.time) else { return Ok(()) };
    for _ in 0..REFUNDS_PER_BLOCK_MAX {
        let Some((&key, &refund)) = state.refunds.first() else { break };
        // From an empty vault nobody is paid, and nobody loses a claim on what comes into it later.
        if key.0 > context.time || state.module_balance(Module::Vault).is_zero() {
            break;
        }
        state.refunds.remove(&key);
        let paid = plan_refund(state, refund.credits, prices.high)?;
        pay_refund(state, context, refund.owner, paid)?;
        let credits = refund.credits.saturating_sub(paid.credits);
        if !credits.is_zero() {
            let Refund { owner, .. } = refund;
            state.put_arrears(key.1, Some(Refund { owner, credits }))?;
            context.events.push(Event::RefundDeferred { owner, credits });
        }
    }
    pay_arrears(state, context, prices)
}

/// What a refund brings now, and the credits that are destroyed for it.
#[derive(Clone, Copy, Debug)]
struct Paid {
    watt: Watt,
    credits: Nusd,
}

impl Paid {
    /// `watt`, which is less than a whole refund of `credits` at `price` is worth. Up: what is paid
    /// never exceeds what is destroyed for it.
    fn part(watt: Watt, credits: Nusd, price: Nusd) -> Option<Paid> {
        let worth = Nusd::worth(watt, price, Rounding::Up)?;
        Some(Paid { watt, credits: worth.min(credits) })
    }
}

/// What credits are worth at `price`, but never more than their share of the vault: whoever leaves
/// first in a run takes nothing from those who stay. Under P3 they are a claim on their full worth, so
/// what the share does not pay is in arrears; under P1 they are that share and nothing else.
fn plan_refund(state: &State, credits: Nusd, price: Nusd) -> Result<Paid, TxError> {
    let overflow = || TxError::Overflow { what: "the refund" };
    let worth = Watt::worth(credits, price, Rounding::Down).ok_or_else(overflow)?;
    let share = state.vault_share(credits).ok_or_else(overflow)?;
    if worth <= share {
        return Ok(Paid { watt: worth, credits });
    }
    match state.params().credits.policy {
        CreditPolicy::Split | CreditPolicy::Emission => Ok(Paid { watt: share, credits }),
        CreditPolicy::Vault => Paid::part(share, credits, price).ok_or_else(overflow),
    }
}

/// Pays what is in arrears, the oldest first, out of what the vault holds beyond the worth of all other
/// credits.
fn pay_arrears(
    state: &mut State,
    context: &mut Context,
    prices: PriceRange,
) -> Result<(), TxError> {
    let overflow = || TxError::Overflow { what: "the refund" };
    for _ in 0..REFUNDS_PER_BLOCK_MAX {
        let Some((&number, &Refund { owner, credits })) = state.arrears.first() else { break };
        let surplus = state.vault_surplus(prices.low);
        if surplus.is_zero() {
            break;
        }
        let worth = Watt::worth(credits, prices.high, Rounding::Down).ok_or_else(overflow)?;
        let paid = if worth <= surplus {
            Paid { watt: worth, credits }
        } else {
            Paid::part(surplus, credits, prices.high).ok_or_else(overflow)?
        };
        let credits = credits.saturating_sub(paid.credits);
        let rest = (!credits.is_zero()).then_some(Refund { owner, credits });
        state.put_arrears(number, rest)?;
        pay_refund(state, context, owner, paid)?;
    }
    Ok(())
}

/// Pays out of the vault and destroys credits that are being refunded.
fn pay_refund(
    state: &mut State,
    context: &mut Context,
    owner: Address,
    paid: Paid,
) -> Result<(), TxError> {
    let Paid { watt, credits } = paid;
    if credits.is_zero() {
        return Ok(());
    }
    state.pay(Module::Vault.address(), owner, watt)?;
    let mut credit = *state.credit.get();
    credit.refunding = credit.refunding.saturating_sub(credits);
    state.credit.set(credit);
    let mut supply = *state.supply();
    supply.vault_out = add(supply.vault_out, watt, "the vault's expense")?;
    supply.credits_refunded =
        add_credits(supply.credits_refunded, credits, "the refunded credits")?;
    supply.credits_outstanding = supply.credits_outstanding.saturating_sub(credits);
    state.supply.set(supply);
    context.events.push(Event::CreditsRefunded { owner, credits, watt });
    Ok(())
}

/// At the end of a block: compares the vault with what is outstanding.
fn move_breaker(state: &mut State, context: &mut Context) {
    let params = &state.params().credits;
    if params.policy != CreditPolicy::Vault {
        return;
    }
    let Ok(prices) = state.price_range(context.time) else { return };
    let mut credit = *state.credit.get();
    let before = credit.breaker;
    let covers = |ratio: Ppm| state.vault_covers(ratio, prices.spot);
    let after = match before {
        Breaker::Paused { since } => {
            let over = context.time >= since.plus_ms(params.pause_ms);
            if !over || !covers(params.resume_ratio) {
                before
            } else if covers(params.warn_ratio) {
                Breaker::Closed
            } else {
                Breaker::Warned
            }
        }
        Breaker::Closed | Breaker::Warned => {
            if !covers(params.pause_ratio) {
                Breaker::Paused { since: context.time }
            } else if covers(params.warn_ratio) {
                Breaker::Closed
            } else {
                Breaker::Warned
            }
        }
    };
    if after == before {
        return;
    }
    credit.breaker = after;
    state.credit.set(credit);
    context.events.push(Event::BreakerMoved { before, after });
}

impl State {
    /// Whether credits may be bought.
    pub fn breaker(&self) -> Breaker {
        self.credit.get().breaker
    }

    /// Refunds that wait, by due time.
    pub fn refunds(&self) -> impl Iterator<Item = (TimeMs, &Refund)> {
        self.refunds.iter().map(|((due_at, _), refund)| (*due_at, refund))
    }

    /// What refunds were not paid in full because the vault was short, by number.
    pub fn arrears(&self) -> impl Iterator<Item = (u64, &Refund)> {
        self.arrears.iter().map(|(number, refund)| (*number, refund))
    }

    /// Writes or removes what one refund has in arrears, and its place in the sum.
    fn put_arrears(&mut self, number: u64, after: Option<Refund>) -> Result<(), TxError> {
        let credits = |refund: Option<&Refund>| refund.map_or(Nusd::ZERO, |refund| refund.credits);
        let mut credit = *self.credit.get();
        let others = credit.arrears.saturating_sub(credits(self.arrears.get(&number)));
        credit.arrears = add_credits(others, credits(after.as_ref()), "the refunds in arrears")?;
        self.credit.set(credit);
        match after {
            Some(after) => self.arrears.insert(number, after),
            None => self.arrears.remove(&number),
        }
        Ok(())
    }

    /// Outstanding credits that had no share of the vault yet: all but those in arrears.
    fn credits_with_share(&self) -> Nusd {
        self.supply().credits_outstanding.saturating_sub(self.credit.get().arrears)
    }

    /// The share of the vault that belongs to these credits, rounded down.
    pub(crate) fn vault_share(&self, credits: Nusd) -> Option<Watt> {
        let vault = self.module_balance(Module::Vault);
        mul_div(credits.0, vault.0, self.credits_with_share().0, Rounding::Down).map(Watt)
    }

    /// What the vault holds beyond the worth of all credits that are not in arrears.
    fn vault_surplus(&self, price: Nusd) -> Watt {
        let worth = Watt::worth(self.credits_with_share(), price, Rounding::Up);
        self.module_balance(Module::Vault).saturating_sub(worth.unwrap_or(Watt(u128::MAX)))
    }

    /// Whether the end of a block can pay something that is in arrears.
    pub(crate) fn can_pay_arrears(&self) -> bool {
        let Ok(prices) = self.price_range(self.time()) else { return false };
        self.arrears.first().is_some() && !self.vault_surplus(prices.low).is_zero()
    }

    /// Whether the vault at this price is worth at least `ratio` of the credits outstanding.
    fn vault_covers(&self, ratio: Ppm, price: Nusd) -> bool {
        let vault = self.module_balance(Module::Vault);
        let worth = Nusd::worth(vault, price, Rounding::Down).unwrap_or(Nusd(u128::MAX));
        worth.0 >= ratio.of(self.supply().credits_outstanding.0, Rounding::Up)
    }

    fn count_issued(&mut self, height: Height, credits: Nusd) -> Result<(), TxError> {
        let mut credit = *self.credit.get();
        let before = if credit.issued_at == height { credit.issued } else { Nusd::ZERO };
        let max = self.params().credits.issue_block_max;
        let issued = add_credits(before, credits, "the credits of a block")?;
        if issued > max {
            return Err(TxError::IssueBlockMax { left: max.saturating_sub(before) });
        }
        credit.issued_at = height;
        credit.issued = issued;
        self.credit.set(credit);
        Ok(())
    }
}
