//! The life of a commitment to receipts: the beacon that chooses, the round, what verifiers say and when they
//! may, and what follows where audits are enforced and where they are not.

use std::collections::BTreeSet;

use expect_test::expect;
use ledger::{Event, TxOutcome};
use types::{
    Hash32, ModelId, Nusd, TimeMs, Watt,
    audit::{
        AuditOutcome, Backend, Calibration, CommitmentId, Evidence, MilliNats, ReceiptsCommitment,
        Sanction, Standing, Verdict,
    },
    genesis::Genesis,
    params::AuditMode,
    state::ProviderProfile,
    tx::Action,
};

use crate::{
    rounds::{
        ALL, BACKENDS, MODEL, SALT, SEAL, SMALL, calibrate, commit_to, evidence, fail, judge,
        network, offer, open, pass, receipts, reveal, verifiers, with_claim, without,
    },
    world::{DAY_MS, MINUTE_MS, World, address, claim, key, ppm, profile, provider, redeem},
};

#[test]
fn a_commitment_waits_for_a_beacon_of_a_later_period_and_gets_a_round() {
    let mut world = network(|_| {});
    world.apply("paul", offer("paul"));
    world.check("paul", Action::CommitReceipts { receipts: receipts(), seal: SEAL }, expect!["audit.committed: commitment=paul/1 model=0101010101010101010101010101010101010101010101010101010101010101 root=0101010101010101010101010101010101010101010101010101010101010101 count=10 period=16"]);
    let id = CommitmentId { provider: address("paul"), sequence: 1 };
    // The votes that are revealed in the period of the commitment could have been known.
    let price = world.state.price();
    world.vote(&ALL, price);
    let round = world.state.round(&id).unwrap();
    assert!(round.beacon.period > world.genesis.time.0 / MINUTE_MS);
    assert_eq!((round.beacon.reveals, round.seats.len(), round.share), (3, 2, ppm(200_000)));
    assert_eq!(round.seat(&address("paul")), None);
    assert_eq!(world.state.commitments().count(), 0);
    // The same beacon draws the same verifiers of the same commitment.
    let again = verifiers(round);
    assert_eq!(again, verifiers(round));
}

#[test]
fn a_commitment_is_of_a_provider_to_some_receipts_of_a_model_it_offers() {
    let mut world = network(|genesis| genesis.params.audits.open_max = 2);
    let commit = |change: fn(&mut ReceiptsCommitment)| {
        let mut receipts = receipts();
        change(&mut receipts);
        Action::CommitReceipts { receipts, seal: SEAL }
    };
    world.check(
        "gina",
        commit(|_| {}),
        expect!["failed provider.unknown: gina is not a registered provider; register it first"],
    );
    world.apply("paul", offer("paul"));
    world.check(
        "paul",
        commit(|it| it.count = 0),
        expect!["failed audit.receipts_count: a commitment to 0 receipts; use 1 to 4096"],
    );
    world.check(
        "paul",
        commit(|it| it.count = 4_097),
        expect!["failed audit.receipts_count: a commitment to 4097 receipts; use 1 to 4096"],
    );
    world.check("paul", commit(|it| it.model = ModelId([9; 32])), expect!["failed audit.model_not_offered: 0909090909090909090909090909090909090909090909090909090909090909 is not among the models of the provider's profile; register it first"]);
    world.apply("paul", commit(|_| {}));
    world.apply("paul", commit(|_| {}));
    world.check("paul", commit(|_| {}), expect!["failed audit.too_many_commitments: 2 commitments of this provider wait or are being audited, which is the most; try again when one is over"]);
    let mut world = network(|genesis| genesis.params.audits.mode = AuditMode::Off);
    world.apply("paul", offer("paul"));
    world.check(
        "paul",
        commit(|_| {}),
        expect!["failed audit.off: this network audits nothing; there is nothing to commit to"],
    );
}

/// Who has no WATT pays for a commitment from what it has claimed.
#[test]
fn a_commitment_may_be_made_on_credit() {
    let mut world = network(|_| {});
    let profile = ProviderProfile { models: vec![MODEL], ..profile("poor") };
    let (node_key, bond) = (key("poor/node"), Watt::ZERO);
    let registration = Action::RegisterProvider { node_key, profile, commission: None, bond };
    world.apply("poor", registration);
    let commit = || Action::CommitReceipts { receipts: receipts(), seal: SEAL };
    world.check("poor", commit(), expect!["skipped fee.cannot_pay: poor has 0 WATT and the fee is 0.002512 WATT; send it WATT, or redeem more at once so that the payment covers the fee"]);
    let channel = world.open("gina", "poor", 1, Nusd::whole(10));
    let three = Nusd::whole(3);
    world.apply("poor", redeem(vec![claim("gina", channel, 0, three, three)]));
    assert!(world.state.check(&world.tx("poor", commit())).is_ok());
    world.apply("poor", commit());
}

#[test]
fn verdicts_are_committed_to_in_time_and_revealed_when_nobody_can_copy_them() {
    let mut world = network(|_| {});
    world.apply("paul", offer("paul"));
    let (id, round) = open(&mut world);
    let [one, two] = verifiers(&round)[..] else { panic!("two verifiers") };
    let stranger = ALL.into_iter().find(|name| ![one, two].contains(name)).unwrap();
    world.name(address(one).to_string(), "one");
    let check = |world: &mut World, name: &str, action: Action, code: &str| {
        let result = world.run(name, action);
        let shown = world.show(&result);
        assert!(shown.starts_with(&format!("failed audit.{code}:")), "{shown}");
    };
    let commit = commit_to(&world, stranger, id, &pass(0));
    check(&mut world, stranger, commit, "not_verifier");
    check(&mut world, one, reveal(id, &pass(0)), "uncommitted");
    let other = CommitmentId { sequence: 99, ..id };
    check(&mut world, one, reveal(other, &pass(0)), "no_round");
    let commit = commit_to(&world, one, id, &pass(0));
    world.apply(one, commit.clone());
    check(&mut world, one, commit, "repeated");
    check(&mut world, one, reveal(id, &pass(0)), "early");
    // Another's commitment is worth nothing.
    world.apply(two, commit_to(&world, one, id, &pass(0)));
    check(&mut world, two, reveal(id, &pass(0)), "mismatch");
    let wrong_salt =
        Action::RevealVerdict { commitment: id, verdict: Box::new(pass(0)), salt: Hash32([6; 32]) };
    check(&mut world, one, wrong_salt, "mismatch");
    check(&mut world, one, reveal(id, &pass(1)), "mismatch");
    let contradiction = Verdict { outcome: AuditOutcome::Fail, ..pass(0) };
    check(&mut world, one, reveal(id, &contradiction), "inconsistent");
    let elsewhere = Evidence { model: SMALL, ..pass(0).evidence.unwrap() };
    let elsewhere = Verdict { evidence: Some(elsewhere), ..pass(0) };
    check(&mut world, one, reveal(id, &elsewhere), "inconsistent");
    world.apply(one, reveal(id, &pass(0)));
    check(&mut world, one, reveal(id, &pass(0)), "uncommitted");
    // The other one reveals nothing: the end of the round counts that.
    world.now = round.reveal_by;
    world.block(&[]);
    assert_eq!(world.state.round(&id), None);
    let closed = world.state.closed_rounds().next().unwrap();
    assert_eq!(closed.outcome, AuditOutcome::Pass);
    let missed = |name| world.state.verifier_record(&address(name)).missed;
    assert_eq!((missed(one), missed(two)), (0, 1));
}

#[test]
fn a_late_verdict_is_none() {
    let mut world = network(|_| {});
    world.apply("paul", offer("paul"));
    let (id, round) = open(&mut world);
    let [one, two] = verifiers(&round)[..] else { panic!("two verifiers") };
    world.now = round.commit_by;
    world.apply(one, commit_to(&world, one, id, &pass(0)));
    world.wait(1);
    let result = world.run(two, commit_to(&world, two, id, &pass(0)));
    assert!(world.show(&result).starts_with("failed audit.late"));
    world.now = round.reveal_by;
    world.apply(one, reveal(id, &pass(0)));
    assert_eq!(world.state.closed_rounds().next().unwrap().outcome, AuditOutcome::Pass);
}

#[test]
fn passes_over_paid_work_earn_a_name_and_lower_the_share() {
    let mut world = network(|genesis| {
        genesis.params.channels.holdback_ms = 0;
        genesis.params.audits.halving_passes = 2;
    });
    world.apply("paul", offer("paul"));
    let channel = world.open("gina", "paul", 1, Nusd::whole(100));
    calibrate(&mut world);
    let standing = |world: &World| {
        let standing = world.state.standing(&address("paul"));
        let share = world.state.audit_share(&address("paul"), world.now);
        (standing.passes, standing.reputation().get(), share.get())
    };
    let mut seen = Vec::new();
    for total in [0, 1, 1, 2, 3, 4, 5] {
        let total = Nusd::whole(total);
        world.apply("paul", redeem(vec![claim("gina", channel, 0, total, total)]));
        let round = open(&mut world);
        let all = (AuditOutcome::Pass, Sanction::None, Sanction::None);
        assert_eq!(judge(&mut world, round, pass), all);
        seen.push(standing(&world));
    }
    let round = open(&mut world);
    judge(&mut world, round, fail(1, 14_000, false));
    seen.push(standing(&world));
    world.wait(DAY_MS);
    seen.push(standing(&world));
    expect!["[(0, 500000, 200000), (1, 666666, 200000), (1, 666666, 200000), (2, 749373, 100000), (3, 798796, 100000), (4, 831661, 50000), (5, 855093, 50000), (0, 493755, 1000000), (0, 493755, 200000)]"].assert_eq(&format!("{seen:?}"));
}

#[test]
fn two_disjoint_sets_on_two_kinds_of_machine_slash_and_refund() {
    let mut world = network(|genesis| genesis.params.channels.holdback_ms = 0);
    world.apply("paul", offer("paul"));
    let channel = world.open("gina", "paul", 1, Nusd::whole(10));
    calibrate(&mut world);
    // 1 USD is settled and cannot come back.
    let total = Nusd::whole(1);
    world.apply("paul", redeem(vec![claim("gina", channel, 0, total, total)]));
    let round = open(&mut world);
    let first = judge(&mut world, round, fail(1, 14_000, true));
    assert_eq!(first, (AuditOutcome::Fail, Sanction::Escalate, Sanction::Escalate));
    assert_eq!(world.state.audit_share(&address("paul"), world.now).get(), 1_000_000);
    // What is claimed now waits.
    let total = Nusd::whole(3);
    world.apply("paul", redeem(vec![claim("gina", channel, 0, total, total)]));
    assert_eq!(world.state.provider(&address("paul")).unwrap().pending, Nusd::whole(2));
    let (credits, watt) = (world.credits("gina"), world.watt("gina"));
    let (round, bond) = (open(&mut world), world.state.bond_of(&address("paul")));
    let second = judge(&mut world, round, fail(2, 14_000, true));
    assert_eq!(second, (AuditOutcome::Fail, Sanction::Slash, Sanction::Slash));
    assert_eq!(world.credits("gina").0, credits.0 + Nusd::whole(2).0);
    let entry = world.state.channel(&channel).unwrap();
    assert_eq!((entry.settled, entry.refunded), (Nusd::whole(1), Nusd::whole(2)));
    assert_eq!(world.state.pending().count(), 0);
    // A twentieth of the bond: half is burned, gina is paid for what cannot come back up to the rest.
    let slashed = bond.0 - world.state.bond_of(&address("paul")).0;
    assert_eq!(slashed, bond.0 / 20);
    assert_eq!(world.watt("gina").0 - watt.0, slashed - slashed.div_ceil(2));
    assert!(world.state.operator(&provider("paul")).unwrap().tombstoned);
    let excluded: Vec<_> = world.state.exclusions(world.now).map(|(key, _)| key).collect();
    assert_eq!(excluded, [(address("paul"), MODEL)]);
    // What it redeems later is refunded too.
    let total = Nusd::whole(4);
    world.apply("paul", redeem(vec![claim("gina", channel, 0, total, total)]));
    assert_eq!(world.state.channel(&channel).unwrap().refunded, Nusd::whole(3));
}

#[test]
fn much_evidence_that_names_nobody_refunds_and_delists_once() {
    let mut world = network(|_| {});
    let channel = with_claim(&mut world);
    calibrate(&mut world);
    let credits = world.credits("gina");
    let bond = world.state.bond_of(&address("paul"));
    let round = open(&mut world);
    let all = judge(&mut world, round, fail(1, 30_000, false));
    let done = Sanction::RefundAndDelist;
    assert_eq!(all, (AuditOutcome::Fail, done, done));
    assert_eq!(world.credits("gina").0, credits.0 + Nusd::whole(3).0);
    assert_eq!(world.state.bond_of(&address("paul")), bond);
    let until = world.now.plus_ms(30 * DAY_MS);
    let excluded: Vec<_> = world.state.exclusions(world.now).collect();
    assert_eq!(excluded, [((address("paul"), MODEL), (false, Some(until)))]);
    assert_eq!(world.state.exclusions(until).count(), 0);
    // The same evidence has no second consequence.
    let total = Nusd::whole(4);
    world.apply("paul", redeem(vec![claim("gina", channel, 0, total, total)]));
    let round = open(&mut world);
    let all = judge(&mut world, round, pass);
    assert_eq!(all, (AuditOutcome::Pass, done, Sanction::None));
    assert_eq!(world.state.provider(&address("paul")).unwrap().pending, Nusd::whole(1));
}

/// What evidence would justify is written down and nothing else happens: in the shadow, under a beacon that one
/// validator chose, for a model that nobody calibrated, and on the word of one validator.
#[test]
fn nobody_loses_anything_without_all_conditions() {
    let enforced: fn(&mut Genesis) = |_| {};
    let shadow: fn(&mut Genesis) = |genesis| genesis.params.audits.mode = AuditMode::Shadow;
    let unlisted: fn(&mut Genesis) = |genesis| genesis.params.audits.enforced = vec![SMALL];
    for (name, change, calibrated, voters, found, done) in [
        ("all", enforced, true, 3, 2, Sanction::Slash),
        ("shadow", shadow, true, 3, 2, Sanction::None),
        ("another model is enforced", unlisted, true, 3, 2, Sanction::None),
        ("weak beacon", enforced, true, 1, 2, Sanction::None),
        ("not calibrated", enforced, false, 3, 2, Sanction::None),
        ("projections are not calibrated", enforced, true, 3, 2, Sanction::None),
        ("one verifier", enforced, true, 3, 1, Sanction::Escalate),
    ] {
        let mut world = network(change);
        with_claim(&mut world);
        if calibrated {
            calibrate(&mut world);
        }
        let sequence = world.state.account(&address("paul")).nonce.0;
        world.apply("paul", Action::CommitReceipts { receipts: receipts(), seal: SEAL });
        let id = CommitmentId { provider: address("paul"), sequence };
        world.wait(MINUTE_MS);
        world.vote(&ALL[..voters], world.state.price());
        let round = world.state.round(&id).unwrap().clone();
        let bond = world.state.bond_of(&address("paul"));
        let projected = name == "projections are not calibrated";
        let failed = |n| {
            let mut verdict = fail(1, 30_000, true)(n);
            if projected && let Some(evidence) = &mut verdict.evidence {
                evidence.projections = Some(MilliNats(30_000));
            }
            verdict
        };
        let says = |n| if n < found { failed(n) } else { without(AuditOutcome::Abstained)(n) };
        let (outcome, would_be, sanction) = judge(&mut world, (id, round), says);
        assert_eq!(outcome, AuditOutcome::Fail, "{name}");
        assert_eq!((would_be, sanction), (Sanction::Slash, done), "{name}");
        let lost = world.state.bond_of(&address("paul")) < bond;
        let refunded = !world.state.supply().claims_refunded.is_zero();
        let slash = done == Sanction::Slash;
        assert_eq!((lost, refunded), (slash, slash), "{name}");
        let held = world.state.standing(&address("paul")).held_until.is_some();
        assert_eq!(held, done >= Sanction::Escalate, "{name}");
    }
}

#[test]
fn abstaining_and_disagreeing_are_held_against_nobody() {
    let mut world = network(|_| {});
    with_claim(&mut world);
    calibrate(&mut world);
    let before = world.state.standing(&address("paul"));
    let round = open(&mut world);
    let all = judge(&mut world, round, without(AuditOutcome::Abstained));
    assert_eq!(all, (AuditOutcome::Abstained, Sanction::None, Sanction::None));
    let round = open(&mut world);
    let (outcome, ..) = judge(&mut world, round, |n| match n {
        0 => pass(0),
        _ => fail(1, 14_000, false)(n),
    });
    assert_eq!(outcome, AuditOutcome::Inconclusive);
    let after = world.state.standing(&address("paul"));
    assert_eq!((after.good, after.bad, after.passes), (before.good, before.bad, before.passes));
    assert!(ALL.iter().all(|name| world.state.verifier_record(&address(name)).missed == 0));
}

#[test]
fn who_opens_nothing_is_punished_once_and_waits_for_its_pay() {
    let mut world = network(|genesis| {
        genesis.params.audits.missing_ms = 2 * DAY_MS;
        genesis.params.oracle.max_age_ms = 400 * DAY_MS;
    });
    let channel = with_claim(&mut world);
    let bond = world.state.bond_of(&address("paul"));
    for _ in 0..2 {
        let round = open(&mut world);
        let (outcome, ..) = judge(&mut world, round, without(AuditOutcome::Missing));
        assert_eq!(outcome, AuditOutcome::Missing);
        // One per cent, once.
        assert_eq!(world.state.bond_of(&address("paul")).0, bond.0 - bond.0 / 100);
    }
    assert!(world.state.standing(&address("paul")).bad > 0);
    let missing_since = world.state.standing(&address("paul")).missing_since.unwrap();
    // Due, and held.
    world.wait(DAY_MS);
    let held = |event: &Event| event.kind() == "channel.held";
    assert!(world.block(&[]).events.iter().any(held));
    assert_eq!(world.state.channel(&channel).unwrap().pending(), Nusd::whole(3));
    // It answers, and is paid when it is looked at again.
    let round = open(&mut world);
    judge(&mut world, round, pass);
    assert_eq!(world.state.standing(&address("paul")).missing_since, None);
    world.wait(60 * MINUTE_MS);
    world.block(&[]);
    assert_eq!(world.state.channel(&channel).unwrap().settled, Nusd::whole(3));
    // It falls silent for good: what waits then goes back.
    let total = Nusd::whole(4);
    world.apply("paul", redeem(vec![claim("gina", channel, 0, total, total)]));
    let round = open(&mut world);
    judge(&mut world, round, without(AuditOutcome::Missing));
    assert!(world.state.standing(&address("paul")).missing_since.unwrap() > missing_since);
    while let Some(due) = world.state.next_due().filter(|_| world.state.pending().count() > 0) {
        world.now = TimeMs(due.0.max(world.now.0));
        world.block(&[]);
    }
    assert_eq!(world.state.channel(&channel).unwrap().refunded, Nusd::whole(1));
}

/// A liar fails what the other verifier of its round passes: that freezes nobody, and a second liar in another round
/// does not slash.
#[test]
fn what_another_verifier_of_the_round_contradicts_does_not_count() {
    let lies = |response| {
        let fails = fail(response, 30_000, true)(0);
        // What fails is no better for being called doubtful.
        let doubts = Verdict { outcome: AuditOutcome::Inconclusive, ..fails.clone() };
        [fails, doubts]
    };
    for kind in 0..2 {
        let mut world = network(|_| {});
        with_claim(&mut world);
        calibrate(&mut world);
        let bond = world.state.bond_of(&address("paul"));
        let mut liars = BTreeSet::new();
        for response in 1..10 {
            let round = open(&mut world);
            let liar = verifiers(&round.1)[0];
            let all = judge(&mut world, round, |n| match n {
                0 => lies(response)[kind].clone(),
                _ => pass(1),
            });
            assert_eq!((all.1, all.2), (Sanction::Slash, Sanction::None), "{kind}");
            liars.insert(liar);
        }
        assert!(liars.len() > 1);
        let standing = standing(&world);
        assert_eq!((standing.bad, standing.held_until), (0, None), "{kind}");
        assert!(standing.escalated_until.is_some());
        assert_eq!(world.state.bond_of(&address("paul")), bond);
        assert!(world.state.supply().claims_refunded.is_zero());
    }
}

/// More that fail than pass outvote the one: its round counts.
#[test]
fn two_that_fail_are_not_contradicted_by_one_that_passes() {
    let mut world = network(|genesis| genesis.params.audits.verifiers = 3);
    with_claim(&mut world);
    calibrate(&mut world);
    let round = open(&mut world);
    let all = judge(&mut world, round, |n| match n {
        0 => pass(0),
        _ => fail(1, 30_000, true)(n),
    });
    assert_eq!(all, (AuditOutcome::Fail, Sanction::Slash, Sanction::Slash));
}

/// Claims wait for a day after the round that failed, and not a day after each that follows.
#[test]
fn a_round_that_passes_has_claims_wait_no_longer() {
    let mut world = network(|_| {});
    with_claim(&mut world);
    calibrate(&mut world);
    let round = open(&mut world);
    judge(&mut world, round, fail(1, 14_000, false));
    let held_until = standing(&world).held_until;
    assert_eq!(held_until, Some(world.now.plus_ms(DAY_MS)));
    for says in [&pass as &dyn Fn(usize) -> Verdict, &without(AuditOutcome::Abstained)] {
        world.wait(DAY_MS / 4);
        let round = open(&mut world);
        let (_, would_be, sanction) = judge(&mut world, round, says);
        assert_eq!((would_be, sanction), (Sanction::Escalate, Sanction::None));
        let now = standing(&world);
        assert_eq!(now.held_until, held_until);
        assert_eq!(now.escalated_until, Some(world.now.plus_ms(DAY_MS)));
    }
    let round = open(&mut world);
    judge(&mut world, round, fail(2, 14_000, false));
    assert_eq!(standing(&world).held_until, Some(world.now.plus_ms(DAY_MS)));
}

/// A failure counts for the name whoever found it; what costs more than that two must have found.
#[test]
fn what_one_verifier_says_costs_a_name_and_nothing_else() {
    use AuditOutcome::{Abstained, Fail, Missing};
    for (said, outcome, is_punished, is_suspended) in [
        (&[Missing][..], Missing, false, false),
        (&[Missing, Missing], Missing, true, true),
        (&[Fail], Fail, false, false),
        (&[Fail, Abstained], Fail, false, false),
        (&[Fail, Fail], Fail, false, true),
    ] {
        let mut world = network(|genesis| {
            genesis.params.audits.verifiers = u32::try_from(said.len()).unwrap();
            genesis.params.audits.quality_weight = ppm(60_000);
        });
        with_claim(&mut world);
        let (bond, before) = (world.state.bond_of(&address("paul")), standing(&world));
        let round = open(&mut world);
        let found = judge(&mut world, round, |n| match said[n] {
            Fail => fail(1, 14_000, false)(n),
            other => without(other)(n),
        });
        let after = standing(&world);
        assert_eq!(found.0, outcome, "{said:?}");
        assert!(after.bad > before.bad, "{said:?}");
        let lost = world.state.bond_of(&address("paul")) < bond;
        let since = after.missing_since.is_some();
        assert_eq!((lost, since), (is_punished, is_punished), "{said:?}");
        let models: Vec<_> = world.state.model_standings_of(address("paul")).collect();
        assert_eq!(models[0].1.quality, ppm(940_000), "{said:?}");
        assert_eq!(models[0].1.suspended, is_suspended, "{said:?}");
    }
}

/// Once it is known of two, one is enough to say that it still does not answer.
#[test]
fn one_verifier_ends_no_silence() {
    let mut world = network(|genesis| genesis.params.audits.missing_ms = 2 * DAY_MS);
    with_claim(&mut world);
    let round = open(&mut world);
    judge(&mut world, round, without(AuditOutcome::Missing));
    let since = standing(&world).missing_since;
    assert!(since.is_some());
    // Only one auditor is left.
    for name in &ALL[1..] {
        let gone = Action::RegisterAuditor { node_key: key("nobody"), addrs: Vec::new() };
        world.apply(name, gone);
    }
    let round = open(&mut world);
    judge(&mut world, round, without(AuditOutcome::Missing));
    assert_eq!(standing(&world).missing_since, since);
}

fn standing(world: &World) -> Standing {
    world.state.standing(&address("paul"))
}

#[test]
fn low_quality_suspends_until_it_is_better() {
    let mut world = network(|genesis| genesis.params.audits.quality_weight = ppm(30_000));
    with_claim(&mut world);
    let mut seen = Vec::new();
    for n in 0..30 {
        let round = open(&mut world);
        match n {
            0..2 => judge(&mut world, round, fail(1, 14_000, false)),
            _ => judge(&mut world, round, pass),
        };
        let suspended = world.state.exclusions(world.now).any(|(_, (suspended, _))| suspended);
        seen.push(suspended);
    }
    let count = |of: bool| seen.iter().filter(|it| **it == of).count();
    assert_eq!((seen[0], seen[1], count(true), seen[29]), (false, true, 23, false));
}

/// After half a day without beacons nobody is asked for what it need not have any more.
#[test]
fn a_commitment_whose_beacon_comes_too_late_is_dropped() {
    for (late_ms, is_opened) in [(0, true), (1, false)] {
        let mut world = network(|_| {});
        world.apply("paul", offer("paul"));
        world.apply("paul", Action::CommitReceipts { receipts: receipts(), seal: SEAL });
        // The vote takes two minutes until the beacon is drawn.
        let age_ms = world.genesis.params.audits.demand_age_ms;
        world.wait(age_ms - 2 * MINUTE_MS + late_ms);
        world.vote(&ALL, world.state.price());
        assert_eq!(world.state.commitments().count(), 0);
        assert_eq!(world.state.rounds_after(None).count() == 1, is_opened, "{late_ms}");
        let dropped = world.ended.iter().any(|event| event.kind() == "audit.dropped");
        assert_eq!(dropped, !is_opened, "{late_ms}");
    }
}

#[test]
fn nobody_audits_itself() {
    let mut world = network(|_| {});
    for name in ALL {
        world.apply(name, offer(name));
    }
    for name in ALL {
        let sequence = world.state.account(&address(name)).nonce.0;
        world.apply(name, Action::CommitReceipts { receipts: receipts(), seal: SEAL });
        let id = CommitmentId { provider: address(name), sequence };
        world.wait(MINUTE_MS);
        world.vote(&ALL, world.state.price());
        let round = world.state.round(&id).unwrap();
        assert!(!verifiers(round).contains(&name));
    }
    // Alone it is audited by nobody.
    let mut world = network(|genesis| genesis.validators.truncate(1));
    world.apply("vera", offer("vera"));
    world.apply("vera", Action::CommitReceipts { receipts: receipts(), seal: SEAL });
    world.wait(MINUTE_MS);
    let outcome = world.vote(&["vera"], world.state.price());
    assert!(outcome.events.iter().any(|event| event.kind() == "audit.dropped"));
}

#[test]
fn who_withholds_a_reveal_that_others_made_pays_for_it() {
    // More than the least, below which it would lose its seat.
    let mut world = network(|genesis| genesis.validators[1].stake = Watt::whole(20_000));
    let stake = |world: &World, name: &str| {
        world.state.operator(&crate::world::validator(name)).unwrap().tokens
    };
    let commit = |world: &World, name: &str| {
        let price = world.state.price();
        let commitment =
            types::stake::price_commitment(&world.genesis.chain_id, &address(name), &SALT.0, price);
        Action::CommitPrice { commitment }
    };
    for name in ["vera", "vito"] {
        world.apply(name, commit(&world, name));
    }
    world.wait(MINUTE_MS);
    let reveal = Action::RevealPrice { nusd_per_watt: world.state.price(), salt: SALT };
    world.apply("vera", reveal);
    world.wait(MINUTE_MS);
    let before = stake(&world, "vito");
    let outcome = world.block(&[]);
    assert!(outcome.events.iter().any(|event| event.kind() == "stake.slashed"));
    assert_eq!(before.0 - stake(&world, "vito").0, before.0 / 10_000);
    assert!(!world.state.operator(&crate::world::validator("vito")).unwrap().is_jailed());
    assert!(world.state.beacon().is_weak());
    // When nobody reveals there is no beacon, and nobody chose one.
    for name in ["vera", "vito"] {
        world.apply(name, commit(&world, name));
    }
    world.wait(2 * MINUTE_MS);
    let outcome = world.block(&[]);
    assert!(!outcome.events.iter().any(|event| event.kind() == "stake.slashed"));
}

#[test]
fn the_highest_honest_mean_of_a_seat_is_in_force() {
    let mut world = network(|_| {});
    let publish = |l1, l2, tokens| Action::PublishCalibration {
        model: MODEL,
        backend: Backend::Metal,
        calibration: Calibration { l1: ppm(l1), l2: ppm(l2), projections: None, tokens },
    };
    world.check(
        "gina",
        publish(50_000, 50_000, 1),
        expect!["failed validator.unknown: gina is not a registered validator; register it first"],
    );
    world.check("vera", publish(3_999, 50_000, 1), expect!["failed audit.calibration_mean: an honest mean of 3999 ppm; publish 4000 to 999999 ppm, measured across kinds of machine on at least one token"]);
    world.check("vera", publish(50_000, 1_000_000, 1), expect!["failed audit.calibration_mean: an honest mean of 1000000 ppm; publish 4000 to 999999 ppm, measured across kinds of machine on at least one token"]);
    world.apply("vera", publish(50_000, 20_000, 1));
    world.apply("vito", publish(40_000, 30_000, 2));
    let means = world.state.calibration(&MODEL, Backend::Metal).unwrap();
    assert_eq!((means.l1.get(), means.l2.get(), means.tokens), (50_000, 30_000, 3));
    world.apply("vera", publish(10_000, 20_000, 1));
    let means = world.state.calibration(&MODEL, Backend::Metal).unwrap();
    assert_eq!((means.l1.get(), means.l2.get()), (40_000, 30_000));
    assert_eq!(world.state.calibration(&MODEL, Backend::Rocm), None);
    assert_eq!(world.state.calibrations_in_force().len(), 1);
    // That of projections is in force if one of them measured it.
    assert_eq!(means.projections, None);
    let projected = |mean| Action::PublishCalibration {
        model: MODEL,
        backend: Backend::Metal,
        calibration: Calibration {
            l1: ppm(10_000),
            l2: ppm(20_000),
            projections: Some(ppm(mean)),
            tokens: 1,
        },
    };
    world.check("vera", projected(3_999), expect!["failed audit.calibration_mean: an honest mean of 3999 ppm; publish 4000 to 999999 ppm, measured across kinds of machine on at least one token"]);
    world.apply("vera", projected(12_000));
    let means = world.state.calibration(&MODEL, Backend::Metal).unwrap();
    assert_eq!(means.projections, Some(ppm(12_000)));
    let result = world.run("vera", publish(10_000, 20_000, 0));
    assert!(matches!(result.outcome, TxOutcome::Failed { .. }));
}

/// Whatever providers commit to, what is kept stays within its bounds.
#[test]
fn what_is_kept_is_bounded() {
    let mut world = network(|_| {});
    with_claim(&mut world);
    world.slow_checks_every = 32;
    for n in 0..20u8 {
        let round = open(&mut world);
        judge(&mut world, round, |at| {
            let evidence = evidence(n, BACKENDS[at], 0, false);
            Verdict { outcome: AuditOutcome::Pass, evidence: Some(evidence) }
        });
    }
    let models: Vec<_> = world.state.model_standings_of(address("paul")).collect();
    assert_eq!((models.len(), models[0].1.evidence.len()), (1, 16));
    let newest = models[0].1.evidence.last().unwrap();
    assert_eq!(newest.evidence.responses.as_slice(), [Hash32([19; 32])]);
    assert_eq!(world.state.closed_rounds().count(), 20);
    // What is too old is dropped when it is next looked at.
    world.wait(15 * DAY_MS);
    world.apply("paul", Action::CommitReceipts { receipts: receipts(), seal: SEAL });
    assert_eq!(world.state.model_standings_of(address("paul")).count(), 0);
}
