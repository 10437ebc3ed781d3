//! Votes on the price of WATT: who may, when they count, and what an old price stops.

use expect_test::expect;
use ledger::PRICE_MIN;
use types::{
    Hash32, Nusd, Watt,
    stake::price_commitment,
    tx::{Action, CreditPurchase},
};

use crate::world::{DAY_MS, MINUTE_MS, World, address, claim, redeem, register};

fn usd(text: &str) -> Nusd {
    Nusd::from_decimal(text).unwrap()
}

fn commit(world: &World, voter: &str, price: Nusd, salt: u8) -> Action {
    let chain_id = &world.genesis.chain_id;
    let commitment = price_commitment(chain_id, &address(voter), &[salt; 32], price);
    Action::CommitPrice { commitment }
}

fn reveal(nusd_per_watt: Nusd, salt: u8) -> Action {
    Action::RevealPrice { nusd_per_watt, salt: Hash32([salt; 32]) }
}

fn counted(world: &mut World, voters: &[&str], price: &str) -> String {
    let outcome = world.vote(voters, usd(price));
    let event = outcome.events.iter().find(|event| event.kind().starts_with("oracle"));
    event.map_or("nothing".to_owned(), |event| {
        let fields: Vec<_> =
            event.fields().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}: {}", event.kind(), fields.join(" "))
    })
}

#[test]
fn the_price_moves_by_an_eighth_at_most_and_when_two_thirds_of_the_power_voted() {
    let mut world = World::with(|genesis| genesis.validators[0].stake = Watt::whole(20_001));
    expect!["oracle.counted: period=17 before=2000000000 after=2100000000 median=2100000000 revealed=30001"].assert_eq(&counted(&mut world, &["vera", "vito"], "2.1"));
    expect!["oracle.counted: period=19 before=2100000000 after=2362500000 median=100000000000 revealed=30001"].assert_eq(&counted(&mut world, &["vera", "vito"], "100"));
    expect!["oracle.counted: period=21 before=2362500000 after=2067187500 median=100000000 revealed=20001"].assert_eq(&counted(&mut world, &["vera"], "0.1"));
    // A third of the power is not enough.
    expect!["oracle.not_counted: period=23 revealed=10000 total=30001"].assert_eq(&counted(
        &mut world,
        &["vito"],
        "2",
    ));
    assert_eq!(world.state.price(), usd("2.067187500"));
}

#[test]
fn two_thirds_are_rounded_up() {
    let mut world = World::new();
    // 20 000 of 30 000 are less than 666 667 millionths.
    expect!["oracle.not_counted: period=17 revealed=20000 total=30000"].assert_eq(&counted(
        &mut world,
        &["vera"],
        "2.1",
    ));
}

#[test]
fn a_vote_is_revealed_one_period_after_its_commitment_and_once() {
    let mut world = World::with(|genesis| genesis.validators[0].stake = Watt::whole(20_001));
    let price = usd("2.1");
    world.check("vera", reveal(price, 1), expect!["failed oracle.uncommitted: there is no commitment of yours from period 15; commit now and reveal in the next period"]);
    world.check(
        "vera",
        commit(&world, "vera", price, 1),
        expect!["oracle.committed: voter=vera period=16"],
    );
    world.check("vera", commit(&world, "vera", usd("3"), 1), expect!["failed oracle.repeated: you committed to a vote in period 16 already; reveal it in the next one"]);
    // Too early.
    world.check("vera", reveal(price, 1), expect!["failed oracle.uncommitted: there is no commitment of yours from period 15; commit now and reveal in the next period"]);
    world.wait(MINUTE_MS);
    // Another price, another salt, and another validator's commitment.
    world.check("vera", reveal(usd("2.2"), 1), expect!["failed oracle.mismatch: price and salt are not those that you committed to; reveal the same ones"]);
    world.check("vera", reveal(price, 2), expect!["failed oracle.mismatch: price and salt are not those that you committed to; reveal the same ones"]);
    world.check("vito", reveal(price, 1), expect!["failed oracle.uncommitted: there is no commitment of yours from period 16; commit now and reveal in the next period"]);
    world.check(
        "vera",
        reveal(price, 1),
        expect!["oracle.revealed: voter=vera period=17 nusd_per_watt=2100000000"],
    );
    world.check("vera", reveal(price, 1), expect!["failed oracle.uncommitted: there is no commitment of yours from period 16; commit now and reveal in the next period"]);
    world.check(
        "alice",
        reveal(price, 1),
        expect![
            "failed validator.no_seat: alice operates no validator that has a seat; only those vote"
        ],
    );
    world.check(
        "alice",
        commit(&world, "alice", price, 1),
        expect![
            "failed validator.no_seat: alice operates no validator that has a seat; only those vote"
        ],
    );
    world.wait(MINUTE_MS);
    world.check_end(expect![[r#"
        audit.beacon: period=17 value=45abc4e79e448d52c2f65d02ef74d92396a6800be74e8e52e744ba92602c4ce1 reveals=1
        oracle.counted: period=17 before=2000000000 after=2100000000 median=2100000000 revealed=20001"#]]);
}

#[test]
fn a_copied_commitment_is_worth_nothing() {
    let mut world = World::new();
    let price = usd("2.1");
    world.apply("vera", commit(&world, "vera", price, 1));
    // vito cannot know the price, so he copies the digest.
    world.apply("vito", commit(&world, "vera", price, 1));
    world.wait(MINUTE_MS);
    world.apply("vera", reveal(price, 1));
    world.check("vito", reveal(price, 1), expect!["failed oracle.mismatch: price and salt are not those that you committed to; reveal the same ones"]);
}

#[test]
fn a_commitment_that_is_not_revealed_in_time_is_forgotten() {
    let mut world = World::new();
    let price = usd("2.1");
    world.apply("vera", commit(&world, "vera", price, 1));
    world.wait(2 * MINUTE_MS);
    world.check("vera", reveal(price, 1), expect!["failed oracle.uncommitted: there is no commitment of yours from period 17; commit now and reveal in the next period"]);
}

#[test]
fn a_price_out_of_bounds_is_no_vote() {
    let mut world = World::new();
    for price in [Nusd::ZERO, Nusd(u128::MAX)] {
        world.apply("vera", commit(&world, "vera", price, 1));
        world.wait(MINUTE_MS);
        let result = world.run("vera", reveal(price, 1));
        assert!(world.show(&result).starts_with("failed oracle.price"));
    }
}

#[test]
fn the_lowest_price_can_still_rise() {
    let mut world = World::with(|genesis| genesis.nusd_per_watt = PRICE_MIN);
    world.set_price(Nusd(2));
}

#[test]
fn an_old_price_stops_purchases_and_settlements_but_no_claims() {
    let mut world = World::with(|genesis| {
        genesis.params.oracle.max_age_ms = DAY_MS;
        genesis.params.channels.holdback_ms = MINUTE_MS;
    });
    world.apply("paul", register("paul", Watt::whole(10)));
    let channel = world.open("gina", "paul", 1, Nusd::whole(10));
    world.wait(DAY_MS + 1);
    let purchase = CreditPurchase::Receive { credits: Nusd(5), watt_max: types::Watt(9) };
    world.check("gina", Action::BuyCredits(purchase), expect!["failed oracle.stale: the price is 86400001 ms old and counts for 86400000 ms; wait until the validators have voted again"]);
    let one = Nusd::whole(1);
    world.check("paul", redeem(vec![claim("gina", channel, 0, one, one)]), expect!["channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=1000000000 settles_at=87460001"]);
    world.apply("gina", Action::RequestWithdraw { channel });
    world.wait(MINUTE_MS);
    world.check_end(expect![[""]]);
    // Nothing to do by itself as long as there is no price: the chain may rest.
    assert_eq!(world.state.next_due(), None);
    let outcome = world.vote(&["vera", "vito"], usd("2"));
    let settled = outcome.events.iter().filter(|event| event.kind() == "channel.settled").count();
    assert_eq!(settled, 1);
}

/// Good votes are counted over a window: who gave too few is slashed and jailed, and who came only
/// within the window is not judged.
#[test]
fn who_gives_too_few_good_votes_is_jailed() {
    let mut world = World::with(|genesis| {
        genesis.params.oracle.window_counts = 4;
        genesis.params.oracle.good_min = crate::world::ppm(500_000);
        genesis.params.stake.validator_bond_min = Watt::whole(100);
        // Enough to count without the others.
        genesis.validators[0].stake = Watt::whole(20_500);
    });
    for round in 0..3 {
        world.vote(&["vera"], usd("2"));
        if round == 1 {
            let stake = Watt::whole(200);
            world.apply("alice", crate::world::register_validator("alice", stake));
        }
    }
    let jailed: Vec<String> = world
        .vote(&["vera"], usd("2"))
        .events
        .iter()
        .filter(|event| event.kind() == "stake.jailed")
        .map(|event| event.fields()[0].1.clone())
        .collect();
    assert_eq!(jailed, [crate::world::validator("vito").to_string()]);
    assert_eq!(world.state.active_validators().count(), 2);
}
