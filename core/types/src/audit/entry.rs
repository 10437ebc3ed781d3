//! What the ledger keeps of audits, as third parties read it.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::{AuditOutcome, CommitmentId, Evidence, ReceiptsCommitment, Sanction, Verdict};
use crate::{
    amount::{Ppm, Watt},
    hash::{Hash32, sha256},
    id::{Address, Height, TimeMs},
    receipt::Acknowledgement,
    sign::Signed,
};

/// Randomness that nobody chose alone: what validators revealed with their votes on the price in one period.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Beacon {
    /// In which the salts were revealed. It is over.
    pub period: u64,
    /// Zeros before the first one.
    pub value: Hash32,
    /// Validators whose salts are in it.
    pub reveals: u32,
}

impl Beacon {
    /// The beacon after this one: the SHA-256 of `peerwatt/beacon\0`, this one's value, and each voter with its
    /// salt, ascending by voter.
    pub fn next<'a>(
        &self,
        period: u64,
        revealed: impl IntoIterator<Item = (&'a Address, &'a Hash32)>,
    ) -> Beacon {
        let mut bytes = Vec::new();
        let mut reveals = 0u32;
        for (voter, salt) in revealed {
            bytes.extend_from_slice(&voter.0);
            bytes.extend_from_slice(&salt.0);
            reveals = reveals.saturating_add(1);
        }
        let value = sha256(&[b"peerwatt/beacon\0", &self.value.0, &bytes]);
        Beacon { period, value, reveals }
    }

    /// Whether one validator could have chosen it alone. Rounds under it have no consequences.
    pub fn is_weak(&self) -> bool {
        self.reveals < 2
    }
}

/// A commitment that waits for its beacon.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Commitment {
    pub receipts: ReceiptsCommitment,
    /// [`super::seal`].
    pub seal: Hash32,
    /// The block that it was made in, and its time.
    pub height: Height,
    pub made_at: TimeMs,
    /// The period that this lies in; a beacon of a later one chooses the receipts.
    pub period: u64,
    /// It was audited already, and its provider appealed.
    pub appeal: Option<Appeal>,
    /// Its provider did not make it: a payer demands to have one answer audited.
    pub demand: Option<Box<Demand>>,
}

/// Who demands an audit, of an answer that it paid for.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    pub payer: Address,
    pub deposit: Watt,
    /// With it the provider has the whole receipt, whether or not it was ever told.
    pub acknowledgement: Signed<Acknowledgement>,
}

/// What an appeal is against, and what it can take back.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Appeal {
    /// Who said what is appealed against, and is not asked again.
    pub without: Vec<Address>,
    /// One validator chose the beacon of that round.
    pub weak: bool,
    pub deposit: Watt,
    pub effect: Effect,
}

/// What a round did to how its provider stands, slashes and refunds apart.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Effect {
    /// Added to the provider's failures.
    pub bad: u64,
    /// Passes that it had since the last failure before this one.
    pub passes: u32,
    /// Of the model, before and after.
    pub quality_before: Ppm,
    pub quality_after: Ppm,
    /// The model was suspended by it.
    pub suspended: bool,
    /// The model was delisted by it, until this.
    pub delisted_until: Option<TimeMs>,
}

/// A commitment that is being audited.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Round {
    pub receipts: ReceiptsCommitment,
    /// [`super::seal`].
    pub seal: Hash32,
    /// The seal was broken: the receipts are of planted faults.
    pub planted: bool,
    /// The block in which they were committed to: who leaves later is still liable.
    pub height: Height,
    /// Chooses the receipts, with [`super::selected`].
    pub beacon: Beacon,
    pub share: Ppm,
    pub opened_at: TimeMs,
    /// Verdicts are committed to no later than this, the time at which the last verifier did, and revealed no later than that.
    pub commit_by: TimeMs,
    pub reveal_by: TimeMs,
    /// When the round is closed: `reveal_by`, or as soon as no verdict can come and its seal had its time.
    pub closes_at: TimeMs,
    /// Who audits, in the order in which they were drawn. Distinct.
    pub seats: Vec<Seat>,
    pub appeal: Option<Appeal>,
    pub demand: Option<Box<Demand>>,
}

impl Round {
    pub fn seat(&self, verifier: &Address) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.verifier == *verifier)
    }

    /// Whether verdicts may be revealed: a copier could not commit to what it reads any more.
    pub fn is_revealing(&self, time: TimeMs) -> bool {
        time > self.commit_by || !self.seats.iter().any(|seat| seat.said == Said::Nothing)
    }
}

/// One verifier of a round.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Seat {
    /// The operator of a validator.
    pub verifier: Address,
    pub said: Said,
}

/// How far a verifier is.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "said")]
#[borsh(use_discriminant = false)]
pub enum Said {
    Nothing,
    Committed { hash: Hash32 },
    Revealed { verdict: Verdict },
}

/// A round that is over.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ClosedRound {
    pub commitment: CommitmentId,
    pub receipts: ReceiptsCommitment,
    /// The block in which they were committed to.
    pub height: Height,
    pub beacon: Beacon,
    pub share: Ppm,
    pub closed_at: TimeMs,
    /// What each verifier said, `None` if it revealed nothing.
    pub verdicts: Vec<(Address, Option<AuditOutcome>)>,
    /// What they said together.
    pub outcome: AuditOutcome,
    /// What all that is known of provider and model would justify, were it enforced.
    pub would_be: Sanction,
    /// What was done.
    pub sanction: Sanction,
    /// Its receipts were of planted faults: nothing followed for the provider.
    pub planted: bool,
    /// What an appeal could take back.
    pub effect: Effect,
    /// It was the round of an appeal.
    pub is_appeal: bool,
    /// Its provider appealed.
    pub appealed: bool,
}

/// How a provider stands with the auditors.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Standing {
    /// Weighted sums of its passes and failures that are not forgotten yet, in units of 10⁻⁹.
    pub good: u64,
    pub bad: u64,
    /// Passes since the last failure; of them comes the share of its receipts that is audited.
    pub passes: u32,
    /// What it had earned when a pass was last counted: only paid work earns a name.
    pub earned: Watt,
    /// Until when everything of it is audited.
    pub escalated_until: Option<TimeMs>,
    /// Until when its claims are not settled.
    pub held_until: Option<TimeMs>,
    /// Since when it gave no opening.
    pub missing_since: Option<TimeMs>,
    /// Claims that were to be settled no later than this are refunded.
    pub refund_until: Option<TimeMs>,
    /// All that verifiers were paid for its rounds and for canaries.
    pub verifiers_paid: Watt,
    /// Of that for canaries.
    pub canaries_paid: Watt,
}

impl Standing {
    /// One failure or pass of weight 1.
    pub const UNIT: u64 = 1_000_000_000;

    /// Its name, with one pass and one failure as what is believed of a stranger: `(good + 1) / (good + bad + 2)`,
    /// rounded down.
    pub fn reputation(&self) -> Ppm {
        let (good, bad) = (u128::from(self.good), u128::from(self.bad));
        let unit = u128::from(Standing::UNIT);
        let (part, all) = (good.saturating_add(unit), good.saturating_add(bad));
        let all = all.saturating_add(unit.saturating_mul(2));
        let ppm = part.saturating_mul(1_000_000).checked_div(all).unwrap_or(0);
        u32::try_from(ppm).ok().and_then(Ppm::new).unwrap_or_default()
    }
}

/// How a provider stands with one model.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ModelStanding {
    /// The newest pieces, the oldest first.
    pub evidence: Vec<KeptEvidence>,
    /// Passed rounds among the last ones, weighted.
    pub quality: Ppm,
    /// Its quality is too low: gateways do not choose it.
    pub suspended: bool,
    /// Gateways do not choose it before this.
    pub delisted_until: Option<TimeMs>,
}

impl Default for ModelStanding {
    fn default() -> ModelStanding {
        ModelStanding {
            evidence: Vec::new(),
            quality: Ppm::ONE,
            suspended: false,
            delisted_until: None,
        }
    }
}

/// What one verifier found, with where it comes from.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct KeptEvidence {
    pub commitment: CommitmentId,
    pub verifier: Address,
    /// The block in which the receipts were committed to.
    pub height: Height,
    pub found_at: TimeMs,
    /// Whether it can have consequences: it had none yet, nobody alone chose the beacon, and the model is
    /// calibrated for the verifier's kind of machine.
    pub counts: bool,
    pub evidence: Evidence,
}

/// The honest means of a model on one kind of machine, as one validator measured them.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Calibration {
    /// Of the scores of L1 and of L2.
    pub l1: Ppm,
    pub l2: Ppm,
    /// Of those of projections, if the one who measured has an engine that tells them.
    pub projections: Option<Ppm>,
    /// Honest tokens that were measured.
    pub tokens: u64,
}

/// What a validator did as a verifier.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct VerifierRecord {
    /// Rounds in which it was drawn and that are closed.
    pub rounds: u64,
    /// Of them, those in which it revealed no verdict.
    pub missed: u64,
    /// Rounds over planted faults, of which another verifier knew too, that it found, and that it passed or kept
    /// silent about after it had committed to a verdict.
    pub planted_right: u64,
    pub planted_wrong: u64,
    /// Canaries that it was paid for, and when it was paid for the last.
    pub canaries: u64,
    pub canary_paid_at: Option<TimeMs>,
}
