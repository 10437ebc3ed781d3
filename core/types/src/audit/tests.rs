//! Statements about audits are bounded, bound to who says them, and do not contradict themselves.

use super::*;
use crate::id::{Height, PublicKey, TimeMs};

fn digest(n: u8) -> Hash32 {
    Hash32([n; 32])
}

fn evidence(l1: i64, replay: ReplayCounts) -> Evidence {
    Evidence {
        model: ModelId([1; 32]),
        backend: Backend::CpuX86,
        responses: Responses::of([digest(1)]).unwrap(),
        tokens: 50,
        replay,
        l1: Some(MilliNats(l1)),
        l2: None,
        projections: None,
        identified: None,
    }
}

#[test]
fn of_several_levels_what_was_bet_on_each_is_lost() {
    let some = |ln_e| Some(MilliNats(ln_e));
    for (levels, expected) in [
        ([None, None, None], None),
        ([None, some(-5), None], some(-5)),
        ([some(7), some(1_000), None], some(306)),
        ([some(7), None, some(1_000)], some(306)),
        ([some(-9), some(-7), some(-8)], some(-1_106)),
        ([some(i64::MIN); 3], some(i64::MIN)),
    ] {
        assert_eq!(together(levels), expected, "{levels:?}");
    }
}

#[test]
fn responses_are_sorted_distinct_and_bounded() {
    let responses = Responses::of([digest(3), digest(1), digest(3)]).unwrap();
    assert_eq!(responses.as_slice(), [digest(1), digest(3)]);
    let bytes = borsh::to_vec(&responses).unwrap();
    assert_eq!(borsh::from_slice::<Responses>(&bytes).unwrap(), responses);
    let json = serde_json::to_string(&responses).unwrap();
    assert_eq!(serde_json::from_str::<Responses>(&json).unwrap(), responses);
    let many = |count: u8| Responses::of((0..count).map(digest));
    assert!(many(64).is_some() && many(65).is_none());
    for bad in [vec![digest(2), digest(1)], vec![digest(1); 2], (0..65).map(digest).collect()] {
        let bytes = borsh::to_vec(&bad).unwrap();
        assert!(borsh::from_slice::<Responses>(&bytes).is_err(), "{bad:?}");
        let json = serde_json::to_string(&bad).unwrap();
        assert!(serde_json::from_str::<Responses>(&json).is_err(), "{bad:?}");
    }
    // A length that nothing follows is refused before anything is kept for it.
    assert!(borsh::from_slice::<Responses>(&u32::MAX.to_le_bytes()).is_err());
    let others = Responses::of([digest(2)]).unwrap();
    assert!(responses.is_disjoint(&others) && !responses.is_disjoint(&responses));
}

#[test]
fn commitments_and_kinds_of_machine_round_trip_as_text() {
    let id = CommitmentId { provider: Address([7; 20]), sequence: 3 };
    assert_eq!(id.to_string().parse(), Ok(id));
    for bad in ["", "/3", &id.provider.to_string(), &format!("{}/x", id.provider)] {
        assert!(bad.parse::<CommitmentId>().is_err(), "{bad}");
    }
    for backend in Backend::ALL {
        assert_eq!(backend.name().parse(), Ok(backend));
        let json = serde_json::to_string(&backend).unwrap();
        assert_eq!(json, format!("\"{}\"", backend.name()));
    }
    assert!("gpu".parse::<Backend>().is_err());
}

#[test]
fn a_commitment_is_to_some_receipts_and_not_to_too_many() {
    let of = |count: usize| ReceiptsCommitment::of(ModelId([1; 32]), &vec![digest(1); count]);
    assert_eq!(of(0), None);
    assert_eq!(of(1).map(|it| it.count), Some(1));
    let max = usize::try_from(AUDIT_RECEIPTS_MAX).unwrap();
    assert!(of(max).is_some() && of(max + 1).is_none());
}

#[test]
fn an_outcome_does_not_contradict_its_evidence() {
    use AuditOutcome::{Abstained, Fail, Inconclusive, Missing, Pass};
    let none = ReplayCounts::default();
    let failed = ReplayCounts { matched: 25, unexplained: 7, ..none };
    let doubtful = ReplayCounts { matched: 56, unexplained: 3, ..none };
    let about_nothing = Evidence { responses: Responses::default(), ..evidence(0, none) };
    for (evidence, consistent) in [
        (Some(evidence(0, none)), vec![Pass, Inconclusive]),
        (Some(evidence(9_210, none)), vec![Pass, Inconclusive]),
        (Some(evidence(9_211, none)), vec![Inconclusive]),
        (Some(evidence(13_815, none)), vec![Inconclusive]),
        (Some(evidence(13_816, none)), vec![Fail, Inconclusive]),
        (Some(evidence(0, doubtful)), vec![Inconclusive]),
        (Some(evidence(0, failed)), vec![Fail, Inconclusive]),
        (Some(about_nothing), vec![]),
        (None, vec![Abstained, Missing]),
    ] {
        for outcome in [Pass, Fail, Inconclusive, Abstained, Missing] {
            let verdict = Verdict { outcome, evidence: evidence.clone() };
            assert_eq!(verdict.is_consistent(), consistent.contains(&outcome), "{verdict:?}");
        }
    }
}

#[test]
fn a_verdict_commitment_binds_network_verifier_commitment_salt_and_verdict() {
    let chain = |name: &str| name.parse::<ChainId>().unwrap();
    let address = |n: u8| Address::of_key(&PublicKey([n; 32]));
    let id = |sequence| CommitmentId { provider: address(9), sequence };
    let verdict = |l1| Verdict {
        outcome: AuditOutcome::Pass,
        evidence: Some(evidence(l1, ReplayCounts::default())),
    };
    let base = verdict_commitment(&chain("a"), &address(1), &id(0), &[0; 32], &verdict(0));
    for other in [
        verdict_commitment(&chain("b"), &address(1), &id(0), &[0; 32], &verdict(0)),
        verdict_commitment(&chain("a"), &address(2), &id(0), &[0; 32], &verdict(0)),
        verdict_commitment(&chain("a"), &address(1), &id(1), &[0; 32], &verdict(0)),
        verdict_commitment(&chain("a"), &address(1), &id(0), &[1; 32], &verdict(0)),
        verdict_commitment(&chain("a"), &address(1), &id(0), &[0; 32], &verdict(1)),
    ] {
        assert_ne!(base, other);
    }
}

/// A share of all receipts is chosen, whatever they are.
#[test]
fn a_beacon_chooses_its_share_of_receipts() {
    let beacon = digest(7);
    let receipts = (0..10_000u32).map(|n| sha256(&[&n.to_be_bytes()]));
    let share = |ppm| Ppm::new(ppm).unwrap();
    let count = |ppm| receipts.clone().filter(|it| selected(&beacon, it, share(ppm))).count();
    assert_eq!((count(0), count(1_000_000)), (0, 10_000));
    assert!((50..150).contains(&count(10_000)), "{}", count(10_000));
    assert!((1_850..2_150).contains(&count(200_000)), "{}", count(200_000));
}

#[test]
fn a_beacon_depends_on_all_that_was_revealed_and_on_the_one_before() {
    let (a, b) = (Address([1; 20]), Address([2; 20]));
    let (salt, other) = (digest(1), digest(2));
    let first = Beacon::default().next(4, [(&a, &salt), (&b, &other)]);
    assert_eq!((first.period, first.reveals, first.is_weak()), (4, 2, false));
    assert!(Beacon::default().is_weak() && first.next(5, [(&a, &salt)]).is_weak());
    let values = [
        first.value,
        Beacon::default().next(4, [(&a, &other), (&b, &other)]).value,
        Beacon::default().next(4, [(&a, &salt)]).value,
        first.next(4, [(&a, &salt), (&b, &other)]).value,
    ];
    for (n, value) in values.iter().enumerate() {
        assert!(!values[n + 1..].contains(value), "{n}");
    }
}

#[test]
fn a_stranger_is_believed_half_and_failures_cost() {
    let unit = Standing::UNIT;
    let of = |good, bad| Standing { good, bad, ..Standing::default() }.reputation().get();
    assert_eq!((of(0, 0), of(8 * unit, 0), of(0, 8 * unit)), (500_000, 900_000, 100_000));
    assert_eq!(of(u64::MAX, u64::MAX), 500_000);
}

#[test]
fn verdicts_are_revealed_once_nobody_can_copy_them() {
    let seat = |said| Seat { verifier: Address([1; 20]), said };
    let round = |seats| Round {
        receipts: ReceiptsCommitment::of(ModelId([1; 32]), &[digest(1)]).unwrap(),
        seal: seal(&Hash32([2; 32]), false),
        planted: false,
        height: Height(1),
        beacon: Beacon::default(),
        share: Ppm::ONE,
        opened_at: TimeMs(0),
        commit_by: TimeMs(10),
        reveal_by: TimeMs(20),
        closes_at: TimeMs(20),
        seats,
        appeal: None,
        demand: None,
    };
    let committed = Said::Committed { hash: digest(1) };
    let waiting = round(vec![seat(Said::Nothing), seat(committed.clone())]);
    assert!(!waiting.is_revealing(TimeMs(10)) && waiting.is_revealing(TimeMs(11)));
    assert!(round(vec![seat(committed)]).is_revealing(TimeMs(0)));
}
