//! What verifiers are paid for a round or a canary, from the treasury.
//!
//! Whoever has a seat can have a provider of its own, and rounds over work that nobody ordered. So all rounds of
//! a provider together pay no more than its work brought the treasury: who orders of itself only to be paid for
//! auditing loses what is burned and what stakers receive, and wins nothing.

use types::{
    Address, Rounding, Watt,
    audit::{
        AuditOutcome, CommitmentId, Evidence, PAID_TOKENS_MIN, Round, Said, Standing, Verdict,
        VerifierRecord,
    },
    mul_div,
};

use crate::{bank::Module, error::TxError, event::Event, execute::Context, state::State};

/// See [`pay_canary`].
const CANARY_PARTS: u128 = 4;
/// Bytes of a transaction that commits to a verdict, or reveals one without evidence: some more than either has.
const SHORT_TX_BYTES: usize = 256;

/// Pays each verifier for what it said, in the order in which they were drawn, while there is something to pay
/// with. Of a provider whose entry is gone nothing is known, and nobody is paid.
pub(super) fn pay(
    state: &mut State,
    context: &mut Context,
    id: CommitmentId,
    round: &Round,
    outcome: AuditOutcome,
) -> Result<(), TxError> {
    if !state.providers.contains(&id.provider) {
        return Ok(());
    }
    for seat in &round.seats {
        let Said::Revealed { verdict } = &seat.said else { continue };
        let verifier = seat.verifier;
        let amount = due(state, verdict, outcome);
        let before = state.standing(&id.provider);
        let paid = before.verifiers_paid.saturating_add(amount);
        let short = amount > state.module_balance(Module::Treasury);
        if amount.is_zero() || short || paid > state.treasury_share(&id.provider) {
            continue;
        }
        state.pay(Module::Treasury.address(), verifier, amount)?;
        state.put_standing(id.provider, Standing { verifiers_paid: paid, ..before });
        context.events.push(Event::VerifierPaid { commitment: id, verifier, amount });
    }
    Ok(())
}

/// Pays a validator for a canary of which it reports enough to judge by. It may have made it up, so it is paid once in
/// `canary_every_ms`, and all canaries of a provider together get no more than one part in [`CANARY_PARTS`] of what its rounds may
/// cost.
pub(super) fn pay_canary(
    state: &mut State,
    context: &mut Context,
    provider: Address,
    evidence: &Evidence,
) -> Result<(), TxError> {
    let (validator, now) = (context.sender, context.time);
    let (amount, every_ms) =
        (state.params().audits.canary_pay, state.params().audits.canary_every_ms);
    let record = state.verifier_record(&validator);
    let is_early = record.canary_paid_at.is_some_and(|at| now.0 < at.0.saturating_add(every_ms));
    let before = state.standing(&provider);
    let verifiers_paid = before.verifiers_paid.saturating_add(amount);
    let canaries_paid = before.canaries_paid.saturating_add(amount);
    let most = state.treasury_share(&provider);
    let all = Watt(canaries_paid.0.saturating_mul(CANARY_PARTS));
    let short = amount > state.module_balance(Module::Treasury);
    let beyond = verifiers_paid > most || all > most;
    if amount.is_zero() || evidence.tokens < PAID_TOKENS_MIN || is_early || short || beyond {
        return Ok(());
    }
    state.pay(Module::Treasury.address(), validator, amount)?;
    state.put_standing(provider, Standing { verifiers_paid, canaries_paid, ..before });
    let canaries = record.canaries.saturating_add(1);
    let after = VerifierRecord { canaries, canary_paid_at: Some(now), ..record };
    state.verifiers.insert(validator, after);
    context.events.push(Event::CanaryPaid { validator, provider, amount });
    Ok(())
}

/// For a verdict that scored something all of it; the fees alone for having found nothing to look at, if that is
/// what the round says.
fn due(state: &State, verdict: &Verdict, outcome: AuditOutcome) -> Watt {
    let pay = state.params().audits.pay;
    let scored = verdict.evidence.as_ref().is_some_and(|it| it.tokens >= PAID_TOKENS_MIN);
    match verdict.outcome {
        AuditOutcome::Pass | AuditOutcome::Fail | AuditOutcome::Inconclusive if scored => pay,
        AuditOutcome::Missing if outcome == AuditOutcome::Missing => {
            let fee = state.fee(SHORT_TX_BYTES);
            pay.min(fee.saturating_add(fee))
        }
        AuditOutcome::Pass
        | AuditOutcome::Fail
        | AuditOutcome::Inconclusive
        | AuditOutcome::Abstained
        | AuditOutcome::Missing => Watt::ZERO,
    }
}

impl State {
    /// What the treasury received, by the split in force, for all that a provider was paid.
    pub(crate) fn treasury_share(&self, provider: &Address) -> Watt {
        let earned = self.providers.get(provider).map(|entry| entry.earned).unwrap_or_default();
        let shares = self.params().split.shares();
        let (treasury, own) = (shares.treasury.get(), shares.provider.get());
        let share = mul_div(earned.0, treasury.into(), own.into(), Rounding::Down);
        share.map_or(Watt::ZERO, Watt)
    }
}
