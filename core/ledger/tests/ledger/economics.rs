//! What nobody can gain: by splitting, by trading with oneself, by going back and forth.

use ledger::{Module, TxOutcome};
use proptest::prelude::*;
use types::{
    Nusd, Watt,
    split::{Shares, Split},
    stake::Role,
    tx::{Action, CreditPurchase},
};

use crate::world::{World, address, claim, consensus_key, pay, ppm, redeem, register, validator};

/// Without fees, which only make everything dearer.
fn free_world(nusd_per_watt: u64, spread: u32, split: Split) -> World {
    World::with(|genesis| {
        genesis.nusd_per_watt = Nusd(u128::from(nusd_per_watt));
        genesis.params.credits.spread = ppm(spread);
        genesis.params.split = split;
        genesis.params.fees.tx = Watt::ZERO;
        genesis.params.fees.byte = Watt::ZERO;
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
    world.watt(name).0 + world.state.bond_of(&address(name)).0
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
            let bond = world.state.bond_of(&address("paul"));
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

    #[test]
    fn a_refund_in_parts_pays_no_more(
        price in prices(),
        fall in 0u32..500_000,
        parts in prop::collection::vec(1u64..50_000_000_000, 1..6),
    ) {
        // The vault may cover less than all: the price falls after the purchase.
        let whole: u128 = parts.iter().map(|part| u128::from(*part)).sum();
        let refunded = |parts: &[u128]| {
            let mut world = free_world(price, 0, Split::SPLIT_60);
            world.apply("alice", pay(Watt::whole(10)));
            let receive = CreditPurchase::Receive { credits: Nusd(whole), watt_max: Watt(u128::MAX) };
            if !matches!(world.run("gina", Action::BuyCredits(receive)).outcome, TxOutcome::Applied { .. }) {
                return None;
            }
            let lower = u128::from(price) * u128::from(1_000_000 - fall / 4) / 1_000_000;
            world.vote(&["vera", "vito"], Nusd(lower.max(1)));
            let before = world.watt("gina");
            for part in parts {
                world.apply("gina", Action::RefundCredits { credits: Nusd(*part) });
            }
            world.wait(world.genesis.params.credits.refund_delay_ms);
            world.block(&[]);
            Some(world.watt("gina").0 - before.0)
        };
        let parts: Vec<u128> = parts.iter().map(|part| u128::from(*part)).collect();
        prop_assert!(refunded(&parts) <= refunded(&[whole]));
    }

    #[test]
    fn stake_and_rewards_in_parts_are_no_more(
        parts in prop::collection::vec((1u64..20_000_000_000, 0u64..4), 1..6),
        slash in any::<bool>(),
    ) {
        let whole: u128 = parts.iter().map(|(part, _)| u128::from(*part)).sum();
        let operator = validator("vito");
        let outcome = |parts: &[u128], withdraw: bool| {
            let mut world = World::with(|genesis| {
                genesis.params.fees.tx = Watt(0);
                genesis.params.fees.byte = Watt(0);
                genesis.params.stake.entries_max = 100;
                genesis.params.slashing.window_blocks = 1;
                genesis.params.slashing.downtime = ppm(33_333);
                genesis.params.split = Split::new(Shares {
                    provider: ppm(0), stakers: ppm(1_000_000), burn: ppm(0), treasury: ppm(0),
                }).unwrap();
            });
            // A rate that is not round.
            world.absent = if slash { vec![consensus_key("vito")] } else { Vec::new() };
            (0..3).for_each(|_| drop(world.block(&[])));
            world.absent = Vec::new();
            let before = world.watt("dora");
            for amount in parts {
                world.apply("dora", Action::Delegate { operator, amount: Watt(*amount) });
            }
            world.apply("paul", register("paul", Watt::ZERO));
            let channel = world.open("gina", "paul", 1, Nusd(7_777_777_777));
            for total in (1..=7).map(|n| Nusd(n * 1_111_111_111)) {
                world.apply("paul", redeem(vec![claim("gina", channel, 0, total, total)]));
                if withdraw {
                    world.run("dora", Action::WithdrawRewards { operator });
                }
            }
            let held = world.state.stake_of(&address("dora"), &operator).0;
            let mut left = held;
            for part in parts.iter().skip(1).chain([&u128::MAX]) {
                let amount = Watt(left.min(*part));
                if amount.0 > 0 {
                    world.apply("dora", Action::Undelegate { operator, amount });
                }
                left = world.state.stake_of(&address("dora"), &operator).0;
            }
            world.wait(world.genesis.params.stake.unbonding_ms);
            world.block(&[]);
            (world.watt("dora").0.cast_signed() - before.0.cast_signed(), held)
        };
        let split: Vec<u128> = parts.iter().map(|(part, _)| u128::from(*part)).collect();
        let (at_once, held) = outcome(&[whole], false);
        prop_assert!(held <= whole);
        prop_assert!(outcome(&split, false).0 <= at_once);
        prop_assert!(outcome(&split, true).0 <= at_once);
        prop_assert!(outcome(&[whole], true).0 <= at_once);
    }

    #[test]
    fn a_budget_claimed_in_parts_is_no_more(
        total in 1u64..1_000_000_000_000,
        waits in prop::collection::vec(1u64..200, 1..12),
    ) {
        use types::genesis::{Bucket, GenesisVesting};
        let minted = |waits: &[u64]| {
            let mut world = World::with(|genesis| {
                let start = genesis.time;
                genesis.vesting = vec![GenesisVesting {
                    bucket: Bucket::Team,
                    beneficiary: None,
                    total: Watt(u128::from(total)),
                    start,
                    cliff: start,
                    end: start.plus_ms(1_000),
                }];
            });
            for wait_ms in waits {
                world.wait(*wait_ms);
                world.run("alice", Action::ClaimVested { bucket: Bucket::Team });
            }
            world.state.supply().minted.vesting
        };
        prop_assert_eq!(minted(&waits), minted(&[waits.iter().sum()]));
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
            genesis.params.credits.spread = ppm(spread);
            genesis.params.split = split;
            genesis.params.fees.tx = Watt::ZERO;
            genesis.params.fees.byte = Watt::ZERO;
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
        world.run("mallory", Action::WithdrawRewards { operator: validator("mallory") });
        world.run("mallory", Action::WithdrawCommission { role: Role::Validator });
        prop_assert!(wealth(&world, "mallory") <= before);
        prop_assert!(world.state.supply().minted.total().is_zero());
    }
}
