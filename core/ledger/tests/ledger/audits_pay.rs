//! What verifiers are paid for a round, and by whom in the end.

use ledger::{Event, Module};
use types::{
    Nusd, Watt,
    audit::{AuditOutcome, Backend, CommitmentId, Evidence, Round, Verdict},
    genesis::{Bucket, Genesis, GenesisVesting},
    tx::Action,
};

use crate::{
    rounds::{evidence, judge, network, offer, open, verifiers},
    world::{World, address, claim, redeem},
};

/// The treasury has so many WATT of its own, and `paul` was paid for `usd` at 2 USD for one WATT.
fn world(treasury: u64, usd: u64, change: impl FnOnce(&mut Genesis)) -> World {
    let mut world = network(|genesis| {
        genesis.params.channels.holdback_ms = 0;
        let vesting = GenesisVesting {
            bucket: Bucket::Treasury,
            beneficiary: None,
            total: Watt::whole(treasury),
            start: genesis.time,
            cliff: genesis.time,
            end: genesis.time.plus_ms(1),
        };
        genesis.vesting = if treasury > 0 { vec![vesting] } else { Vec::new() };
        change(genesis);
    });
    world.apply("paul", offer("paul"));
    world.wait(1);
    if treasury > 0 {
        world.apply("gina", Action::ClaimVested { bucket: Bucket::Treasury });
    }
    let channel = world.open("gina", "paul", 1, Nusd::whole(100));
    let total = Nusd::whole(usd);
    world.apply("paul", redeem(vec![claim("gina", channel, 0, total, total)]));
    world
}

fn says(outcome: AuditOutcome, tokens: Option<u32>) -> Verdict {
    let l1 = if outcome == AuditOutcome::Fail { 14_000 } else { 0 };
    let evidence =
        tokens.map(|tokens| Evidence { tokens, ..evidence(1, Backend::CpuX86, l1, false) });
    Verdict { outcome, evidence }
}

/// What each verifier was paid for what it said.
fn paid(world: &mut World, verdicts: [Verdict; 2]) -> [u128; 2] {
    let opened: (CommitmentId, Round) = open(world);
    let names = verifiers(&opened.1);
    judge(world, opened, |n| verdicts[n].clone());
    let mut paid = [0, 0];
    for event in &world.ended {
        if let Event::VerifierPaid { verifier, amount, .. } = event {
            let place = names.iter().position(|name| address(name) == *verifier).unwrap();
            paid[place] += amount.0;
        }
    }
    paid
}

const PAY: u128 = 10_000_000;
/// Two fees of 256 bytes.
const FEES: u128 = 2 * (1_000_000 + 256 * 1_000);

#[test]
fn a_verdict_is_paid_for_what_it_scored() {
    use AuditOutcome::{Abstained, Fail, Inconclusive, Missing, Pass};
    for (verdicts, expected) in [
        ([says(Pass, Some(50)), says(Pass, Some(49))], [PAY, 0]),
        ([says(Fail, Some(64)), says(Inconclusive, Some(64))], [PAY, PAY]),
        ([says(Abstained, None), says(Pass, Some(64))], [0, PAY]),
        ([says(Missing, None), says(Missing, None)], [FEES, FEES]),
        ([says(Missing, None), says(Pass, Some(64))], [0, PAY]),
    ] {
        let mut world = world(10, 50, |_| {});
        assert_eq!(paid(&mut world, verdicts.clone()), expected, "{verdicts:?}");
    }
}

#[test]
fn nobody_is_paid_what_is_not_there() {
    let passes = || [says(AuditOutcome::Pass, Some(64)), says(AuditOutcome::Pass, Some(64))];
    // All that the treasury has is what the provider's work brought it: a sixth of what paul received.
    let mut world = world(0, 1, |_| {});
    let treasury = world.state.module_balance(Module::Treasury);
    assert_eq!(treasury, Watt(50_000_000));
    let all: Vec<[u128; 2]> = (0..4).map(|_| paid(&mut world, passes())).collect();
    // Purchases, fees and rewards bring it nothing here.
    assert_eq!(all, [[PAY, PAY], [PAY, PAY], [PAY, 0], [0, 0]]);
    // More that comes from elsewhere is not for the rounds of this provider.
    let mut world = self::world(1_000, 1, |_| {});
    let all: Vec<[u128; 2]> = (0..4).map(|_| paid(&mut world, passes())).collect();
    assert_eq!(all, [[PAY, PAY], [PAY, PAY], [PAY, 0], [0, 0]]);
    // One that was never paid brings nothing in.
    let mut world = self::world(1_000, 0, |_| {});
    assert_eq!(paid(&mut world, passes()), [0, 0]);
    let none = |genesis: &mut Genesis| genesis.params.audits.pay = Watt::ZERO;
    let mut world = self::world(1_000, 50, none);
    assert_eq!(paid(&mut world, passes()), [0, 0]);
}

#[test]
fn a_canary_is_paid_seldom_and_little_and_from_what_its_provider_brought() {
    const EVERY_MS: u64 = 15 * 60_000;
    let check = |world: &mut World, name: &str, tokens: u32, expected: u128| {
        let provider = address("paul");
        let verdict = Box::new(says(AuditOutcome::Pass, Some(tokens)));
        let before = world.state.standing(&provider).canaries_paid;
        world.apply(name, Action::ReportCanary { provider, verdict });
        let after = world.state.standing(&provider);
        assert_eq!(after.canaries_paid.0 - before.0, expected, "{name} {tokens}");
        assert!(after.canaries_paid <= after.verifiers_paid);
    };
    // A quarter of what his work brought the treasury pays two.
    let mut world = world(10, 2, |_| {});
    check(&mut world, "vera", 49, 0);
    check(&mut world, "vera", 50, PAY);
    check(&mut world, "vera", 50, 0);
    check(&mut world, "vito", 50, PAY);
    world.wait(EVERY_MS);
    check(&mut world, "vera", 50, 0);
    let record = world.state.verifier_record(&address("vera"));
    assert_eq!((record.canaries, record.rounds), (1, 0));
    // Each in its time.
    let mut world = self::world(10, 50, |_| {});
    check(&mut world, "vera", 64, PAY);
    world.wait(EVERY_MS);
    check(&mut world, "vera", 64, PAY);
    assert_eq!(world.state.verifier_record(&address("vera")).canaries, 2);
    // One that was never paid brings nothing in.
    let mut world = self::world(10, 0, |_| {});
    check(&mut world, "vera", 64, 0);
}
