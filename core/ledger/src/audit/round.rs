//! Rounds: a commitment, the beacon that came after it, the verifiers that this drew, and what they said.

use types::{
    Address, Hash32,
    audit::{
        AuditOutcome, Beacon, ClosedRound, Commitment, CommitmentId, KeptEvidence, Round, Said,
        Sanction, Seat,
    },
    sha256,
};

use super::{consequence, pay, planted, standing, together, usize_of};
use crate::{error::TxError, event::Event, execute::Context, state::State};

/// Opens the round of a commitment under the newest beacon, which came after it.
pub(super) fn open(
    state: &mut State,
    context: &mut Context,
    id: CommitmentId,
) -> Result<(), TxError> {
    let Some(Commitment { receipts, seal, height, .. }) = state.commitments.get(&id).copied()
    else {
        return Ok(());
    };
    state.put_commitment(id, None);
    let beacon = *state.beacon.get();
    let verifiers = draw(state, &beacon, id);
    if verifiers.is_empty() {
        context.events.push(Event::AuditDropped { commitment: id });
        return Ok(());
    }
    let params = &state.params().audits;
    let commit_by = context.time.plus_ms(params.commit_ms);
    let reveal_by = commit_by.plus_ms(params.reveal_ms);
    let share = state.audit_share(&id.provider, context.time);
    context.events.push(Event::AuditOpened {
        commitment: id,
        model: receipts.model,
        period: beacon.period,
        share,
        verifiers: verifiers.clone(),
        commit_by,
        reveal_by,
    });
    let seat = |verifier| Seat { verifier, said: Said::Nothing };
    let round = Round {
        receipts,
        seal,
        planted: false,
        height,
        beacon,
        share,
        opened_at: context.time,
        commit_by,
        reveal_by,
        closes_at: reveal_by,
        seats: verifiers.into_iter().map(seat).collect(),
    };
    state.put_round(id, Some(round));
    Ok(())
}

/// Of the operators with a seat whose auditor is reached somewhere, those whose digest with beacon and commitment
/// is lowest, never the provider's own.
fn draw(state: &State, beacon: &Beacon, id: CommitmentId) -> Vec<Address> {
    let sequence = id.sequence.to_be_bytes();
    let ticket = |verifier: &Address| -> Hash32 {
        let domain: &[u8] = b"peerwatt/verifier\0";
        sha256(&[domain, &beacon.value.0, &id.provider.0, &sequence, &verifier.0])
    };
    let others = state.active.iter().map(|(_, seat)| seat.operator);
    let others = others.filter(|it| *it != id.provider && state.auditors.contains(it));
    let mut tickets: Vec<(Hash32, Address)> = others.map(|it| (ticket(&it), it)).collect();
    tickets.sort_unstable();
    // One account operates one validator.
    tickets.dedup_by_key(|(_, operator)| *operator);
    let count = usize_of(state.params().audits.verifiers);
    tickets.into_iter().take(count).map(|(_, operator)| operator).collect()
}

/// Counts what the verifiers said, keeps their evidence, and lets it have its consequences.
pub(super) fn close(
    state: &mut State,
    context: &mut Context,
    id: CommitmentId,
) -> Result<(), TxError> {
    let Some(round) = state.rounds.get(&id).cloned() else { return Ok(()) };
    state.put_round(id, None);
    let verdicts: Vec<(Address, Option<AuditOutcome>)> =
        round.seats.iter().map(|seat| (seat.verifier, outcome_of(&seat.said))).collect();
    for (verifier, outcome) in &verdicts {
        let mut record = state.verifier_record(verifier);
        record.rounds = record.rounds.saturating_add(1);
        record.missed = record.missed.saturating_add(u64::from(outcome.is_none()));
        state.verifiers.insert(*verifier, record);
    }
    let outcomes: Vec<Option<AuditOutcome>> = verdicts.iter().map(|(_, said)| *said).collect();
    let outcome = together(&outcomes);
    let (model, beacon, share) = (round.receipts.model, round.beacon, round.share);
    // Of a provider whose entry is gone nothing is kept, and of planted faults nothing follows for it.
    let (would_be, sanction) = if state.providers.contains(&id.provider) && !round.planted {
        keep(state, context, id, &round);
        let would_be = consequence::would_be(state, id.provider, model, context.time);
        standing::count(state, context, id.provider, &round, outcome);
        (would_be, consequence::apply(state, context, id.provider, &round, outcome)?)
    } else {
        (Sanction::None, Sanction::None)
    };
    pay::pay(state, context, id, &round, outcome)?;
    if round.planted {
        planted::grade(state, context, id, &round)?;
    }
    let (reputation, planted) = (state.standing(&id.provider).reputation(), round.planted);
    context.events.push(Event::AuditClosed {
        commitment: id,
        model,
        outcome,
        would_be,
        sanction,
        reputation,
    });
    let (receipts, closed_at) = (round.receipts, context.time);
    state.push_closed(ClosedRound {
        commitment: id,
        receipts,
        beacon,
        share,
        closed_at,
        verdicts,
        outcome,
        would_be,
        sanction,
        planted,
    });
    Ok(())
}

fn outcome_of(said: &Said) -> Option<AuditOutcome> {
    match said {
        Said::Nothing | Said::Committed { .. } => None,
        Said::Revealed { verdict } => Some(verdict.outcome),
    }
}

/// Adds the evidence of a round to what is kept, the newest pieces of it.
fn keep(state: &mut State, context: &Context, id: CommitmentId, round: &Round) {
    let found_at = context.time;
    let mut pieces: Vec<KeptEvidence> = Vec::new();
    for seat in &round.seats {
        let Said::Revealed { verdict } = &seat.said else { continue };
        let Some(evidence) = verdict.evidence.clone() else { continue };
        let calibrated = state.calibration(&evidence.model, evidence.backend).is_some();
        pieces.push(KeptEvidence {
            commitment: id,
            verifier: seat.verifier,
            height: round.height,
            found_at,
            counts: calibrated && !round.beacon.is_weak(),
            evidence,
        });
    }
    standing::keep(state, id.provider, round.receipts.model, found_at, pieces);
}
