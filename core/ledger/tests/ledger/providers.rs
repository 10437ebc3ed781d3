//! Registration, bond, leaving and expiry of providers.

use expect_test::expect;
use types::state::Stage;
use types::{Nusd, Watt, tx::Action};

use crate::world::{DAY_MS, World, address, claim, key, profile, provider, redeem, register};

fn named(node: &str, moniker: &str, bond: Watt) -> Action {
    let (node_key, profile) = (key(node), profile(moniker));
    Action::RegisterProvider { node_key, profile, commission: None, bond }
}

/// More of its own stake.
fn bond(name: &str, amount: Watt) -> Action {
    Action::Delegate { operator: provider(name), amount }
}

#[test]
fn a_provider_registers_with_and_without_a_bond() {
    let mut world = World::new();
    // 5 USD at 2 USD for one WATT.
    assert_eq!(world.state.bond_required(Nusd::ZERO), Watt::from_decimal("2.5").unwrap());
    world.check(
        "paul",
        register("paul", Watt::from_decimal("2.5").unwrap()),
        expect![[r#"
            stake.delegated: delegator=paul operator=provider/paul amount=2500000000 shares=2500000000000000000
            provider.registered: operator=paul node_key=paul/node moniker=paul bond=2500000000"#]],
    );
    world.check(
        "pia",
        register("pia", Watt::ZERO),
        expect!["provider.registered: operator=pia node_key=pia/node moniker=pia bond=0"],
    );
    let bonded = |name| world.state.provider(&address(name)).unwrap().bonded;
    assert!(bonded("paul") && !bonded("pia"));
}

#[test]
fn a_repeated_registration_costs_no_second_bond() {
    let mut world = World::new();
    world.apply("paul", register("paul", Watt::whole(3)));
    world.check(
        "paul",
        register("paul", Watt::whole(3)),
        expect!["provider.updated: operator=paul node_key=paul/node moniker=paul bond=3000000000"],
    );
    world.check(
        "paul",
        named("alice/node", "paul", Watt::whole(1)),
        expect!["provider.updated: operator=paul node_key=alice/node moniker=paul bond=3000000000"],
    );
    world.check(
        "paul",
        register("paul", Watt::whole(4)),
        expect![[r#"
            stake.delegated: delegator=paul operator=provider/paul amount=1000000000 shares=1000000000000000000
            provider.updated: operator=paul node_key=paul/node moniker=paul bond=4000000000"#]],
    );
    // The key it gave up in between is free.
    world.apply("pia", named("alice/node", "pia", Watt::ZERO));
}

#[test]
fn a_registration_is_refused_for_a_bad_name_a_taken_key_or_a_bond_it_cannot_pay() {
    let mut world = World::new();
    world.apply("paul", register("paul", Watt::ZERO));
    for (action, expected) in [
        (
            named("paul/node", "pia", Watt::ZERO),
            expect![
                "failed registry.node_key_taken: node key paul/node belongs to paul; make a new node key"
            ],
        ),
        (
            named("pia/node", "", Watt::ZERO),
            expect![
                "failed registry.moniker: a moniker of 0 bytes; use 1 to 96 without control characters"
            ],
        ),
        (
            named("pia/node", &"m".repeat(97), Watt::ZERO),
            expect![
                "failed registry.moniker: a moniker of 97 bytes; use 1 to 96 without control characters"
            ],
        ),
        (
            named("pia/node", "a\nb", Watt::ZERO),
            expect![
                "failed registry.moniker: a moniker of 3 bytes; use 1 to 96 without control characters"
            ],
        ),
        (
            named("pia/node", "pia", Watt::whole(1_000)),
            expect![
                "failed account.insufficient_watt: pia has 999.993789 WATT and needs 1000 WATT; send it WATT or use less"
            ],
        ),
        (
            named("pia/node", "pia", Watt(u128::MAX)),
            expect![
                "failed stake.exchange_rate: the amount buys no share of provider/pia; stake more, or elsewhere if its stake was slashed to nothing"
            ],
        ),
    ] {
        world.check("pia", action, expected);
    }
    // A gateway may have the node key of a provider: both may run in one process.
    let gateway = Action::RegisterGateway {
        node_key: key("paul/node"),
        moniker: "paul".to_owned(),
        addrs: Vec::new(),
    };
    world.apply("paul", gateway);
}

#[test]
fn places_without_a_bond_are_limited_and_come_free_by_bonding() {
    let mut world = World::with(|genesis| genesis.params.providers.unbonded_max = 1);
    world.apply("paul", register("paul", Watt::ZERO));
    world.check("pia", register("pia", Watt(2_499_999_999)), expect!["failed provider.unbonded_full: 1 providers without a full bond are registered, which is the most; register with a bond of 2.5 WATT"]);
    world.apply("alice", register("alice", Watt(2_500_000_000)));
    world.check(
        "paul",
        bond("paul", Watt(2_500_000_000)),
        expect!["stake.delegated: delegator=paul operator=provider/paul amount=2500000000 shares=2500000000000000000"],
    );
    world.apply("pia", register("pia", Watt::ZERO));
    world.check(
        "pia",
        bond("pia", Watt::ZERO),
        expect!["failed amount.zero: the stake is zero; give an amount above zero"],
    );
    world.check("pia", bond("pia", Watt::whole(1_000)), expect!["failed account.insufficient_watt: pia has 999.995168 WATT and needs 1000 WATT; send it WATT or use less"]);
    world.check(
        "mallory",
        bond("mallory", Watt(1)),
        expect!["failed stake.operator_unknown: provider/mallory does not exist; check its role and address"],
    );
}

#[test]
fn a_leaving_provider_gets_its_bond_after_the_unbonding_time() {
    let mut world = World::new();
    world.apply("paul", register("paul", Watt::whole(10)));
    let started = world.now;
    world.check(
        "paul",
        Action::UnbondProvider,
        expect![[r#"
            stake.undelegated: delegator=paul operator=provider/paul amount=10000000000 matures_at=1815400000
            provider.leaving: operator=paul matures_at=1815400000 idle=false"#]],
    );
    world.check("paul", Action::UnbondProvider, expect!["failed provider.leaving: provider paul is leaving; wait until its bond is paid back and its channels are closed"]);
    world.check("paul", register("paul", Watt::whole(10)), expect!["failed provider.leaving: provider paul is leaving; wait until its bond is paid back and its channels are closed"]);
    world.check("paul", bond("paul", Watt(1)), expect!["failed provider.leaving: provider paul is leaving; wait until its bond is paid back and its channels are closed"]);
    let unbonding_ms = world.genesis.params.stake.unbonding_ms;
    assert_eq!(world.state.next_due(), Some(started.plus_ms(unbonding_ms)));
    let before = world.watt("paul");
    world.wait(unbonding_ms - 1);
    world.check_end(expect![[""]]);
    world.wait(1);
    world.check_end(expect![[r#"
        provider.unbonded: operator=paul
        provider.removed: operator=paul
        stake.unbonded: delegator=paul operator=provider/paul amount=10000000000"#]]);
    assert_eq!(world.watt("paul").0, before.0 + Watt::whole(10).0);
    assert_eq!(world.state.next_due(), None);
    // It may come back.
    world.apply("paul", register("paul", Watt::whole(10)));
    world.check(
        "mallory",
        Action::UnbondProvider,
        expect!["failed provider.unknown: mallory is not a registered provider; register it first"],
    );
}

#[test]
fn an_entry_stays_until_its_last_channel_is_closed() {
    let (mut world, channel) = World::with_channel(Nusd::whole(10));
    world.apply("paul", Action::UnbondProvider);
    let terms = world.terms("gina", "paul", 2);
    world.check("gina", Action::OpenChannel { terms, deposit: Nusd(1) }, expect!["failed provider.leaving: provider paul is leaving; wait until its bond is paid back and its channels are closed"]);
    world.wait(world.genesis.params.stake.unbonding_ms);
    world.check_end(expect![[r#"
        provider.unbonded: operator=paul
        stake.unbonded: delegator=paul operator=provider/paul amount=10000000000"#]]);
    assert_eq!(world.state.provider(&address("paul")).unwrap().stage, Stage::Left);
    // What it served can still be redeemed; nothing is withheld, because nothing would be paid back.
    let usd = Nusd::whole(1);
    world.check_block("paul", redeem(vec![claim("gina", channel, 0, usd, usd)]), expect![[r#"
        channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=1000000000 settles_at=1815400000
        -- end --
        channel.settled: channel=gina>paul/1 payer=gina receiver=paul credits=1000000000 watt=500000000 provider=300000000 stakers=75000000 burned=75000000 treasury=50000000 withheld=0 minted=0"#]]);
    world.check(
        "paul",
        Action::CloseChannel { channel },
        expect![[r#"
        channel.closed: channel=gina>paul/1 payer=gina receiver=paul returned=9000000000
        provider.removed: operator=paul"#]],
    );
    assert_eq!(world.state.provider(&address("paul")), None);
}

#[test]
fn a_provider_without_bond_and_income_expires() {
    let mut world = World::new();
    world.apply("pia", register("pia", Watt::ZERO));
    let idle_ms = world.genesis.params.providers.idle_ms;
    world.wait(idle_ms - 1);
    world.check_end(expect![[""]]);
    world.wait(1);
    world.check_end(expect![[r#"
        provider.leaving: operator=pia matures_at=2593000000 idle=true
        provider.unbonded: operator=pia
        provider.removed: operator=pia"#]]);
    assert_eq!(world.state.provider(&address("pia")), None);
}

#[test]
fn income_keeps_an_unbonded_provider_and_what_was_withheld_waits_like_a_bond() {
    let mut world = World::new();
    world.apply("pia", register("pia", Watt::ZERO));
    let channel = world.open("gina", "pia", 1, Nusd::whole(10));
    let idle_ms = world.genesis.params.providers.idle_ms;
    world.wait(idle_ms - DAY_MS);
    let usd = Nusd::whole(1);
    // 0.5 WATT, 60 % of it hers, a fifth of that withheld.
    world.check_block("pia", redeem(vec![claim("gina", channel, 0, usd, usd)]), expect![[r#"
        channel.claimed: channel=gina>pia/1 payer=gina receiver=pia credits=1000000000 settles_at=2506600000
        -- end --
        stake.delegated: delegator=pia operator=provider/pia amount=60000000 shares=60000000000000000
        channel.settled: channel=gina>pia/1 payer=gina receiver=pia credits=1000000000 watt=500000000 provider=300000000 stakers=75000000 burned=75000000 treasury=50000000 withheld=60000000 minted=0"#]]);
    world.wait(DAY_MS);
    world.check_end(expect![[""]]);
    world.wait(idle_ms - DAY_MS);
    world.check_end(expect![[r#"
        stake.undelegated: delegator=pia operator=provider/pia amount=60000000 matures_at=6913000000
        provider.leaving: operator=pia matures_at=6913000000 idle=true"#]]);
    world.wait(world.genesis.params.stake.unbonding_ms);
    world.check_end(expect![[r#"
        provider.unbonded: operator=pia
        stake.unbonded: delegator=pia operator=provider/pia amount=60000000"#]]);
    world.check(
        "pia",
        Action::CloseChannel { channel },
        expect![[r#"
        channel.closed: channel=gina>pia/1 payer=gina receiver=pia returned=9000000000
        provider.removed: operator=pia"#]],
    );
}

#[test]
fn more_due_entries_than_one_block_takes_follow_in_the_next() {
    const PROVIDERS: u64 = 700;
    let mut world = World::with(|genesis| {
        genesis.params.fees.tx = Watt::ZERO;
        genesis.params.fees.byte = Watt::ZERO;
    });
    let txs: Vec<_> = (0..PROVIDERS)
        .map(|n| {
            let name = format!("provider-{n}");
            world.tx(&name, register(&name, Watt::ZERO))
        })
        .collect();
    world.block(&txs);
    assert_eq!(world.state.providers().count(), 700);
    world.wait(world.genesis.params.providers.idle_ms);
    // Each takes two steps: it expires, then it goes; 1000 steps per block.
    world.block(&[]);
    let left = world.state.providers().count();
    assert!(0 < left && left < 700, "{left}");
    assert!(world.state.next_due() <= Some(world.now));
    world.block(&[]);
    assert_eq!(world.state.providers().count(), 0);
}
