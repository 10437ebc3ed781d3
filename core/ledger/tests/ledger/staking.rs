//! Delegation, unbonding, redelegation, the validator set, commissions, and pools of providers.

use expect_test::expect;
use types::{
    Nusd, Watt,
    stake::{CommissionTerms, OperatorId, Role},
    tx::Action,
};

use crate::world::{
    COMMISSION, DAY_MS, FREE_TERMS, World, address, claim, consensus_key, double_sign, ppm,
    provider, redeem, register, register_validator, register_with, validator,
};

fn delegate(operator: OperatorId, amount: Watt) -> Action {
    Action::Delegate { operator, amount }
}

fn undelegate(operator: OperatorId, amount: Watt) -> Action {
    Action::Undelegate { operator, amount }
}

fn redelegate(from: &str, to: &str, watt: u64) -> Action {
    let (from, to) = (validator(from), validator(to));
    Action::Redelegate { from, to, amount: Watt::whole(watt) }
}

fn seats(world: &World) -> Vec<(String, u64)> {
    let names = ["vera", "vito", "alice", "dora"];
    let mut seats: Vec<(String, u64)> = world
        .state
        .active_validators()
        .map(|(_, seat)| {
            let name = names.iter().find(|name| address(name) == seat.operator).unwrap();
            ((*name).to_owned(), seat.power)
        })
        .collect();
    seats.sort();
    seats
}

/// Small bonds, so that people can afford to validate.
fn small() -> World {
    World::with(|genesis| {
        genesis.params.stake.validator_bond_min = Watt::whole(100);
        genesis.params.stake.validators_max = 3;
        genesis.validators[0].stake = Watt::whole(300);
        genesis.validators[1].stake = Watt::whole(200);
    })
}

#[test]
fn the_largest_stakes_have_the_seats() {
    let mut world = small();
    let seat = |name: &str, power| (name.to_owned(), power);
    assert_eq!(seats(&world), [seat("vera", 300), seat("vito", 200)]);
    world.check("alice", register_validator("alice", Watt::whole(99)), expect!["failed validator.bond: a validator's own stake is 100 WATT at least, this is 99 WATT; stake more"]);
    world.apply("alice", register_validator("alice", Watt::whole(100)));
    world.apply("dora", register_validator("dora", Watt::whole(101)));
    assert_eq!(seats(&world), [seat("dora", 101), seat("vera", 300), seat("vito", 200)]);
    // Delegations count: alice takes dora's seat.
    world.apply("gina", delegate(validator("alice"), Watt::whole(50)));
    assert_eq!(seats(&world), [seat("alice", 150), seat("vera", 300), seat("vito", 200)]);
    // Without its smallest bond of its own nobody has a seat, however much others stake.
    world.apply("alice", undelegate(validator("alice"), Watt(1)));
    assert_eq!(seats(&world), [seat("dora", 101), seat("vera", 300), seat("vito", 200)]);
    world.apply("vito", undelegate(validator("vito"), Watt::whole(200)));
    assert_eq!(seats(&world), [seat("dora", 101), seat("vera", 300)]);
    // The last ones keep their seats: a chain without validators could change nothing any more.
    world.apply("dora", undelegate(validator("dora"), Watt::whole(101)));
    world.apply("vera", undelegate(validator("vera"), Watt::whole(300)));
    assert_eq!(seats(&world).len(), 1);
}

#[test]
fn a_validator_keeps_its_key_and_its_terms() {
    let mut world = small();
    world.apply("alice", register_validator("alice", Watt::whole(100)));
    let register = |owner: &str, commission| Action::RegisterValidator {
        consensus_key: consensus_key(owner),
        moniker: "other".to_owned(),
        commission,
        stake: Watt::ZERO,
    };
    world.check("dora", register("alice", COMMISSION), expect!["failed validator.consensus_key_taken: consensus key alice/consensus belongs to the validator of alice; make a new consensus key"]);
    world.check("alice", register("dora", COMMISSION), expect!["failed validator.consensus_key: alice has another consensus key, which does not change; register from another account"]);
    let greedy = CommissionTerms { rate: ppm(500_001), ..COMMISSION };
    world.check("dora", register("dora", greedy), expect!["failed stake.commission_terms: a commission of 500001 ppm after 0 with at most 500000, changed by at most 50000; stay within these terms"]);
    world.check("alice", register("alice", CommissionTerms::ALL), expect!["failed stake.commission_differs: validator/alice declared a commission of 100000 ppm, at most 500000, changed by at most 50000, and other terms do not replace it; repeat these, and change the rate with `peerwatt validator commission`"]);
    world.check(
        "alice",
        register("alice", COMMISSION),
        expect!["validator.registered: operator=alice consensus_key=alice/consensus moniker=other"],
    );
    assert_eq!(world.state.validator(&address("alice")).unwrap().moniker, "other");
    let kept = world.state.operator(&validator("alice")).unwrap().commission;
    assert_eq!(kept, COMMISSION);
    // The rate that it has by now is what it repeats.
    world.wait(DAY_MS);
    let rate = ppm(150_000);
    world.apply("alice", Action::SetCommission { role: Role::Validator, rate });
    world.check("alice", register("alice", COMMISSION), expect!["failed stake.commission_differs: validator/alice declared a commission of 150000 ppm, at most 500000, changed by at most 50000, and other terms do not replace it; repeat these, and change the rate with `peerwatt validator commission`"]);
    world.apply("alice", register("alice", CommissionTerms { rate, ..COMMISSION }));
}

#[test]
fn a_provider_keeps_the_terms_that_it_declared() {
    let mut world = World::new();
    let register = |name: &str, commission| register_with(name, commission, Watt::whole(3));
    let terms = |world: &World, name| world.state.operator(&provider(name)).unwrap().commission;
    let set = |rate| Action::SetCommission { role: Role::Provider, rate: ppm(rate) };
    // Nothing declared: it keeps everything, and whoever it invites later is safe from big steps.
    world.apply("paul", register("paul", None));
    assert_eq!(terms(&world, "paul"), CommissionTerms::ALL);
    world.wait(DAY_MS);
    world.check("paul", set(989_999), expect!["failed stake.commission_terms: a commission of 989999 ppm after 1000000 with at most 1000000, changed by at most 10000; stay within these terms"]);
    world.apply("paul", set(990_000));
    world.check("paul", register("paul", Some(CommissionTerms::ALL)), expect!["failed stake.commission_differs: provider/paul declared a commission of 990000 ppm, at most 1000000, changed by at most 10000, and other terms do not replace it; repeat these, and change the rate with `peerwatt provider commission`"]);
    world.apply("paul", register("paul", None));
    assert_eq!(terms(&world, "paul").rate, ppm(990_000));

    let greedy = CommissionTerms { rate: ppm(500_001), ..COMMISSION };
    world.check("pia", register("pia", Some(greedy)), expect!["failed stake.commission_terms: a commission of 500001 ppm after 0 with at most 500000, changed by at most 50000; stay within these terms"]);
    world.apply("pia", register("pia", Some(COMMISSION)));
    assert_eq!(terms(&world, "pia"), COMMISSION);
    world.apply("pia", register("pia", Some(COMMISSION)));
    // Others have stake here, so a new registration after leaving changes nothing for them either.
    world.apply("dora", delegate(provider("pia"), Watt::whole(5)));
    world.apply("pia", Action::UnbondProvider);
    world.wait(world.genesis.params.stake.unbonding_ms);
    world.block(&[]);
    assert!(world.state.provider(&address("pia")).is_none());
    world.check("pia", register("pia", Some(CommissionTerms::ALL)), expect!["failed stake.commission_differs: provider/pia declared a commission of 100000 ppm, at most 500000, changed by at most 50000, and other terms do not replace it; repeat these, and change the rate with `peerwatt provider commission`"]);
    world.apply("pia", register("pia", None));
    assert_eq!(terms(&world, "pia"), COMMISSION);
}

#[test]
fn a_commission_moves_in_steps_and_below_its_maximum() {
    let mut world = World::new();
    let set = |rate| Action::SetCommission { role: Role::Validator, rate: ppm(rate) };
    world.check("vera", set(150_000), expect!["failed stake.commission_early: the commission was changed lately; try again at 87400000 ms"]);
    world.wait(DAY_MS);
    world.check("vera", set(150_001), expect!["failed stake.commission_terms: a commission of 150001 ppm after 100000 with at most 500000, changed by at most 50000; stay within these terms"]);
    world.check("vera", set(49_999), expect!["failed stake.commission_terms: a commission of 49999 ppm after 100000 with at most 500000, changed by at most 50000; stay within these terms"]);
    world.check(
        "vera",
        set(150_000),
        expect!["stake.commission: operator=validator/vera before=100000 after=150000"],
    );
    world.check("vera", set(150_000), expect!["failed stake.commission_early: the commission was changed lately; try again at 173800000 ms"]);
    for rate in [200_000, 250_000, 300_000, 350_000, 400_000, 450_000, 500_000] {
        world.wait(DAY_MS);
        world.apply("vera", set(rate));
    }
    world.wait(DAY_MS);
    world.check("vera", set(500_001), expect!["failed stake.commission_terms: a commission of 500001 ppm after 500000 with at most 500000, changed by at most 50000; stay within these terms"]);
    world.check("mallory", set(1), expect!["failed stake.operator_unknown: validator/mallory does not exist; check its role and address"]);
}

#[test]
fn whoever_has_stake_on_its_way_back_is_found_by_its_address() {
    let mut world = small();
    let (vera, vito) = (validator("vera"), validator("vito"));
    let from = |world: &World, name: &str| -> Vec<OperatorId> {
        world.state.unbonding_from(address(name)).collect()
    };
    for name in ["dora", "gina"] {
        world.apply(name, delegate(vera, Watt::whole(10)));
        world.apply(name, delegate(vito, Watt::whole(10)));
    }
    world.apply("dora", undelegate(vito, Watt::whole(1)));
    world.apply("gina", undelegate(vera, Watt::whole(1)));
    assert_eq!((from(&world, "dora"), from(&world, "gina")), (vec![vito], vec![vera]));
    world.apply("dora", undelegate(vera, Watt::whole(1)));
    let mut both = vec![vera, vito];
    both.sort();
    assert_eq!((from(&world, "dora"), from(&world, "alice")), (both, vec![]));
    world.wait(world.genesis.params.stake.unbonding_ms);
    world.check_end(expect![[r#"
        stake.unbonded: delegator=dora operator=validator/vito amount=1000000000
        stake.unbonded: delegator=dora operator=validator/vera amount=1000000000
        stake.unbonded: delegator=gina operator=validator/vera amount=1000000000"#]]);
    assert_eq!(from(&world, "dora"), []);
}

#[test]
fn stake_comes_back_after_the_unbonding_time() {
    let mut world = World::with(|genesis| genesis.params.stake.entries_max = 2);
    let vito = validator("vito");
    world.check(
        "dora",
        delegate(vito, Watt::ZERO),
        expect!["failed amount.zero: the stake is zero; give an amount above zero"],
    );
    world.check("dora", delegate(validator("mallory"), Watt(5)), expect!["failed stake.operator_unknown: validator/mallory does not exist; check its role and address"]);
    world.check(
        "dora",
        undelegate(vito, Watt(5)),
        expect![
            "failed stake.not_delegated: dora has no stake behind validator/vito; delegate first"
        ],
    );
    world.check("dora", delegate(vito, Watt::whole(100)), expect!["stake.delegated: delegator=dora operator=validator/vito amount=100000000000 shares=100000000000000000000"]);
    world.check("dora", undelegate(vito, Watt(Watt::whole(100).0 + 1)), expect!["failed stake.short: dora has 100 WATT behind validator/vito and 100.000000001 WATT are needed; use less"]);
    world.check("dora", undelegate(vito, Watt::whole(30)), expect![[r#"
        rewards.withdrawn: delegator=dora operator=validator/vito amount=7104
        stake.undelegated: delegator=dora operator=validator/vito amount=30000000000 matures_at=1815400000"#]]);
    world.wait(DAY_MS);
    world.apply("dora", undelegate(vito, Watt::whole(30)));
    world.check("dora", undelegate(vito, Watt::whole(40)), expect!["failed stake.too_many_entries: 2 unbondings or redelegations at validator/vito are under way, which is the most; wait for one to end"]);
    let unbonding_ms = world.genesis.params.stake.unbonding_ms;
    world.wait(unbonding_ms - DAY_MS - 1);
    world.check_end(expect![[""]]);
    world.wait(1);
    world.check_end(expect![
        "stake.unbonded: delegator=dora operator=validator/vito amount=30000000000"
    ]);
    world.apply("dora", undelegate(vito, Watt::whole(40)));
    assert_eq!(world.state.delegation(&address("dora"), &vito), None);
    world.wait(DAY_MS);
    world.check_end(expect![
        "stake.unbonded: delegator=dora operator=validator/vito amount=30000000000"
    ]);
    assert_eq!(world.state.next_due(), Some(world.now.plus_ms(unbonding_ms - DAY_MS)));
}

/// After a slash a share is worth no round number, and still who asks for an amount receives it.
#[test]
fn an_amount_is_undelegated_exactly() {
    let mut world = World::with(|genesis| {
        genesis.params.slashing.window_blocks = 1;
        genesis.params.slashing.downtime = ppm(33_333);
    });
    let vito = validator("vito");
    world.apply("dora", delegate(vito, Watt::whole(100)));
    world.block(&[]);
    world.absent = vec![consensus_key("vito")];
    world.block(&[]);
    world.absent = Vec::new();
    let held = world.state.stake_of(&address("dora"), &vito);
    assert_eq!(held, Watt(96_666_700_000));
    let mut left = held.0;
    for amount in [1, 7, 12_345, 33_333_333_333] {
        world.apply("dora", undelegate(vito, Watt(amount)));
        left -= amount;
        let entries = world.state.unbondings_of(&address("dora"), &vito);
        assert_eq!(entries.last().unwrap().initial, Watt(amount));
        let rest = world.state.stake_of(&address("dora"), &vito).0;
        assert!(rest <= left && rest + 1 >= left, "{rest} of {left}");
        left = rest;
    }
}

#[test]
fn stake_moves_once_and_not_between_roles() {
    let mut world = small();
    world.apply("alice", register_validator("alice", Watt::whole(100)));
    world.apply("paul", register("paul", Watt::whole(10)));
    world.apply("dora", delegate(validator("vito"), Watt::whole(100)));
    let to_provider = Action::Redelegate {
        from: validator("vito"),
        to: provider("paul"),
        amount: Watt::whole(1),
    };
    world.check("dora", to_provider, expect!["failed stake.redelegation_pair: stake moves between two different operators of one role, not from validator/vito to provider/paul"]);
    world.check("dora", redelegate("vito", "vito", 1), expect!["failed stake.redelegation_pair: stake moves between two different operators of one role, not from validator/vito to validator/vito"]);
    world.check("dora", redelegate("vito", "dora", 1), expect!["failed stake.operator_unknown: validator/dora does not exist; check its role and address"]);
    world.check("dora", redelegate("vito", "alice", 101), expect!["failed stake.short: dora has 100 WATT behind validator/vito and 101 WATT are needed; use less"]);
    world.check("dora", redelegate("vito", "alice", 60), expect![[r#"
        rewards.withdrawn: delegator=dora operator=validator/vito amount=743029
        stake.redelegated: delegator=dora from=validator/vito to=validator/alice amount=60000000000 matures_at=1815400000"#]]);
    world.check("dora", redelegate("alice", "vera", 1), expect!["failed stake.redelegation_hop: stake that moved to validator/alice may not move on yet; undelegate, or wait until it has been there for the unbonding time"]);
    // Not even what was there before, or its way would be lost.
    world.apply("dora", delegate(validator("alice"), Watt::whole(10)));
    world.check("dora", redelegate("alice", "vito", 10), expect!["failed stake.redelegation_hop: stake that moved to validator/alice may not move on yet; undelegate, or wait until it has been there for the unbonding time"]);
    world.apply("dora", redelegate("vito", "vera", 40));
    world.wait(world.genesis.params.stake.unbonding_ms);
    world.block(&[]);
    world.apply("dora", redelegate("alice", "vera", 60));
}

#[test]
fn stake_may_go_the_same_way_several_times_but_not_more_often_than_is_kept() {
    let mut world = World::with(|genesis| {
        genesis.params.stake.validator_bond_min = Watt::whole(100);
        genesis.params.stake.entries_max = 2;
    });
    world.apply("dora", delegate(validator("vito"), Watt::whole(100)));
    for _ in 0..2 {
        world.apply("dora", redelegate("vito", "vera", 10));
    }
    world.check("dora", redelegate("vito", "vera", 10), expect!["failed stake.too_many_entries: 2 unbondings or redelegations at validator/vito are under way, which is the most; wait for one to end"]);
}

/// Of two that went the same way, the later one may not move on, and answers for a fault before it.
#[test]
fn the_unbonding_time_counts_for_each_redelegation_by_itself() {
    let mut world = small();
    world.apply("alice", register_validator("alice", Watt::whole(100)));
    world.apply("dora", delegate(validator("vito"), Watt::whole(100)));
    world.apply("dora", redelegate("vito", "vera", 40));
    world.wait(10 * DAY_MS);
    world.block(&[]);
    let fault = world.state.height();
    world.apply("dora", redelegate("vito", "vera", 60));
    world.wait(world.genesis.params.stake.unbonding_ms - 10 * DAY_MS);
    world.block(&[]);
    let hop = redelegate("vera", "alice", 1);
    world.check("dora", hop, expect!["failed stake.redelegation_hop: stake that moved to validator/vera may not move on yet; undelegate, or wait until it has been there for the unbonding time"]);
    let behind_vera = |world: &World| world.state.stake_of(&address("dora"), &validator("vera")).0;
    let before = behind_vera(&world);
    world.apply("gina", double_sign("vito", fault));
    assert_eq!(before - behind_vera(&world), Watt::whole(3).0);
}

#[test]
fn stake_that_a_provider_moves_behind_itself_makes_its_bond_full() {
    let mut world = World::new();
    let required = world.state.bond_required(Nusd::ZERO);
    world.apply("pia", register_with("pia", Some(FREE_TERMS), Watt::whole(1)));
    world.apply("paul", register("paul", Watt::ZERO));
    world.apply("paul", delegate(provider("pia"), required));
    let is_bonded = |world: &World| world.state.provider(&address("paul")).unwrap().bonded;
    assert!(!is_bonded(&world));
    let (from, to) = (provider("pia"), provider("paul"));
    world.apply("paul", Action::Redelegate { from, to, amount: required });
    assert!(is_bonded(&world));
}

#[test]
fn those_who_delegate_to_a_provider_share_its_income() {
    let mut world = World::new();
    world.apply("paul", register_with("paul", Some(FREE_TERMS), Watt::whole(10)));
    let channel = world.open("gina", "paul", 1, Nusd::whole(100));
    let paul = provider("paul");
    world.apply("dora", delegate(paul, Watt::whole(30)));
    let total = |usd| redeem(vec![claim("gina", channel, 0, Nusd::whole(100), Nusd::whole(usd))]);
    // As registered, everything is the operator's.
    world.apply("paul", total(10));
    assert_eq!(world.state.rewards_of(&address("dora"), &paul), Watt::ZERO);
    let set = |rate| Action::SetCommission { role: Role::Provider, rate: ppm(rate) };
    world.wait(DAY_MS);
    world.apply("paul", set(600_000));
    // 3 WATT are paul's part; 40 % of them go by stake, 10 of 40 WATT of it his own.
    world.check_block("paul", total(20), expect![[r#"
        channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=10000000000 settles_at=87400000
        -- end --
        rewards.shared: operator=provider/paul amount=1200000000
        channel.settled: channel=gina>paul/1 payer=gina receiver=paul credits=10000000000 watt=5000000000 provider=3000000000 stakers=750000000 burned=750000000 treasury=500000000 withheld=0 minted=0"#]]);
    assert_eq!(world.state.rewards_of(&address("dora"), &paul).to_decimal(), "0.9");
    assert_eq!(world.state.rewards_of(&address("paul"), &paul).to_decimal(), "0.3");
    // Its bond is its own: others' stake fills nothing, and it may not be taken out below.
    assert_eq!(world.state.bond_of(&address("paul")), Watt::whole(10));
    world.check("paul", undelegate(paul, Watt::whole(8)), expect!["failed stake.bond_needed: a provider that serves keeps its bond of 2.5 WATT, 7.5 WATT are free; leave first to take it all"]);
    world.apply("paul", undelegate(paul, Watt::from_decimal("7.5").unwrap()));
    // Others leave when they like.
    world.apply("dora", undelegate(paul, Watt::whole(30)));
}

#[test]
fn a_provider_that_has_nobody_to_share_with_keeps_all() {
    let mut world = World::with(|genesis| genesis.params.providers.withhold = ppm(0));
    world.apply("paul", register_with("paul", Some(COMMISSION), Watt::ZERO));
    let channel = world.open("gina", "paul", 1, Nusd::whole(10));
    world.wait(DAY_MS);
    let one = Nusd::whole(1);
    world.check_block("paul", redeem(vec![claim("gina", channel, 0, one, one)]), expect![[r#"
        channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=1000000000 settles_at=87400000
        -- end --
        channel.settled: channel=gina>paul/1 payer=gina receiver=paul credits=1000000000 watt=500000000 provider=300000000 stakers=75000000 burned=75000000 treasury=50000000 withheld=0 minted=0"#]]);
    assert_eq!(world.state.provider(&address("paul")).unwrap().earned.to_decimal(), "0.3");
}

#[test]
fn a_pool_with_delegators_outlives_its_provider() {
    let mut world = World::new();
    world.apply("paul", register("paul", Watt::whole(10)));
    let paul = provider("paul");
    world.apply("dora", delegate(paul, Watt::whole(30)));
    world.apply("paul", Action::UnbondProvider);
    world.check("dora", delegate(paul, Watt::whole(1)), expect!["failed provider.leaving: provider paul is leaving; wait until its bond is paid back and its channels are closed"]);
    world.wait(world.genesis.params.stake.unbonding_ms);
    world.block(&[]);
    assert_eq!(world.state.provider(&address("paul")), None);
    assert_eq!(world.state.stake_of(&address("dora"), &paul), Watt::whole(30));
    world.check(
        "dora",
        delegate(paul, Watt::whole(1)),
        expect!["failed provider.unknown: paul is not a registered provider; register it first"],
    );
    world.apply("paul", register("paul", Watt::whole(5)));
    assert_eq!(world.state.operator(&paul).unwrap().tokens, Watt::whole(35));
    world.apply("paul", Action::UnbondProvider);
    world.wait(world.genesis.params.stake.unbonding_ms);
    world.block(&[]);
    world.apply("dora", undelegate(paul, Watt::whole(30)));
    assert_eq!(world.state.operator(&paul), None, "the last share closes the pool");
    world.wait(world.genesis.params.stake.unbonding_ms);
    world.block(&[]);
    assert!(world.watt("dora") > Watt::from_decimal("999.9").unwrap());
}

#[test]
fn the_bond_grows_with_what_is_held_back() {
    let mut world = World::with(|genesis| {
        genesis.params.channels.holdback_ms = DAY_MS;
        genesis.params.providers.bond_per_risk_ppm = 2_000_000;
    });
    world.apply("paul", register("paul", Watt::from_decimal("2.5").unwrap()));
    let channel = world.open("gina", "paul", 1, Nusd::whole(100));
    let total = |usd| redeem(vec![claim("gina", channel, 0, Nusd::whole(100), Nusd::whole(usd))]);
    world.apply("paul", total(20));
    // Twice 20 USD at 2 USD for one WATT.
    assert_eq!(world.state.bond_required(Nusd::whole(20)), Watt::whole(20));
    world.wait(DAY_MS / 2);
    world.apply("paul", total(60));
    world.wait(DAY_MS / 2);
    // 6 WATT are paul's part; 40 USD are still held back, so a fifth of it is withheld.
    world.check_end(expect![[r#"
        stake.delegated: delegator=paul operator=provider/paul amount=1200000000 shares=1200000000000000000
        channel.settled: channel=gina>paul/1 payer=gina receiver=paul credits=20000000000 watt=10000000000 provider=6000000000 stakers=1500000000 burned=1500000000 treasury=1000000000 withheld=1200000000 minted=0
        rewards.distributed: amount=1500000000 carried=0"#]]);
}
