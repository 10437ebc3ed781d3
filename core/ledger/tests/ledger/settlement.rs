//! Redemption of vouchers and its settlement.

use expect_test::expect;
use ledger::Module;
use types::{
    ChannelId, Lane, Nusd, Watt,
    limits::{LANES_MAX, VOUCHERS_PER_REDEEM_MAX},
    split::Split,
    tx::{Action, VoucherClaim},
};

use crate::world::{World, address, claim, key, ppm, redeem, register};

#[test]
fn credits_become_watt_and_are_split() {
    let (mut world, channel) = World::with_channel(Nusd::whole(10));
    let supply = world.state.supply().total;
    // 5 USD are 2.5 WATT: 60 % provider, 15 % stakers, 15 % burned, 10 % treasury.
    world.check_block(
        "paul",
        redeem(vec![claim("gina", channel, 0, Nusd::whole(6), Nusd::whole(5))]),
        expect![[r#"
            channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=5000000000 settles_at=1000000
            -- end --
            channel.settled: channel=gina>paul/1 payer=gina receiver=paul credits=5000000000 watt=2500000000 provider=1500000000 stakers=375000000 burned=375000000 treasury=250000000 withheld=0 minted=0"#]],
    );
    assert_eq!(world.state.supply().total.0, supply.0 - 375_000_000);
    assert_eq!(world.state.module_balance(Module::Treasury), Watt(250_000_000));
    assert_eq!(world.state.provider(&address("paul")).unwrap().earned, Watt(1_500_000_000));
}

#[test]
fn a_claim_counts_once_and_only_upwards() {
    let (mut world, channel) = World::with_channel(Nusd::whole(10));
    let signed = Nusd::whole(9);
    let total = |usd| claim("gina", channel, 0, signed, Nusd::whole(usd));
    world.apply("paul", redeem(vec![total(2)]));
    for (claims, expected) in [
        (vec![total(2)], expect![[""]]),
        (vec![total(1), total(0)], expect![[""]]),
        // Several on one lane: the largest counts, in any order.
        (
            vec![total(3), total(5), total(4), total(5)],
            expect![
                "channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=3000000000 settles_at=1000000"
            ],
        ),
    ] {
        world.check("paul", redeem(claims), expected);
    }
    assert_eq!(world.state.channel(&channel).unwrap().claimed, Nusd::whole(5));
    // A lane on which nothing is claimed is not kept.
    let nothing = claim("gina", channel, 1, signed, Nusd::ZERO);
    world.apply("paul", redeem(vec![total(6), nothing]));
    let lanes: Vec<_> = world.state.lanes_of(channel).collect();
    assert_eq!(lanes, [(Lane(0), Nusd::whole(6))]);
}

#[test]
fn lanes_add_up_to_the_balance_and_no_further() {
    let (mut world, channel) = World::with_channel(Nusd::whole(10));
    let on = |lane, usd| claim("gina", channel, lane, Nusd::whole(10), usd);
    let (six, four) = (Nusd::whole(6), Nusd::whole(4));
    let more = Nusd(four.0 + 1);
    world.check("paul", redeem(vec![on(0, six), on(1, more)]), expect!["failed redeem.channel_short: the claims on channel gina>paul/1 add 10.000000001 USD and it holds 10 USD; claim less"]);
    world.apply("paul", redeem(vec![on(0, six), on(LANES_MAX - 1, four)]));
    world.check("paul", redeem(vec![on(1, Nusd(1))]), expect!["failed redeem.channel_short: the claims on channel gina>paul/1 add 0.000000001 USD and it holds 0 USD; claim less"]);
    assert_eq!(world.state.channel(&channel).unwrap().balance(), Nusd::ZERO);
}

#[test]
fn a_claim_that_its_voucher_does_not_carry_fails_the_whole_redemption() {
    let (mut world, channel) = World::with_channel(Nusd::whole(10));
    world.name(ChannelId([7; 32]).to_string(), "no channel");
    let good = claim("gina", channel, 0, Nusd(5), Nusd(5));
    let mut foreign = claim("gina", channel, 1, Nusd(5), Nusd(5));
    foreign.voucher.signer = key("gina");
    let bad: Vec<(VoucherClaim, _)> = vec![
        (
            claim("gina", channel, 1, Nusd(5), Nusd(6)),
            expect![
                "failed redeem.above_voucher: 0.000000006 USD claimed on lane 1 of channel gina>paul/1, its voucher is for 0.000000005 USD; claim no more than that"
            ],
        ),
        (
            claim("gina", channel, LANES_MAX, Nusd(5), Nusd(5)),
            expect![
                "failed redeem.lane_too_high: lane 256 of channel gina>paul/1 does not exist, the last one is 255; leave it out"
            ],
        ),
        (
            claim("gina", ChannelId([7; 32]), 1, Nusd(5), Nusd(5)),
            expect!["failed channel.unknown: channel no channel does not exist; check its id"],
        ),
        (
            foreign,
            expect![
                "failed redeem.voucher_signer: a voucher of channel gina>paul/1 is signed by 030923893f54c3d04b0bc141bad644e6c501ec1257339e1e66dc02a1618d4046, not by the channel's gina/vouchers; leave it out"
            ],
        ),
    ];
    for (bad, expected) in bad {
        world.check("paul", redeem(vec![good.clone(), bad]), expected);
    }
    world.check("mallory", redeem(vec![good.clone()]), expect!["failed channel.not_receiver: only paul, who is paid by channel gina>paul/1, may do this"]);
    world.check("gina", redeem(vec![good.clone()]), expect!["failed channel.not_receiver: only paul, who is paid by channel gina>paul/1, may do this"]);
    world.check(
        "paul",
        redeem(Vec::new()),
        expect!["failed redeem.claims_count: 0 claims in one redemption; send 1 to 1024"],
    );
    let many = vec![good; VOUCHERS_PER_REDEEM_MAX + 1];
    world.check(
        "paul",
        redeem(many),
        expect!["failed redeem.claims_count: 1025 claims in one redemption; send 1 to 1024"],
    );
}

#[test]
fn the_longest_redemption_fits_a_transaction() {
    let (mut world, first) = World::with_channel(Nusd::whole(10));
    let mut channels = vec![first];
    channels.extend((2..=4).map(|salt| world.open("gina", "paul", salt, Nusd::whole(10))));
    let claims: Vec<VoucherClaim> = channels
        .iter()
        .flat_map(|channel| (0..LANES_MAX).map(|lane| (*channel, lane)))
        .map(|(channel, lane)| claim("gina", channel, lane, Nusd(7), Nusd(7)))
        .collect();
    assert_eq!(claims.len(), VOUCHERS_PER_REDEEM_MAX);
    let mut all_lanes = redeem(claims);
    world.apply("paul", all_lanes.clone());
    for channel in channels {
        assert_eq!(world.state.channel(&channel).unwrap().claimed, Nusd(7 * 256));
    }
    if let Action::RedeemVouchers { claims } = &mut all_lanes {
        claims.reverse();
    }
    world.check("paul", all_lanes, expect![[""]]);
}

#[test]
fn one_redemption_may_serve_several_channels() {
    let (mut world, first) = World::with_channel(Nusd::whole(10));
    let second = world.open("alice", "paul", 1, Nusd::whole(10));
    let claims = vec![
        claim("alice", second, 0, Nusd(3), Nusd(3)),
        claim("gina", first, 0, Nusd(5), Nusd(5)),
        claim("alice", second, 1, Nusd(4), Nusd(4)),
    ];
    let result = world.run("paul", redeem(claims));
    let mut shown: Vec<String> = world.show(&result).lines().map(str::to_owned).collect();
    shown.sort();
    expect![[r#"
        channel.claimed: channel=alice>paul/1 payer=alice receiver=paul credits=7 settles_at=1000000
        channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=5 settles_at=1000000"#]].assert_eq(&shown.join("\n"));
}

#[test]
fn a_share_of_the_income_is_withheld_until_the_bond_is_full() {
    let mut world = World::new();
    world.apply("pia", register("pia", Watt::from_decimal("2.4").unwrap()));
    let channel = world.open("gina", "pia", 1, Nusd::whole(100));
    let total = |usd| vec![claim("gina", channel, 0, Nusd::whole(100), Nusd::whole(usd))];
    let bond = |world: &World| world.state.bond_of(&address("pia"));
    // 1 USD: 0.3 WATT hers, 0.06 withheld. 10 USD: 3 WATT hers, 0.04 are missing.
    world.apply("pia", redeem(total(1)));
    assert_eq!(bond(&world), Watt::from_decimal("2.46").unwrap());
    world.apply("pia", redeem(total(11)));
    assert_eq!(bond(&world), world.state.bond_required(Nusd::ZERO));
    world.check_block("pia", redeem(total(12)), expect![[r#"
        channel.claimed: channel=gina>pia/1 payer=gina receiver=pia credits=1000000000 settles_at=1000000
        -- end --
        channel.settled: channel=gina>pia/1 payer=gina receiver=pia credits=1000000000 watt=500000000 provider=300000000 stakers=75000000 burned=75000000 treasury=50000000 withheld=0 minted=0"#]]);
    // A lower price raises what is required, and a share is withheld again.
    world.set_price(Nusd::from_decimal("1.8").unwrap());
    world.check_block("pia", redeem(total(13)), expect![[r#"
        channel.claimed: channel=gina>pia/1 payer=gina receiver=pia credits=1000000000 settles_at=1120000
        -- end --
        stake.delegated: delegator=pia operator=provider/pia amount=66666667 shares=66666667000000000
        channel.settled: channel=gina>pia/1 payer=gina receiver=pia credits=1000000000 watt=555555555 provider=333333333 stakers=83333333 burned=83333333 treasury=55555556 withheld=66666667 minted=0"#]]);
}

#[test]
fn the_vault_pays_first_and_the_reserve_what_it_lacks() {
    let setup = |reserve: Watt| {
        let mut world = World::with(|genesis| {
            genesis.params.credits.spread = ppm(0);
            genesis.params.oracle.step = ppm(500_000);
            genesis.params.split = Split::DIRECT;
            genesis.params.supply.settlement_reserve = reserve;
        });
        world.apply("paul", register("paul", Watt::whole(10)));
        let channel = world.open("gina", "paul", 1, Nusd::whole(100));
        // 50 WATT in the vault; at half the price the same credits are worth 100.
        world.set_price(Nusd::whole(1));
        (world, channel)
    };
    let all = |channel| redeem(vec![claim("gina", channel, 0, Nusd::whole(100), Nusd::whole(100))]);
    let (mut world, channel) = setup(Watt::whole(50));
    world.check_block("paul", all(channel), expect![[r#"
        channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=100000000000 settles_at=1120000
        -- end --
        channel.settled: channel=gina>paul/1 payer=gina receiver=paul credits=100000000000 watt=100000000000 provider=100000000000 stakers=0 burned=0 treasury=0 withheld=0 minted=50000000000"#]]);
    assert_eq!(world.state.module_balance(Module::Vault), Watt::ZERO);
    let (mut world, channel) = setup(Watt(Watt::whole(50).0 - 1));
    world.check_block("paul", all(channel), expect![[r#"
        channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=100000000000 settles_at=1120000
        -- end --
        channel.settled: channel=gina>paul/1 payer=gina receiver=paul credits=99999999999 watt=99999999999 provider=99999999999 stakers=0 burned=0 treasury=0 withheld=0 minted=49999999999"#]]);
    let waits: Vec<Nusd> = world.state.pending().map(|(_, _, pending)| pending.credits).collect();
    assert_eq!(waits, [Nusd(1)]);
}

#[test]
fn golden_numbers_of_burn_and_mint() {
    // ECONOMICS E23.8: exactly 1 000 USD bought at 1.14, settled at another price.
    for (price, expected) in [
        ("1.5", "666.666666666"),
        ("0.9", "1111.111111111"),
        ("1.25", "800"),
        ("1.14", "877.192982456"),
    ] {
        let mut world = World::with(|genesis| {
            genesis.nusd_per_watt = Nusd::from_decimal("1.14").unwrap();
            genesis.params.credits.spread = ppm(0);
            genesis.params.oracle.step = ppm(500_000);
            genesis.params.split = Split::DIRECT;
            genesis.params.providers.withhold = ppm(0);
        });
        world.apply("paul", register("paul", Watt::ZERO));
        let usd = Nusd::whole(1_000);
        let channel = world.open("gina", "paul", 1, usd);
        assert_eq!(world.state.module_balance(Module::Vault).to_decimal(), "877.192982457");
        let nusd_per_watt = Nusd::from_decimal(price).unwrap();
        world.set_price(nusd_per_watt);
        world.apply("paul", redeem(vec![claim("gina", channel, 0, usd, usd)]));
        let earned = world.state.provider(&address("paul")).unwrap().earned;
        assert_eq!(earned.to_decimal(), expected, "settled at {price}");
    }
}

#[test]
fn dust_is_settled_for_nothing() {
    let mut world = World::with(|genesis| genesis.nusd_per_watt = Nusd::whole(1_000_000));
    world.apply("paul", register("paul", Watt::ZERO));
    let channel = world.open("gina", "paul", 1, Nusd::whole(1));
    let dust = Nusd(999_999);
    world.check_block("paul", redeem(vec![claim("gina", channel, 0, dust, dust)]), expect![[r#"
        channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=999999 settles_at=1000000
        -- end --
        channel.settled: channel=gina>paul/1 payer=gina receiver=paul credits=999999 watt=0 provider=0 stakers=0 burned=0 treasury=0 withheld=0 minted=0"#]]);
}
