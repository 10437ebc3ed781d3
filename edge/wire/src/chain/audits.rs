//! Audits as the chain API shows them. What is kept of a provider comes as the ledger keeps it; of open
//! rounds, evidence is left out, because a page of it would be long.

use serde::{Deserialize, Serialize};
use types::{
    Address, Hash32, Height, ModelId, Ppm, PublicKey, TimeMs,
    audit::{
        AuditOutcome, Backend, Beacon, ClosedRound, CommitmentId, Demand, KeptEvidence,
        ReceiptsCommitment, Round, Said, Standing, VerifierRecord,
    },
    state::AuditorEntry,
};

/// Rounds that are open, one page of them, and those that were closed last, the newest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditsView {
    pub open: Vec<RoundView>,
    pub closed: Vec<ClosedRound>,
}

/// Where the auditor of a validator is reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditorView {
    pub operator: Address,
    /// The key under which others see it.
    pub node_key: PublicKey,
    /// Socket addresses, host and port.
    pub addrs: Vec<String>,
    /// What it did as a verifier, as the node says; not where the rest is proven.
    pub record: Option<VerifierRecord>,
}

impl AuditorView {
    pub fn of(operator: Address, entry: AuditorEntry) -> AuditorView {
        let AuditorEntry { node_key, addrs } = entry;
        AuditorView { operator, node_key, addrs, record: None }
    }
}

/// A round that is open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoundView {
    pub commitment: CommitmentId,
    pub receipts: ReceiptsCommitment,
    /// The block in which they were committed to.
    pub height: Height,
    /// Chooses the receipts, with `types::audit::selected`.
    pub beacon: Beacon,
    pub share: Ppm,
    pub opened_at: TimeMs,
    pub commit_by: TimeMs,
    pub reveal_by: TimeMs,
    /// Its receipts are of planted faults, as the provider has said by now.
    pub planted: bool,
    /// Its provider appealed, so others look again, at all receipts.
    pub is_appeal: bool,
    /// A payer demanded it, of one answer.
    pub demand: Option<Box<Demand>>,
    pub verifiers: Vec<VerifierView>,
}

impl RoundView {
    pub fn of(commitment: CommitmentId, round: &Round) -> RoundView {
        let verifier = |seat: &types::audit::Seat| {
            let (committed, outcome) = match &seat.said {
                Said::Nothing => (None, None),
                Said::Committed { hash } => (Some(*hash), None),
                Said::Revealed { verdict } => (None, Some(verdict.outcome)),
            };
            VerifierView { verifier: seat.verifier, committed, outcome }
        };
        let &Round { receipts, height, beacon, share, opened_at, commit_by, reveal_by, .. } = round;
        let (planted, is_appeal) = (round.planted, round.appeal.is_some());
        RoundView {
            commitment,
            receipts,
            height,
            beacon,
            share,
            opened_at,
            commit_by,
            reveal_by,
            planted,
            is_appeal,
            demand: round.demand.clone(),
            verifiers: round.seats.iter().map(verifier).collect(),
        }
    }

    /// Whether verdicts may be revealed in a block of this time.
    pub fn is_revealing(&self, time: TimeMs) -> bool {
        let silent = |it: &VerifierView| it.committed.is_none() && it.outcome.is_none();
        time > self.commit_by || !self.verifiers.iter().any(silent)
    }
}

/// How far one verifier is: nothing, then `committed`, then `outcome`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerifierView {
    pub verifier: Address,
    /// What it committed to, until it reveals that.
    pub committed: Option<Hash32>,
    pub outcome: Option<AuditOutcome>,
}

/// A commitment that waits for its beacon.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CommitmentView {
    pub commitment: CommitmentId,
    pub receipts: ReceiptsCommitment,
    pub height: Height,
    pub made_at: TimeMs,
    pub period: u64,
    /// It was audited already, and its provider appealed.
    pub is_appeal: bool,
    /// The payer who demands it.
    pub demanded_by: Option<Address>,
}

/// All that is kept of the audits of one provider.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProviderAuditsView {
    pub provider: Address,
    pub standing: Standing,
    pub reputation: Ppm,
    /// Of its receipts, what a round that opened now would audit.
    pub share: Ppm,
    pub waiting: Vec<CommitmentView>,
    pub open: Vec<RoundView>,
    /// Of the last closed rounds, its own, the newest first.
    pub closed: Vec<ClosedRound>,
    pub models: Vec<ModelAuditsView>,
}

/// How a provider stands with one model.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ModelAuditsView {
    pub model: ModelId,
    /// Whether audits of it have consequences.
    pub enforced: bool,
    pub quality: Ppm,
    pub suspended: bool,
    pub delisted_until: Option<TimeMs>,
    pub evidence: Vec<KeptEvidence>,
}

/// A provider and a model that gateways do not choose: one of the two is set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExclusionView {
    pub provider: Address,
    pub model: ModelId,
    pub suspended: bool,
    /// Only while it is later than now.
    pub delisted_until: Option<TimeMs>,
}

impl ExclusionView {
    /// What the list is ordered by.
    pub fn key(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }
}

/// The honest means in force of a model on one kind of machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CalibrationView {
    pub model: ModelId,
    pub backend: Backend,
    pub l1: Ppm,
    pub l2: Ppm,
    pub projections: Option<Ppm>,
    /// Measured by all who published.
    pub tokens: u64,
}

impl CalibrationView {
    /// What the list is ordered by.
    pub fn key(&self) -> String {
        format!("{}/{}", self.model, self.backend.name())
    }
}
