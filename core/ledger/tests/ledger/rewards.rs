//! Fees and the stakers' share reach the validators.

use expect_test::expect;
use ledger::Module;
use types::{Watt, tx::Action};

use crate::world::{World, address};

#[test]
fn a_fee_is_divided_by_power_and_the_remainder_waits() {
    let mut world = World::with(|genesis| {
        genesis.params.fee_tx = Watt(100);
        genesis.params.fee_byte = Watt(0);
    });
    let transfer = || Action::Transfer { to: address("gina"), amount: Watt(1) };
    let rewards = |world: &World| -> Vec<u128> {
        let mut rewards: Vec<u128> =
            world.state.validators().map(|(_, validator)| validator.rewards.0).collect();
        rewards.sort_unstable();
        rewards
    };
    // 100 by 1 and 2: 33 and 66, 1 waits.
    let outcome = {
        let tx = world.tx("alice", transfer());
        world.block(&[tx])
    };
    assert_eq!(outcome.events[0].fields(), [("amount", "99".into()), ("carried", "1".into())]);
    assert_eq!(rewards(&world), [33, 66]);
    // 101: 33 and 67.
    world.apply("alice", transfer());
    assert_eq!(rewards(&world), [66, 133]);
    assert_eq!(world.state.module_balance(Module::Stakers), Watt(1));
    assert_eq!(world.state.module_balance(Module::Rewards), Watt(199));
}

#[test]
fn a_validator_takes_what_it_earned_and_nobody_else_does() {
    let mut world = World::new();
    world.check("vera", Action::WithdrawRewards, expect!["failed rewards.nothing: vera has no rewards yet; try again after the next block with fees"]);
    world.check(
        "vera",
        Action::WithdrawRewards,
        expect!["rewards.withdrawn: operator=vera amount=759333"],
    );
    world.check("mallory", Action::WithdrawRewards, expect!["failed rewards.not_validator: mallory operates no validator; sign with a validator's operator key"]);
}

#[test]
fn one_operator_takes_for_all_its_validators() {
    let mut world =
        World::with(|genesis| genesis.validators[1].operator = genesis.validators[0].operator);
    let fee = world.run("alice", Action::Transfer { to: address("gina"), amount: Watt(1) }).fee;
    let held = world.state.module_balance(Module::Rewards);
    assert!(fee.0 - held.0 <= 1, "{fee:?} {held:?}");
    let before = world.watt("vera");
    let own_fee = world.run("vera", Action::WithdrawRewards).fee;
    assert_eq!(world.watt("vera").0, before.0 + held.0 - own_fee.0);
}
