//! Those who try to take more than they bring. Each test is one attack with its accomplices, and what
//! they have together afterwards is no more than before.

use ledger::{Module, TxOutcome};
use types::{
    Hash32, Height, Nusd, Rounding, Signature, TimeMs, Watt,
    genesis::GenesisValidator,
    params::CreditPolicy,
    sign::Signed,
    split::Split,
    stake::{CommissionTerms, Evidence, OperatorId, Role},
    tx::Action,
};

use crate::{
    slashing::double_claim,
    world::{
        COMMISSION, DAY_MS, MINUTE_MS, World, address, claim, consensus_key, double_sign, pay, ppm,
        precommit, provider, redeem, register, register_validator, validator,
    },
};

/// What `names` have together: balances, stake, what is on its way back, and rewards.
fn wealth(world: &World, names: &[&str]) -> u128 {
    let state = &world.state;
    let of = |name: &&str| {
        let account = address(name);
        let stakes: u128 = state
            .stakes_of(account)
            .map(|(id, _)| state.stake_of(&account, &id).0 + state.rewards_of(&account, &id).0)
            .sum();
        let unbonding: u128 = state
            .unbondings()
            .filter(|((_, whose), _)| *whose == account)
            .flat_map(|(_, entries)| entries)
            .map(|entry| entry.balance.0)
            .sum();
        let commission: u128 = [Role::Validator, Role::Provider]
            .iter()
            .filter_map(|role| state.operator(&OperatorId { role: *role, account }))
            .map(|operator| operator.commission_due.0)
            .sum();
        state.account(&account).watt.0 + stakes + unbonding + commission
    };
    names.iter().map(of).sum()
}

fn free_of_fees(policy: CreditPolicy, split: Split) -> World {
    World::with(|genesis| {
        let params = &mut genesis.params;
        params.credits.policy = policy;
        params.credits.spread = ppm(0);
        params.split = split;
        params.oracle.step = ppm(500_000);
        params.fees.tx = Watt::ZERO;
        params.fees.byte = Watt::ZERO;
        params.supply.emission_budget = Watt::whole(1_000_000);
        params.emission.base = Watt::whole(10_000);
    })
}

/// Buys with everything, works for itself, is paid.
fn wash(world: &mut World, name: &str, salt: u64) {
    let watt = Watt(world.watt(name).0 / 2);
    world.apply(name, pay(watt));
    let deposit = world.credits(name);
    let terms = world.terms(name, name, salt);
    let channel = terms.id(&world.genesis.chain_id);
    world.apply(name, Action::OpenChannel { terms, deposit });
    world.apply(name, redeem(vec![claim(name, channel, 0, deposit, deposit)]));
    world.wait(DAY_MS);
    world.block(&[]);
}

#[test]
fn a_wash_trader_earns_nothing_under_any_policy() {
    let policies = [CreditPolicy::Vault, CreditPolicy::Split, CreditPolicy::Emission];
    for policy in policies {
        for split in [Split::SPLIT_60, Split::BURN_50, Split::DIRECT] {
            let mut world = free_of_fees(policy, split);
            for name in ["paul", "mallory"] {
                world.apply(name, register(name, Watt::whole(3)));
            }
            // Somebody honest works, too, and what others left lies in the vault.
            world.apply("alice", pay(Watt::whole(200)));
            let before = wealth(&world, &["mallory"]);
            for salt in 0..3 {
                wash(&mut world, "mallory", salt);
                wash(&mut world, "paul", salt);
            }
            let after = wealth(&world, &["mallory"]);
            assert!(after <= before, "{policy:?} {split:?}: {before} became {after}");
        }
    }
}

/// Under the split policy credits are shares of the vault: who buys when WATT are dear gets more of
/// them than those who came before, and still nothing of theirs.
#[test]
fn a_wash_trader_cannot_dilute_those_who_bought_cheaply() {
    let mut world = free_of_fees(CreditPolicy::Split, Split::DIRECT);
    world.apply("mallory", register("mallory", Watt::whole(3)));
    world.apply("alice", pay(Watt::whole(500)));
    world.set_price(Nusd::whole(3));
    world.set_price(Nusd::from_decimal("4.5").unwrap());
    world.wait(DAY_MS);
    let before = wealth(&world, &["mallory"]);
    wash(&mut world, "mallory", 1);
    let after = wealth(&world, &["mallory"]);
    assert!(after <= before, "{before} became {after}");
}

#[test]
fn a_stale_closer_takes_nothing_that_was_earned() {
    let mut world = World::new();
    world.apply("paul", register("paul", Watt::whole(10)));
    let channel = world.open("gina", "paul", 1, Nusd::whole(10));
    let signed = Nusd::whole(6);
    // He redeemed early once; the payer hopes that he sleeps.
    let early = redeem(vec![claim("gina", channel, 0, Nusd::whole(1), Nusd::whole(1))]);
    world.apply("paul", early.clone());
    world.apply("gina", Action::RequestWithdraw { channel });
    let free = world.credits("gina");
    let result = world.run("gina", Action::FinalizeWithdraw { channel });
    assert!(matches!(result.outcome, TxOutcome::Failed { .. }));
    world.wait(world.genesis.params.channels.withdraw_delay_ms_min - 1);
    let result = world.run("gina", Action::FinalizeWithdraw { channel });
    assert!(matches!(result.outcome, TxOutcome::Failed { .. }));
    world.apply("paul", redeem(vec![claim("gina", channel, 0, signed, signed)]));
    // An older voucher takes nothing back.
    world.apply("paul", early);
    world.wait(1);
    world.apply("gina", Action::FinalizeWithdraw { channel });
    assert_eq!(world.credits("gina").0 - free.0, Nusd::whole(4).0);
    assert_eq!(world.state.channel(&channel).unwrap().claimed, signed);
}

#[test]
fn a_double_claimer_is_paid_once_and_loses_its_bond() {
    let mut world = World::new();
    world.apply("paul", register("paul", Watt::whole(10)));
    let channel = world.open("gina", "paul", 1, Nusd::whole(10));
    let one = Nusd::whole(1);
    let same = || claim("gina", channel, 0, one, one);
    world.apply("paul", redeem(vec![same(), same(), same()]));
    let before = wealth(&world, &["paul"]);
    for _ in 0..3 {
        world.apply("paul", redeem(vec![same(), same()]));
    }
    assert_eq!(world.state.channel(&channel).unwrap().claimed, one);
    assert!(wealth(&world, &["paul"]) < before, "fees");
    // Two reports of one attempt: whoever sees both takes its bond.
    let now = world.now;
    world.apply("gina", double_claim("paul", channel, [one, Nusd::whole(2)], now));
    assert_eq!(world.state.bond_of(&address("paul")), Watt::whole(5));
}

/// Hopping after the fault saves nothing that staying would have cost.
#[test]
fn a_redelegation_hopper_loses_what_it_would_have_lost() {
    let loss = |hops: &dyn Fn(&mut World)| {
        let mut world = World::with(|genesis| {
            genesis.params.fees.tx = Watt::ZERO;
            genesis.params.fees.byte = Watt::ZERO;
            genesis.params.stake.validator_bond_min = Watt::whole(10);
        });
        world.apply("alice", register_validator("alice", Watt::whole(10)));
        let amount = Watt::whole(500);
        world.apply("mallory", Action::Delegate { operator: validator("vito"), amount });
        let before = wealth(&world, &["mallory"]);
        world.block(&[]);
        let fault = world.state.height();
        hops(&mut world);
        world.apply("gina", double_sign("vito", fault));
        before - wealth(&world, &["mallory"])
    };
    let amount = Watt::whole(500);
    let hop = |world: &mut World, from: &str, to: &str| {
        let (from, to) = (validator(from), validator(to));
        let result = world.run("mallory", Action::Redelegate { from, to, amount });
        matches!(result.outcome, TxOutcome::Applied { .. })
    };
    let leave = |world: &mut World, from: &str| {
        world.apply("mallory", Action::Undelegate { operator: validator(from), amount });
    };
    let stays = loss(&|_| {});
    assert_eq!(stays, Watt::whole(25).0);
    let hops = loss(&|world| {
        assert!(hop(world, "vito", "vera"));
        assert!(!hop(world, "vera", "alice"), "no second hop");
    });
    let leaves = loss(&|world| leave(world, "vito"));
    let hops_and_leaves = loss(&|world| {
        assert!(hop(world, "vito", "vera"));
        leave(world, "vera");
    });
    assert_eq!([hops, leaves, hops_and_leaves], [stays; 3]);
}

/// A slash may take all that was moved away; nothing of it remains there.
#[test]
fn a_slash_can_take_everything_that_moved_on() {
    let mut world = World::with(|genesis| {
        genesis.params.stake.validator_bond_min = Watt::whole(10);
        genesis.params.slashing.double_sign = ppm(1_000_000);
    });
    let amount = Watt::whole(500);
    world.apply("mallory", Action::Delegate { operator: validator("vito"), amount });
    world.block(&[]);
    let fault = world.state.height();
    let (from, to) = (validator("vito"), validator("vera"));
    world.apply("mallory", Action::Redelegate { from, to, amount });
    world.apply("gina", double_sign("vito", fault));
    assert_eq!(world.state.delegation(&address("mallory"), &to), None);
}

/// What was at stake at the time of a fault stays on record, whatever dust moves afterwards.
#[test]
fn a_double_signer_cannot_wash_out_its_history() {
    let mut world = World::with(|genesis| {
        genesis.params.stake.validator_bond_min = Watt::whole(10);
        genesis.validators[1].stake = Watt::whole(10);
    });
    let stake = |watt| Action::Delegate { operator: validator("vito"), amount: watt };
    world.block(&[]);
    world.apply("mallory", stake(Watt::whole(900)));
    world.block(&[]);
    let fault = world.state.height();
    let at_stake = |world: &World| world.state.stake_at(&validator("vito"), fault);
    let amount = Watt::whole(900);
    world.apply("mallory", Action::Undelegate { operator: validator("vito"), amount });
    for hour in 0..6 {
        for _ in 0..40 {
            world.apply("dora", stake(Watt(1)));
        }
        // Larger in between, and smaller again: that is another hour's stake.
        world.apply("alice", stake(Watt::whole(50)));
        let amount = Watt::whole(50);
        world.apply("alice", Action::Undelegate { operator: validator("vito"), amount });
        world.wait(60 * MINUTE_MS);
        assert!(hour > 0 || at_stake(&world) == Watt::whole(910));
        // Within the hour of the fault it may count as the largest of it.
        assert!((Watt::whole(910)..=Watt(Watt::whole(960).0 + 40)).contains(&at_stake(&world)));
    }
    world.apply("gina", double_sign("vito", fault));
    // A twentieth of it, half of which is burned.
    assert!(world.state.supply().burned.slash >= Watt::from_decimal("22.75").unwrap());
}

/// With less than a third of all power a cartel moves the price nowhere, also when so many others are
/// away that the votes just count. So its purchases bring what others' do.
#[test]
fn an_oracle_cartel_below_one_third_moves_nothing() {
    let mut world = World::with(|genesis| {
        let [vera, vito] = &mut genesis.validators[..] else { unreachable!("there are two") };
        vera.stake = Watt::whole(15_008);
        vito.stake = Watt::whole(15_002);
        genesis.validators.push(GenesisValidator {
            consensus_key: consensus_key("alice"),
            operator: address("alice"),
            moniker: "alice".to_owned(),
            stake: Watt::whole(15_000),
            commission: COMMISSION,
        });
        genesis.params.oracle.step = ppm(500_000);
    });
    world.apply("paul", register("paul", Watt::whole(10)));
    let before = wealth(&world, &["vito"]);
    // `alice` votes never. They reveal in one block; the cartel's vote is far above, then far below.
    for wrong in [Nusd::whole(1_000), Nusd(1)] {
        let outcome = vote_apart(&mut world, [("vera", Nusd::whole(2)), ("vito", wrong)]);
        assert_eq!(outcome, Nusd::whole(2), "{wrong:?}");
    }
    world.apply("vito", pay(Watt::whole(100)));
    let credits = world.credits("vito");
    assert!(Watt::worth(credits, Nusd::whole(2), Rounding::Down).unwrap() <= Watt::whole(100));
    world.apply("vito", Action::RefundCredits { credits });
    world.wait(DAY_MS);
    world.block(&[]);
    assert!(wealth(&world, &["vito"]) <= before);
}

/// Each votes as it likes; returns the price afterwards.
fn vote_apart(world: &mut World, votes: [(&str, Nusd); 2]) -> Nusd {
    let salt = Hash32([7; 32]);
    let chain_id = world.genesis.chain_id.clone();
    for (voter, price) in votes {
        let commitment = types::stake::price_commitment(&chain_id, &address(voter), &salt.0, price);
        world.apply(voter, Action::CommitPrice { commitment });
    }
    world.wait(MINUTE_MS);
    for (voter, nusd_per_watt) in votes {
        world.apply(voter, Action::RevealPrice { nusd_per_watt, salt });
    }
    world.wait(MINUTE_MS);
    world.block(&[]);
    world.state.price()
}

/// The first to stake holds one unit and tries to make a share so dear that the next stake rounds
/// down to nothing.
#[test]
fn a_first_depositor_inflates_nothing() {
    let mut world = World::new();
    world.apply("mallory", register("mallory", Watt::ZERO));
    let pool = provider("mallory");
    let stake = |amount| Action::Delegate { operator: pool, amount };
    world.apply("mallory", stake(Watt(1)));
    // A transfer to the pool's account is refused, and rewards are no part of a share.
    let to = Module::Bonded.address();
    let gift = world.run("mallory", Action::Transfer { to, amount: Watt::whole(500) });
    assert!(matches!(gift.outcome, TxOutcome::Failed { .. }));
    world.apply("dora", stake(Watt::whole(300)));
    let own = world.state.stake_of(&address("mallory"), &pool);
    let others = world.state.stake_of(&address("dora"), &pool);
    assert_eq!((own, others), (Watt(1), Watt::whole(300)));
    // Nor by leaving and coming back.
    for _ in 0..5 {
        world.apply("dora", Action::Undelegate { operator: pool, amount: Watt(7) });
        world.apply("dora", stake(Watt(7)));
    }
    assert_eq!(world.state.stake_of(&address("mallory"), &pool), Watt(1));
    assert_eq!(world.state.stake_of(&address("dora"), &pool), Watt::whole(300));
}

#[test]
fn an_evidence_spammer_pays_for_every_try() {
    let mut world = World::new();
    world.block(&[]);
    let staked = world.state.module_balance(Module::Bonded);
    let before = wealth(&world, &["mallory"]);
    let commit = |name: &str, block: u8| Signed {
        value: precommit(Height(1), block),
        signer: consensus_key(name),
        signature: Signature([0; 64]),
    };
    for n in 0..20 {
        let second = commit(["vera", "vito", "mallory"][n % 3], 1);
        let evidence = Evidence::DoubleVote { first: commit("vera", 1), second };
        let result = world.run("mallory", Action::SubmitEvidence { evidence });
        assert!(matches!(result.outcome, TxOutcome::Failed { .. }) && !result.fee.is_zero());
    }
    assert!(wealth(&world, &["mallory"]) < before);
    assert_eq!(world.state.module_balance(Module::Bonded), staked);
    // Evidence of a real fault pays once.
    world.apply("mallory", double_sign("vito", Height(1)));
    let rich = wealth(&world, &["mallory"]);
    for _ in 0..5 {
        world.run("mallory", double_sign("vito", Height(1)));
    }
    assert!(wealth(&world, &["mallory"]) < rich);
}

/// The vault covers half of what is outstanding. Whoever runs first takes no more than its share, and
/// those who stay keep theirs.
#[test]
fn a_run_on_the_vault_gains_nothing() {
    let refunded = |runners: &[&str]| {
        let mut world = free_of_fees(CreditPolicy::Vault, Split::SPLIT_60);
        for name in ["mallory", "gina", "alice"] {
            world.apply(name, pay(Watt::whole(100)));
        }
        world.set_price(Nusd::whole(1));
        world.wait(DAY_MS);
        let price = world.state.average_price(world.now);
        assert_eq!(price, Nusd::whole(1), "200 USD of credits each for 100 WATT in the vault");
        for name in runners {
            let (before, credits) = (world.watt(name), world.credits(name));
            world.apply(name, Action::RefundCredits { credits });
            world.wait(world.genesis.params.credits.refund_delay_ms);
            world.block(&[]);
            assert_eq!(world.watt(name).0 - before.0, Watt::whole(100).0, "{name}");
        }
    };
    refunded(&["mallory", "gina", "alice"]);
    refunded(&["alice", "mallory", "gina"]);
}

/// Its own reporter, its own victim, and little of its own at stake: what is slashed is mostly its
/// delegators', and none of that comes to it.
#[test]
fn a_self_reporting_slasher_does_not_live_off_its_delegators() {
    let accomplices = ["mallory", "alice", "gina"];
    for own in [1, 10, 100] {
        let mut world = World::new();
        world.apply("mallory", register("mallory", Watt::whole(own)));
        world.apply(
            "dora",
            Action::Delegate { operator: provider("mallory"), amount: Watt::whole(900) },
        );
        let channel = world.open("gina", "mallory", 1, Nusd::whole(10));
        world.wait(MINUTE_MS);
        let before = wealth(&world, &accomplices);
        let totals = [Nusd::ZERO, Nusd::whole(1_000_000)];
        world.apply("alice", double_claim("mallory", channel, totals, TimeMs(1_000_000)));
        assert!(wealth(&world, &accomplices) < before, "{own}");
        assert!(world.state.stake_of(&address("dora"), &provider("mallory")) > Watt::whole(449));
    }
    let mut world = World::with(|genesis| {
        genesis.params.stake.validator_bond_min = Watt::whole(10);
        let all = CommissionTerms::ALL;
        genesis.validators[1].stake = Watt::whole(10);
        genesis.validators[1].commission = all;
    });
    let amount = Watt::whole(900);
    world.apply("dora", Action::Delegate { operator: validator("vito"), amount });
    world.block(&[]);
    let before = wealth(&world, &["vito", "alice"]);
    let at = world.state.height();
    world.apply("alice", double_sign("vito", at));
    assert!(wealth(&world, &["vito", "alice"]) < before);
}
