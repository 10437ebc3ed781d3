//! Rounds from the first look to the revealed verdict, without a ledger or a model.

use types::{
    Height, ModelId, Ppm,
    audit::{Beacon, ReceiptsCommitment},
    inference::{FinishReason, Prompt},
};
use verify::{engines::Drawing, profile::Profile};

use super::*;

const US: Address = Address([1; 20]);
const OTHER: Address = Address([2; 20]);

fn id() -> CommitmentId {
    CommitmentId { provider: Address([7; 20]), sequence: 3 }
}

fn round() -> RoundView {
    let verifier = |verifier| VerifierView { verifier, committed: None, outcome: None };
    RoundView {
        commitment: id(),
        receipts: ReceiptsCommitment { model: ModelId([1; 32]), root: Hash32([2; 32]), count: 4 },
        height: Height(1),
        beacon: Beacon::default(),
        share: Ppm::ONE,
        opened_at: TimeMs(0),
        commit_by: TimeMs(10_000),
        reveal_by: TimeMs(20_000),
        planted: false,
        is_appeal: false,
        demand: None,
        verifiers: vec![verifier(US), verifier(OTHER)],
    }
}

fn opened() -> Opened {
    let answer = Answer {
        model: ModelId([1; 32]),
        engine_version: "embedded candle 0.11.1".to_owned(),
        drawing: Drawing::of("embedded candle 0.11.1").unwrap(),
        profile: Some(Profile { temperature_micros: 1, top_k: 1, top_p_micros: 1, seed: 1 }),
        prompt: Prompt::Text(String::new()),
        text: Vec::new(),
        tokens: Vec::new(),
        stated_tokens: 0,
        finish: FinishReason::Stop,
        tokens_max: None,
        stop: Vec::new(),
    };
    Opened { receipt: Hash32([3; 32]), answer }
}

fn sealed() -> Sealed {
    let verdict = Verdict { outcome: AuditOutcome::Missing, evidence: None };
    Sealed { verdict, salt: Hash32([9; 32]) }
}

fn desk() -> Desk {
    let mut desk = Desk::default();
    desk.update(&US, TimeMs(0), vec![round()], |_| None);
    desk
}

fn step(desk: &Desk, now: u64) -> Step {
    desk.case(&id()).unwrap().step(&US, TimeMs(now), true)
}

#[test]
fn openings_are_waited_for_and_then_the_model_runs() {
    let mut desk = desk();
    assert_eq!(step(&desk, 4_999), Step::Wait);
    assert_eq!(step(&desk, 5_000), Step::Judge, "what is missing then is missing");
    assert_eq!(desk.told(&id(), &US, TimeMs(1), vec![2, 0]), Asked::Numbers(vec![2, 0]));
    assert_eq!(desk.take(&id(), 1, opened(), 10), Taken::Unwanted);
    assert_eq!(desk.take(&id(), 0, opened(), 10), Taken::Kept);
    assert_eq!(desk.take(&id(), 0, opened(), 10), Taken::Unwanted);
    // What is wanted does not change with what is told later.
    assert_eq!(desk.told(&id(), &US, TimeMs(2), vec![3]), Asked::Numbers(vec![2]));
    assert_eq!(step(&desk, 3), Step::Wait);
    assert_eq!(desk.take(&id(), 2, opened(), 10), Taken::Kept);
    assert_eq!(step(&desk, 3), Step::Judge);
    desk.judging(&id());
    assert_eq!(step(&desk, 9_000), Step::Wait);
    assert_eq!(desk.told(&id(), &US, TimeMs(4), vec![2]), Asked::Numbers(vec![]));
    desk.seal(&id(), sealed());
    assert_eq!(step(&desk, 9_000), Step::Commit(sealed()));
    assert_eq!(step(&desk, 10_001), Step::Rest, "too late");
}

#[test]
fn a_verdict_is_revealed_when_no_other_can_be_committed_to() {
    let mut desk = desk();
    let mut round = round();
    round.verifiers[0].committed = Some(Hash32([4; 32]));
    // After a restart, from the disk.
    desk.update(&US, TimeMs(1), Vec::new(), |_| None);
    desk.update(&US, TimeMs(1), vec![round.clone()], |_| Some(sealed()));
    assert_eq!(step(&desk, 9_000), Step::Wait);
    assert_eq!(step(&desk, 10_502), Step::Reveal(sealed()));
    assert_eq!(step(&desk, 20_001), Step::Wait);
    round.verifiers[1].committed = Some(Hash32([5; 32]));
    desk.update(&US, TimeMs(1), vec![round.clone()], |_| None);
    assert_eq!(step(&desk, 5_000), Step::Reveal(sealed()), "all have committed");
    round.verifiers[0].outcome = Some(AuditOutcome::Missing);
    desk.update(&US, TimeMs(1), vec![round], |_| None);
    assert_eq!(step(&desk, 5_000), Step::Rest);
}

#[test]
fn without_the_model_or_a_seat_there_is_nothing_to_judge() {
    let mut desk = desk();
    let case = desk.case(&id()).unwrap();
    assert_eq!(case.step(&US, TimeMs(0), false), Step::Abstain);
    assert_eq!(case.step(&Address([9; 20]), TimeMs(0), true), Step::Rest);
    let stranger = CommitmentId { sequence: 8, ..id() };
    assert_eq!(desk.told(&stranger, &US, TimeMs(0), vec![1]), Asked::Unknown);
    assert_eq!(desk.told(&id(), &US, TimeMs(10_001), vec![1]), Asked::Over);
}

#[test]
fn what_there_is_no_room_for_is_nobodys_fault() {
    let mut desk = desk();
    desk.told(&id(), &US, TimeMs(1), vec![0, 1, 2]);
    assert_eq!(desk.take(&id(), 1, opened(), ROUND_BYTES_MAX), Taken::Kept);
    assert_eq!(desk.take(&id(), 0, opened(), 1), Taken::Full);
    assert_eq!(desk.case(&id()).unwrap().extent(), Extent::Whole);
    assert_eq!(step(&desk, 2), Step::Judge);
    // Nor if all rounds together take too much; but each has some.
    let mut desk = Desk::default();
    let id = |sequence| CommitmentId { sequence, ..id() };
    let rounds = (0..10).map(|n| RoundView { commitment: id(n), ..round() }).collect();
    desk.update(&US, TimeMs(0), rounds, |_| None);
    for n in 0..9 {
        desk.told(&id(n), &US, TimeMs(1), vec![0, 1]);
        let expected = if n < 8 { Taken::Kept } else { Taken::Full };
        assert_eq!(desk.take(&id(n), 0, opened(), ROUND_BYTES_MAX), expected, "{n}");
    }
    desk.told(&id(9), &US, TimeMs(1), vec![0, 1]);
    assert_eq!(desk.take(&id(9), 0, opened(), ROUND_BYTES_MIN), Taken::Kept);
    assert_eq!(desk.take(&id(9), 1, opened(), 1), Taken::Full);
    // What has its verdict makes room.
    desk.seal(&id(0), sealed());
    desk.told(&id(8), &US, TimeMs(1), vec![0, 1]);
    let left = ROUND_BYTES_MAX - ROUND_BYTES_MIN;
    assert_eq!(desk.case(&id(8)).unwrap().chosen(), 0, "what was given up stays so");
    assert_eq!(desk.cases().map(|case| case.bytes).sum::<usize>(), DESK_BYTES_MAX - left);
}

#[test]
fn there_may_be_no_room_for_anything_of_a_round() {
    let mut desk = self::desk();
    desk.told(&id(), &US, TimeMs(1), vec![0, 1]);
    assert_eq!(desk.take(&id(), 0, opened(), ROUND_BYTES_MAX + 1), Taken::Full);
    assert_eq!(desk.case(&id()).unwrap().extent(), Extent::Excused);
    // Nor for its provider.
    let mut desk = self::desk();
    assert_eq!(desk.providers(&US, TimeMs(1)), BTreeSet::from([id().provider]));
    desk.excuse_provider(&Address([8; 20]));
    assert_eq!(desk.case(&id()).unwrap().extent(), Extent::Partial);
    desk.excuse_provider(&id().provider);
    assert_eq!(desk.case(&id()).unwrap().extent(), Extent::Excused);
}

#[test]
fn who_opens_less_than_was_chosen_does_not_pass() {
    use crate::judge::{Counted, Judged, backend};
    let judged = |outcome| Judged {
        outcome,
        tokens: 1,
        l1_only: 0,
        replay: Counted { matched: 0, excused: 0, unexplained: 0, unreported: 0 },
        finding: "clean",
        ln_e: None,
        l1: None,
        l2: None,
        projections: None,
        identified: None,
        each: Vec::new(),
        trace: Vec::new(),
        evidence: types::audit::Evidence {
            model: ModelId([1; 32]),
            backend: backend(),
            responses: Default::default(),
            tokens: 1,
            replay: Default::default(),
            l1: None,
            l2: None,
            projections: None,
            identified: None,
        },
    };
    let check = |outcome: Option<AuditOutcome>, extent, expected| {
        let said = verdict(outcome.map(judged), extent);
        assert_eq!(said.outcome, expected, "{outcome:?} {extent:?}");
        let has_evidence = !matches!(expected, AuditOutcome::Missing | AuditOutcome::Abstained);
        assert_eq!(said.evidence.is_some(), has_evidence, "{outcome:?} {extent:?}");
    };
    check(None, Extent::Whole, AuditOutcome::Missing);
    check(Some(AuditOutcome::Pass), Extent::Whole, AuditOutcome::Pass);
    for found in [None, Some(AuditOutcome::Pass), Some(AuditOutcome::Inconclusive)] {
        check(found, Extent::Partial, AuditOutcome::Missing);
        check(found, Extent::Excused, AuditOutcome::Abstained);
    }
    check(Some(AuditOutcome::Fail), Extent::Partial, AuditOutcome::Fail);
    check(Some(AuditOutcome::Fail), Extent::Excused, AuditOutcome::Fail);
}

#[test]
fn what_is_seen_late_is_held_against_nobody() {
    let seen_at = |now| {
        let mut desk = Desk::default();
        desk.update(&US, TimeMs(now), vec![round()], |_| None);
        // When it was first seen counts.
        desk.update(&US, TimeMs(now + 1), vec![round()], |_| None);
        desk
    };
    assert_eq!(seen_at(1_000).case(&id()).unwrap().extent(), Extent::Partial);
    let mut late = seen_at(1_001);
    assert_eq!(late.case(&id()).unwrap().extent(), Extent::Excused);
    desk_takes(&mut late, 0);
    assert_eq!(late.case(&id()).unwrap().extent(), Extent::Whole);
}

/// The provider opens all that is wanted, this one.
fn desk_takes(desk: &mut Desk, number: u32) {
    desk.told(&id(), &US, TimeMs(1), vec![number]);
    assert_eq!(desk.take(&id(), number, opened(), 10), Taken::Kept);
}

#[test]
fn a_full_desk_takes_of_every_provider_and_those_first_that_are_due_first() {
    let of = |provider: u8, sequence: u64, commit_by| {
        let commitment = CommitmentId { provider: Address([provider; 20]), sequence };
        RoundView { commitment, commit_by: TimeMs(commit_by), ..round() }
    };
    let many = 2 * ROUNDS_MAX as u64;
    let mut rounds: Vec<RoundView> = (0..many).map(|n| of(1, n, 20_000 - n)).collect();
    let mut desk = Desk::default();
    let on_desk = |desk: &Desk, provider| {
        let cases = desk.cases().map(|case| case.round.commitment);
        let its = cases.filter(|it| it.provider == Address([provider; 20]));
        its.map(|it| it.sequence).collect::<Vec<u64>>()
    };
    rounds.extend([of(9, 1, 30_000), of(9, 2, 30_000), of(8, 1, 30_000)]);
    desk.update(&US, TimeMs(0), rounds.clone(), |_| None);
    let places = ROUNDS_MAX as u64;
    assert_eq!(on_desk(&desk, 1), (many - (places - 3)..many).collect::<Vec<u64>>());
    assert_eq!((on_desk(&desk, 9), on_desk(&desk, 8)), (vec![1, 2], vec![1]));
    // What has its verdict makes room; what there is a verdict of from before takes none.
    desk.seal(&CommitmentId { provider: Address([1; 20]), sequence: many - 1 }, sealed());
    rounds.extend([of(1, many, 1), of(7, 1, 40_000), of(6, 1, 50_000), of(5, 1, 50_000)]);
    let known = |round: &RoundView| (round.commitment.provider == Address([5; 20])).then(sealed);
    desk.update(&US, TimeMs(1), rounds, known);
    assert_eq!(on_desk(&desk, 1).len() as u64, places - 3);
    let others = (on_desk(&desk, 7), on_desk(&desk, 6), on_desk(&desk, 5));
    assert_eq!(others, (vec![1], Vec::new(), vec![1]));
}
