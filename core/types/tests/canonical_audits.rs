//! The canonical bytes of what is said and kept of audits, as fixtures, like those in `canonical.rs`.

use std::fmt::Debug;

use borsh::{BorshDeserialize, BorshSerialize};
use expect_test::{Expect, expect};
use types::{
    Address, ChannelId, Hash32, Height, Lane, ModelId, Nusd, Ppm, PublicKey, RequestId, Signature,
    TimeMs, Watt,
    audit::{
        self, AuditOutcome, Backend, Beacon, Calibration, CommitmentId, Identified, KeptEvidence,
        MilliNats, ModelStanding, ReceiptsCommitment, ReplayCounts, Responses, Round, Said,
        Standing, Verdict, Worth, verdict_commitment,
    },
    hash::to_hex,
    inference::{CountMethod, FinishReason},
    price::Price,
    receipt::Acknowledgement,
    sign::Signed,
    state::{AuditorEntry, StateKey},
    tx::Action,
};

const ADDRESS: Address = Address([0xa1; 20]);
const OTHER: Address = Address([0xa2; 20]);
const MODEL: ModelId = ModelId([0xf1; 32]);

/// The bytes must be as expected, read back as the same value, and take no byte more or less.
fn check<T: BorshSerialize + BorshDeserialize + PartialEq + Debug>(value: &T, expected: Expect) {
    let bytes = borsh::to_vec(value).unwrap();
    expected.assert_eq(&to_hex(&bytes));
    assert_eq!(borsh::from_slice::<T>(&bytes).unwrap(), *value);
    assert!(borsh::from_slice::<T>(&bytes[..bytes.len() - 1]).is_err());
    assert!(borsh::from_slice::<T>(&[&bytes[..], &[0]].concat()).is_err());
}

fn receipts() -> ReceiptsCommitment {
    ReceiptsCommitment { model: MODEL, root: Hash32([1; 32]), count: 2 }
}

fn verdict() -> Verdict {
    let evidence = audit::Evidence {
        model: MODEL,
        backend: Backend::Metal,
        responses: Responses::of([Hash32([3; 32])]).unwrap(),
        tokens: 4,
        replay: ReplayCounts { matched: 5, excused: 6, unexplained: 7, unreported: 8 },
        l1: Some(MilliNats(9)),
        l2: Some(MilliNats(-1)),
        projections: Some(MilliNats(2)),
        identified: Some(Identified { model: MODEL, worth: Worth::Cheaper, ratio: MilliNats(10) }),
    };
    Verdict { outcome: AuditOutcome::Fail, evidence: Some(evidence) }
}

fn demand() -> audit::Demand {
    let acknowledgement = Acknowledgement {
        request_id: RequestId([4; 16]),
        attempt: 1,
        provider: OTHER,
        model: MODEL,
        prompt_hash: Hash32([5; 32]),
        response_hash: Hash32([6; 32]),
        transcript_root: Hash32([7; 32]),
        prompt_tokens: 2,
        delivered_tokens: 3,
        counted: CountMethod::TokenIds,
        price: Price {
            request_nusd: Nusd(1),
            prompt_nusd_per_mtok: Nusd(2),
            completion_nusd_per_mtok: Nusd(3),
        },
        channel: ChannelId([8; 32]),
        lane: Lane(4),
        lane_total_before: Nusd(5),
        lane_total: Nusd(6),
        report_hash: Some(Hash32([9; 32])),
        finish: FinishReason::Stop,
        ended_at: TimeMs(7),
    };
    let (signer, signature) = (PublicKey([10; 32]), Signature([11; 64]));
    let acknowledgement = Signed { value: acknowledgement, signer, signature };
    audit::Demand { payer: ADDRESS, deposit: Watt(12), acknowledgement }
}

#[test]
fn actions_of_audits() {
    let commitment = CommitmentId { provider: OTHER, sequence: 6 };
    let (hash, salt) = (Hash32([7; 32]), Hash32([2; 32]));
    let calibration = Calibration {
        l1: Ppm::ONE_PERCENT,
        l2: Ppm::ONE,
        projections: Some(Ppm::ONE_PERCENT),
        tokens: 8,
    };
    check(
        &Action::CommitReceipts { receipts: receipts(), seal: audit::seal(&salt, true) },
        expect![
            "1af1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1010101010101010101010101010101010101010101010101010101010101010102000000eb5f3dc50b7796915db7c2cf653f25179fbd4439685a1477de2906faf02dd7f6"
        ],
    );
    check(
        &Action::CommitVerdict { commitment, hash },
        expect![
            "1ba2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a206000000000000000707070707070707070707070707070707070707070707070707070707070707"
        ],
    );
    check(
        &Action::RevealVerdict { commitment, verdict: Box::new(verdict()), salt },
        expect![
            "1ca2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a206000000000000000101f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f104010000000303030303030303030303030303030303030303030303030303030303030303040000000500000006000000070000000800000001090000000000000001ffffffffffffffff01020000000000000001f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1000a000000000000000202020202020202020202020202020202020202020202020202020202020202"
        ],
    );
    check(
        &Action::PublishCalibration { model: MODEL, backend: Backend::Rocm, calibration },
        expect![
            "1df1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1061027000040420f0001102700000800000000000000"
        ],
    );
    check(
        &Action::RegisterAuditor {
            node_key: PublicKey([0xb1; 32]),
            addrs: vec!["127.0.0.1:1".to_owned()],
        },
        expect![
            "1eb1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1010000000b0000003132372e302e302e313a31"
        ],
    );
    check(
        &Action::RevealPlanted { commitment, salt },
        expect![
            "1fa2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a206000000000000000202020202020202020202020202020202020202020202020202020202020202"
        ],
    );
    check(
        &Action::Appeal { commitment },
        expect!["20a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a20600000000000000"],
    );
    check(
        &Action::ReportCanary { provider: OTHER, verdict: Box::new(verdict()) },
        expect![
            "21a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a20101f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f104010000000303030303030303030303030303030303030303030303030303030303030303040000000500000006000000070000000800000001090000000000000001ffffffffffffffff01020000000000000001f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1000a00000000000000"
        ],
    );
    let chain_id: types::ChainId = "peerwatt-1".parse().unwrap();
    let said = verdict_commitment(&chain_id, &ADDRESS, &commitment, &salt.0, &verdict());
    expect!["db7e5f6e079668372cc7ef6769913894dce5f57b61cf4883c3b3b16abafce4ed"]
        .assert_eq(&said.to_string());
    let salts = [(&ADDRESS, &salt), (&OTHER, &hash)];
    expect!["d9571adc6aac096345d1bd0b35b1f04d369c24de661588ff03c0573ff63e3dcc"]
        .assert_eq(&Beacon::default().next(1, salts).value.to_string());
}

#[test]
fn entries_of_audits() {
    let commitment = CommitmentId { provider: OTHER, sequence: 6 };
    let beacon = Beacon { period: 1, value: Hash32([4; 32]), reveals: 2 };
    check(
        &beacon,
        expect![
            "0100000000000000040404040404040404040404040404040404040404040404040404040404040402000000"
        ],
    );
    let seat = |said| audit::Seat { verifier: ADDRESS, said };
    check(
        &Round {
            receipts: receipts(),
            seal: audit::seal(&Hash32([2; 32]), false),
            planted: true,
            height: Height(9),
            beacon,
            share: Ppm::ONE_PERCENT,
            opened_at: TimeMs(1),
            commit_by: TimeMs(2),
            reveal_by: TimeMs(3),
            closes_at: TimeMs(4),
            seats: vec![
                seat(Said::Nothing),
                seat(Said::Committed { hash: Hash32([7; 32]) }),
                seat(Said::Revealed { verdict: verdict() }),
            ],
            appeal: Some(audit::Appeal {
                without: vec![OTHER],
                weak: true,
                deposit: Watt(5),
                effect: audit::Effect {
                    bad: 6,
                    passes: 7,
                    quality_before: Ppm::ONE,
                    quality_after: Ppm::ONE_PERCENT,
                    suspended: true,
                    delisted_until: Some(TimeMs(8)),
                },
            }),
            demand: Some(Box::new(demand())),
        },
        expect![
            "f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f101010101010101010101010101010101010101010101010101010101010101010200000009973666d0f3ca8100372d3d15bb10358c37f105e6a4353671fc2d5a96d1846a010900000000000000010000000000000004040404040404040404040404040404040404040404040404040404040404040200000010270000010000000000000002000000000000000300000000000000040000000000000003000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a100a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1010707070707070707070707070707070707070707070707070707070707070707a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1020101f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f104010000000303030303030303030303030303030303030303030303030303030303030303040000000500000006000000070000000800000001090000000000000001ffffffffffffffff01020000000000000001f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1000a000000000000000101000000a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2010500000000000000000000000000000006000000000000000700000040420f00102700000101080000000000000001a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a10c000000000000000000000000000000040404040404040404040404040404040100a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f105050505050505050505050505050505050505050505050505050505050505050606060606060606060606060606060606060606060606060606060606060606070707070707070707070707070707070707070707070707070707070707070702000000030000000001000000000000000000000000000000020000000000000000000000000000000300000000000000000000000000000008080808080808080808080808080808080808080808080808080808080808080400000005000000000000000000000000000000060000000000000000000000000000000109090909090909090909090909090909090909090909090909090909090909090007000000000000000a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"
        ],
    );
    let standing = Standing {
        good: 1,
        bad: 2,
        passes: 3,
        earned: Watt(4),
        escalated_until: Some(TimeMs(5)),
        held_until: Some(TimeMs(6)),
        missing_since: Some(TimeMs(7)),
        refund_until: Some(TimeMs(8)),
        verifiers_paid: Watt(9),
        canaries_paid: Watt(10),
    };
    check(
        &standing,
        expect![
            "010000000000000002000000000000000300000004000000000000000000000000000000010500000000000000010600000000000000010700000000000000010800000000000000090000000000000000000000000000000a000000000000000000000000000000"
        ],
    );
    let kept = KeptEvidence {
        commitment,
        verifier: ADDRESS,
        height: Height(9),
        found_at: TimeMs(1),
        counts: true,
        evidence: verdict().evidence.unwrap(),
    };
    check(
        &ModelStanding {
            evidence: vec![kept],
            quality: Ppm::ONE_PERCENT,
            suspended: true,
            delisted_until: Some(TimeMs(2)),
        },
        expect![
            "01000000a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a20600000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a10900000000000000010000000000000001f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f104010000000303030303030303030303030303030303030303030303030303030303030303040000000500000006000000070000000800000001090000000000000001ffffffffffffffff01020000000000000001f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1000a000000000000001027000001010200000000000000"
        ],
    );
    check(
        &AuditorEntry { node_key: PublicKey([0xb1; 32]), addrs: vec!["127.0.0.1:1".to_owned()] },
        expect![
            "b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1010000000b0000003132372e302e302e313a31"
        ],
    );
    for (key, expected) in [
        (
            StateKey::Auditor { operator: OTHER },
            expect![
                "a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2 f5b86d5afe88619fa971bf6470b982063b7c37676f7b5f65db156f31c9a0049d"
            ],
        ),
        (
            StateKey::Beacon,
            expect![" f7c3d237eb300d1dec1e8df0163558cbd57a1bd4d221f9a13964988a7401ff8f"],
        ),
        (
            StateKey::Round { commitment },
            expect![
                "a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a20600000000000000 3f6307fb4a3c645691b57479edcf9b8e9d672a1e41d081ae10b900564f5dcdc0"
            ],
        ),
        (
            StateKey::Standing { provider: OTHER },
            expect![
                "a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2 ddd5a8426ef28c288befe4d804092cb762074217255f6a70ce76f7ea8ecae076"
            ],
        ),
        (
            StateKey::ModelStanding { provider: OTHER, model: MODEL },
            expect![
                "a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1 330184cc94157a5e42e85ccc88e55b54bf1d6a0661d0fe8d3d710db10aaa22d1"
            ],
        ),
    ] {
        expected.assert_eq(&format!("{} {}", to_hex(&key.key()), key.path()));
    }
}
