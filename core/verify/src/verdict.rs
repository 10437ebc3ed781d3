//! What follows from evidence: the verdict of one audit, and the sanction that several of them justify.
//!
//! An error of ours or an accident of an engine must never cost a stake: plumbing has caused more false alarms
//! than sampling (Gonka's parsers). So much evidence alone only delists; to slash, another, cheaper model
//! must explain the answers, or what was reported must contradict the draws on its face.

use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{Hash32, ModelId};

use crate::{
    eprocess::{ALONE, ESCALATE, MilliNats, PAIRED},
    identify::{Identified, Worth},
    l0::{Counts, SUSPENDED_PERCENT, UNEXPLAINED_MAX},
};

/// Tokens that an audit must have scored to say that all is well, with log-probabilities of the provider
/// and without: what finds a 4-bit model sold as an 8-bit one in real chats.
pub const TOKENS_MIN_L1: u32 = 50;
pub const TOKENS_MIN_L2: u32 = 1_000;
/// Of the scored tokens at least so many must have been replayed, unless the verifier drew them itself.
const REPLAYED_PERCENT_MIN: u32 = 95;
/// Pieces of evidence that a sanction looks at.
pub const EVIDENCE_MAX: usize = 64;

/// ln 2, rounded up: what is lost by betting half on each of two.
const HALF: i64 = 694;

/// What an audit says.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[borsh(use_discriminant = false)]
pub enum Verdict {
    Pass,
    Fail,
    /// It cannot tell, which costs nobody anything.
    Inconclusive,
}

/// Kinds of machine whose arithmetic differs: an honest mean is calibrated for each.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
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

/// What one verifier found of one set of responses of a provider and a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// Digests of the receipts.
    pub responses: BTreeSet<Hash32>,
    /// The verifier's.
    pub backend: Backend,
    /// Tokens that were scored.
    pub tokens: u32,
    /// Of all the responses together.
    pub replay: Counts,
    /// The process over the scores of L1, if log-probabilities were reported.
    pub l1: Option<MilliNats>,
    /// The process over the scores of L2, if the responses can be replayed.
    pub l2: Option<MilliNats>,
    pub identified: Option<Identified>,
}

impl Evidence {
    /// The evidence of both levels: half was bet on each, so that it is still evidence. `None` if nothing was scored.
    pub fn ln_e(&self) -> Option<MilliNats> {
        match (self.l1, self.l2) {
            (Some(l1), Some(l2)) => Some(MilliNats(l1.max(l2).0.saturating_sub(HALF))),
            (one, other) => one.or(other),
        }
    }

    fn reaches(&self, threshold: MilliNats) -> bool {
        self.ln_e().is_some_and(|ln_e| ln_e >= threshold)
    }

    /// A cheaper model that explains the responses.
    fn cheaper(&self) -> Option<ModelId> {
        let cheaper = self.identified.filter(|identified| identified.worth == Worth::Cheaper);
        cheaper.map(|identified| identified.model)
    }

    fn is_suspicious(&self) -> bool {
        let Counts { unexplained, .. } = self.replay;
        let suspended = unexplained > UNEXPLAINED_MAX && self.replay.exceeds(SUSPENDED_PERCENT);
        suspended || self.reaches(ESCALATE)
    }

    /// Whether enough was scored to pass. What was reported alone does not suffice, for a provider may
    /// report what another model said; it must have been drawn from it.
    fn suffices(&self) -> bool {
        let share = |count: u32, times: u32| u64::from(count).saturating_mul(u64::from(times));
        let replayed =
            share(self.replay.replayed(), 100) >= share(self.tokens, REPLAYED_PERCENT_MIN);
        let drawn = replayed || self.l2.is_some();
        let with_l1 = self.l1.is_some() && self.tokens >= TOKENS_MIN_L1 && drawn;
        with_l1 || (self.l2.is_some() && self.tokens >= TOKENS_MIN_L2)
    }

    /// What this audit says.
    pub fn verdict(&self) -> Verdict {
        if self.replay.failed() || self.reaches(PAIRED) {
            Verdict::Fail
        } else if self.is_suspicious() || !self.suffices() {
            Verdict::Inconclusive
        } else {
            Verdict::Pass
        }
    }
}

/// What all evidence against a provider justifies, the mildest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Sanction {
    None,
    /// Audit everything, hold payouts, ask a verifier of the provider's own kind of machine.
    Escalate,
    /// What it served is refunded and it is offered no longer; it may be nothing but a wrong setting.
    RefundAndDelist,
    Slash,
}

/// Slash if a replay failed; or if one set of responses reaches [`ALONE`], or two that share none reach
/// [`PAIRED`] on two kinds of machine, and a cheaper model is identified by each, the same. Refund and delist
/// at [`ALONE`] without it. What is about no responses, or beyond [`EVIDENCE_MAX`], is not looked at.
pub fn sanction(evidence: &[Evidence]) -> Sanction {
    let about_some = evidence.iter().filter(|it| !it.responses.is_empty());
    let evidence: Vec<&Evidence> = about_some.take(EVIDENCE_MAX).collect();
    let alone = |it: &Evidence| it.reaches(ALONE) && it.cheaper().is_some();
    let paired = |it: &Evidence| {
        it.reaches(PAIRED) && evidence.iter().any(|other| other.reaches(PAIRED) && agree(it, other))
    };
    if evidence.iter().any(|it| it.replay.failed() || alone(it) || paired(it)) {
        Sanction::Slash
    } else if evidence.iter().any(|it| it.reaches(ALONE)) {
        Sanction::RefundAndDelist
    } else if evidence.iter().any(|it| it.is_suspicious()) {
        Sanction::Escalate
    } else {
        Sanction::None
    }
}

/// Whether two verifiers of different kinds name the same cheaper model, from responses they do not share.
fn agree(one: &Evidence, other: &Evidence) -> bool {
    one.cheaper().is_some()
        && one.cheaper() == other.cheaper()
        && one.backend != other.backend
        && one.responses.is_disjoint(&other.responses)
}

#[cfg(test)]
mod tests;
