//! What nobody can gain: by splitting, by trading with oneself, by going back and forth.

use ledger::Module;
use proptest::prelude::*;
use types::{
    Nusd, Watt,
    split::{Shares, Split},
    tx::{Action, CreditPurchase},
};

use crate::world::{World, address, claim, pay, ppm, redeem, register};

/// Without fees, which only make everything dearer.
fn free_world(nusd_per_watt: u64, spread: u32, split: Split) -> World {
    World::with(|genesis| {
        genesis.nusd_per_watt = Nusd(u128::from(nusd_per_watt));
        genesis.params.credit_spread = ppm(spread);
        genesis.params.split = split;
        genesis.params.fee_tx = Watt::ZERO;
        genesis.params.fee_byte = Watt::ZERO;
    })
}

fn any_split() -> impl Strategy<Value = Split> {
    prop::collection::vec(0u32..=1_000_000, 3).prop_map(|mut cuts| {
        cuts.sort_unstable();
        let [provider, stakers, burn, treasury] =
            [cuts[0], cuts[1] - cuts[0], cuts[2] - cuts[1], 1_000_000 - cuts[2]].map(ppm);
        Split::new(Shares { provider, stakers, burn, treasury }).unwrap()
    })
}

fn prices() -> impl Strategy<Value = u64> {
    prop_oneof![1u64..100, 1_000_000u64..10_000_000_000_000]
}

/// What `name` has in WATT, its bond included.
fn wealth(world: &World, name: &str) -> u128 {
    let bond = world.state.provider(&address(name)).map_or(Watt::ZERO, |provider| provider.bond);
    world.watt(name).0 + bond.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_purchase_in_parts_brings_no_more_credits(
        price in prices(),
        spread in 0u32..100_000,
        parts in prop::collection::vec(1u64..50_000_000_000, 1..6),
    ) {
        let mut world = free_world(price, spread, Split::SPLIT_60);
        for part in &parts {
            world.run("gina", pay(Watt(u128::from(*part))));
        }
        let whole = parts.iter().map(|part| u128::from(*part)).sum();
        world.run("alice", pay(Watt(whole)));
        prop_assert!(world.credits("gina") <= world.credits("alice"));
    }

    #[test]
    fn exact_credits_in_parts_cost_no_less(
        price in 1_000_000_000u64..10_000_000_000_000,
        spread in 0u32..100_000,
        parts in prop::collection::vec(1u64..50_000_000_000, 1..6),
    ) {
        let mut world = free_world(price, spread, Split::SPLIT_60);
        let receive = |credits| {
            let watt_max = Watt(u128::MAX);
            Action::BuyCredits(CreditPurchase::Receive { credits: Nusd(credits), watt_max })
        };
        for part in &parts {
            world.apply("gina", receive(u128::from(*part)));
        }
        world.apply("alice", receive(parts.iter().map(|part| u128::from(*part)).sum()));
        prop_assert!(world.watt("gina") <= world.watt("alice"));
        prop_assert_eq!(world.credits("gina"), world.credits("alice"));
    }

    #[test]
    fn neither_form_of_purchase_is_better(
        price in prices(), spread in 0u32..100_000, watt in 1u64..100_000_000_000,
    ) {
        // What an exact payment brings costs no more than that payment, and one unit more costs more.
        let mut world = free_world(price, spread, Split::SPLIT_60);
        world.run("gina", pay(Watt(u128::from(watt))));
        let credits = world.credits("gina");
        prop_assume!(!credits.is_zero());
        let watt_max = Watt(u128::from(watt));
        let same = CreditPurchase::Receive { credits, watt_max };
        world.apply("alice", Action::BuyCredits(same));
        let more = CreditPurchase::Receive { credits: Nusd(credits.0 + 1), watt_max };
        let result = world.run("mallory", Action::BuyCredits(more));
        prop_assert!(world.show(&result).starts_with("failed credits.watt_max"));
    }

    #[test]
    fn a_redemption_in_parts_pays_no_more(
        price in 1_000_000u64..10_000_000_000_000,
        split in any_split(),
        parts in prop::collection::vec(1u64..50_000_000, 1..6),
    ) {
        let whole: u128 = parts.iter().map(|part| u128::from(*part)).sum();
        let earned = |totals: Vec<u128>| {
            let mut world = free_world(price, 0, split);
            world.apply("paul", register("paul", Watt::ZERO));
            let channel = world.open("gina", "paul", 1, Nusd(whole));
            for total in totals {
                let total = Nusd(total);
                world.apply("paul", redeem(vec![claim("gina", channel, 0, total, total)]));
            }
            let bond = world.state.provider(&address("paul")).unwrap().bond;
            (wealth(&world, "paul"), bond, world.state.module_balance(Module::Vault))
        };
        let at_once = earned(vec![whole]);
        let cumulative = parts.iter().scan(0, |sum, part| {
            *sum += u128::from(*part);
            Some(*sum)
        });
        let in_parts = earned(cumulative.collect());
        prop_assert!(in_parts.0 <= at_once.0, "more money: {in_parts:?} {at_once:?}");
        prop_assert!(in_parts.2 >= at_once.2, "more from the vault: {in_parts:?} {at_once:?}");
    }

    /// Somebody who pays, provides and validates all alone gets back at most what they paid in,
    /// whatever the split (ECONOMICS BME4).
    #[test]
    fn trading_with_oneself_never_profits_at_a_constant_price(
        price in prices(),
        spread in 0u32..100_000,
        split in any_split(),
        rounds in prop::collection::vec((1u64..300_000_000_000, 1u64..=100), 1..5),
    ) {
        let mut world = World::with(|genesis| {
            genesis.nusd_per_watt = Nusd(u128::from(price));
            genesis.params.credit_spread = ppm(spread);
            genesis.params.split = split;
            genesis.params.fee_tx = Watt::ZERO;
            genesis.params.fee_byte = Watt::ZERO;
            genesis.validators.truncate(1);
            genesis.validators[0].operator = address("mallory");
        });
        let before = wealth(&world, "mallory");
        world.apply("mallory", register("mallory", Watt::ZERO));
        for (salt, (watt, percent)) in (0u64..).zip(rounds) {
            world.run("mallory", pay(Watt(u128::from(watt))));
            let deposit = world.credits("mallory");
            if deposit.is_zero() {
                continue;
            }
            let terms = world.terms("mallory", "mallory", salt);
            let channel = terms.id(&world.genesis.chain_id);
            world.apply("mallory", Action::OpenChannel { terms, deposit });
            let total = Nusd(deposit.0 * u128::from(percent) / 100);
            world.run("mallory", redeem(vec![claim("mallory", channel, 0, total, total)]));
            world.apply("mallory", Action::CloseChannel { channel });
        }
        world.run("mallory", Action::WithdrawRewards);
        prop_assert!(wealth(&world, "mallory") <= before);
        prop_assert!(world.state.supply().minted.total().is_zero());
    }
}
