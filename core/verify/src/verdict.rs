//! What one audit says, from the evidence that it found. What several of them justify is the ledger's to say.

use types::audit::{AuditOutcome, Evidence};

pub use types::audit::Backend;

/// Tokens that an audit must have scored to say that all is well, with log-probabilities of the provider
/// and without: what finds a 4-bit model sold as an 8-bit one in real chats.
pub const TOKENS_MIN_L1: u32 = 50;
pub const TOKENS_MIN_L2: u32 = 1_000;
/// Of the scored tokens at least so many must have been replayed, unless the verifier drew them itself.
const REPLAYED_PERCENT_MIN: u32 = 95;

/// What an audit that found this says: it fails, passes, or cannot tell.
pub fn outcome(evidence: &Evidence) -> AuditOutcome {
    if evidence.fails() {
        AuditOutcome::Fail
    } else if evidence.is_suspicious() || !suffices(evidence) {
        AuditOutcome::Inconclusive
    } else {
        AuditOutcome::Pass
    }
}

/// Whether enough was scored to pass. What was reported alone does not suffice, for a provider may
/// report what another model said; it must have been drawn from it.
fn suffices(evidence: &Evidence) -> bool {
    let Evidence { tokens, replay, l1, l2, .. } = evidence;
    let share = |count: u32, times: u32| u64::from(count).saturating_mul(u64::from(times));
    let replayed = share(replay.replayed(), 100) >= share(*tokens, REPLAYED_PERCENT_MIN);
    let drawn = replayed || l2.is_some();
    let with_l1 = l1.is_some() && *tokens >= TOKENS_MIN_L1 && drawn;
    with_l1 || (l2.is_some() && *tokens >= TOKENS_MIN_L2)
}

#[cfg(test)]
mod tests;
