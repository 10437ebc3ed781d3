//! Samples of what the chain API says of audits.

use types::{
    Height, Ppm,
    audit::{
        AuditOutcome, Backend, Beacon, ClosedRound, CommitmentId, Effect, Evidence, Identified,
        KeptEvidence, MilliNats, ReceiptsCommitment, ReplayCounts, Responses, Sanction, Standing,
        Worth,
    },
};

use super::{ADDRESS, HASH, KEY, MODEL, TIME, WATT, name};
use crate::chain::{
    AuditorView, AuditsView, CalibrationView, CommitmentView, ExclusionView, ModelAuditsView,
    ProviderAuditsView, RoundView, VerifierView,
};

pub(super) const BEACON: Beacon = Beacon { period: 0, value: HASH, reveals: 0 };
const COMMITMENT: CommitmentId = CommitmentId { provider: ADDRESS, sequence: 0 };
const RECEIPTS: ReceiptsCommitment = ReceiptsCommitment { model: MODEL, root: HASH, count: 1 };

pub(super) fn round() -> RoundView {
    RoundView {
        commitment: COMMITMENT,
        receipts: RECEIPTS,
        height: Height(1),
        beacon: BEACON,
        share: Ppm::ONE,
        opened_at: TIME,
        commit_by: TIME,
        reveal_by: TIME,
        planted: false,
        is_appeal: false,
        verifiers: vec![VerifierView {
            verifier: ADDRESS,
            committed: Some(HASH),
            outcome: Some(AuditOutcome::Pass),
        }],
    }
}

fn closed() -> ClosedRound {
    ClosedRound {
        commitment: COMMITMENT,
        receipts: RECEIPTS,
        beacon: BEACON,
        share: Ppm::ONE,
        closed_at: TIME,
        // Pairs of a verifier and what it said, or null.
        verdicts: vec![(ADDRESS, Some(AuditOutcome::Pass))],
        outcome: AuditOutcome::Pass,
        would_be: Sanction::None,
        sanction: Sanction::None,
        planted: false,
        height: Height(1),
        effect: Effect {
            bad: 0,
            passes: 0,
            quality_before: Ppm::ONE,
            quality_after: Ppm::ONE,
            suspended: false,
            delisted_until: Some(TIME),
        },
        is_appeal: false,
        appealed: false,
    }
}

pub(super) fn audits() -> AuditsView {
    AuditsView { open: vec![round()], closed: vec![closed()] }
}

pub(super) fn audits_of_provider() -> ProviderAuditsView {
    ProviderAuditsView {
        provider: ADDRESS,
        standing: Standing {
            good: 0,
            bad: 0,
            passes: 0,
            earned: WATT,
            escalated_until: Some(TIME),
            held_until: Some(TIME),
            missing_since: Some(TIME),
            refund_until: Some(TIME),
            verifiers_paid: WATT,
        },
        reputation: Ppm::ONE,
        share: Ppm::ONE,
        waiting: vec![CommitmentView {
            commitment: COMMITMENT,
            receipts: RECEIPTS,
            height: Height(1),
            made_at: TIME,
            period: 0,
            is_appeal: false,
        }],
        open: vec![round()],
        closed: vec![closed()],
        models: vec![ModelAuditsView {
            model: MODEL,
            enforced: true,
            quality: Ppm::ONE,
            suspended: true,
            delisted_until: Some(TIME),
            evidence: vec![kept()],
        }],
    }
}

fn kept() -> KeptEvidence {
    let evidence = Evidence {
        model: MODEL,
        backend: Backend::CpuX86,
        responses: Responses::of([HASH]).unwrap_or_default(),
        tokens: 0,
        replay: ReplayCounts::default(),
        l1: Some(MilliNats(0)),
        l2: Some(MilliNats(0)),
        identified: Some(Identified { model: MODEL, worth: Worth::Cheaper, ratio: MilliNats(0) }),
    };
    KeptEvidence {
        commitment: COMMITMENT,
        verifier: ADDRESS,
        height: Height(1),
        found_at: TIME,
        counts: true,
        evidence,
    }
}

pub(super) fn auditor() -> AuditorView {
    AuditorView { operator: ADDRESS, node_key: KEY, addrs: vec![name()] }
}

pub(super) fn exclusion() -> ExclusionView {
    ExclusionView { provider: ADDRESS, model: MODEL, suspended: true, delisted_until: Some(TIME) }
}

pub(super) fn calibration() -> CalibrationView {
    CalibrationView {
        model: MODEL,
        backend: Backend::CpuX86,
        l1: Ppm::ONE,
        l2: Ppm::ONE,
        tokens: 0,
    }
}
