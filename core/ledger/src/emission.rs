//! Policy P2: providers share a scheduled emission, pro rata to the credits that their work burned
//! (ECONOMICS E1; the shape is that of HIP-20's net emissions).
//!
//! Two limits keep it honest: an epoch never mints more than its schedule allows, and no provider
//! receives more than the credits that its work consumed are worth, so work that somebody buys from
//! himself cannot pay.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{Address, Nusd, Rounding, TimeMs, Watt, mul_div};

use crate::{
    bank::{Mint, Module, add, add_credits},
    error::TxError,
    event::Event,
    execute::Context,
    settlement,
    state::State,
};

/// Providers that one block pays; the rest follows in the next block.
pub(crate) const PAYOUTS_PER_BLOCK_MAX: usize = 1_000;

/// The running epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Emission {
    pub epoch: u64,
    pub started_at: TimeMs,
    /// Credits settled in it.
    pub work: Nusd,
    /// WATT burned for credits in it.
    pub burned: Watt,
    /// What earlier epochs burned and no epoch has released yet. A number, not a balance: what it
    /// allows is minted when it is released.
    pub pool: Watt,
}

/// What an epoch that is over still owes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Payout {
    /// To be shared by all its work.
    pub budget: Watt,
    pub work: Nusd,
    /// The price when it ended.
    pub nusd_per_watt: Nusd,
}

impl Emission {
    pub(crate) fn starting(time: TimeMs) -> Emission {
        Emission {
            epoch: 0,
            started_at: time,
            work: Nusd::ZERO,
            burned: Watt::ZERO,
            pool: Watt::ZERO,
        }
    }
}

/// At the end of a block: ends the epoch when its time is over, and pays what ended ones owe.
pub(crate) fn end_block(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    end_epoch(state, context)?;
    pay(state, context)
}

/// An epoch without any work does not end: there is nobody to pay, and nothing is released for it.
fn end_epoch(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    let emission = *state.emission.get();
    let params = &state.params().emission;
    let over = context.time >= emission.started_at.plus_ms(params.epoch_ms);
    if emission.work.is_zero() || !over {
        return Ok(());
    }
    let Ok(nusd_per_watt) = state.fresh_price(context.time) else { return Ok(()) };
    let halvings = emission.epoch.checked_div(params.halving_epochs).unwrap_or(0);
    let halvings = u32::try_from(halvings).unwrap_or(u32::MAX);
    let base = params.base.0.checked_shr(halvings).unwrap_or(0);
    let inflow = emission.burned.min(Watt(params.pool_inflow.of(base, Rounding::Down)));
    let pool = add(emission.pool, inflow, "the pool")?;
    let released = Watt(pool.0.checked_div(params.pool_smoothing.into()).unwrap_or(0));
    let scheduled = Watt(base).saturating_add(released);
    let owed: Watt = state.payouts.iter().map(|(_, payout)| payout.budget).sum();
    let room = state.mint_room(Mint::Emission).saturating_sub(owed);
    let budget = scheduled.min(room);
    let payout = Payout { budget, work: emission.work, nusd_per_watt };
    state.payouts.insert(emission.epoch, payout);
    state.emission.set(Emission {
        epoch: emission.epoch.saturating_add(1),
        pool: pool.saturating_sub(released),
        ..Emission::starting(context.time)
    });
    context.events.push(Event::EpochEnded { epoch: emission.epoch, work: emission.work, budget });
    Ok(())
}

fn pay(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    for _ in 0..PAYOUTS_PER_BLOCK_MAX {
        let Some((&epoch, &payout)) = state.payouts.first() else { return Ok(()) };
        let next = state.epoch_work.first().map(|(key, work)| (*key, *work));
        let Some(((worked_in, operator), work)) = next.filter(|((it, _), _)| *it == epoch) else {
            state.payouts.remove(&epoch);
            continue;
        };
        state.epoch_work.remove(&(worked_in, operator));
        let watt = share(&payout, work).ok_or(TxError::Overflow { what: "the payout" })?;
        // The room may have shrunk since the epoch ended.
        let watt = watt.min(state.mint_room(Mint::Emission));
        state.mint(Mint::Emission, Module::Vault, watt)?;
        let split = state.params().split;
        let (parts, withheld) = settlement::pay_parts(state, context, operator, &split, watt)?;
        context.events.push(Event::EpochPaid { epoch, operator, work, watt, parts, withheld });
        state.remove_if_gone(context, operator)?;
    }
    Ok(())
}

/// Pro rata, and no more than the work was worth.
fn share(payout: &Payout, work: Nusd) -> Option<Watt> {
    let Payout { budget, work: all, nusd_per_watt } = *payout;
    let share = mul_div(budget.0, work.0, all.0, Rounding::Down).map(Watt)?;
    Some(share.min(Watt::worth(work, nusd_per_watt, Rounding::Down)?))
}

impl State {
    /// The running epoch of the emission policy.
    pub fn emission(&self) -> &Emission {
        self.emission.get()
    }

    pub(crate) fn count_purchase(&mut self, watt: Watt) -> Result<(), TxError> {
        let mut emission = *self.emission.get();
        emission.burned = add(emission.burned, watt, "the burned purchases")?;
        self.emission.set(emission);
        Ok(())
    }

    pub(crate) fn count_work(&mut self, operator: Address, work: Nusd) -> Result<(), TxError> {
        let mut emission = *self.emission.get();
        emission.work = add_credits(emission.work, work, "the epoch's work")?;
        let key = (emission.epoch, operator);
        self.emission.set(emission);
        let before = self.epoch_work.get(&key).copied().unwrap_or_default();
        self.epoch_work.insert(key, add_credits(before, work, "the provider's work")?);
        Ok(())
    }

    /// Whether any work of this provider waits to be paid.
    pub(crate) fn has_unpaid_work(&self, operator: &Address) -> bool {
        let mut epochs: Vec<u64> = self.payouts.iter().map(|(epoch, _)| *epoch).collect();
        epochs.push(self.emission.get().epoch);
        epochs.into_iter().any(|epoch| self.epoch_work.contains(&(epoch, *operator)))
    }

    pub(crate) fn next_payout_at(&self) -> Option<TimeMs> {
        if self.payouts.first().is_some() {
            return Some(TimeMs(0));
        }
        let emission = self.emission.get();
        let ends_at = emission.started_at.plus_ms(self.params().emission.epoch_ms);
        (!emission.work.is_zero()).then_some(ends_at)
    }
}
