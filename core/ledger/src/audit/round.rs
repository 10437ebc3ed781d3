//! Rounds: a commitment, the beacon that came after it, the verifiers that this drew, and what they said.

use types::{
    Address, Hash32, Ppm,
    audit::{
        AuditOutcome, Beacon, Calibration, ClosedRound, Commitment, CommitmentId, Effect,
        KeptEvidence, Round, Said, Sanction, Seat,
    },
    sha256,
};

use super::{
    appeal, consequence, demand, drop_commitment, pay, planted, saying, standing, together,
    usize_of,
};
use crate::{error::TxError, event::Event, execute::Context, state::State};

/// Opens the round of a commitment under the newest beacon, which came after it.
pub(super) fn open(
    state: &mut State,
    context: &mut Context,
    id: CommitmentId,
) -> Result<(), TxError> {
    let Some(commitment) = state.commitments.get(&id).cloned() else { return Ok(()) };
    let beacon = *state.beacon.get();
    if commitment.appeal.as_ref().is_some_and(|appeal| appeal::waits(state, appeal)) {
        let waiting = Commitment { period: beacon.period, ..commitment };
        state.put_commitment(id, Some(waiting));
        return Ok(());
    }
    let without = commitment.appeal.as_ref().map_or(&[][..], |appeal| &appeal.without);
    let verifiers = draw(state, &beacon, id, without);
    if verifiers.is_empty() || is_outdated(state, context, &commitment) {
        context.events.push(Event::AuditDropped { commitment: id });
        return drop_commitment(state, context, id);
    }
    state.put_commitment(id, None);
    let Commitment { receipts, seal, height, appeal, demand, .. } = commitment;
    let params = &state.params().audits;
    let commit_by = context.time.plus_ms(params.commit_ms);
    let reveal_by = commit_by.plus_ms(params.reveal_ms);
    let share = match (&appeal, &demand) {
        (Some(_), _) | (_, Some(_)) => Ppm::ONE,
        (None, None) => state.audit_share(&id.provider, context.time),
    };
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
        appeal,
        demand,
    };
    state.put_round(id, Some(round));
    Ok(())
}

/// Whether its beacon came so late that an honest provider may have forgotten what opens it: nobody is missing then.
/// Who appeals opens it again.
fn is_outdated(state: &State, context: &Context, commitment: &Commitment) -> bool {
    let age_ms = state.params().audits.demand_age_ms;
    commitment.appeal.is_none() && commitment.made_at.plus_ms(age_ms) < context.time
}

/// Operators with a seat whose auditor is reached somewhere, but for the provider itself and those of `without`.
pub(super) fn candidates(
    state: &State,
    id: CommitmentId,
    without: &[Address],
) -> impl Iterator<Item = Address> {
    let operators = state.active.iter().map(|(_, seat)| seat.operator);
    operators.filter(move |it| {
        *it != id.provider && state.auditors.contains(it) && !without.contains(it)
    })
}

/// The candidates whose digest with beacon and commitment is lowest.
fn draw(state: &State, beacon: &Beacon, id: CommitmentId, without: &[Address]) -> Vec<Address> {
    let sequence = id.sequence.to_be_bytes();
    let ticket = |verifier: &Address| -> Hash32 {
        let domain: &[u8] = b"peerwatt/verifier\0";
        sha256(&[domain, &beacon.value.0, &id.provider.0, &sequence, &verifier.0])
    };
    let candidates = candidates(state, id, without);
    let mut tickets: Vec<(Hash32, Address)> = candidates.map(|it| (ticket(&it), it)).collect();
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
    let (model, planted) = (round.receipts.model, round.planted);
    // Of a provider whose entry is gone nothing is kept, and of planted faults nothing follows for it.
    let Done { would_be, sanction, effect } = if state.providers.contains(&id.provider) && !planted
    {
        judge(state, context, id, &round, outcome)?
    } else {
        Done::default()
    };
    if let Some(appeal) = &round.appeal {
        appeal::settle(state, context, id, appeal, outcome == AuditOutcome::Pass)?;
    }
    if let Some(demand) = &round.demand {
        demand::settle(state, context, id, demand, Some(outcome))?;
    }
    pay::pay(state, context, id, &round, outcome)?;
    if planted {
        planted::grade(state, context, id, &round)?;
    }
    let reputation = state.standing(&id.provider).reputation();
    context.events.push(Event::AuditClosed {
        commitment: id,
        model,
        outcome,
        would_be,
        sanction,
        reputation,
    });
    state.push_closed(ClosedRound {
        commitment: id,
        receipts: round.receipts,
        height: round.height,
        beacon: round.beacon,
        share: round.share,
        closed_at: context.time,
        verdicts,
        outcome,
        would_be,
        sanction,
        planted,
        effect,
        is_appeal: round.appeal.is_some(),
        appealed: false,
    });
    Ok(())
}

/// What a round came to for its provider.
#[derive(Default)]
struct Done {
    would_be: Sanction,
    sanction: Sanction,
    effect: Effect,
}

/// Lets a round count for its provider. That of an appeal counts no second time: it takes the first one back, or
/// leaves it and adds its evidence.
fn judge(
    state: &mut State,
    context: &mut Context,
    id: CommitmentId,
    round: &Round,
    outcome: AuditOutcome,
) -> Result<Done, TxError> {
    let (provider, model) = (id.provider, round.receipts.model);
    let before = (state.standing(&provider), state.model_standing(provider, model));
    match &round.appeal {
        Some(appeal) if outcome == AuditOutcome::Pass => {
            appeal::take_back(state, context, id, round, &appeal.effect);
        }
        Some(_) | None => keep(state, context, id, round),
    }
    let would_be = consequence::would_be(state, provider, model, context.time);
    // What a payer chose shows a failure, and no habit.
    let chosen_to_pass = round.demand.is_some() && outcome == AuditOutcome::Pass;
    if round.appeal.is_none() && !chosen_to_pass {
        standing::count(state, context, provider, round, outcome);
    }
    let sanction = consequence::apply(state, context, provider, round, outcome)?;
    let after = state.model_standing(provider, model);
    let effect = appeal::effect(state, outcome, &before, &after);
    Ok(Done { would_be, sanction, effect })
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
    let contradicted = is_contradicted(round);
    let mut pieces: Vec<KeptEvidence> = Vec::new();
    for seat in &round.seats {
        let Said::Revealed { verdict } = &seat.said else { continue };
        let Some(evidence) = verdict.evidence.clone() else { continue };
        // Evidence of a level counts by a mean of that level.
        let covers =
            |means: Calibration| evidence.projections.is_none() || means.projections.is_some();
        let means = state.calibration(&evidence.model, evidence.backend);
        let calibrated = means.is_some_and(covers);
        // By what it shows: a lie is no better for being called inconclusive.
        let doubted = contradicted && evidence.fails();
        pieces.push(KeptEvidence {
            commitment: id,
            verifier: seat.verifier,
            height: round.height,
            found_at,
            counts: calibrated && !doubted && !round.beacon.is_weak(),
            evidence,
        });
    }
    standing::keep(state, id.provider, round.receipts.model, found_at, pieces);
}

/// Whether as many verifiers pass the same receipts as fail them, so that one of both is wrong and nobody knows which.
fn is_contradicted(round: &Round) -> bool {
    let passes = saying(round, &[AuditOutcome::Pass]);
    passes > 0 && passes >= saying(round, &[AuditOutcome::Fail])
}
