//! Faults that a provider planted, and what they show of the verifiers.

use ledger::Event;
use types::{
    Hash32, Nusd,
    audit::{AuditOutcome, CommitmentId, Round, Said, Sanction, Verdict, VerifierRecord, seal},
    genesis::Genesis,
    params::AuditMode,
    tx::Action,
};

use crate::{
    rounds::{
        ALL, SALT, calibrate, commit_to, fail, network, open, open_sealed, pass, reveal, verifiers,
        with_claim, without,
    },
    world::{DAY_MS, MINUTE_MS, World, address, claim, redeem, validator},
};

/// Of planted faults.
fn planted() -> Hash32 {
    seal(&SALT, true)
}

fn break_seal(commitment: CommitmentId) -> Action {
    Action::RevealPlanted { commitment, salt: SALT }
}

/// Three verifiers, of four that could be.
fn three(change: impl FnOnce(&mut Genesis)) -> World {
    let mut world = network(|genesis| {
        genesis.params.audits.verifiers = 3;
        genesis.params.stake.validator_bond_min = types::Watt::whole(1);
        change(genesis);
    });
    with_claim(&mut world);
    calibrate(&mut world);
    world
}

fn expect_code(world: &mut World, name: &str, action: Action, code: &str) {
    let result = world.run(name, action);
    let shown = world.show(&result);
    assert!(shown.starts_with(&format!("failed audit.{code}:")), "{shown}");
}

/// All commit; the seal is broken; those who reveal do, the others never.
fn play(
    world: &mut World,
    (id, round): &(CommitmentId, Round),
    says: &[(Verdict, bool)],
) -> Vec<&'static str> {
    let names = verifiers(round);
    for (name, (verdict, _)) in names.iter().zip(says) {
        world.apply(name, commit_to(world, name, *id, verdict));
    }
    world.apply("paul", break_seal(*id));
    for (name, (verdict, reveals)) in names.iter().zip(says) {
        if *reveals {
            world.apply(name, reveal(*id, verdict));
        }
    }
    if world.state.round(id).is_some() {
        world.now = round.reveal_by;
        world.block(&[]);
    }
    assert_eq!(world.state.round(id), None);
    names
}

#[test]
fn a_seal_is_broken_by_who_made_it_when_verifiers_have_committed() {
    let mut world = network(|_| {});
    with_claim(&mut world);
    let (other, _) = open(&mut world);
    let (id, round) = open_sealed(&mut world, planted());
    expect_code(&mut world, "gina", break_seal(id), "not_committer");
    let unknown = CommitmentId { sequence: 99, ..id };
    expect_code(&mut world, "paul", break_seal(unknown), "no_round");
    expect_code(&mut world, "paul", break_seal(other), "not_planted");
    let salt = Hash32([9; 32]);
    let wrong = Action::RevealPlanted { commitment: id, salt };
    expect_code(&mut world, "paul", wrong, "not_planted");
    expect_code(&mut world, "paul", break_seal(id), "early");
    world.now = round.commit_by.plus_ms(1);
    world.apply("paul", break_seal(id));
    expect_code(&mut world, "paul", break_seal(id), "planted_repeated");
    let (id, round) = open_sealed(&mut world, planted());
    world.now = round.reveal_by.plus_ms(1);
    expect_code(&mut world, "paul", break_seal(id), "late");
    // An ordinary seal says nothing else than that it is none.
    assert_ne!(seal(&SALT, false), seal(&SALT, true));
}

#[test]
fn a_planted_fault_costs_its_provider_its_claims_and_a_blind_verifier_its_stake() {
    let mut world = three(|_| {});
    let before = world.state.standing(&address("paul"));
    let credits = world.credits("gina");
    let round = open_sealed(&mut world, planted());
    let stake = |world: &World, name: &str| world.state.operator(&validator(name)).unwrap().tokens;
    let stakes = ALL.map(|name| stake(&world, name));
    let bond = world.state.bond_of(&address("paul"));
    let found = || (fail(1, 30_000, true)(0), true);
    let names = play(&mut world, &round, &[found(), (pass(1), true), found()]);
    // Nothing follows for the provider but that it is paid nothing.
    let after = world.state.standing(&address("paul"));
    assert_eq!((after.good, after.bad, after.passes), (before.good, before.bad, before.passes));
    assert_eq!((after.escalated_until, after.held_until), (None, None));
    assert_eq!(world.state.bond_of(&address("paul")), bond);
    assert_eq!(world.state.model_standings_of(address("paul")).count(), 0);
    assert_eq!(world.credits("gina").0, credits.0 + Nusd::whole(3).0);
    let closed = world.state.closed_rounds().next().unwrap();
    assert_eq!((closed.outcome, closed.planted), (AuditOutcome::Fail, true));
    assert_eq!((closed.would_be, closed.sanction), (Sanction::None, Sanction::None));
    // A thousandth, half of it burned and a twentieth for who found it and was drawn first.
    let record = |name| world.state.verifier_record(&address(name));
    for (name, before) in ALL.into_iter().zip(stakes) {
        let VerifierRecord { rounds, planted_right, planted_wrong, .. } = record(name);
        let wrong = name == names[1];
        let expected = if wrong { (1, 0, 1) } else { (1, 1, 0) };
        assert_eq!((rounds, planted_right, planted_wrong), expected, "{name}");
        let lost = before.0 - stake(&world, name).0;
        assert_eq!(lost, if wrong { before.0 / 1_000 } else { 0 }, "{name}");
        assert!(!world.state.operator(&validator(name)).unwrap().is_jailed());
    }
    let slashed = world.ended.iter().find_map(|event| match event {
        Event::Slashed(slashed) => Some(slashed.clone()),
        _ => None,
    });
    let slashed = slashed.unwrap();
    assert_eq!(slashed.reporter, Some(address(names[0])));
    assert_eq!(slashed.bounty.0, slashed.amount.0 / 20);
}

/// Who redeems only after it has broken its seal is paid nothing either, while evidence counts.
#[test]
fn redeeming_later_is_no_way_out() {
    let mut world = three(|_| {});
    let round = open_sealed(&mut world, planted());
    let found = || (fail(1, 30_000, true)(0), true);
    play(&mut world, &round, &[found(), found(), found()]);
    let channel = world.open("gina", "paul", 2, Nusd::whole(10));
    for (day, total, refunded) in [(0, 1, 1), (12, 2, 2), (2, 3, 2)] {
        world.wait(day * DAY_MS);
        let total = Nusd::whole(total);
        world.apply("paul", redeem(vec![claim("gina", channel, 0, total, total)]));
        world.wait(DAY_MS);
        world.block(&[]);
        let channel = world.state.channel(&channel).unwrap();
        assert_eq!(channel.refunded, Nusd::whole(refunded), "after {day} days");
    }
}

/// Who is graded, by what each says, whether it reveals that, who voted for the beacon and the mode.
#[test]
fn nobody_is_wrong_on_the_word_of_one() {
    let shadow: fn(&mut Genesis) = |genesis| genesis.params.audits.mode = AuditMode::Shadow;
    let enforced: fn(&mut Genesis) = |_| {};
    let found = || (fail(1, 30_000, true)(0), true);
    let passed = || (pass(0), true);
    let silent = || (pass(0), false);
    let abstained = || (without(AuditOutcome::Abstained)(0), true);
    for (name, change, voters, says, graded, slashed) in [
        ("all saw it", enforced, 3, [found(), found(), found()], (3, 0), 0),
        ("one did not look", enforced, 3, [found(), found(), passed()], (2, 1), 1),
        ("one fell silent", enforced, 3, [silent(), found(), found()], (2, 1), 1),
        ("one abstained", enforced, 3, [found(), abstained(), found()], (2, 0), 0),
        ("only one saw it", enforced, 3, [found(), passed(), passed()], (0, 0), 0),
        ("nobody saw it", enforced, 3, [passed(), passed(), passed()], (0, 0), 0),
        ("weak beacon", enforced, 1, [found(), found(), passed()], (0, 0), 0),
        ("shadow", shadow, 3, [found(), found(), passed()], (2, 1), 0),
    ] {
        let mut world = three(change);
        let sequence = world.state.account(&address("paul")).nonce.0;
        let receipts = crate::rounds::receipts();
        world.apply("paul", Action::CommitReceipts { receipts, seal: planted() });
        let id = CommitmentId { provider: address("paul"), sequence };
        world.wait(MINUTE_MS);
        world.vote(&ALL[..voters], world.state.price());
        let round = world.state.round(&id).unwrap().clone();
        assert!(round.seats.iter().all(|seat| seat.said == Said::Nothing));
        play(&mut world, &(id, round), &says);
        let records = ALL.map(|name| world.state.verifier_record(&address(name)));
        let right: u64 = records.iter().map(|record| record.planted_right).sum();
        let wrong: u64 = records.iter().map(|record| record.planted_wrong).sum();
        assert_eq!((right, wrong), graded, "{name}");
        let slashes = world.ended.iter().filter(|event| event.kind() == "stake.slashed");
        assert_eq!(slashes.count(), slashed, "{name}");
        let refunded = !world.state.supply().claims_refunded.is_zero();
        assert_eq!(refunded, name != "shadow", "{name}");
    }
}

/// Verifiers reveal as soon as they may, and whoever planted faults has to see that before it can say so.
#[test]
fn a_seal_has_its_time_before_the_round_is_over() {
    let mut world = three(|genesis| genesis.params.audits.seal_ms = MINUTE_MS);
    let (id, round) = open_sealed(&mut world, planted());
    let names = verifiers(&round);
    for name in &names {
        world.apply(name, commit_to(&world, name, id, &pass(0)));
    }
    let committed = world.now;
    assert_eq!(world.state.round(&id).unwrap().commit_by, committed);
    for name in &names {
        world.apply(name, reveal(id, &pass(0)));
    }
    world.apply("paul", break_seal(id));
    let round = world.state.round(&id).unwrap();
    assert!(round.planted);
    assert_eq!(round.closes_at, committed.plus_ms(MINUTE_MS));
    world.now = round.closes_at;
    world.block(&[]);
    assert_eq!(world.state.round(&id), None);
    assert!(world.state.closed_rounds().next().unwrap().planted);
}
