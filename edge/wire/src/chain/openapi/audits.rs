//! Samples of what the chain API says of audits.

use types::{
    Height, Lane, Ppm, RequestId, Signature,
    audit::{
        AuditOutcome, Backend, Beacon, ClosedRound, CommitmentId, Demand, Effect, Evidence,
        Identified, KeptEvidence, MilliNats, ReceiptsCommitment, ReplayCounts, Responses, Sanction,
        Standing, VerifierRecord, Worth,
    },
    inference::{CountMethod, FinishReason},
    price::Price,
    receipt::Acknowledgement,
    sign::Signed,
};

use super::{ADDRESS, CHANNEL, HASH, KEY, MODEL, TIME, USD, WATT, name};
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
        demand: Some(Box::new(demand())),
        verifiers: vec![VerifierView {
            verifier: ADDRESS,
            committed: Some(HASH),
            outcome: Some(AuditOutcome::Pass),
        }],
    }
}

fn demand() -> Demand {
    let acknowledgement = Acknowledgement {
        request_id: RequestId([0; 16]),
        attempt: 0,
        provider: ADDRESS,
        model: MODEL,
        prompt_hash: HASH,
        response_hash: HASH,
        transcript_root: HASH,
        prompt_tokens: 1,
        delivered_tokens: 1,
        counted: CountMethod::TokenIds,
        price: Price {
            request_nusd: USD,
            prompt_nusd_per_mtok: USD,
            completion_nusd_per_mtok: USD,
        },
        channel: CHANNEL,
        lane: Lane(0),
        lane_total_before: USD,
        lane_total: USD,
        report_hash: Some(HASH),
        finish: FinishReason::Stop,
        ended_at: TIME,
    };
    let signature = Signature([0; 64]);
    let acknowledgement = Signed { value: acknowledgement, signer: KEY, signature };
    Demand { payer: ADDRESS, deposit: WATT, acknowledgement }
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
            canaries_paid: WATT,
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
            demanded_by: Some(ADDRESS),
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
        projections: Some(MilliNats(0)),
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
    let record = VerifierRecord {
        rounds: 1,
        missed: 0,
        planted_right: 0,
        planted_wrong: 0,
        canaries: 0,
        canary_paid_at: Some(TIME),
    };
    AuditorView { operator: ADDRESS, node_key: KEY, addrs: vec![name()], record: Some(record) }
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
        projections: Some(Ppm::ONE),
        tokens: 0,
    }
}
