//! Canaries: what an auditor found when it asked as any consumer does, of answers that nobody may disclose.
//!
//! No beacon chose them, and nobody else can compute them again, so nothing is taken on their word: all of the provider is
//! audited for a while, which costs an honest one nothing but openings. Who reports one is paid for asking, from what the provider's
//! own work brought the treasury ([`super::pay`]): nobody else can say whether it asked, so that is little and seldom.

use types::{
    Address,
    audit::{AuditOutcome, Verdict},
    params::AuditMode,
};

use super::{consequence, pay};
use crate::{error::TxError, event::Event, execute::Context, state::State};

/// A validator that audits says what its canary found.
pub(crate) fn report(
    state: &mut State,
    context: &mut Context,
    provider: Address,
    verdict: &Verdict,
) -> Result<(), TxError> {
    let validator = context.sender;
    if state.params().audits.mode == AuditMode::Off {
        return Err(TxError::AuditsOff);
    }
    let seated = state.active.iter().any(|(_, seat)| seat.operator == validator);
    if !seated || state.auditor(&validator).is_none() || provider == validator {
        return Err(TxError::NotAuditor { sender: validator });
    }
    let Some(entry) = state.providers.get(&provider) else {
        return Err(TxError::ProviderUnknown { operator: provider });
    };
    let said = matches!(verdict.outcome, AuditOutcome::Pass | AuditOutcome::Fail);
    let Some(evidence) = verdict.evidence.as_ref().filter(|_| said && verdict.is_consistent())
    else {
        return Err(TxError::VerdictInconsistent {
            why: "a canary passes or fails by evidence that says so",
        });
    };
    let model = evidence.model;
    if entry.profile.models.binary_search(&model).is_err() {
        return Err(TxError::ModelNotOffered { model });
    }
    let outcome = verdict.outcome;
    context.events.push(Event::CanaryReported { validator, provider, model, outcome });
    if outcome == AuditOutcome::Fail {
        consequence::escalate(state, context, provider, false);
    }
    pay::pay_canary(state, context, provider, evidence)
}
