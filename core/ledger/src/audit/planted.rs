//! Planted faults: commitments to answers that a provider made wrong on purpose, so that looking pays and not
//! looking costs. Whether one is, is sealed until its verifiers have committed to what they say.
//!
//! A seal must not be a way out for a cheat. Who breaks one gives up what it is owed, and what it claims while
//! evidence counts, or it would only have to redeem later. And it must not be a weapon: whether the answers are
//! wrong only verifiers see, so nobody is graded unless two of them found that they are.

use types::{
    Address, Hash32,
    audit::{AuditOutcome, CommitmentId, Round, Said, seal},
    stake::OperatorId,
};

use super::{FOUND_MIN, consequence};
use crate::{
    error::TxError,
    event::Event,
    execute::Context,
    slashing::{self, Case, Fault},
    state::State,
};

/// The provider breaks the seal: from now on the round is about its verifiers only.
pub(crate) fn reveal(
    state: &mut State,
    context: &mut Context,
    commitment: CommitmentId,
    salt: &Hash32,
) -> Result<(), TxError> {
    let provider = context.sender;
    if commitment.provider != provider {
        return Err(TxError::NotCommitter { commitment, sender: provider });
    }
    let mut round = state.known_round(commitment)?;
    if round.planted {
        return Err(TxError::PlantedRepeated { commitment });
    }
    if seal(salt, true) != round.seal {
        return Err(TxError::NotPlanted { commitment });
    }
    if !round.is_revealing(context.time) {
        return Err(TxError::RevealEarly { commitment, commit_by: round.commit_by });
    }
    if context.time > round.reveal_by {
        return Err(TxError::VerdictLate { commitment, due: round.reveal_by });
    }
    round.planted = true;
    let params = state.params();
    let until = context.time.plus_ms(params.slashing.evidence_age_ms);
    // In the shadow there is nothing to get out of.
    let refunds = params.audits.is_enforced(&round.receipts.model);
    state.put_round(commitment, Some(round));
    context.events.push(Event::PlantedRevealed { commitment, refunds });
    if refunds {
        consequence::refund(state, context, provider, Some(until))?;
    }
    Ok(())
}

/// At the end of a round over planted faults: who saw them, and what it costs not to have looked.
pub(super) fn grade(
    state: &mut State,
    context: &mut Context,
    id: CommitmentId,
    round: &Round,
) -> Result<(), TxError> {
    let graded = round.seats.iter().filter_map(|seat| Some((seat.verifier, grade_of(&seat.said)?)));
    let graded: Vec<(Address, bool)> = graded.collect();
    let found = || graded.iter().filter(|(_, right)| *right).map(|(verifier, _)| *verifier);
    if round.beacon.is_weak() || found().count() < FOUND_MIN {
        return Ok(());
    }
    let (first, height) = (found().next(), context.height);
    let binding = state.params().audits.is_enforced(&round.receipts.model);
    for (verifier, right) in graded {
        let mut record = state.verifier_record(&verifier);
        let count = if right { &mut record.planted_right } else { &mut record.planted_wrong };
        *count = count.saturating_add(1);
        state.verifiers.insert(verifier, record);
        context.events.push(Event::VerifierGraded { commitment: id, verifier, right });
        if !right && binding {
            let operator = OperatorId::validator(verifier);
            let (fault, reporter) = (Fault::PassedFault, first);
            let case = Case { operator, fault, height, reporter, harmed: Vec::new() };
            slashing::slash(state, context, case)?;
        }
    }
    Ok(())
}

/// Whether a verifier was right; nothing for who could not tell or never said anything. Who committed and then
/// kept silent, because the seal was broken, would otherwise get away.
fn grade_of(said: &Said) -> Option<bool> {
    match said {
        Said::Nothing => None,
        Said::Committed { .. } => Some(false),
        Said::Revealed { verdict } => match verdict.outcome {
            AuditOutcome::Fail => Some(true),
            AuditOutcome::Pass => Some(false),
            AuditOutcome::Inconclusive | AuditOutcome::Abstained | AuditOutcome::Missing => None,
        },
    }
}
