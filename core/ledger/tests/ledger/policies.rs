//! The three credit policies, refunds, the breaker, holdback, and what happens when the vault is short.

use expect_test::expect;
use ledger::{Breaker, Module};
use types::{
    ChannelId, Nonce, Nusd, TimeMs, Watt,
    params::CreditPolicy,
    split::Split,
    tx::{Action, CreditPurchase},
};

use crate::world::{DAY_MS, MINUTE_MS, World, address, claim, pay, ppm, redeem, register};

const HOUR_MS: u64 = 60 * MINUTE_MS;

fn total(channel: ChannelId, usd: u64) -> Action {
    let usd = Nusd::whole(usd);
    redeem(vec![claim("gina", channel, 0, usd, usd)])
}

/// `paul` provides, everything is his, there is no spread, and prices may halve or double.
fn plain(policy: CreditPolicy) -> World {
    let mut world = World::with(|genesis| {
        genesis.params.credits.policy = policy;
        genesis.params.credits.spread = ppm(0);
        genesis.params.split = Split::DIRECT;
        genesis.params.oracle.step = ppm(500_000);
    });
    world.apply("paul", register("paul", Watt::whole(10)));
    world
}

#[test]
fn a_claim_waits_out_the_holdback_and_is_split_then() {
    let mut world = World::with(|genesis| genesis.params.channels.holdback_ms = DAY_MS);
    world.apply("paul", register("paul", Watt::whole(10)));
    let channel = world.open("gina", "paul", 1, Nusd::whole(10));
    let before = world.watt("paul");
    world.check_block("paul", total(channel, 1), expect![[r#"
        channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=1000000000 settles_at=87400000
        -- end --
    "#]]);
    world.check_block("paul", total(channel, 2), expect![[r#"
        channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=1000000000 settles_at=87400000
        -- end --
    "#]]);
    assert!(world.watt("paul") < before);
    let entry = world.state.channel(&channel).unwrap();
    assert_eq!((entry.claimed, entry.pending()), (Nusd::whole(2), Nusd::whole(2)));
    assert_eq!(world.state.pending_credits(), Nusd::whole(2));
    assert_eq!(world.state.next_due(), Some(world.now.plus_ms(DAY_MS)));
    world.wait(DAY_MS - 1);
    world.check_end(expect![[""]]);
    // It may close in between: what was claimed is safe.
    world.apply("paul", Action::CloseChannel { channel });
    world.wait(1);
    world.check_end(expect![[r#"
        channel.settled: channel=gina>paul/1 payer=gina receiver=paul credits=2000000000 watt=1000000000 provider=600000000 stakers=150000000 burned=150000000 treasury=100000000 withheld=0 minted=0
        rewards.distributed: amount=150000000 carried=1"#]]);
    assert_eq!(world.state.channel(&channel).unwrap().settled, Nusd::whole(2));
}

#[test]
fn a_short_vault_pays_pro_rata_and_the_rest_waits() {
    let mut world = World::with(|genesis| {
        genesis.params.credits.spread = ppm(0);
        genesis.params.split = Split::DIRECT;
        genesis.params.oracle.step = ppm(500_000);
        genesis.params.supply.settlement_reserve = Watt::whole(10);
        genesis.params.channels.holdback_ms = 10 * MINUTE_MS;
    });
    world.apply("paul", register("paul", Watt::whole(10)));
    world.apply("pia", register("pia", Watt::whole(10)));
    let channels = [("paul", 20), ("pia", 70)].map(|(name, usd)| {
        let channel = world.open("gina", name, 1, Nusd::whole(usd));
        (name, channel, usd)
    });
    // 45 WATT in the vault and 10 in reserve; at 1 USD the claims are worth 90.
    world.set_price(Nusd::whole(1));
    let txs = channels.map(|(name, channel, usd)| world.tx(name, total(channel, usd)));
    world.block(&txs);
    world.wait(10 * MINUTE_MS);
    world.check_end(expect![[r#"
        stake.delegated: delegator=pia operator=provider/pia amount=8555555556 shares=8555555556000000000
        channel.settled: channel=gina>pia/1 payer=gina receiver=pia credits=42777777778 watt=42777777778 provider=42777777778 stakers=0 burned=0 treasury=0 withheld=8555555556 minted=0
        channel.settled: channel=gina>paul/1 payer=gina receiver=paul credits=12222222222 watt=12222222222 provider=12222222222 stakers=0 burned=0 treasury=0 withheld=0 minted=10000000000"#]]);
    assert_eq!(world.state.module_balance(Module::Vault), Watt::ZERO);
    assert_eq!(world.state.supply().minted.settlement, Watt::whole(10));
    // Nothing left to pay with: the chain may rest, the claims are not lost.
    assert_eq!(world.state.next_due(), None);
    world.check_end(expect![[""]]);
    assert_eq!(world.state.pending().count(), 2);
    // A purchase brings something, which is shared at once.
    world.check_block("alice", pay(Watt::whole(7)), expect![[r#"
        failed credits.paused: purchases of credits are paused until 4720000 ms at least: the vault covers too little; use what is outstanding or wait
        -- end --
    "#]]);
}

#[test]
fn a_refund_waits_and_pays_at_the_better_price_for_those_who_stay() {
    let mut world = plain(CreditPolicy::Vault);
    world.apply("gina", pay(Watt::whole(100)));
    let refund = |usd| Action::RefundCredits { credits: Nusd::whole(usd) };
    world.check("gina", refund(201), expect!["failed account.insufficient_credits: gina has 200 USD of free credits and needs 201 USD; buy credits or use less"]);
    world.check(
        "gina",
        refund(0),
        expect!["failed amount.zero: the amount of credits is zero; give an amount above zero"],
    );
    world.check(
        "gina",
        refund(50),
        expect!["credits.refund_requested: owner=gina credits=50000000000 due_at=4600000"],
    );
    // They are gone from the account at once.
    world.check("gina", refund(151), expect!["failed account.insufficient_credits: gina has 150 USD of free credits and needs 151 USD; buy credits or use less"]);
    world.wait(HOUR_MS - 1);
    world.check_end(expect![[""]]);
    world.wait(1);
    world.check_end(expect!["credits.refunded: owner=gina credits=50000000000 watt=25000000000"]);
    // The price halves, but its average is still above: a refund is made at the higher of the two.
    world.apply("gina", refund(50));
    world.wait(HOUR_MS - 2 * MINUTE_MS);
    let outcome = world.vote(&["vera", "vito"], Nusd::whole(1));
    let average = world.state.average_price(world.now);
    assert!(average > Nusd::from_decimal("1.9").unwrap());
    let refunded = outcome.events.iter().find(|event| event.kind() == "credits.refunded").unwrap();
    let expected = Watt::worth(Nusd::whole(50), average, types::Rounding::Down).unwrap();
    assert_eq!(refunded.fields()[2], ("watt", expected.to_string()));
}

/// Refunds out of a vault that covers half of what is outstanding: each receives its share and keeps
/// its claim on the rest, which comes after those who stayed.
#[test]
fn a_refund_that_the_vault_cannot_pay_in_full_is_owed_on() {
    let mut world = plain(CreditPolicy::Vault);
    world.apply("gina", pay(Watt::whole(100)));
    world.apply("alice", pay(Watt::whole(50)));
    world.set_price(Nusd::whole(1));
    // The average follows: 150 WATT for 300 USD.
    world.wait(HOUR_MS);
    let refund = |usd| Action::RefundCredits { credits: Nusd::whole(usd) };
    let txs = [("gina", 200), ("alice", 40)].map(|(name, usd)| world.tx(name, refund(usd)));
    world.block(&txs);
    world.wait(HOUR_MS);
    world.check_end(expect![[r#"
        credits.refunded: owner=gina credits=100000000000 watt=100000000000
        credits.refund_deferred: owner=gina credits=100000000000
        credits.refunded: owner=alice credits=20000000000 watt=20000000000
        credits.refund_deferred: owner=alice credits=20000000000"#]]);
    let arrears = |world: &World| -> Vec<Nusd> {
        world.state.arrears().map(|(_, refund)| refund.credits).collect()
    };
    assert_eq!(arrears(&world), [Nusd::whole(100), Nusd::whole(20)]);
    assert_eq!(world.state.next_due(), None);
    world.wait(DAY_MS);
    world.check_end(expect![[""]]);
    // alice stayed with 60 USD and 30 WATT in the vault. At 2.25 USD they cover 7.5 USD more, the
    // oldest first; its average is what refunds are paid at, so wait until it has followed.
    world.set_price(Nusd::from_decimal("1.5").unwrap());
    world.set_price(Nusd::from_decimal("2.25").unwrap());
    world.wait(HOUR_MS);
    world.check_end(expect!["credits.refunded: owner=gina credits=7500000000 watt=3333333333"]);
    assert_eq!(world.state.next_due(), None);
    for usd in ["3.3", "4.9", "7.3"] {
        world.set_price(Nusd::from_decimal(usd).unwrap());
    }
    world.wait(HOUR_MS);
    world.block(&[]);
    assert_eq!(arrears(&world), []);
    assert_eq!(world.state.supply().credits_outstanding, world.credits("alice"));
}

/// More refunds than a block pays: the next block is due at once, for those in arrears too.
#[test]
fn arrears_that_one_block_cannot_pay_are_due_for_the_next() {
    let mut world = plain(CreditPolicy::Vault);
    world.apply("gina", pay(Watt::whole(100)));
    world.apply("alice", pay(Watt::whole(50)));
    world.set_price(Nusd::whole(1));
    // The average follows: 150 WATT for 300 USD, half of what they are worth.
    world.wait(HOUR_MS);
    let refund = Action::RefundCredits { credits: Nusd::from_decimal("0.01").unwrap() };
    let first = world.state.account(&address("gina")).nonce.0;
    let tx = |nonce| world.tx_with("gina", refund.clone(), |tx| tx.nonce = Nonce(nonce));
    let txs: Vec<_> = (first..first + 1_001).map(tx).collect();
    world.block(&txs);
    world.wait(HOUR_MS);
    world.block(&[]);
    assert_eq!(world.state.next_due(), Some(world.now));
    world.block(&[]);
    assert_eq!((world.state.refunds().count(), world.state.arrears().count()), (0, 1_001));
    assert_eq!(world.state.next_due(), None);
    // The price doubles, and the vault covers everybody.
    for usd in ["1.5", "2.25", "3"] {
        world.set_price(Nusd::from_decimal(usd).unwrap());
    }
    world.wait(HOUR_MS);
    world.block(&[]);
    assert_eq!(world.state.arrears().count(), 1);
    assert_eq!(world.state.next_due(), Some(TimeMs(0)));
    world.block(&[]);
    assert_eq!(world.state.arrears().count(), 0);
    assert_eq!(world.state.next_due(), None);
}

/// What cannot be paid is not due, so a chain with nothing else to do rests.
#[test]
fn a_refund_is_due_while_there_is_a_price_and_something_in_the_vault() {
    let asked = |policy| {
        let mut world = World::with(|genesis| {
            genesis.params.credits.policy = policy;
            genesis.params.credits.spread = ppm(0);
            genesis.params.oracle.step = ppm(500_000);
            genesis.params.oracle.max_age_ms = 2 * DAY_MS;
            genesis.params.supply.settlement_reserve = Watt::ZERO;
        });
        world.apply("paul", register("paul", Watt::whole(10)));
        let channel = world.open("gina", "paul", 1, Nusd::whole(100));
        world.apply("alice", pay(Watt::whole(50)));
        world.set_price(Nusd::whole(1));
        world.apply("alice", Action::RefundCredits { credits: Nusd::whole(100) });
        assert_eq!(world.state.next_due(), Some(world.now.plus_ms(HOUR_MS)));
        (world, channel)
    };
    for policy in [CreditPolicy::Vault, CreditPolicy::Split] {
        let (mut world, _) = asked(policy);
        world.wait(3 * DAY_MS);
        world.check_end(expect![[""]]);
        assert_eq!(world.state.next_due(), None, "the price is stale");
    }
    let (mut world, channel) = asked(CreditPolicy::Vault);
    world.apply("paul", total(channel, 100));
    assert_eq!(world.state.next_due(), None, "the claim took the whole vault");
    world.wait(HOUR_MS);
    world.check_end(expect![[""]]);
    assert_eq!(world.state.refunds().count(), 1);
}

/// A vault that holds next to nothing pays next to nothing, and nobody loses a claim for it.
#[test]
fn a_refund_from_a_nearly_empty_vault_keeps_its_claim() {
    let mut world = plain(CreditPolicy::Vault);
    let channel = world.open("gina", "paul", 1, Nusd::whole(100));
    world.apply("alice", pay(Watt::whole(50)));
    world.set_price(Nusd::from_decimal("1.000000001").unwrap());
    world.apply("paul", total(channel, 100));
    assert!(world.state.module_balance(Module::Vault) < Watt(200));
    world.wait(HOUR_MS);
    world.apply("alice", Action::RefundCredits { credits: Nusd::whole(100) });
    world.wait(HOUR_MS);
    world.check_end(expect![[r#"
        credits.refunded: owner=alice credits=101 watt=100
        credits.refund_deferred: owner=alice credits=99999999899"#]]);
    // Purchases fill the vault for those who make them; arrears are paid when the price has risen.
    let left = world.state.arrears().next().unwrap().1.credits;
    assert!(left > Nusd(Nusd::whole(100).0 - 200), "{left:?}");
}

/// Credits are a share of the vault under P1, and nothing else: the share settles a refund.
#[test]
fn under_the_split_policy_a_refund_is_its_share_of_the_vault() {
    let mut world = plain(CreditPolicy::Split);
    world.apply("gina", pay(Watt::whole(100)));
    world.set_price(Nusd::whole(1));
    world.wait(HOUR_MS);
    world.apply("gina", Action::RefundCredits { credits: Nusd::whole(50) });
    world.wait(HOUR_MS);
    world.check_end(expect!["credits.refunded: owner=gina credits=50000000000 watt=25000000000"]);
    assert_eq!(world.state.refunds().count(), 0);
}

/// The price and its average differ: who buys gets the lower one, who is refunded the higher one, so
/// a price that lags behind the market cannot be used in either direction.
#[test]
fn conversions_are_made_at_the_worse_of_price_and_average() {
    let mut world = plain(CreditPolicy::Vault);
    world.apply("gina", pay(Watt::whole(100)));
    world.set_price(Nusd::whole(3));
    world.wait(MINUTE_MS);
    let average = world.state.average_price(world.now);
    assert!(Nusd::whole(2) < average && average < Nusd::whole(3));
    world.apply("alice", pay(Watt::whole(1)));
    assert_eq!(world.credits("alice"), average);
    world.wait(HOUR_MS);
    let due_ms = world.genesis.params.credits.refund_delay_ms;
    world.apply("gina", Action::RefundCredits { credits: Nusd::whole(30) });
    world.wait(due_ms - 2 * MINUTE_MS);
    let outcome = world.vote(&["vera", "vito"], Nusd::whole(2));
    assert_eq!(world.state.average_price(world.now), Nusd::whole(3));
    let refunded = outcome.events.iter().find(|event| event.kind() == "credits.refunded").unwrap();
    assert_eq!(refunded.fields()[2], ("watt", Watt::whole(10).to_string()));
}

#[test]
fn a_network_may_refuse_refunds() {
    let mut world = World::with(|genesis| genesis.params.credits.refunds = false);
    world.apply("gina", pay(Watt::whole(100)));
    let refund = Action::RefundCredits { credits: Nusd::whole(1) };
    world.check(
        "gina",
        refund.clone(),
        expect![
            "failed credits.no_refunds: credits of this network cannot be refunded; spend them"
        ],
    );
    let mut world = plain(CreditPolicy::Emission);
    world.apply("gina", pay(Watt::whole(100)));
    world.check(
        "gina",
        refund,
        expect![
            "failed credits.no_refunds: credits of this network cannot be refunded; spend them"
        ],
    );
}

#[test]
fn credits_of_one_block_are_bounded() {
    let mut world =
        World::with(|genesis| genesis.params.credits.issue_block_max = Nusd::whole(100));
    let purchase = |usd| {
        let credits = Nusd::whole(usd);
        Action::BuyCredits(CreditPurchase::Receive { credits, watt_max: Watt(u128::MAX) })
    };
    let txs = [("gina", 60), ("alice", 41), ("dora", 40)];
    let txs = txs.map(|(name, usd)| world.tx(name, purchase(usd)));
    let outcome = world.block(&txs);
    expect!["failed credits.block_full: this block can issue 40 USD of credits more; buy fewer or try again in the next block"].assert_eq(&world.show(&outcome.results[1]));
    assert_eq!(world.credits("dora"), Nusd::whole(40));
    world.apply("alice", purchase(100));
}

#[test]
fn the_breaker_pauses_purchases_until_the_vault_covers_enough_again() {
    let mut world = plain(CreditPolicy::Vault);
    world.apply("gina", pay(Watt::whole(100)));
    let price = |usd: &str| Nusd::from_decimal(usd).unwrap();
    world.set_price(price("1.88"));
    assert_eq!(world.state.breaker(), Breaker::Warned);
    world.apply("gina", pay(Watt::whole(1)));
    world.set_price(price("1.5"));
    let Breaker::Paused { since } = world.state.breaker() else { panic!("not paused") };
    world.check("gina", pay(Watt::whole(1)), expect!["failed credits.paused: purchases of credits are paused until 4840000 ms at least: the vault covers too little; use what is outstanding or wait"]);
    // Settlement goes on.
    let channel_terms = world.terms("gina", "paul", 1);
    let channel = channel_terms.id(&world.genesis.chain_id);
    let deposit = Nusd::whole(10);
    world.apply("gina", Action::OpenChannel { terms: channel_terms, deposit });
    world.apply("paul", total(channel, 10));
    assert_eq!(world.state.channel(&channel).unwrap().settled, deposit);
    // Covered again, but the pause is not over.
    world.set_price(price("2"));
    world.check("gina", pay(Watt::whole(1)), expect!["failed credits.paused: purchases of credits are paused until 4840000 ms at least: the vault covers too little; use what is outstanding or wait"]);
    let pause_ms = world.genesis.params.credits.pause_ms;
    world.wait(since.plus_ms(pause_ms).ms_since(world.now));
    world.check_end(expect!["credits.breaker: before=paused after=closed"]);
    world.apply("gina", pay(Watt::whole(1)));
}

#[test]
fn under_the_split_policy_a_settlement_pays_its_share_of_the_vault() {
    let mut world = plain(CreditPolicy::Split);
    let channel = world.open("gina", "paul", 1, Nusd::whole(100));
    world.apply("alice", pay(Watt::whole(50)));
    // 100 WATT for 200 USD. At half the price a quarter of the credits is still a quarter of it.
    world.set_price(Nusd::whole(1));
    world.check_block("paul", total(channel, 50), expect![[r#"
        channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=50000000000 settles_at=1120000
        -- end --
        channel.settled: channel=gina>paul/1 payer=gina receiver=paul credits=50000000000 watt=25000000000 provider=25000000000 stakers=0 burned=0 treasury=0 withheld=0 minted=0"#]]);
    // At twice the price they are worth less than their share.
    world.set_price(Nusd::from_decimal("1.5").unwrap());
    world.set_price(Nusd::from_decimal("2.25").unwrap());
    world.set_price(Nusd::whole(3));
    world.set_price(Nusd::whole(4));
    world.check_block("paul", total(channel, 90), expect![[r#"
        channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=40000000000 settles_at=1600000
        -- end --
        channel.settled: channel=gina>paul/1 payer=gina receiver=paul credits=40000000000 watt=10000000000 provider=10000000000 stakers=0 burned=0 treasury=0 withheld=0 minted=0"#]]);
    assert!(world.state.supply().minted.total().is_zero());
}

/// An epoch of a day that may mint 30 WATT; nothing of what is burned comes back.
fn emitting(budget: u64) -> (World, [ChannelId; 2]) {
    let mut world = World::with(|genesis| {
        let params = &mut genesis.params;
        params.credits.policy = CreditPolicy::Emission;
        params.credits.spread = ppm(0);
        params.split = Split::DIRECT;
        params.supply.emission_budget = Watt::whole(budget);
        params.emission.base = Watt::whole(30);
        params.emission.halving_epochs = 2;
        params.emission.pool_inflow = ppm(0);
    });
    world.apply("paul", register("paul", Watt::whole(10)));
    world.apply("pia", register("pia", Watt::whole(10)));
    let channels = ["paul", "pia"].map(|name| world.open("gina", name, 1, Nusd::whole(500)));
    (world, channels)
}

#[test]
fn under_the_emission_policy_purchases_burn_and_epochs_pay_by_work() {
    let (mut world, [first, second]) = emitting(1_000);
    assert_eq!(world.state.module_balance(Module::Vault), Watt::ZERO);
    assert_eq!(world.state.supply().burned.purchase, Watt::whole(500));
    world.check_block("paul", total(first, 40), expect![[r#"
        channel.claimed: channel=gina>paul/1 payer=gina receiver=paul credits=40000000000 settles_at=1000000
        -- end --
        channel.worked: channel=gina>paul/1 receiver=paul credits=40000000000"#]]);
    world.apply("pia", total(second, 80));
    world.wait(DAY_MS);
    // 120 USD are 60 WATT, the epoch has 30: a third and two thirds of them.
    world.check_end(expect![[r#"
        emission.epoch_ended: epoch=0 work=120000000000 budget=30000000000
        emission.paid: epoch=0 operator=paul work=40000000000 watt=10000000000 parts=provider 10000000000, stakers 0, burned 0, treasury 0 withheld=0
        emission.paid: epoch=0 operator=pia work=80000000000 watt=20000000000 parts=provider 20000000000, stakers 0, burned 0, treasury 0 withheld=0"#]]);
    // No more than the work was worth: 5 WATT for 10 USD.
    world.apply("paul", total(first, 50));
    world.wait(DAY_MS);
    world.check_end(expect![[r#"
        emission.epoch_ended: epoch=1 work=10000000000 budget=30000000000
        emission.paid: epoch=1 operator=paul work=10000000000 watt=5000000000 parts=provider 5000000000, stakers 0, burned 0, treasury 0 withheld=0"#]]);
    // Halved after two epochs.
    world.apply("paul", total(first, 500));
    world.wait(DAY_MS);
    world.check_end(expect![[r#"
        emission.epoch_ended: epoch=2 work=450000000000 budget=15000000000
        emission.paid: epoch=2 operator=paul work=450000000000 watt=15000000000 parts=provider 15000000000, stakers 0, burned 0, treasury 0 withheld=0"#]]);
}

/// Two do the same work; one was seen in half of the periods since it registered.
#[test]
fn under_the_emission_policy_work_counts_by_uptime() {
    let (mut world, [first, second]) = emitting(1_000);
    let period_ms = world.genesis.params.providers.heartbeat_ms;
    for period in 1..10 {
        world.wait(period_ms);
        world.apply("paul", Action::Heartbeat);
        if period % 2 == 0 {
            world.apply("pia", Action::Heartbeat);
        }
    }
    // The period of its claim is the eleventh, in which both are seen: 11 of 11 and 6 of 11.
    world.wait(period_ms);
    let txs = [("paul", total(first, 100)), ("pia", total(second, 100))];
    let txs = txs.map(|(name, claim)| world.tx(name, claim));
    world.block(&txs);
    world.wait(DAY_MS);
    world.check_end(expect![[r#"
        emission.epoch_ended: epoch=0 work=200000000000 budget=30000000000
        emission.paid: epoch=0 operator=paul work=100000000000 watt=19411771557 parts=provider 19411771557, stakers 0, burned 0, treasury 0 withheld=0
        emission.paid: epoch=0 operator=pia work=100000000000 watt=10588228442 parts=provider 10588228442, stakers 0, burned 0, treasury 0 withheld=0"#]]);
    let minted = world.state.supply().minted.emission;
    assert!(Watt::whole(30).0 - minted.0 <= 1, "all but the rounding is paid");
}

/// It can send no heartbeat any more, so its uptime is that of when it was seen last.
#[test]
fn work_of_a_provider_that_leaves_counts_as_before() {
    let (mut world, [first, second]) = emitting(1_000);
    world.apply("paul", Action::UnbondProvider);
    world.wait(10 * world.genesis.params.providers.heartbeat_ms);
    let txs = [("paul", total(first, 40)), ("pia", total(second, 40))];
    let txs = txs.map(|(name, claim)| world.tx(name, claim));
    world.block(&txs);
    world.wait(DAY_MS);
    world.check_end(expect![[r#"
        emission.epoch_ended: epoch=0 work=80000000000 budget=30000000000
        emission.paid: epoch=0 operator=paul work=40000000000 watt=15000000000 parts=provider 15000000000, stakers 0, burned 0, treasury 0 withheld=0
        emission.paid: epoch=0 operator=pia work=40000000000 watt=15000000000 parts=provider 15000000000, stakers 0, burned 0, treasury 0 withheld=0"#]]);
}

/// The smallest unit of work of somebody who was hardly ever there weighs nothing.
#[test]
fn work_without_weight_is_paid_nothing_and_forgotten() {
    let (mut world, [first, _]) = emitting(1_000);
    world.wait(40 * world.genesis.params.providers.heartbeat_ms);
    world.apply("paul", redeem(vec![claim("gina", first, 0, Nusd(1), Nusd(1))]));
    world.wait(DAY_MS);
    world.check_end(expect![[""]]);
    assert!(world.state.supply().minted.emission.is_zero());
    assert_eq!(world.state.next_due(), None);
}

#[test]
fn emission_ends_with_its_budget_and_those_who_left_are_paid_and_removed() {
    let (mut world, [first, _]) = emitting(12);
    world.apply("paul", total(first, 400));
    world.apply("paul", Action::UnbondProvider);
    world.apply("paul", Action::CloseChannel { channel: first });
    world.wait(DAY_MS);
    world.check_end(expect![[r#"
        emission.epoch_ended: epoch=0 work=400000000000 budget=12000000000
        emission.paid: epoch=0 operator=paul work=400000000000 watt=12000000000 parts=provider 12000000000, stakers 0, burned 0, treasury 0 withheld=0"#]]);
    assert_eq!(world.state.supply().minted.emission, Watt::whole(12));
    // The entry of one that has left already goes with its last payment.
    let (mut world, [first, second]) = emitting(12);
    world.apply("paul", Action::UnbondProvider);
    world.wait(world.genesis.params.stake.unbonding_ms);
    // Ends the first epoch.
    world.apply("pia", total(second, 1));
    world.apply("paul", total(first, 400));
    world.apply("paul", Action::CloseChannel { channel: first });
    assert!(world.state.provider(&address("paul")).is_some());
    world.wait(DAY_MS);
    world.block(&[]);
    assert!(world.state.provider(&address("paul")).is_none());
}

#[test]
fn what_is_burned_comes_back_slowly() {
    let mut world = World::with(|genesis| {
        let params = &mut genesis.params;
        params.credits.policy = CreditPolicy::Emission;
        params.split = Split::DIRECT;
        params.supply.emission_budget = Watt::whole(1_000);
        params.emission.base = Watt::whole(100);
        params.emission.pool_inflow = ppm(80_000);
        params.emission.pool_smoothing = 4;
    });
    world.apply("paul", register("paul", Watt::whole(10)));
    let channel = world.open("gina", "paul", 1, Nusd::whole(900));
    world.apply("paul", total(channel, 400));
    world.wait(DAY_MS);
    // 8 of the 452 WATT that were burned flow in, a quarter of them out: 102 WATT.
    world.block(&[]);
    assert_eq!(world.state.supply().minted.emission, Watt::whole(102));
    assert_eq!(world.state.emission().pool, Watt::whole(6));
    world.apply("paul", total(channel, 800));
    world.wait(DAY_MS);
    world.block(&[]);
    assert_eq!(world.state.supply().minted.emission, Watt::from_decimal("203.5").unwrap());
}

#[test]
fn budgets_are_minted_as_they_vest() {
    use types::genesis::{Bucket, GenesisVesting};
    let mut world = World::with(|genesis| {
        let start = genesis.time;
        let (cliff, end) = (start.plus_ms(10 * DAY_MS), start.plus_ms(100 * DAY_MS));
        let total = Watt::whole(1_000);
        let beneficiary = Some(address("poor"));
        genesis.vesting = vec![
            GenesisVesting { bucket: Bucket::Team, beneficiary, total, start, cliff, end },
            GenesisVesting {
                bucket: Bucket::Treasury,
                beneficiary: None,
                total,
                start,
                cliff,
                end,
            },
        ];
    });
    let claim = |bucket| Action::ClaimVested { bucket };
    world.check(
        "alice",
        claim(Bucket::Community),
        expect!["failed vesting.no_bucket: this network has no budget `community`"],
    );
    world.wait(10 * DAY_MS - 1);
    world.check(
        "alice",
        claim(Bucket::Team),
        expect!["failed vesting.nothing: nothing more of `team` has vested yet; try again later"],
    );
    world.wait(1);
    world.check(
        "alice",
        claim(Bucket::Team),
        expect!["vesting.claimed: bucket=team beneficiary=poor amount=100000000000"],
    );
    world.check(
        "alice",
        claim(Bucket::Team),
        expect!["failed vesting.nothing: nothing more of `team` has vested yet; try again later"],
    );
    assert_eq!(world.watt("poor"), Watt::whole(100));
    world.wait(300 * DAY_MS);
    world.check(
        "alice",
        claim(Bucket::Team),
        expect!["vesting.claimed: bucket=team beneficiary=poor amount=900000000000"],
    );
    world.check(
        "alice",
        claim(Bucket::Team),
        expect!["failed vesting.nothing: nothing more of `team` has vested yet; try again later"],
    );
    world.check("alice", claim(Bucket::Treasury), expect!["vesting.claimed: bucket=treasury beneficiary=watt1wpjk2unhv968gtm5wfjkzum4wfusqqqqzpq4rt amount=1000000000000"]);
    assert_eq!(world.state.supply().minted.vesting, Watt::whole(2_000));
}
