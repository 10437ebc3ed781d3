//! Policy P2: providers share a scheduled emission, pro rata to the credits that their work burned,
//! weighted by how reliably they were there (ECONOMICS E1, E3; the shape is that of HIP-20's net
//! emissions).
//!
//! Two limits keep it honest: an epoch never mints more than its schedule allows, and no provider
//! receives more than the credits that its work consumed are worth, so work that somebody buys from
//! himself cannot pay.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Address, Nusd, Rounding, TimeMs, Watt,
    state::{Heartbeats, Provider, Stage},
};

use crate::{
    bank::{Mint, Module, add, add_credits},
    error::TxError,
    event::Event,
    execute::Context,
    settlement,
    state::State,
    weight::{self, Factors, Weight},
};

/// Providers that one block pays; the rest follows in the next block.
pub(crate) const PAYOUTS_PER_BLOCK_MAX: usize = 1_000;

/// The running epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Emission {
    pub epoch: u64,
    pub started_at: TimeMs,
    /// Settled in it.
    pub work: Work,
    /// WATT burned for credits in it.
    pub burned: Watt,
    /// What earlier epochs burned and no epoch has released yet. A number, not a balance: what it
    /// allows is minted when it is released.
    pub pool: Watt,
}

/// What was settled as work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Work {
    /// Burned for it.
    pub credits: Nusd,
    /// What it counts where a pool is divided.
    pub weight: Weight,
}

/// What an epoch that is over still owes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Payout {
    /// To be shared by all its work. What that leaves is never minted.
    pub budget: Watt,
    pub work: Work,
    /// The price when it ended.
    pub nusd_per_watt: Nusd,
}

impl Emission {
    pub(crate) fn starting(time: TimeMs) -> Emission {
        Emission {
            epoch: 0,
            started_at: time,
            work: Work::default(),
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
    if emission.work.credits.is_zero() || !over {
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
    let Work { credits: work, weight: _ } = emission.work;
    context.events.push(Event::EpochEnded { epoch: emission.epoch, work, budget });
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
        let work = work.credits;
        context.events.push(Event::EpochPaid { epoch, operator, work, watt, parts, withheld });
        state.remove_if_gone(context, operator)?;
    }
    Ok(())
}

/// Pro rata by weight, and no more than the work was worth.
fn share(payout: &Payout, work: Work) -> Option<Watt> {
    let Payout { budget, work: all, nusd_per_watt } = *payout;
    let share = weight::pay(budget, work.weight, all.weight)?;
    Some(share.min(Watt::worth(work.credits, nusd_per_watt, Rounding::Down)?))
}

impl Work {
    fn plus(self, more: Work) -> Result<Work, TxError> {
        let weight = self.weight.0.checked_add(more.weight.0);
        Ok(Work {
            credits: add_credits(self.credits, more.credits, "the work of an epoch")?,
            weight: weight.map(Weight).ok_or(TxError::Overflow { what: "the work of an epoch" })?,
        })
    }
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

    pub(crate) fn count_work(
        &mut self,
        operator: Address,
        credits: Nusd,
        time: TimeMs,
    ) -> Result<(), TxError> {
        let Some(provider) = self.providers.get(&operator) else {
            return Err(TxError::ProviderUnknown { operator });
        };
        let weight = weight::weight(credits, self.factors(provider, time));
        let weight = weight.ok_or(TxError::Overflow { what: "the weight of the work" })?;
        let work = Work { credits, weight };
        let mut emission = *self.emission.get();
        emission.work = emission.work.plus(work)?;
        let key = (emission.epoch, operator);
        self.emission.set(emission);
        let before = self.epoch_work.get(&key).copied().unwrap_or_default();
        self.epoch_work.insert(key, before.plus(work)?);
        Ok(())
    }

    /// What a provider's work counts now. Nothing in this version audits work or measures demand.
    fn factors(&self, provider: &Provider, time: TimeMs) -> Factors {
        Factors { uptime_ppm: self.uptime_ppm(provider, time), ..Factors::NEUTRAL }
    }

    /// In which share of the last 64 heartbeat periods since its registration a provider was seen. The
    /// running period counts only for it, and for one that leaves, time stood still when it was seen
    /// last: it can send no heartbeats.
    fn uptime_ppm(&self, provider: &Provider, time: TimeMs) -> u32 {
        let newest = provider.heartbeats.period;
        let until = match provider.stage {
            Stage::Active => newest.max(self.heartbeat_period(time).saturating_sub(1)),
            Stage::Unbonding { .. } | Stage::Left => newest,
        };
        let since = self.heartbeat_period(provider.registered_at);
        let periods = until.saturating_sub(since).saturating_add(1).min(Heartbeats::PERIODS);
        let seen = u64::from(provider.heartbeats.count(until)).saturating_mul(1_000_000);
        let ppm = seen.checked_div(periods).unwrap_or(0).min(1_000_000);
        u32::try_from(ppm).unwrap_or(1_000_000)
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
        (!emission.work.credits.is_zero()).then_some(ends_at)
    }
}
