//! The price and its steps.

use expect_test::expect;
use ledger::PRICE_MIN;
use types::{Nusd, tx::Action};

use crate::world::World;

fn set(price: Nusd) -> Action {
    Action::SetPrice { nusd_per_watt: price }
}

#[test]
fn the_governor_moves_the_price_by_an_eighth_at_most() {
    // From 2 USD: 1.75 to 2.25.
    for (price, expected) in [
        ("2.25", expect!["price.set: before=2000000000 after=2250000000"]),
        ("1.75", expect!["price.set: before=2000000000 after=1750000000"]),
        ("2", expect!["price.set: before=2000000000 after=2000000000"]),
        (
            "2.250000001",
            expect![
                "failed price.step: a price of 2.250000001 USD is out of reach, this block allows 1.75 USD to 2.25 USD; go there in steps"
            ],
        ),
        (
            "1.749999999",
            expect![
                "failed price.step: a price of 1.749999999 USD is out of reach, this block allows 1.75 USD to 2.25 USD; go there in steps"
            ],
        ),
        (
            "0",
            expect![
                "failed price.step: a price of 0 USD is out of reach, this block allows 1.75 USD to 2.25 USD; go there in steps"
            ],
        ),
    ] {
        World::new().check("gov", set(Nusd::from_decimal(price).unwrap()), expected);
    }
}

#[test]
fn nobody_else_sets_it() {
    World::new().check(
        "mallory",
        set(Nusd::whole(2)),
        expect!["failed price.not_governor: only the governor gov sets the price"],
    );
}

#[test]
fn it_moves_once_per_block() {
    let mut world = World::new();
    let first = world.tx("gov", set(Nusd::from_decimal("2.25").unwrap()));
    let second = world.tx_with("gov", set(Nusd::from_decimal("2.5").unwrap()), |tx| tx.nonce.0 = 1);
    let outcome = world.block(&[first, second]);
    expect!["failed price.already_set: the price was set in block 1; try again in the next one"]
        .assert_eq(&world.show(&outcome.results[1]));
    world.apply("gov", set(Nusd::from_decimal("2.5").unwrap()));
    assert_eq!(world.state.price(), Nusd::from_decimal("2.5").unwrap());
}

#[test]
fn the_lowest_price_can_still_rise() {
    let mut world = World::with(|genesis| genesis.nusd_per_watt = PRICE_MIN);
    world.apply("gov", set(Nusd(2)));
    assert_eq!(world.state.price(), Nusd(2));
}
