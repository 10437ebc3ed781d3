//! Audits (ECONOMICS E9, `docs/spec/audits.md`): providers commit to receipts, a beacon chooses which are
//! opened and to whom, verifiers commit to verdicts and reveal them, and evidence has consequences.
//!
//! The ledger counts what verifiers say and never judges a token. What they say of a model that is not
//! enforced is written down and costs nobody anything.
//!
//! In the order of reading: who audits, and where that is reached, in [`auditor`]; the [`beacon`]; what parties
//! send, here; the [`round`] that a commitment gets, what its verifiers are paid for it ([`pay`]), and how faults
//! that were [`planted`] show who looks; what a round does to a [`standing`]; the [`sanction`] that evidence
//! justifies, and its [`consequence`]; how long it is kept [`closed`], and the [`appeal`] against it; what payers [`demand`] to have audited.

mod appeal;
mod auditor;
pub(crate) mod beacon;
mod canary;
mod closed;
mod consequence;
mod demand;
mod pay;
mod planted;
mod read;
mod round;
mod sanction;
mod standing;

use std::collections::BTreeSet;

use types::{
    Address, Hash32, ModelId, TimeMs,
    audit::{
        AuditOutcome, Backend, Calibration, Commitment, CommitmentId, HONEST_MEAN_PPM_MIN,
        ReceiptsCommitment, Round, Said, Verdict, verdict_commitment,
    },
    limits::AUDIT_RECEIPTS_MAX,
    params::AuditMode,
    state::Provider,
};

use crate::{error::TxError, event::Event, execute::Context, state::State};

pub(crate) use appeal::appeal;
pub(crate) use auditor::register as register_auditor;
pub(crate) use canary::report as report_canary;
pub(crate) use closed::CLOSED_MAX;
pub(crate) use consequence::{Disposition, disposition};
pub(crate) use demand::demand;
pub(crate) use planted::reveal as reveal_planted;
pub(crate) use read::own_commitments;
pub use sanction::sanction;

/// Rounds that one block opens, and that it closes; the rest follows in the next block.
pub(crate) const ROUNDS_PER_BLOCK_MAX: usize = 256;
/// Pieces of evidence that are kept on a provider and a model: those of eight rounds of two verifiers.
pub(crate) const KEPT_MAX: usize = 16;
/// Models of one provider with a standing of their own: as many as it can offer at once.
pub(crate) const MODELS_MAX: usize = types::limits::OFFER_MODELS_MAX;
/// Demands of one provider that wait or are being audited: those of eight payers that each have all that they may have by
/// default. All of them get their rounds in one block, and a provider reads of all of them at once.
pub(crate) const DEMANDS_MAX: usize = 256;
/// Verifiers that must have found something before anything is taken from anybody.
const FOUND_MIN: usize = 2;
/// Calibrations of one validator: some models on each kind of machine.
pub(crate) const CALIBRATIONS_MAX: usize = 256;

/// A provider commits to receipts.
pub(crate) fn commit(
    state: &mut State,
    context: &mut Context,
    receipts: ReceiptsCommitment,
    seal: Hash32,
) -> Result<(), TxError> {
    let provider = context.sender;
    // The nonce of this transaction: the account's next one is above it by one.
    let sequence = state.account(&provider).nonce.0.saturating_sub(1);
    let commitment = CommitmentId { provider, sequence };
    check_receipts(state, provider, &receipts, context.time)?;
    drop_stale(state, context, provider)?;
    let period = state.period(context.time);
    let (height, made_at) = (context.height, context.time);
    let entry = Commitment { receipts, seal, height, made_at, period, appeal: None, demand: None };
    state.put_commitment(commitment, Some(entry));
    let ReceiptsCommitment { model, root, count } = receipts;
    context.events.push(Event::ReceiptsCommitted { commitment, model, root, count, period });
    Ok(())
}

/// Everything about a commitment of a provider to receipts, at the time at which it is made.
pub(crate) fn check_receipts(
    state: &State,
    provider: Address,
    receipts: &ReceiptsCommitment,
    time: TimeMs,
) -> Result<(), TxError> {
    let entry = check_audited(state, provider, receipts)?;
    let model = receipts.model;
    if entry.profile.models.binary_search(&model).is_err() {
        return Err(TxError::ModelNotOffered { model });
    }
    check_room(state, provider, model, time)
}

/// What holds of all that is audited of a provider, whoever asks for it. Returns its entry.
fn check_audited<'a>(
    state: &'a State,
    operator: Address,
    receipts: &ReceiptsCommitment,
) -> Result<&'a Provider, TxError> {
    if state.params().audits.mode == AuditMode::Off {
        return Err(TxError::AuditsOff);
    }
    if !receipts.is_bounded() {
        return Err(TxError::ReceiptsCount { count: receipts.count, max: AUDIT_RECEIPTS_MAX });
    }
    state.providers.get(&operator).ok_or(TxError::ProviderUnknown { operator })
}

/// The models of what waits or is audited of a provider, and who demanded it if a payer did.
fn open_of(
    state: &State,
    provider: Address,
    time: TimeMs,
) -> impl Iterator<Item = (ModelId, Option<Address>)> {
    let oldest = state.oldest_evidence(time);
    let waiting = own_commitments(state, provider).filter(move |(_, it)| it.made_at >= oldest);
    let waiting = waiting.map(|(_, it)| (it.receipts.model, &it.demand));
    let rounds = state.own_rounds(provider).map(|(_, it)| (it.receipts.model, &it.demand));
    waiting.chain(rounds).map(|(model, demand)| (model, demand.as_ref().map(|it| it.payer)))
}

/// Whether one more commitment of a provider, or appeal, to receipts of this model is within what is kept of it. What payers
/// demand is counted apart: nobody can keep a provider from making its own.
fn check_room(
    state: &State,
    provider: Address,
    model: ModelId,
    time: TimeMs,
) -> Result<(), TxError> {
    let own = open_of(state, provider, time).filter(|(_, payer)| payer.is_none());
    let own: Vec<ModelId> = own.map(|(model, _)| model).collect();
    let max = state.params().audits.open_max;
    if own.len() >= usize_of(max) {
        return Err(TxError::TooManyCommitments { max });
    }
    let oldest = state.oldest_evidence(time);
    let known = state.model_standings_of(provider);
    let known = known.filter(|(_, standing)| !standing::is_stale(standing, oldest, time));
    let mut models: BTreeSet<ModelId> = known.map(|(model, _)| model).collect();
    models.extend(own);
    models.insert(model);
    if models.len() > MODELS_MAX {
        return Err(TxError::TooManyModels { max: MODELS_MAX });
    }
    Ok(())
}

/// Drops what a provider has that nobody will ask about any more: commitments that never got a beacon, and
/// standings with models that say nothing.
fn drop_stale(state: &mut State, context: &mut Context, provider: Address) -> Result<(), TxError> {
    let oldest = state.oldest_evidence(context.time);
    let waiting: Vec<CommitmentId> = own_commitments(state, provider)
        .filter(|(_, it)| it.made_at < oldest)
        .map(|(id, _)| *id)
        .collect();
    for id in waiting {
        drop_commitment(state, context, id)?;
    }
    let models: Vec<ModelId> = state
        .model_standings_of(provider)
        .filter(|(_, standing)| standing::is_stale(standing, oldest, context.time))
        .map(|(model, _)| model)
        .collect();
    for model in models {
        state.model_standings.remove(&(provider, model));
    }
    Ok(())
}

/// A commitment is not audited. Who appealed or demanded it has its deposit back.
fn drop_commitment(
    state: &mut State,
    context: &mut Context,
    id: CommitmentId,
) -> Result<(), TxError> {
    let Some(Commitment { appeal, demand, .. }) = state.commitments.get(&id).cloned() else {
        return Ok(());
    };
    state.put_commitment(id, None);
    if let Some(appeal) = appeal {
        appeal::settle(state, context, id, &appeal, true)?;
    }
    demand.map_or(Ok(()), |demand| demand::settle(state, context, id, &demand, None))
}

/// A provider's entry is gone: so is all that is kept of its audits. Rounds that are open end by themselves.
pub(crate) fn forget(
    state: &mut State,
    context: &mut Context,
    provider: Address,
) -> Result<(), TxError> {
    let waiting: Vec<CommitmentId> = own_commitments(state, provider).map(|(id, _)| *id).collect();
    for id in waiting {
        drop_commitment(state, context, id)?;
    }
    let models: Vec<ModelId> = state.model_standings_of(provider).map(|(model, _)| model).collect();
    for model in models {
        state.model_standings.remove(&(provider, model));
    }
    state.standings.remove(&provider);
    Ok(())
}

/// A verifier commits to its verdict.
pub(crate) fn commit_verdict(
    state: &mut State,
    context: &mut Context,
    commitment: CommitmentId,
    hash: Hash32,
) -> Result<(), TxError> {
    let verifier = context.sender;
    let mut round = state.known_round(commitment)?;
    let due = round.commit_by;
    let said = said_of(&mut round, commitment, verifier)?;
    if *said != Said::Nothing {
        return Err(TxError::VerdictRepeated { commitment });
    }
    if context.time > due {
        return Err(TxError::VerdictLate { commitment, due });
    }
    *said = Said::Committed { hash };
    // Nobody is left who could: from now on the round is over as soon as all have revealed, and a seal had its time.
    if !round.seats.iter().any(|seat| seat.said == Said::Nothing) {
        round.commit_by = context.time;
    }
    state.put_round(commitment, Some(round));
    context.events.push(Event::VerdictCommitted { commitment, verifier });
    Ok(())
}

/// A verifier reveals the verdict that it committed to, when no other can commit any more.
pub(crate) fn reveal_verdict(
    state: &mut State,
    context: &mut Context,
    commitment: CommitmentId,
    verdict: &Verdict,
    salt: &Hash32,
) -> Result<(), TxError> {
    let verifier = context.sender;
    let mut round = state.known_round(commitment)?;
    let (is_revealing, commit_by, due) =
        (round.is_revealing(context.time), round.commit_by, round.reveal_by);
    let chain_id = state.chain_id();
    let revealed = verdict_commitment(chain_id, &verifier, &commitment, &salt.0, verdict);
    check_verdict(&round, verdict)?;
    let said = said_of(&mut round, commitment, verifier)?;
    let Said::Committed { hash } = *said else {
        return Err(TxError::VerdictUncommitted { commitment });
    };
    if hash != revealed {
        return Err(TxError::VerdictMismatch);
    }
    if !is_revealing {
        return Err(TxError::RevealEarly { commitment, commit_by });
    }
    if context.time > due {
        return Err(TxError::VerdictLate { commitment, due });
    }
    *said = Said::Revealed { verdict: verdict.clone() };
    // When no verdict can come any more, the end of this block closes the round, or of the one in which its seal had its time.
    if !round.seats.iter().any(|seat| matches!(seat.said, Said::Committed { .. })) {
        let sealed_until = round.commit_by.plus_ms(state.params().audits.seal_ms);
        round.closes_at = sealed_until.max(context.time).min(round.reveal_by);
    }
    state.put_round(commitment, Some(round));
    let outcome = verdict.outcome;
    context.events.push(Event::VerdictRevealed { commitment, verifier, outcome });
    Ok(())
}

/// Whether a verdict is one on this round.
fn check_verdict(round: &Round, verdict: &Verdict) -> Result<(), TxError> {
    let bad = |why| Err(TxError::VerdictInconsistent { why });
    if !verdict.is_consistent() {
        return bad("its outcome does not follow from its evidence");
    }
    let Some(evidence) = &verdict.evidence else { return Ok(()) };
    if evidence.model != round.receipts.model {
        return bad("its evidence is about another model");
    }
    if evidence.responses.len() > usize_of(round.receipts.count) {
        return bad("its evidence is about more responses than were committed to");
    }
    Ok(())
}

fn said_of(
    round: &mut Round,
    commitment: CommitmentId,
    verifier: Address,
) -> Result<&mut Said, TxError> {
    let seat = round.seats.iter_mut().find(|seat| seat.verifier == verifier);
    seat.map(|seat| &mut seat.said).ok_or(TxError::NotVerifier { commitment, sender: verifier })
}

/// A validator says what honest providers score.
pub(crate) fn publish_calibration(
    state: &mut State,
    context: &mut Context,
    model: ModelId,
    backend: Backend,
    calibration: Calibration,
) -> Result<(), TxError> {
    let validator = context.sender;
    if !state.validators.contains(&validator) {
        return Err(TxError::ValidatorUnknown { operator: validator });
    }
    let Calibration { l1, l2, projections, tokens } = calibration;
    for mean in [Some(l1), Some(l2), projections].into_iter().flatten() {
        let given = mean.get();
        if !(HONEST_MEAN_PPM_MIN..1_000_000).contains(&given) || tokens == 0 {
            return Err(TxError::CalibrationMean { given, min: HONEST_MEAN_PPM_MIN });
        }
    }
    let key = (validator, model, backend);
    let count = state.calibrations_of(validator).count();
    if count >= CALIBRATIONS_MAX && !state.calibrations.contains(&key) {
        return Err(TxError::TooManyCalibrations { max: CALIBRATIONS_MAX });
    }
    state.calibrations.insert(key, calibration);
    context.events.push(Event::CalibrationPublished {
        validator,
        model,
        backend,
        l1,
        l2,
        projections,
        tokens,
    });
    Ok(())
}

/// At the beginning of a block: commitments whose beacon came get their rounds.
pub(crate) fn begin_block(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    for _ in 0..ROUNDS_PER_BLOCK_MAX {
        let Some(id) = state.next_ripe() else { return Ok(()) };
        round::open(state, context, id)?;
    }
    Ok(())
}

/// At the end of a block, before anything is settled: rounds that are over are closed.
pub(crate) fn end_block(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    for _ in 0..ROUNDS_PER_BLOCK_MAX {
        let Some((&(closes_at, id), ())) = state.closing.first() else { return Ok(()) };
        if closes_at > context.time {
            return Ok(());
        }
        round::close(state, context, id)?;
    }
    Ok(())
}

fn usize_of(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Seats of a round that revealed one of these outcomes.
fn saying(round: &Round, of: &[AuditOutcome]) -> usize {
    let said = |said: &Said| match said {
        Said::Nothing | Said::Committed { .. } => false,
        Said::Revealed { verdict } => of.contains(&verdict.outcome),
    };
    round.seats.iter().filter(|seat| said(&seat.said)).count()
}

/// What verifiers of a round said together: missing, if more than half of all say so; else what most of those
/// say who came to a conclusion.
fn together(outcomes: &[Option<AuditOutcome>]) -> AuditOutcome {
    let count = |of: AuditOutcome| outcomes.iter().filter(|it| **it == Some(of)).count();
    let (passes, fails) = (count(AuditOutcome::Pass), count(AuditOutcome::Fail));
    let missing = count(AuditOutcome::Missing);
    if missing.saturating_mul(2) > outcomes.len() {
        AuditOutcome::Missing
    } else if passes > fails {
        AuditOutcome::Pass
    } else if fails > passes {
        AuditOutcome::Fail
    } else if passes > 0 || missing > 0 || count(AuditOutcome::Inconclusive) > 0 {
        AuditOutcome::Inconclusive
    } else {
        AuditOutcome::Abstained
    }
}
