//! The canonical bytes of what is said and kept of audits, as fixtures, like those in `canonical.rs`.

use std::fmt::Debug;

use borsh::{BorshDeserialize, BorshSerialize};
use expect_test::{Expect, expect};
use types::{
    Address, Hash32, Height, ModelId, Ppm, TimeMs, Watt,
    audit::{
        self, AuditOutcome, Backend, Beacon, Calibration, CommitmentId, Identified, KeptEvidence,
        MilliNats, ModelStanding, ReceiptsCommitment, ReplayCounts, Responses, Round, Said,
        Standing, Verdict, Worth, verdict_commitment,
    },
    hash::to_hex,
    state::StateKey,
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
        identified: Some(Identified { model: MODEL, worth: Worth::Cheaper, ratio: MilliNats(10) }),
    };
    Verdict { outcome: AuditOutcome::Fail, evidence: Some(evidence) }
}

#[test]
fn actions_of_audits() {
    let commitment = CommitmentId { provider: OTHER, sequence: 6 };
    let (hash, salt) = (Hash32([7; 32]), Hash32([2; 32]));
    let calibration = Calibration { l1: Ppm::ONE_PERCENT, l2: Ppm::ONE, tokens: 8 };
    check(&Action::CommitReceipts { receipts: receipts() }, expect![""]);
    check(&Action::CommitVerdict { commitment, hash }, expect![""]);
    check(&Action::RevealVerdict { commitment, verdict: Box::new(verdict()), salt }, expect![""]);
    check(
        &Action::PublishCalibration { model: MODEL, backend: Backend::Rocm, calibration },
        expect![""],
    );
    let chain_id: types::ChainId = "peerwatt-1".parse().unwrap();
    let said = verdict_commitment(&chain_id, &ADDRESS, &commitment, &salt.0, &verdict());
    expect![""].assert_eq(&said.to_string());
    let salts = [(&ADDRESS, &salt), (&OTHER, &hash)];
    expect![""].assert_eq(&Beacon::default().next(1, salts).value.to_string());
}

#[test]
fn entries_of_audits() {
    let commitment = CommitmentId { provider: OTHER, sequence: 6 };
    let beacon = Beacon { period: 1, value: Hash32([4; 32]), reveals: 2 };
    check(&beacon, expect![""]);
    let seat = |said| audit::Seat { verifier: ADDRESS, said };
    check(
        &Round {
            receipts: receipts(),
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
        },
        expect![""],
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
    };
    check(&standing, expect![""]);
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
        expect![""],
    );
    for (key, expected) in [
        (StateKey::Beacon, expect![""]),
        (StateKey::Round { commitment }, expect![""]),
        (StateKey::Standing { provider: OTHER }, expect![""]),
        (StateKey::ModelStanding { provider: OTHER, model: MODEL }, expect![""]),
    ] {
        expected.assert_eq(&format!("{} {}", to_hex(&key.key()), key.path()));
    }
}
