//! Purchases of credits.

use expect_test::{Expect, expect};
use ledger::Module;
use types::{
    Nusd, Watt,
    tx::{Action, CreditPurchase},
};

use crate::world::{World, ppm};

/// At 1.14 USD for one WATT, without a spread (ECONOMICS E23.8).
fn at_114() -> World {
    World::with(|genesis| {
        genesis.nusd_per_watt = Nusd::from_decimal("1.14").unwrap();
        genesis.params.credits.spread = ppm(0);
    })
}

fn receive(credits: Nusd, watt_max: Watt) -> CreditPurchase {
    CreditPurchase::Receive { credits, watt_max }
}

fn check(mut world: World, purchase: CreditPurchase, expected: Expect) {
    world.check("gina", Action::BuyCredits(purchase), expected);
}

#[test]
fn exact_credits_round_the_payment_up() {
    let usd = Nusd::whole(1_000);
    check(
        at_114(),
        receive(usd, Watt::whole(878)),
        expect![
            "credits.bought: buyer=gina watt=877192982457 credits=1000000000000 nusd_per_watt=1140000000"
        ],
    );
    check(
        at_114(),
        receive(usd, Watt(877_192_982_457)),
        expect![
            "credits.bought: buyer=gina watt=877192982457 credits=1000000000000 nusd_per_watt=1140000000"
        ],
    );
    check(
        at_114(),
        receive(usd, Watt(877_192_982_456)),
        expect![
            "failed credits.watt_max: the credits cost 877.192982457 WATT and `watt_max` is 877.192982456 WATT; raise `watt_max` or buy fewer"
        ],
    );
}

#[test]
fn an_exact_payment_rounds_credits_down() {
    check(
        at_114(),
        CreditPurchase::Pay { watt: Watt(877_192_982_457) },
        expect![
            "credits.bought: buyer=gina watt=877192982457 credits=1000000000000 nusd_per_watt=1140000000"
        ],
    );
    check(
        at_114(),
        CreditPurchase::Pay { watt: Watt(1) },
        expect!["credits.bought: buyer=gina watt=1 credits=1 nusd_per_watt=1140000000"],
    );
}

#[test]
fn the_spread_stays_in_the_vault() {
    let mut world = World::new();
    world.check(
        "gina",
        Action::BuyCredits(CreditPurchase::Pay { watt: Watt::whole(100) }),
        expect!["credits.bought: buyer=gina watt=100000000000 credits=199500000000 nusd_per_watt=2000000000"],
    );
    assert_eq!(world.state.module_balance(Module::Vault), Watt::whole(100));
    world.check(
        "gina",
        Action::BuyCredits(receive(Nusd::from_decimal("199.5").unwrap(), Watt::whole(100))),
        expect!["credits.bought: buyer=gina watt=100000000000 credits=199500000000 nusd_per_watt=2000000000"],
    );
    assert_eq!(world.credits("gina"), Nusd::whole(399));
}

#[test]
fn what_buys_nothing_or_cannot_be_paid_is_refused() {
    check(
        World::new(),
        CreditPurchase::Pay { watt: Watt::ZERO },
        expect!["failed amount.zero: the payment is zero; give an amount above zero"],
    );
    check(
        World::new(),
        receive(Nusd::ZERO, Watt::whole(1)),
        expect!["failed amount.zero: the amount of credits is zero; give an amount above zero"],
    );
    check(
        World::new(),
        CreditPurchase::Pay { watt: Watt::whole(1_000) },
        expect![
            "failed account.insufficient_watt: gina has 999.998828 WATT and needs 1000 WATT; send it WATT or use less"
        ],
    );
    check(
        World::new(),
        CreditPurchase::Pay { watt: Watt(u128::MAX) },
        expect![
            "failed amount.overflow: the purchase is more than the ledger can count; give a smaller amount"
        ],
    );
    check(
        World::new(),
        receive(Nusd(u128::MAX), Watt(u128::MAX)),
        expect![
            "failed credits.block_full: this block can issue 10000000 USD of credits more; buy fewer or try again in the next block"
        ],
    );
    let cheap = World::with(|genesis| genesis.nusd_per_watt = Nusd(1));
    check(
        cheap,
        CreditPurchase::Pay { watt: Watt(1_000_000_000) },
        expect![
            "failed credits.nothing: 1 WATT buy no credits at 0.000000001 USD for one WATT; pay more"
        ],
    );
}
