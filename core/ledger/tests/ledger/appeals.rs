//! Appeals: a failed round is done again by others, and what is taken back if that passes.

use ledger::{Event, Module};
use types::{
    ModelId, Watt,
    audit::{AuditOutcome, CommitmentId, Round, Sanction},
    tx::Action,
};

use crate::{
    rounds::{
        ALL, MODEL, calibrate, fail, judge, network, open, pass, verifiers, with_claim, without,
    },
    world::{DAY_MS, MINUTE_MS, World, address, ppm},
};

const DEPOSIT: Watt = Watt::whole(5);

fn world() -> World {
    let mut world = network(|genesis| genesis.params.audits.quality_weight = ppm(60_000));
    with_claim(&mut world);
    calibrate(&mut world);
    world
}

fn appeal(commitment: CommitmentId) -> Action {
    Action::Appeal { commitment }
}

fn expect_code(world: &mut World, name: &str, action: Action, code: &str) {
    let result = world.run(name, action);
    let shown = world.show(&result);
    assert!(shown.starts_with(&format!("failed audit.{code}:")), "{shown}");
}

/// `paul` appeals, and the next beacon opens the round.
fn open_again(world: &mut World, id: CommitmentId) -> (CommitmentId, Round) {
    world.apply("paul", appeal(id));
    world.wait(MINUTE_MS);
    world.vote(&ALL, world.state.price());
    (id, world.state.round(&id).expect("the round is open").clone())
}

/// Of a first round that says so: all that an appeal may take back, as it stands.
fn stands(world: &World) -> (u64, u32, bool, bool, usize) {
    let standing = world.state.standing(&address("paul"));
    let models: Vec<_> = world.state.model_standings_of(address("paul")).collect();
    let model = models.iter().find(|(model, _): &&(ModelId, _)| *model == MODEL).map(|it| it.1);
    let suspended = model.is_some_and(|model| model.suspended);
    let delisted = model.is_some_and(|model| model.delisted_until.is_some());
    let pieces = model.map_or(0, |model| model.evidence.len());
    (standing.bad, standing.passes, suspended, delisted, pieces)
}

#[test]
fn an_appeal_that_passes_takes_the_failure_back() {
    let mut world = world();
    let passed = open(&mut world);
    judge(&mut world, passed, pass);
    let before = stands(&world);
    let round = open(&mut world);
    let (id, names) = (round.0, verifiers(&round.1));
    let (outcome, _, sanction) = judge(&mut world, round, fail(1, 30_000, false));
    assert_eq!((outcome, sanction), (AuditOutcome::Fail, Sanction::RefundAndDelist));
    let after = stands(&world);
    assert!(after.0 > before.0 && after.2 && after.3, "{after:?}");
    let (watt, treasury) = (world.watt("paul"), world.state.module_balance(Module::Treasury));
    let (id, round) = open_again(&mut world, id);
    assert_eq!(world.state.module_balance(Module::Insurance), DEPOSIT);
    // By the one who was not there, and over everything.
    assert_eq!((round.seats.len(), round.share), (1, ppm(1_000_000)));
    assert!(!names.contains(&verifiers(&round)[0]));
    judge(&mut world, (id, round), pass);
    let (bad, passes, suspended, delisted, pieces) = stands(&world);
    assert_eq!((bad, suspended, delisted, pieces), (before.0, false, false, before.4));
    assert_eq!(passes, before.1);
    assert_eq!(world.state.exclusions(world.now).count(), 0);
    assert!(watt.0 - world.watt("paul").0 < Watt::whole(1).0, "the deposit is back");
    assert_eq!(world.state.module_balance(Module::Insurance), Watt::ZERO);
    assert_eq!(world.state.module_balance(Module::Treasury), treasury);
    let closed: Vec<_> = world.state.closed_rounds().take(2).collect();
    assert_eq!((closed[0].is_appeal, closed[0].appealed), (true, false));
    assert_eq!((closed[1].is_appeal, closed[1].appealed), (false, true));
    // Once.
    expect_code(&mut world, "paul", appeal(id), "not_appealable");
}

#[test]
fn an_appeal_that_does_not_pass_costs_its_deposit() {
    for outcome in [AuditOutcome::Fail, AuditOutcome::Missing, AuditOutcome::Abstained] {
        let mut world = world();
        let round = open(&mut world);
        let id = round.0;
        judge(&mut world, round, without(AuditOutcome::Missing));
        let before = stands(&world);
        let held = world.state.module_balance(Module::Insurance);
        let treasury = world.state.module_balance(Module::Treasury);
        let round = open_again(&mut world, id);
        judge(&mut world, round, |n| match outcome {
            AuditOutcome::Fail => fail(1, 14_000, false)(n),
            other => without(other)(n),
        });
        // It is no second failure.
        assert_eq!(stands(&world).0, before.0, "{outcome:?}");
        let gained = world.state.module_balance(Module::Treasury).0 - treasury.0;
        assert_eq!(gained, DEPOSIT.0, "{outcome:?}");
        assert_eq!(world.state.module_balance(Module::Insurance), held, "{outcome:?}");
    }
}

#[test]
fn what_can_be_appealed_against() {
    let mut world = world();
    let round = open(&mut world);
    let (id, names) = (round.0, verifiers(&round.1));
    expect_code(&mut world, "paul", appeal(id), "not_kept");
    judge(&mut world, round, fail(1, 14_000, false));
    expect_code(&mut world, "gina", appeal(id), "not_committer");
    let passed = open(&mut world);
    let other = passed.0;
    judge(&mut world, passed, pass);
    expect_code(&mut world, "paul", appeal(other), "not_appealable");
    // The only one who could look again is not reached any more.
    let left = ALL.into_iter().find(|name| !names.contains(name)).unwrap();
    let gone = Action::RegisterAuditor { node_key: crate::world::key("nobody"), addrs: Vec::new() };
    world.apply(left, gone);
    expect_code(&mut world, "paul", appeal(id), "no_other_verifiers");
    world.apply(left, crate::world::auditor(left));
    world.wait(15 * DAY_MS);
    expect_code(&mut world, "paul", appeal(id), "not_appealable");
}

/// What anybody commits to is closed in the end, and leaves a failed round where its provider can appeal against it.
#[test]
fn garbage_of_others_takes_no_appeal_away() {
    let mut world = world();
    let round = open(&mut world);
    let id = round.0;
    judge(&mut world, round, fail(1, 14_000, false));
    world.slow_checks_every = 16;
    world.apply("mallory", crate::rounds::offer("mallory"));
    for _ in 0..9 {
        let first = world.state.account(&address("mallory")).nonce.0;
        let commit = |nonce| {
            let (receipts, seal) = (crate::rounds::receipts(), crate::rounds::SEAL);
            let action = Action::CommitReceipts { receipts, seal };
            world.tx_with("mallory", action, |tx| tx.nonce.0 = nonce)
        };
        let txs: Vec<_> = (first..first + 32).map(commit).collect();
        world.block(&txs);
        world.wait(MINUTE_MS);
        world.vote(&ALL, world.state.price());
        world.wait(DAY_MS / 8);
        world.block(&[]);
    }
    assert_eq!(world.state.closed_rounds().count(), 256 + 1);
    let (id, round) = open_again(&mut world, id);
    judge(&mut world, (id, round), pass);
    assert_eq!(stands(&world).0, 0);
}

/// Nobody chooses alone who takes back what two found.
#[test]
fn an_appeal_waits_for_a_beacon_that_nobody_chose() {
    let mut world = world();
    let round = open(&mut world);
    let id = round.0;
    judge(&mut world, round, fail(1, 14_000, false));
    world.apply("paul", appeal(id));
    world.wait(MINUTE_MS);
    world.vote(&ALL[..1], world.state.price());
    assert!(world.state.beacon().is_weak());
    assert_eq!(world.state.round(&id), None);
    assert_eq!(world.state.commitments().count(), 1);
    // However long that takes.
    world.wait(DAY_MS);
    world.vote(&ALL, world.state.price());
    assert!(world.state.round(&id).is_some());
}

/// If nobody can look when the beacon comes, the deposit goes back.
#[test]
fn an_appeal_that_nobody_hears_costs_nothing() {
    let mut world = world();
    let round = open(&mut world);
    let id = round.0;
    judge(&mut world, round, fail(1, 14_000, false));
    let watt = world.watt("paul");
    world.apply("paul", appeal(id));
    for name in ALL {
        let node_key = crate::world::key("nobody");
        world.apply(name, Action::RegisterAuditor { node_key, addrs: Vec::new() });
    }
    world.wait(MINUTE_MS);
    world.vote(&ALL, world.state.price());
    let ended = |event: &Event| matches!(event, Event::AppealEnded { returned: true, .. });
    assert!(world.ended.iter().any(ended));
    assert!(watt.0 - world.watt("paul").0 < Watt::whole(1).0);
    assert_eq!(world.state.commitments().count(), 0);
}
