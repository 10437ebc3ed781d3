//! Evidence: two statements that one key must never both sign, and what follows from them.
//!
//! Their signatures were checked before the transaction came here. Each fault is punished once, and
//! only while it is young enough that stake from then can still be found.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Address, Height, PublicKey, Rounding, TimeMs, Watt,
    consensus::{ConsensusProposal, ConsensusVote},
    receipt::ServiceReport,
    sign::Signed,
    stake::{Evidence, FaultSubject, OperatorId},
};

use crate::{
    error::TxError,
    event::Event,
    execute::Context,
    slashing::{self, Case, Fault},
    state::State,
};

/// What was punished once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Punished {
    pub(crate) operator: OperatorId,
    pub(crate) fault: Fault,
    pub(crate) subject: FaultSubject,
}

/// The signer reports a fault.
pub(crate) fn submit(
    state: &mut State,
    context: &mut Context,
    evidence: &Evidence,
) -> Result<(), TxError> {
    let reporter = context.sender;
    let (case, subject) = match evidence {
        Evidence::DoubleVote { first, second } => double_vote(state, first, second)?,
        Evidence::DoubleProposal { first, second } => double_proposal(state, first, second)?,
        Evidence::DoubleClaim { first, second } => {
            double_claim(state, context.time, first, second)?
        }
    };
    let Case { operator, fault, height, .. } = case;
    check_age(state, context.time, height)?;
    if state.operator(&operator).is_some_and(|operator| operator.tombstoned) {
        return Err(TxError::Tombstoned { operator });
    }
    let punished = Punished { operator, fault, subject };
    if state.punished.contains(&punished) {
        return Err(TxError::AlreadyPunished { operator });
    }
    state.punished.insert(punished, context.time);
    context.events.push(Event::EvidenceAccepted { operator, fault, reporter });
    slashing::slash(state, context, Case { reporter: Some(reporter), ..case })
}

fn double_vote(
    state: &State,
    first: &Signed<ConsensusVote>,
    second: &Signed<ConsensusVote>,
) -> Result<(Case, FaultSubject), TxError> {
    let no_fault = |why| TxError::NotEvidence { why };
    let (one, other) = (&first.value, &second.value);
    if (one.kind, one.round) != (other.kind, other.round) {
        return Err(no_fault("the two votes are of different rounds or kinds"));
    }
    if one.block == other.block {
        return Err(no_fault("both statements are about the same block"));
    }
    double_sign(state, (first.signer, one.height), (second.signer, other.height))
}

fn double_proposal(
    state: &State,
    first: &Signed<ConsensusProposal>,
    second: &Signed<ConsensusProposal>,
) -> Result<(Case, FaultSubject), TxError> {
    let no_fault = |why| TxError::NotEvidence { why };
    let (one, other) = (&first.value, &second.value);
    if one.round != other.round {
        return Err(no_fault("the two proposals are of different rounds"));
    }
    if one.block == other.block {
        return Err(no_fault("both statements are about the same block"));
    }
    double_sign(state, (first.signer, one.height), (second.signer, other.height))
}

/// What votes and proposals have in common: signer and height.
fn double_sign(
    state: &State,
    first: (PublicKey, Height),
    second: (PublicKey, Height),
) -> Result<(Case, FaultSubject), TxError> {
    let no_fault = |why| TxError::NotEvidence { why };
    let ((signer, height), (other_signer, other_height)) = (first, second);
    if signer != other_signer {
        return Err(no_fault("the two statements have different signers"));
    }
    if height != other_height {
        return Err(no_fault("the two blocks have different heights"));
    }
    if height > state.height() {
        return Err(no_fault("the height has not been reached"));
    }
    let owner = state.consensus_keys.get(&signer);
    let operator = *owner.ok_or(no_fault("the signer is no validator's consensus key"))?;
    let case = Case {
        operator: OperatorId::validator(operator),
        fault: Fault::DoubleSign,
        height,
        reporter: None,
        harmed: Vec::new(),
    };
    Ok((case, FaultSubject::Height(height.0)))
}

/// Two reports of one attempt with different totals. A provider remembers an attempt on disk before
/// it signs, so a crash cannot make it say both.
fn double_claim(
    state: &State,
    now: TimeMs,
    first: &Signed<ServiceReport>,
    second: &Signed<ServiceReport>,
) -> Result<(Case, FaultSubject), TxError> {
    let no_fault = |why| TxError::NotEvidence { why };
    let (one, other) = (&first.value, &second.value);
    let provider = one.provider;
    let signed = [first.signer, second.signer].iter().all(|key| Address::of_key(key) == provider);
    if !signed || other.provider != provider {
        return Err(no_fault("the two reports are not both signed by one provider's operator"));
    }
    if (one.request_id, one.attempt) != (other.request_id, other.attempt) {
        return Err(no_fault("the two reports are about different attempts"));
    }
    if one.channel != other.channel || one.lane != other.lane {
        return Err(no_fault("the two reports are about different lanes"));
    }
    if one.lane_total == other.lane_total {
        return Err(no_fault("both reports charge the same total"));
    }
    let channel = state.channel(&one.channel);
    let channel = channel.ok_or(TxError::ChannelUnknown { channel: one.channel })?;
    if channel.terms.receiver != provider {
        return Err(no_fault("the channel pays somebody else"));
    }
    let loss = one.lane_total.0.abs_diff(other.lane_total.0);
    let loss = Watt::worth(types::Nusd(loss), state.price(), Rounding::Down);
    let case = Case {
        operator: OperatorId::provider(provider),
        fault: Fault::DoubleClaim,
        height: height_of(state, now, channel.opened_at, one.ended_at.min(other.ended_at)),
        reporter: None,
        harmed: loss.map(|loss| (channel.terms.payer, loss)).into_iter().collect(),
    };
    Ok((case, FaultSubject::Attempt(one.request_id, one.attempt)))
}

/// About which block a provider said something at `time`. The time is its own word, so it counts only
/// within what can be: not before the channel was opened, nor before evidence is too old, for
/// otherwise whoever lies about the time would go free.
fn height_of(state: &State, now: TimeMs, opened_at: Height, time: TimeMs) -> Height {
    let max_ms = state.params().slashing.evidence_age_ms;
    let oldest = TimeMs(now.0.saturating_sub(max_ms));
    let young = state.marks.iter().find(|(_, at)| **at >= oldest);
    let earliest = young.map_or(state.height(), |(height, _)| *height);
    let said = state.marks.iter().take_while(|(_, at)| **at <= time).last();
    said.map_or(earliest, |(height, _)| *height).max(earliest).max(opened_at)
}

/// Evidence of a block that is older than the parameters allow has no effect. The age is that of
/// the last time mark before the block, so it counts as up to an hour older than it is.
fn check_age(state: &State, now: TimeMs, height: Height) -> Result<(), TxError> {
    let max_ms = state.params().slashing.evidence_age_ms;
    let mark = state.marks.range(..=height).next_back();
    let age_ms = mark.map(|(_, time)| now.ms_since(*time));
    match age_ms {
        Some(age_ms) if age_ms <= max_ms => Ok(()),
        Some(_) | None => Err(TxError::EvidenceOld { height, max_ms }),
    }
}
