//! Parameters of audits.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    amount::{Ppm, Watt},
    id::ModelId,
};

/// Whether audits have consequences.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum AuditMode {
    /// Commitments are refused.
    Off,
    /// Everything is audited and judged, and nothing follows.
    Shadow,
    /// Consequences for the models of [`AuditParams::enforced`]; the others stay in the shadow.
    Enforced,
}

/// How providers are audited (ECONOMICS E9).
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditParams {
    pub mode: AuditMode,
    /// Ascending, at most [`ENFORCED_MAX`].
    pub enforced: Vec<ModelId>,
    /// Verifiers of a round.
    pub verifiers: u32,
    /// Commitments of one provider that wait or are being audited at once, and of those that are demanded of it, those of one payer.
    pub open_max: u32,
    /// From the opening of a round: for committing to verdicts, and after that for revealing them.
    pub commit_ms: u64,
    pub reveal_ms: u64,
    /// How long a round stays open after the last verifier committed, so that a provider can break the seal of planted faults.
    pub seal_ms: u64,
    /// Share of the receipts that is audited: of a newcomer, and at least. It halves with every so many passes.
    pub share_max: Ppm,
    pub share_min: Ppm,
    pub halving_passes: u32,
    /// What is left of a provider's name at every round that counts.
    pub memory: Ppm,
    /// How much more a failure weighs than a pass.
    pub failure_weight: u32,
    /// How long everything is audited, and claims wait, after evidence that is not enough.
    pub escalate_ms: u64,
    /// How long claims of a provider that opens nothing wait until they are refunded.
    pub missing_ms: u64,
    /// How long a provider is not chosen for a model.
    pub delist_ms: u64,
    /// The share of passes below which a provider is not chosen for a model, from which on it is again, and how
    /// much the last round weighs in it.
    pub quality_min: Ppm,
    pub quality_resume: Ppm,
    pub quality_weight: Ppm,
    /// What a verifier is paid for a verdict that scored something: more than its two transactions cost.
    pub pay: Watt,
    /// What an appeal costs that does not pass.
    pub appeal_deposit: Watt,
    /// What a payer's demand costs if the answer passes: more than its verifiers are paid.
    pub demand_deposit: Watt,
    /// How old an answer may be that a payer demands to have audited, and how long any commitment may wait for its beacon.
    /// Providers keep what opens an answer for twice that, a day.
    pub demand_age_ms: u64,
    /// What an auditor is paid for a canary that it reports: what the answer and the report cost, and how often at most.
    pub canary_pay: Watt,
    pub canary_every_ms: u64,
}

impl AuditParams {
    /// Whether audits of this model have consequences.
    pub fn is_enforced(&self, model: &ModelId) -> bool {
        match self.mode {
            AuditMode::Off | AuditMode::Shadow => false,
            AuditMode::Enforced => self.enforced.binary_search(model).is_ok(),
        }
    }
}

/// Models that can be enforced at once: each was calibrated by hand.
pub const ENFORCED_MAX: usize = 256;
/// Verifiers of one round: their verdicts are kept in the state until it is over.
pub const VERIFIERS_MAX: u32 = 16;
