//! Fees, and who may owe them.

use expect_test::{Expect, expect};
use ledger::{Module, Readiness};
use types::{
    Nusd, Ppm, TimeMs, Watt,
    genesis::GenesisAccount,
    stake::CommissionTerms,
    state::Account,
    tx::{Action, Tx},
};

use crate::world::{World, address, claim, profile, redeem, register, validator};

fn transfer() -> Action {
    Action::Transfer { to: address("gina"), amount: Watt(1) }
}

/// One transaction, changed, must be refused by `check` and skipped in a block in the same words.
fn check_refused(change: impl FnOnce(&mut Tx), expected: Expect) {
    let mut world = World::new();
    world.apply("alice", transfer());
    let tx = world.tx_with("alice", transfer(), |tx| {
        tx.nonce.0 = 1;
        change(tx);
    });
    let refused = world.state.check(&tx).unwrap_err();
    let outcome = world.block(&[tx]);
    let shown = world.show(&outcome.results[0]);
    assert!(shown.starts_with(&format!("skipped {}: ", refused.code())), "{shown} {refused}");
    expected.assert_eq(&shown);
}

#[test]
fn what_does_not_belong_here_and_now_has_no_place_in_a_block() {
    check_refused(
        |tx| tx.chain_id = "other".parse().unwrap(),
        expect![
            "skipped tx.chain_id: the transaction is for the network `other`, this is `peerwatt-test`; sign it again for this one"
        ],
    );
    check_refused(
        |tx| tx.valid_until = Some(TimeMs(999_999)),
        expect![
            "skipped tx.expired: the transaction was valid until 999999 ms and the block is of 1000000 ms; sign again with a later end"
        ],
    );
    check_refused(
        |tx| tx.fee_max = Watt(0),
        expect![
            "skipped fee.max_too_low: the fee with the tip is 0.001191 WATT and `fee_max` is 0 WATT; raise `fee_max`"
        ],
    );
    check_refused(
        |tx| tx.nonce.0 = 0,
        expect![
            "skipped nonce.too_low: nonce 0 is used, the next one of alice is 1; sign again with that"
        ],
    );
    check_refused(
        |tx| tx.nonce.0 = 1 + 65,
        expect![
            "skipped nonce.too_high: nonce 66 comes later, the next one of alice is 1; send the ones before it first"
        ],
    );
    check_refused(
        |tx| tx.nonce.0 = u64::MAX,
        expect![
            "skipped nonce.too_high: nonce 18446744073709551615 comes later, the next one of alice is 1; send the ones before it first"
        ],
    );
}

#[test]
fn the_last_moment_and_the_exact_fee_are_enough() {
    let mut world = World::new();
    let now = world.now;
    let change = |fee_max| {
        move |tx: &mut Tx| {
            tx.valid_until = Some(now);
            tx.fee_max = fee_max;
        }
    };
    let fee = world.state.fee(world.tx_with("alice", transfer(), change(Watt(0))).bytes_len());
    let exact = world.tx_with("alice", transfer(), change(fee));
    let less = world.tx_with("alice", transfer(), change(Watt(fee.0 - 1)));
    assert!(world.state.check(&less).is_err());
    assert_eq!(world.state.check(&exact), Ok(Readiness::Ready));
    let outcome = world.block(&[exact]);
    assert_eq!(outcome.results[0].fee, fee);
    assert_eq!(world.watt("alice").0, Watt::whole(1_000).0 - fee.0 - 1);
}

#[test]
fn a_transaction_may_wait_for_those_before_it() {
    let mut world = World::new();
    let tx = |world: &World, nonce| world.tx_with("alice", transfer(), |tx| tx.nonce.0 = nonce);
    assert_eq!(world.state.check(&tx(&world, 64)), Ok(Readiness::Ahead { by: 64 }));
    // In a block it still needs its turn.
    let early = tx(&world, 1);
    let outcome = world.block(&[early]);
    expect!["skipped nonce.too_high: nonce 1 comes later, the next one of alice is 0; send the ones before it first"].assert_eq(&world.show(&outcome.results[0]));
    let in_turn = [tx(&world, 0), tx(&world, 1), tx(&world, 2)];
    assert!(world.block(&in_turn).is_clean());
}

#[test]
fn a_failed_transaction_pays_and_uses_its_nonce() {
    let mut world = World::new();
    let before = world.watt("alice");
    let failing = Action::Transfer { to: address("gina"), amount: before };
    let result = world.run("alice", failing);
    assert!(!result.fee.is_zero());
    assert_eq!(world.watt("alice").0, before.0 - result.fee.0);
    assert_eq!(world.state.account(&address("alice")).nonce.0, 1);
    // Both validators' shares and the remainder.
    let held = [Module::Stakers, Module::Rewards].map(|module| world.state.module_balance(module));
    assert_eq!(held[0].0 + held[1].0, result.fee.0);
}

#[test]
fn a_tip_is_paid_with_the_fee_to_the_stakers() {
    let mut world = World::new();
    let tip = Watt(5_000_001);
    let before = world.watt("alice");
    let tipped = |tx: &mut Tx| tx.tip = tip;
    let tx = world.tx_with("alice", transfer(), tipped);
    let fee = world.state.fee(tx.bytes_len());
    let outcome = world.block(&[tx]);
    assert_eq!(outcome.results[0].fee.0, fee.0 + tip.0);
    assert_eq!(world.watt("alice").0, before.0 - fee.0 - tip.0 - 1);
    let held = [Module::Stakers, Module::Rewards].map(|module| world.state.module_balance(module));
    assert_eq!(held[0].0 + held[1].0, fee.0 + tip.0);
}

#[test]
fn fee_and_tip_together_are_at_most_what_the_sender_allows() {
    let mut world = World::new();
    let with = |fee_max, tip| {
        move |tx: &mut Tx| {
            tx.fee_max = fee_max;
            tx.tip = tip;
        }
    };
    let fee = world.state.fee(world.tx("alice", transfer()).bytes_len());
    let fee_max = Watt(fee.0 + 7);
    for (fee_max, tip, expected) in [
        (fee_max, Watt(8), "fee.max_too_low"),
        (fee, Watt(1), "fee.max_too_low"),
        (Watt(u128::MAX), Watt(u128::MAX), "amount.overflow"),
        (Watt(u128::MAX), Watt::whole(1_000), "fee.cannot_pay"),
    ] {
        let tx = world.tx_with("alice", transfer(), with(fee_max, tip));
        assert_eq!(world.state.check(&tx).unwrap_err().code(), expected, "{fee_max:?} {tip:?}");
        let outcome = world.block(&[tx]);
        let shown = world.show(&outcome.results[0]);
        assert!(shown.starts_with(&format!("skipped {expected}: ")), "{shown}");
    }
    let exact = world.tx_with("alice", transfer(), with(fee_max, Watt(7)));
    assert_eq!(world.block(&[exact]).results[0].fee, fee_max);
}

#[test]
fn nobody_tips_on_credit() {
    let mut world = World::new();
    let tx = world.tx_with("poor", register("poor", Watt::ZERO), |tx| tx.tip = Watt(1));
    assert_eq!(world.state.check(&tx).unwrap_err().code(), "fee.cannot_pay");
    let outcome = world.block(&[tx]);
    assert!(world.show(&outcome.results[0]).starts_with("skipped fee.cannot_pay: "));
    assert_eq!(world.state.account(&address("poor")), Account::default());
}

#[test]
fn who_has_nothing_can_only_begin_to_provide() {
    let mut world = World::new();
    let terms = world.terms("poor", "paul", 1);
    let channel = terms.id(&world.genesis.chain_id);
    for action in [
        transfer(),
        Action::OpenChannel { terms, deposit: Nusd(1) },
        Action::CloseChannel { channel },
        Action::UnbondProvider,
        Action::WithdrawRewards { operator: validator("vera") },
    ] {
        let tx = world.tx("poor", action.clone());
        assert_eq!(world.state.check(&tx).unwrap_err().code(), "fee.cannot_pay", "{action:?}");
        let result = world.run("poor", action);
        assert!(world.show(&result).starts_with("skipped fee.cannot_pay"));
    }
    assert_eq!(world.state.account(&address("poor")), Account::default());
}

#[test]
fn a_registration_on_credit_is_paid_by_the_first_redemption() {
    let mut world = World::new();
    let tx = world.tx("poor", register("poor", Watt::ZERO));
    assert_eq!(world.state.check(&tx), Ok(Readiness::Ready));
    world.check(
        "poor",
        register("poor", Watt::ZERO),
        expect![[r#"
            fee.owed: account=poor fee=1225000 debt=1225000
            provider.registered: operator=poor node_key=poor/node moniker=poor bond=0"#]],
    );
    let channel = world.open("gina", "poor", 1, Nusd::whole(10));
    let total = |total| redeem(vec![claim("gina", channel, 0, Nusd::whole(10), total)]);

    // Too little to pay for both: no place in a block, and nothing happened.
    let tx = world.tx("poor", total(Nusd(1_000_000)));
    assert_eq!(world.state.check(&tx).unwrap_err().code(), "fee.cannot_pay");
    world.check("poor", total(Nusd(1_000_000)), expect!["skipped fee.cannot_pay: poor has 0 WATT and the fee is 0.002556 WATT; send it WATT, or redeem more at once so that the payment covers the fee"]);
    assert_eq!(world.state.channel(&channel).unwrap().claimed, Nusd::ZERO);

    let tx = world.tx("poor", total(Nusd::whole(1)));
    assert_eq!(world.state.check(&tx), Ok(Readiness::Ready));
    world.check_block("poor", total(Nusd::whole(1)), expect![[r#"
        fee.owed: account=poor fee=1331000 debt=2556000
        channel.claimed: channel=gina>poor/1 payer=gina receiver=poor credits=1000000000 settles_at=1000000
        -- end --
        fee.debt_paid: account=poor amount=2556000 debt=0
        stake.delegated: delegator=poor operator=provider/poor amount=59488800 shares=59488800000000000
        channel.settled: channel=gina>poor/1 payer=gina receiver=poor credits=1000000000 watt=500000000 provider=300000000 stakers=75000000 burned=75000000 treasury=50000000 withheld=59488800 minted=0"#]]);
    assert_eq!(world.state.account(&address("poor")).fee_debt, Watt::ZERO);
    // From now on it pays like everybody else, also for what fails.
    world.check(
        "poor",
        Action::WithdrawRewards { operator: validator("vera") },
        expect![
            "failed stake.not_delegated: poor has no stake behind validator/vera; delegate first"
        ],
    );
}

#[test]
fn a_registration_on_credit_that_fails_leaves_nothing() {
    let mut world = World::with(|genesis| genesis.params.providers.unbonded_max = 1);
    for action in [
        register("poor", Watt(1)),
        Action::RegisterProvider {
            node_key: types::PublicKey([1; 32]),
            profile: profile(""),
            commission: None,
            bond: Watt::ZERO,
        },
        Action::RegisterProvider {
            node_key: types::PublicKey([1; 32]),
            profile: profile("poor"),
            commission: Some(CommissionTerms { rate_max: Ppm::default(), ..CommissionTerms::ALL }),
            bond: Watt::ZERO,
        },
    ] {
        let refused = world.state.check(&world.tx("poor", action.clone())).unwrap_err();
        let result = world.run("poor", action);
        let shown = world.show(&result);
        assert!(shown.starts_with(&format!("skipped {}", refused.code())), "{shown}");
    }
    world.apply("paul", register("paul", Watt::ZERO));
    world.check("poor", register("poor", Watt::ZERO), expect!["skipped provider.unbonded_full: 1 providers without a full bond are registered, which is the most; register with a bond of 2.5 WATT"]);
    assert_eq!(world.state.account(&address("poor")), Account::default());
}

#[test]
fn debt_is_bounded() {
    let mut world = World::new();
    for n in 0..8 {
        let result = world.run("poor", register("poor", Watt::ZERO));
        assert!(!world.show(&result).starts_with("skipped"), "{n}: {}", world.show(&result));
    }
    world.check("poor", register("poor", Watt::ZERO), expect!["skipped fee.debt_too_high: poor owes 0.011025 WATT in fees, the most for a transaction like this is 0.0098 WATT; earn or send it WATT first"]);
    let refused = world.state.check(&world.tx("poor", register("poor", Watt::ZERO))).unwrap_err();
    assert_eq!(refused.code(), "fee.debt_too_high");
}

#[test]
fn debt_survives_expiry_and_is_taken_from_a_bond() {
    let mut world = World::new();
    world.apply("poor", register("poor", Watt::ZERO));
    let debt = world.state.account(&address("poor")).fee_debt;
    world.wait(world.genesis.params.providers.idle_ms);
    world.block(&[]);
    assert_eq!(world.state.providers().count(), 0);
    assert_eq!(world.state.account(&address("poor")).fee_debt, debt);
    // Somebody sends it WATT; it bonds, leaves, and the bond pays.
    world.apply("alice", Action::Transfer { to: address("poor"), amount: Watt::whole(10) });
    world.apply("poor", register("poor", Watt::whole(5)));
    world.apply("poor", Action::UnbondProvider);
    world.wait(world.genesis.params.stake.unbonding_ms);
    world.check_end(expect![[r#"
        provider.unbonded: operator=poor
        provider.removed: operator=poor
        fee.debt_paid: account=poor amount=1225000 debt=0
        stake.unbonded: delegator=poor operator=provider/poor amount=4998775000
        rewards.distributed: amount=1225000 carried=1"#]]);
    assert_eq!(world.state.account(&address("poor")).fee_debt, Watt::ZERO);
}

/// What waits behind others is paid for by the balance of today, or does not wait.
fn check_queue(actions: Vec<(Action, Watt)>, expected: Result<(), (usize, &str)>) {
    let world = World::with(|genesis| {
        let balance = Watt(2 * Watt::whole(1).0);
        genesis.accounts.push(GenesisAccount { address: address("quentin"), balance });
    });
    let queue: Vec<_> = (0u64..)
        .zip(actions)
        .map(|(nonce, (action, tip))| {
            world.tx_with("quentin", action, |tx| {
                tx.nonce.0 = nonce;
                (tx.tip, tx.fee_max) = (tip, Watt::whole(1_000));
            })
        })
        .collect();
    let given = world.state.check_queue(&queue);
    let given = given.as_ref().map_err(|(place, error)| (*place, error.code()));
    assert_eq!(given.copied(), expected);
}

#[test]
fn a_transaction_waits_only_if_it_is_paid_for_with_those_before_it() {
    let one = Watt::whole(1);
    let give = |amount| Action::Transfer { to: address("gina"), amount };
    check_queue(vec![], Ok(()));
    check_queue(vec![(transfer(), Watt::ZERO), (transfer(), one)], Ok(()));
    let unpaid = |place| Err((place, "account.insufficient_watt"));
    check_queue(vec![(transfer(), Watt(1)), (transfer(), Watt::whole(9))], unpaid(1));
    check_queue(vec![(transfer(), one), (transfer(), Watt::ZERO), (transfer(), one)], unpaid(2));
    // The first gives away what would pay for the second; what the last one gives does not count.
    check_queue(vec![(give(one), Watt::ZERO), (transfer(), one)], unpaid(1));
    check_queue(vec![(transfer(), Watt::ZERO), (give(Watt::whole(9)), Watt::ZERO)], Ok(()));
    check_queue(vec![(transfer(), Watt::whole(9))], Err((0, "fee.cannot_pay")));
}

#[test]
fn only_the_first_of_those_that_wait_may_owe_its_fee() {
    let world = World::new();
    let queue: Vec<_> = (0..2)
        .map(|nonce| {
            let action = register("nobody", Watt::ZERO);
            world.tx_with("nobody", action, |tx| tx.nonce.0 = nonce)
        })
        .collect();
    assert_eq!(world.state.check_queue(&queue[..1]), Ok(()));
    let (place, error) = world.state.check_queue(&queue).unwrap_err();
    assert_eq!(place, 1);
    expect![
        "nobody has 0 WATT, and with this one its waiting transactions need 0.002454 WATT; wait until they are in a block, or send it WATT"
    ]
    .assert_eq(&error.to_string().replace(&address("nobody").to_string(), "nobody"));
}
