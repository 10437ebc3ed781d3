//! Appeals: a provider has a failed round done again, by verifiers who did not take part in it, over all receipts.
//!
//! If that passes, the failure is taken back, with what came of it as long as that can be: a slash, refunds and
//! the time that claims waited stay. The deposit lies in the account of the insurance meanwhile, which pays for
//! nothing else.

use types::{
    Hash32, Ppm,
    audit::{
        Appeal, AuditOutcome, ClosedRound, Commitment, CommitmentId, Effect, ModelStanding, Round,
        Standing,
    },
    params::AuditMode,
};

use super::{check_room, drop_stale, round, standing};
use crate::{bank::Module, error::TxError, event::Event, execute::Context, state::State};

/// The provider of a closed round appeals: its commitment waits for a beacon again.
pub(crate) fn appeal(
    state: &mut State,
    context: &mut Context,
    commitment: CommitmentId,
) -> Result<(), TxError> {
    let provider = context.sender;
    if state.params().audits.mode == AuditMode::Off {
        return Err(TxError::AuditsOff);
    }
    if commitment.provider != provider {
        return Err(TxError::NotCommitter { commitment, sender: provider });
    }
    if !state.providers.contains(&provider) {
        return Err(TxError::ProviderUnknown { operator: provider });
    }
    let Some((number, closed)) = state.first_closed(commitment) else {
        return Err(TxError::ClosedUnknown { commitment });
    };
    check(state, context, &closed)?;
    check_room(state, provider, closed.receipts.model, context.time)?;
    let without: Vec<_> = closed.verdicts.iter().map(|(verifier, _)| *verifier).collect();
    if round::candidates(state, commitment, &without).next().is_none() {
        return Err(TxError::NoOtherVerifiers { commitment });
    }
    drop_stale(state, context, provider)?;
    let deposit = state.params().audits.appeal_deposit;
    state.pay(provider, Module::Insurance.address(), deposit)?;
    let ClosedRound { receipts, height, effect, .. } = closed;
    let period = state.period(context.time);
    let appeal = Appeal { without, weak: closed.beacon.is_weak(), deposit, effect };
    // Nobody breaks a seal that has no salt.
    let seal = Hash32::default();
    let made_at = context.time;
    let appeal = Some(appeal);
    let waiting = Commitment { receipts, seal, height, made_at, period, appeal, demand: None };
    state.put_commitment(commitment, Some(waiting));
    state.appeal_closed(number, closed, context.time);
    context.events.push(Event::AppealMade { commitment, deposit, period });
    Ok(())
}

/// Whether a closed round can be appealed against now.
fn check(state: &State, context: &Context, closed: &ClosedRound) -> Result<(), TxError> {
    let commitment = closed.commitment;
    let refused = |why| Err(TxError::NotAppealable { commitment, why });
    if closed.planted {
        return refused("nothing came of it for its provider, who had planted faults");
    }
    if closed.appealed {
        return refused("it was appealed against already");
    }
    if closed.closed_at < state.oldest_evidence(context.time) {
        return refused("it is older than evidence may be");
    }
    match closed.outcome {
        AuditOutcome::Fail | AuditOutcome::Missing => Ok(()),
        AuditOutcome::Pass | AuditOutcome::Inconclusive | AuditOutcome::Abstained => {
            refused("it did not fail")
        }
    }
}

/// Whether the appeal has to wait for the next beacon: nobody may choose alone who takes back what two found
/// under one that nobody chose.
pub(super) fn waits(state: &State, appeal: &Appeal) -> bool {
    state.beacon.get().is_weak() && !appeal.weak
}

/// The deposit goes back, or to the treasury.
pub(super) fn settle(
    state: &mut State,
    context: &mut Context,
    id: CommitmentId,
    appeal: &Appeal,
    returned: bool,
) -> Result<(), TxError> {
    let to = if returned { id.provider } else { Module::Treasury.address() };
    state.pay(Module::Insurance.address(), to, appeal.deposit)?;
    let deposit = appeal.deposit;
    context.events.push(Event::AppealEnded { commitment: id, deposit, returned });
    Ok(())
}

/// Takes back what a failed round did to how its provider stands.
pub(super) fn take_back(
    state: &mut State,
    context: &mut Context,
    id: CommitmentId,
    round: &Round,
    effect: &Effect,
) {
    let (provider, model) = (id.provider, round.receipts.model);
    let before = state.standing(&provider);
    let bad = before.bad.saturating_sub(effect.bad);
    let passes = before.passes.saturating_add(effect.passes);
    state.put_standing(provider, Standing { bad, passes, ..before });
    let params = &state.params().audits;
    let (weight, enough) = (params.quality_weight, params.quality_min);
    let mut standing = state.model_standing(provider, model);
    standing.evidence.retain(|piece| piece.commitment != id);
    standing.quality = if standing.quality == effect.quality_after {
        effect.quality_before
    } else {
        standing::mixed(standing.quality, Ppm::ONE, weight)
    };
    if standing.delisted_until == effect.delisted_until {
        standing.delisted_until = None;
    }
    // A later failure may keep it suspended.
    if effect.suspended && standing.suspended && standing.quality >= enough {
        standing.suspended = false;
        let (quality, suspended) = (standing.quality, false);
        context.events.push(Event::QualityMoved { provider, model, quality, suspended });
    }
    state.put_model_standing(provider, model, standing);
}

/// What a round that ended so did, by how its provider stood before and after.
pub(super) fn effect(
    state: &State,
    outcome: AuditOutcome,
    before: &(Standing, ModelStanding),
    after: &ModelStanding,
) -> Effect {
    match outcome {
        AuditOutcome::Fail | AuditOutcome::Missing => {}
        AuditOutcome::Pass | AuditOutcome::Inconclusive | AuditOutcome::Abstained => {
            return Effect::default();
        }
    }
    let (standing, model) = before;
    let is_new = after.delisted_until != model.delisted_until;
    Effect {
        bad: state.failure_weight(),
        passes: standing.passes,
        quality_before: model.quality,
        quality_after: after.quality,
        suspended: after.suspended && !model.suspended,
        delisted_until: after.delisted_until.filter(|_| is_new),
    }
}
