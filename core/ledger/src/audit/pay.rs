//! What verifiers are paid for a round, from the treasury.
//!
//! Whoever has a seat can have a provider of its own, and rounds over work that nobody ordered. So all rounds of
//! a provider together pay no more than its work brought the treasury: who orders of itself only to be paid for
//! auditing loses what is burned and what stakers receive, and wins nothing.

use types::{
    Address, Rounding, Watt,
    audit::{AuditOutcome, CommitmentId, PAID_TOKENS_MIN, Round, Said, Standing, Verdict},
    mul_div,
};

use crate::{bank::Module, error::TxError, event::Event, execute::Context, state::State};

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
