//! Audits: what providers commit to, what validators say about it, and what follows
//! (`docs/spec/audits.md`). Numbers here are whole: logarithms of evidence are milli-nats.
//!
//! This is what is said and kept. How evidence is computed is `verify`'s, when it costs something is
//! the ledger's.

mod entry;

use std::{fmt, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize, io};
use serde::{Deserialize, Serialize};

pub use entry::{
    Appeal, Beacon, Calibration, ClosedRound, Commitment, Demand, Effect, KeptEvidence,
    ModelStanding, Round, Said, Seat, Standing, VerifierRecord,
};

use crate::{
    amount::Ppm,
    hash::{Hash32, sha256},
    id::{Address, ChainId, ModelId, ParseIdError},
    limits::{AUDIT_RECEIPTS_MAX, EVIDENCE_RESPONSES_MAX},
};

/// One commitment of a provider to receipts. Shown as `watt1…/7`.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct CommitmentId {
    pub provider: Address,
    /// The nonce of the transaction that made it: rises, and is never used twice. Of one that was demanded see
    /// [`CommitmentId::demanded`].
    pub sequence: u64,
}

/// Sequences from here on are of demanded commitments. A number that JSON's readers have exactly, and no nonce reaches.
const DEMANDED: u64 = 1 << 52;

impl CommitmentId {
    /// Of the answer that a payer demands to have audited, by the digest of its report: 2⁵² and the digest's first 52 bits.
    pub fn demanded(provider: Address, report: &Hash32) -> CommitmentId {
        let first = report.0.first_chunk().copied().map_or(0, u64::from_be_bytes);
        CommitmentId { provider, sequence: DEMANDED | first >> 12 }
    }

    /// Whether a payer demanded it.
    pub fn is_demanded(&self) -> bool {
        self.sequence >= DEMANDED
    }
}

impl fmt::Display for CommitmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.sequence)
    }
}

impl FromStr for CommitmentId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<CommitmentId, ParseIdError> {
        let (provider, sequence) = text.split_once('/').ok_or(ParseIdError::Commitment)?;
        let sequence = sequence.parse().map_err(|_| ParseIdError::Commitment)?;
        Ok(CommitmentId { provider: provider.parse()?, sequence })
    }
}

/// Receipts of one model that a provider can be asked to open.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct ReceiptsCommitment {
    /// The model that all of them are about: what is calibrated, judged and delisted.
    pub model: ModelId,
    /// [`crate::hash::merkle_root`] over the digests of the receipts, in their order.
    pub root: Hash32,
    /// 1 to [`AUDIT_RECEIPTS_MAX`].
    pub count: u32,
}

impl ReceiptsCommitment {
    /// To receipts with these digests. `None` if there are none, or too many.
    pub fn of(model: ModelId, receipts: &[Hash32]) -> Option<ReceiptsCommitment> {
        let count = u32::try_from(receipts.len()).ok()?;
        let root = crate::hash::merkle_root(receipts);
        let commitment = ReceiptsCommitment { model, root, count };
        commitment.is_bounded().then_some(commitment)
    }

    pub fn is_bounded(&self) -> bool {
        (1..=AUDIT_RECEIPTS_MAX).contains(&self.count)
    }
}

/// Kinds of machine whose arithmetic differs: an honest mean is calibrated for each.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[borsh(use_discriminant = false)]
pub enum Backend {
    CpuX86,
    CpuArm,
    CudaMmq,
    CudaCublas,
    Metal,
    Vulkan,
    Rocm,
}

impl Backend {
    pub const ALL: [Backend; 7] = [
        Backend::CpuX86,
        Backend::CpuArm,
        Backend::CudaMmq,
        Backend::CudaCublas,
        Backend::Metal,
        Backend::Vulkan,
        Backend::Rocm,
    ];

    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Backend::CpuX86 => "cpu_x86",
            Backend::CpuArm => "cpu_arm",
            Backend::CudaMmq => "cuda_mmq",
            Backend::CudaCublas => "cuda_cublas",
            Backend::Metal => "metal",
            Backend::Vulkan => "vulkan",
            Backend::Rocm => "rocm",
        }
    }
}

impl FromStr for Backend {
    type Err = ParseIdError;

    /// By name.
    fn from_str(text: &str) -> Result<Backend, ParseIdError> {
        Backend::ALL.into_iter().find(|it| it.name() == text).ok_or(ParseIdError::Backend)
    }
}

/// The logarithm of evidence, in thousandths of a nat, rounded down.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct MilliNats(pub i64);

/// E ≥ 10⁴: audit everything, hold payouts, ask a second verifier.
pub const ESCALATE: MilliNats = MilliNats(9_211);
/// E ≥ 10⁶: enough where two disjoint sets of responses reach it on two kinds of machine.
pub const PAIRED: MilliNats = MilliNats(13_816);
/// E ≥ 10⁹: enough from one set of responses. Of 10⁴ honest providers one would reach it in 10⁵ networks.
pub const ALONE: MilliNats = MilliNats(20_724);

/// No calibration across kinds of machine gave a lower honest mean, in millionths (the lowest was .0047); one that
/// does has measured a machine against itself, to which every other one is a cheat.
pub const HONEST_MEAN_PPM_MIN: u32 = 4_000;

/// More tokens without excuse than this in one response, or without a report, and it is audited.
pub const UNEXPLAINED_MAX: u32 = 2;
/// With more than that many, more than this share of the tokens, and the provider is suspended.
pub const SUSPENDED_PERCENT: u32 = 5;
/// From this share on a replay has failed altogether.
pub const FAILED_PERCENT: u32 = 20;
/// A failed replay has at least as many tokens as a leaf: at the rate of tokens reported to two decimals, the
/// worst that was measured (0.42 %), more than 20 % of 32 mismatch with probability 10⁻¹⁰.
pub const FAILED_TOKENS_MIN: u32 = 32;

/// A verdict that is paid for is about as many tokens at least: what tells a Q4 from a Q8 that it is claimed to be
/// (`docs/spec/verification.md`).
pub const PAID_TOKENS_MIN: u32 = 50;

/// ln 1, ln 2 and ln 3, rounded up: what is lost by betting the same on each of so many.
const SHARED: [MilliNats; 3] = [MilliNats(0), MilliNats(694), MilliNats(1_099)];

/// What the processes of several levels over the same tokens come to: the same was bet on each of those that scored any, and the
/// largest part of the sum is kept, so that it is still evidence. `None` if none did.
pub fn together(levels: [Option<MilliNats>; 3]) -> Option<MilliNats> {
    let scored = levels.iter().flatten();
    let lost = SHARED.get(scored.clone().count().checked_sub(1)?)?;
    scored.max().map(|most| MilliNats(most.0.saturating_sub(lost.0)))
}

/// How many tokens of a replay came out how.
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
#[serde(deny_unknown_fields)]
pub struct ReplayCounts {
    pub matched: u32,
    pub excused: u32,
    /// Mismatches.
    pub unexplained: u32,
    pub unreported: u32,
}

impl ReplayCounts {
    /// Tokens that were replayed.
    pub fn replayed(&self) -> u32 {
        self.matched.saturating_add(self.excused).saturating_add(self.unexplained)
    }

    /// Of several responses together.
    pub fn plus(&self, other: &ReplayCounts) -> ReplayCounts {
        ReplayCounts {
            matched: self.matched.saturating_add(other.matched),
            excused: self.excused.saturating_add(other.excused),
            unexplained: self.unexplained.saturating_add(other.unexplained),
            unreported: self.unreported.saturating_add(other.unreported),
        }
    }

    /// Whether more than `percent` of the replayed tokens are unexplained.
    pub fn exceeds(&self, percent: u32) -> bool {
        let share = |count: u32, times: u32| u64::from(count).saturating_mul(u64::from(times));
        share(self.unexplained, 100) > share(self.replayed(), percent)
    }

    /// Whether the replay failed so widely that no rounding, version or accident of one token explains it.
    pub fn failed(&self) -> bool {
        self.replayed() >= FAILED_TOKENS_MIN && self.exceeds(FAILED_PERCENT)
    }
}

/// What a reference costs to run, beside the claimed model.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[borsh(use_discriminant = false)]
pub enum Worth {
    Cheaper,
    /// As dear or dearer, as F16 for Q8_0: an error, but nobody's gain.
    NotCheaper,
}

/// The reference that explains an answer.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Identified {
    pub model: ModelId,
    pub worth: Worth,
    /// How much more evidence there is against the claimed model.
    pub ratio: MilliNats,
}

/// Digests of receipts. Invariant: ascending, distinct, at most [`EVIDENCE_RESPONSES_MAX`].
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, Serialize, Deserialize)]
#[serde(try_from = "Vec<Hash32>", into = "Vec<Hash32>")]
pub struct Responses(Vec<Hash32>);

/// Why digests are not [`Responses`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("responses are at most {EVIDENCE_RESPONSES_MAX} digests, ascending and each once")]
pub struct BadResponses;

impl Responses {
    /// Sorted, each once. `None` if they are more than [`EVIDENCE_RESPONSES_MAX`].
    pub fn of(digests: impl IntoIterator<Item = Hash32>) -> Option<Responses> {
        let mut digests: Vec<Hash32> = digests.into_iter().collect();
        digests.sort_unstable();
        digests.dedup();
        Responses::try_from(digests).ok()
    }

    pub fn as_slice(&self) -> &[Hash32] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether they share none.
    pub fn is_disjoint(&self, other: &Responses) -> bool {
        !self.0.iter().any(|digest| other.0.binary_search(digest).is_ok())
    }
}

impl TryFrom<Vec<Hash32>> for Responses {
    type Error = BadResponses;

    fn try_from(digests: Vec<Hash32>) -> Result<Responses, BadResponses> {
        let rises = digests.is_sorted_by(|left, right| left < right);
        if rises && digests.len() <= EVIDENCE_RESPONSES_MAX {
            return Ok(Responses(digests));
        }
        Err(BadResponses)
    }
}

impl From<Responses> for Vec<Hash32> {
    fn from(responses: Responses) -> Vec<Hash32> {
        responses.0
    }
}

impl BorshDeserialize for Responses {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Responses> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, BadResponses);
        let count = usize::try_from(u32::deserialize_reader(reader)?).map_err(|_| bad())?;
        if count > EVIDENCE_RESPONSES_MAX {
            return Err(bad());
        }
        let digests: io::Result<Vec<Hash32>> =
            (0..count).map(|_| Hash32::deserialize_reader(reader)).collect();
        Responses::try_from(digests?).map_err(|_| bad())
    }
}

/// What one verifier found of one set of responses of a provider and a model.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The claimed one.
    pub model: ModelId,
    /// The verifier's.
    pub backend: Backend,
    /// Digests of the receipts.
    pub responses: Responses,
    /// Tokens that were scored.
    pub tokens: u32,
    /// Of all the responses together.
    pub replay: ReplayCounts,
    /// The process over the scores of L1, if log-probabilities were reported.
    pub l1: Option<MilliNats>,
    /// The process over the scores of L2, if the responses can be replayed.
    pub l2: Option<MilliNats>,
    /// The process over the scores of projections, if the responses have them.
    pub projections: Option<MilliNats>,
    pub identified: Option<Identified>,
}

impl Evidence {
    /// The evidence of all levels, see [`together`]. `None` if nothing was scored.
    pub fn ln_e(&self) -> Option<MilliNats> {
        together([self.l1, self.l2, self.projections])
    }

    pub fn reaches(&self, threshold: MilliNats) -> bool {
        self.ln_e().is_some_and(|ln_e| ln_e >= threshold)
    }

    /// A cheaper model that explains the responses.
    pub fn cheaper(&self) -> Option<ModelId> {
        let cheaper = self.identified.filter(|identified| identified.worth == Worth::Cheaper);
        cheaper.map(|identified| identified.model)
    }

    /// Whether an audit that found this failed.
    pub fn fails(&self) -> bool {
        self.replay.failed() || self.reaches(PAIRED)
    }

    /// Whether it is enough to look closer, and so too much to say that all is well.
    pub fn is_suspicious(&self) -> bool {
        let ReplayCounts { unexplained, .. } = self.replay;
        let suspended = unexplained > UNEXPLAINED_MAX && self.replay.exceeds(SUSPENDED_PERCENT);
        suspended || self.reaches(ESCALATE)
    }
}

/// What an audit says.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[borsh(use_discriminant = false)]
pub enum AuditOutcome {
    Pass,
    Fail,
    /// It cannot tell, which costs nobody anything.
    Inconclusive,
    /// The verifier does not have the model, or cannot work now. Never held against anybody.
    Abstained,
    /// The provider gave no opening in time.
    Missing,
}

impl AuditOutcome {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            AuditOutcome::Pass => "pass",
            AuditOutcome::Fail => "fail",
            AuditOutcome::Inconclusive => "inconclusive",
            AuditOutcome::Abstained => "abstained",
            AuditOutcome::Missing => "missing",
        }
    }
}

/// What one verifier says of one commitment.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    pub outcome: AuditOutcome,
    /// What it follows from, if the verifier scored anything.
    pub evidence: Option<Evidence>,
}

impl Verdict {
    /// Whether the outcome does not contradict its evidence: to fail, pass or doubt there must be some, about
    /// some response, that says no less and, to pass, no more; without having looked there is none.
    pub fn is_consistent(&self) -> bool {
        let about_some = self.evidence.as_ref().filter(|it| !it.responses.is_empty());
        match (self.outcome, about_some) {
            (AuditOutcome::Fail, Some(evidence)) => evidence.fails(),
            (AuditOutcome::Pass, Some(evidence)) => !evidence.fails() && !evidence.is_suspicious(),
            (AuditOutcome::Inconclusive, Some(_)) => true,
            (AuditOutcome::Abstained | AuditOutcome::Missing, None) => self.evidence.is_none(),
            (AuditOutcome::Fail | AuditOutcome::Pass | AuditOutcome::Inconclusive, None)
            | (AuditOutcome::Abstained | AuditOutcome::Missing, Some(_)) => false,
        }
    }
}

/// What all evidence against a provider justifies, the mildest first.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[borsh(use_discriminant = false)]
pub enum Sanction {
    #[default]
    None,
    /// Audit everything, hold payouts, ask a verifier of the provider's own kind of machine.
    Escalate,
    /// What it served is refunded and it is offered no longer; it may be nothing but a wrong setting.
    RefundAndDelist,
    Slash,
}

impl Sanction {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Sanction::None => "none",
            Sanction::Escalate => "escalate",
            Sanction::RefundAndDelist => "refund_and_delist",
            Sanction::Slash => "slash",
        }
    }
}

/// What a verifier commits to before it reveals its verdict: a digest that tells nothing without the salt, and
/// is worth nothing to another verifier or for another commitment.
pub fn verdict_commitment(
    chain_id: &ChainId,
    verifier: &Address,
    commitment: &CommitmentId,
    salt: &[u8; 32],
    verdict: &Verdict,
) -> Hash32 {
    let said = (chain_id, verifier, commitment, salt, verdict);
    crate::hash::sha256_of(&[b"peerwatt/verdict\0"], &said)
}

/// What a provider seals a commitment with: whether its receipts are of faults that it planted, which nobody sees
/// who does not know the salt. All of them are then.
pub fn seal(salt: &Hash32, planted: bool) -> Hash32 {
    sha256(&[b"peerwatt/seal\0", &salt.0, &[u8::from(planted)]])
}

/// Whether the beacon that came after a receipt was committed to has chosen it for an audit: the first
/// 64 bits, big-endian, of the SHA-256 of `peerwatt/audit\0`, beacon and receipt's digest, as a share of
/// 2⁶⁴, are below `share`.
pub fn selected(beacon: &Hash32, receipt: &Hash32, share: Ppm) -> bool {
    const MILLION: u128 = 1_000_000;
    let digest = sha256(&[b"peerwatt/audit\0", &beacon.0, &receipt.0]);
    let first = digest.0.first_chunk().copied().map_or(u64::MAX, u64::from_be_bytes);
    u128::from(first).saturating_mul(MILLION) < u128::from(share.get()) << 64
}

#[cfg(test)]
mod tests;
