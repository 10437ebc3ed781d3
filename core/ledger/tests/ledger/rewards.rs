//! Fees and the stakers' share reach the validators and those who delegate to them.

use expect_test::expect;
use ledger::Module;
use types::{
    Nusd, Watt,
    stake::{CommissionTerms, Role},
    tx::Action,
};

use crate::world::{
    FREE_TERMS, World, address, claim, ppm, provider, redeem, register, register_with, validator,
};

fn world() -> World {
    World::with(|genesis| {
        genesis.params.fees.tx = Watt(100);
        genesis.params.fees.byte = Watt(0);
    })
}

fn transfer() -> Action {
    Action::Transfer { to: address("gina"), amount: Watt(1) }
}

fn outstanding(world: &World) -> Vec<u128> {
    ["vito", "vera"]
        .map(|name| world.state.operator(&validator(name)).unwrap().outstanding.0)
        .to_vec()
}

#[test]
fn a_fee_is_divided_by_power_and_the_remainder_waits() {
    let mut world = world();
    // 100 by 1 and 2: 33 and 66, 1 waits.
    let outcome = {
        let tx = world.tx("alice", transfer());
        world.block(&[tx])
    };
    assert_eq!(outcome.events[0].fields(), [("amount", "99".into()), ("carried", "1".into())]);
    assert_eq!(outstanding(&world), [33, 66]);
    // 101: 33 and 67.
    world.apply("alice", transfer());
    assert_eq!(outstanding(&world), [66, 133]);
    assert_eq!(world.state.module_balance(Module::Stakers), Watt(1));
    assert_eq!(world.state.module_balance(Module::Rewards), Watt(199));
}

#[test]
fn commission_comes_first_and_the_rest_goes_by_shares() {
    let mut world = world();
    let stake = |amount| Action::Delegate { operator: validator("vito"), amount };
    for name in ["dora", "alice"] {
        world.apply("vera", Action::Transfer { to: address(name), amount: Watt::whole(1) });
        world.apply(name, stake(Watt::whole(500)));
    }
    let rewards =
        |world: &World, name: &str| world.state.rewards_of(&address(name), &validator("vito")).0;
    let before = ["vito", "dora", "alice"].map(|name| rewards(&world, name));
    let vito = world.state.operator(&validator("vito")).unwrap().clone();
    for _ in 0..10 {
        world.apply("gina", transfer());
    }
    let after = world.state.operator(&validator("vito")).unwrap();
    // 11 000 of 31 000 staked WATT: 35 of 100 each time, 3 of them commission, 32 by shares; what
    // each step leaves waits in the pool or for the next block.
    assert_eq!(after.commission_due.0 - vito.commission_due.0, 30);
    assert_eq!(after.outstanding.0 - vito.outstanding.0, 350);
    let earned = ["vito", "dora", "alice"].map(|name| rewards(&world, name));
    let grown: Vec<u128> = earned.iter().zip(before).map(|(now, then)| now - then).collect();
    assert_eq!(grown, [291, 14, 14]);
}

#[test]
fn a_validator_takes_what_it_earned_and_nobody_else_does() {
    let mut world = World::new();
    let take = || Action::WithdrawRewards { operator: validator("vera") };
    world.check("vera", take(), expect!["failed rewards.nothing: there are no rewards at validator/vera yet; try again after the next block with fees"]);
    world.check(
        "vera",
        take(),
        expect!["rewards.withdrawn: delegator=vera operator=validator/vera amount=705600"],
    );
    let commission = Action::WithdrawCommission { role: Role::Validator };
    world.check(
        "vera",
        commission.clone(),
        expect!["rewards.commission: operator=validator/vera amount=156800"],
    );
    world.check(
        "mallory",
        take(),
        expect![
            "failed stake.not_delegated: mallory has no stake behind validator/vera; delegate first"
        ],
    );
    world.check("mallory", commission, expect!["failed stake.operator_unknown: validator/mallory does not exist; check its role and address"]);
    world.apply("paul", register("paul", Watt::whole(10)));
    let of_provider = Action::WithdrawCommission { role: Role::Provider };
    world.check("paul", of_provider, expect!["failed rewards.nothing: there are no rewards at provider/paul yet; try again after the next block with fees"]);
}

#[test]
fn what_rounding_left_goes_to_the_treasury_with_the_last_share() {
    let mut world = world();
    world.apply("vito", transfer());
    let all = world.state.stake_of(&address("vito"), &validator("vito"));
    world.check(
        "vito",
        Action::Undelegate { operator: validator("vito"), amount: all },
        expect![[r#"
            rewards.withdrawn: delegator=vito operator=validator/vito amount=30
            stake.undelegated: delegator=vito operator=validator/vito amount=10000000000000 matures_at=1815400000"#]],
    );
    let pool = world.state.operator(&validator("vito")).unwrap();
    assert_eq!(pool.outstanding, pool.commission_due);
}

#[test]
fn what_rounding_left_of_an_income_goes_to_the_treasury_too() {
    let mut world = World::new();
    let terms = CommissionTerms { rate: ppm(0), ..FREE_TERMS };
    world.apply("paul", register_with("paul", Some(terms), Watt::whole(7)));
    let operator = provider("paul");
    world.apply("dora", Action::Delegate { operator, amount: Watt::whole(6) });
    let channel = world.open("gina", "paul", 1, Nusd::whole(10));
    // 300 000 000 base units over 13 WATT of stake: one is left.
    let usd = Nusd::whole(1);
    world.apply("paul", redeem(vec![claim("gina", channel, 0, usd, usd)]));
    let outstanding = |world: &World| world.state.operator(&operator).unwrap().outstanding;
    world.apply("dora", Action::Undelegate { operator, amount: Watt::whole(6) });
    let own = world.state.rewards_of(&address("paul"), &operator);
    assert_eq!(outstanding(&world).0, own.0 + 1);
    let before = world.state.module_balance(Module::Treasury);
    world.apply("paul", Action::UnbondProvider);
    assert_eq!(outstanding(&world), Watt::ZERO);
    assert_eq!(world.state.module_balance(Module::Treasury).0, before.0 + 1);
}
