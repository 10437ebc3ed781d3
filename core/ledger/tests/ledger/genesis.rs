//! Which genesis documents start a ledger.

use expect_test::{Expect, expect};
use ledger::{Module, State, VALIDATORS_MAX};
use types::{
    Nusd, TimeMs, Watt,
    genesis::{Bucket, Genesis, GenesisVesting},
};

use crate::world::{genesis, key, ppm};

fn check(change: impl FnOnce(&mut Genesis), expected: Expect) {
    let mut genesis = genesis();
    change(&mut genesis);
    let text = match State::from_genesis(&genesis) {
        Ok(state) => format!("supply {:?}", state.supply().total),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&text);
}

#[test]
fn balances_leave_room_for_the_reserve() {
    check(|_| {}, expect!["supply 38000 WATT"]);
    check(
        |genesis| genesis.accounts[0].balance = Watt::whole(900_000_000 - 37_000),
        expect!["supply 900000000 WATT"],
    );
    check(
        |genesis| genesis.accounts[0].balance = Watt(Watt::whole(900_000_000 - 37_000).0 + 1),
        expect![
            "balances and stakes are more than 900000000 WATT, which is `params.supply.max` less all that may be minted later; lower one of them"
        ],
    );
    check(
        |genesis| genesis.accounts[0].balance = Watt(u128::MAX),
        expect![
            "balances and stakes are more than 900000000 WATT, which is `params.supply.max` less all that may be minted later; lower one of them"
        ],
    );
    check(|genesis| genesis.accounts.clear(), expect!["supply 30000 WATT"]);
}

#[test]
fn an_account_stands_once_and_belongs_to_a_user() {
    check(
        |genesis| genesis.accounts.push(genesis.accounts[3].clone()),
        expect![
            "`accounts`: watt1x0g896l3q7e3hw6yr22f7432jfhxhwuvcmekxy stands there twice; add its balances up"
        ],
    );
    check(
        |genesis| genesis.accounts[0].address = Module::Treasury.address(),
        expect![
            "`accounts`: watt1wpjk2unhv968gtm5wfjkzum4wfusqqqqzpq4rt belongs to the ledger itself; remove it"
        ],
    );
}

#[test]
fn there_are_validators_and_each_has_a_stake() {
    check(
        |genesis| genesis.validators.clear(),
        expect!["`validators` has 0 entries; use 1 to 100"],
    );
    check(
        |genesis| genesis.validators[1].consensus_key = genesis.validators[0].consensus_key,
        expect![
            "`validators`: 354773af95436bbb7786283c49eabdd37811f34cbb9bd5c59727619d5d429ece or its operator stands there twice; remove one"
        ],
    );
    check(
        |genesis| genesis.validators[1].stake = Watt(Watt::whole(10_000).0 - 1),
        expect![
            "`validators`: the stake of 2252a363de92f99e4f0ecbece6761fdc815dd4a452c6895f5b9e81ef7b98e3bb is below 10000 WATT or one WATT; raise it"
        ],
    );
    check(
        |genesis| genesis.validators[1].stake = Watt(u128::MAX),
        expect![
            "balances and stakes are more than 900000000 WATT, which is `params.supply.max` less all that may be minted later; lower one of them"
        ],
    );
    check(
        |genesis| {
            let template = genesis.validators[0].clone();
            genesis.validators = (0..=VALIDATORS_MAX)
                .map(|n| {
                    let mut validator = template.clone();
                    validator.consensus_key = key(&n.to_string());
                    validator
                })
                .collect();
        },
        expect!["`validators` has 257 entries; use 1 to 100"],
    );
    check(
        |genesis| genesis.validators[1].operator = genesis.validators[0].operator,
        expect![
            "`validators`: 2252a363de92f99e4f0ecbece6761fdc815dd4a452c6895f5b9e81ef7b98e3bb or its operator stands there twice; remove one"
        ],
    );
    check(
        |genesis| genesis.validators[1].moniker = "\u{7}".to_owned(),
        expect![
            "`validators`: 2252a363de92f99e4f0ecbece6761fdc815dd4a452c6895f5b9e81ef7b98e3bb needs a moniker without control characters"
        ],
    );
    check(
        |genesis| genesis.validators[1].commission.rate = ppm(500_001),
        expect![
            "`validators`: the commission of 2252a363de92f99e4f0ecbece6761fdc815dd4a452c6895f5b9e81ef7b98e3bb exceeds its own maximum; change it"
        ],
    );
}

fn vesting(bucket: Bucket, total: Watt) -> GenesisVesting {
    let [start, cliff, end] = [0, 10, 100].map(TimeMs);
    GenesisVesting { bucket, beneficiary: None, total, start, cliff, end }
}

#[test]
fn budgets_stand_once_and_leave_room_under_the_cap() {
    let team = || vesting(Bucket::Team, Watt::whole(100));
    check(|genesis| genesis.vesting = vec![team()], expect!["supply 38000 WATT"]);
    check(
        |genesis| genesis.vesting = vec![team(), team()],
        expect!["`vesting`: `team` stands there twice; add its totals up"],
    );
    check(
        |genesis| genesis.vesting = vec![vesting(Bucket::Team, Watt::whole(899_962_001))],
        expect![
            "balances and stakes are more than 37999 WATT, which is `params.supply.max` less all that may be minted later; lower one of them"
        ],
    );
    check(
        |genesis| genesis.vesting = vec![vesting(Bucket::Team, Watt::whole(899_962_000))],
        expect!["supply 38000 WATT"],
    );
    check(
        |genesis| genesis.vesting = vec![vesting(Bucket::Team, Watt(u128::MAX))],
        expect![
            "balances and stakes are more than 0 WATT, which is `params.supply.max` less all that may be minted later; lower one of them"
        ],
    );
    check(
        |genesis| genesis.vesting = vec![GenesisVesting { cliff: TimeMs(101), ..team() }],
        expect!["`vesting`: `team` must start before it ends, with the cliff not after the end"],
    );
    check(
        |genesis| genesis.vesting = vec![GenesisVesting { end: TimeMs(0), ..team() }],
        expect!["`vesting`: `team` must start before it ends, with the cliff not after the end"],
    );
    check(
        |genesis| {
            let beneficiary = Some(Module::Treasury.address());
            genesis.vesting = vec![GenesisVesting { beneficiary, ..team() }];
        },
        expect!["`vesting`: the beneficiary of `team` belongs to the ledger itself; leave it out"],
    );
}

#[test]
fn parameters_are_within_bounds() {
    check(
        |genesis| genesis.nusd_per_watt = Nusd::ZERO,
        expect!["`nusd_per_watt` is 0 USD; use 0.000000001 USD to 1000000000 USD"],
    );
    check(
        |genesis| genesis.nusd_per_watt = Nusd(u128::MAX),
        expect![
            "`nusd_per_watt` is 340282366920938463463374607431.768211455 USD; use 0.000000001 USD to 1000000000 USD"
        ],
    );
    check(
        |genesis| genesis.params.supply.max = Watt(u128::MAX),
        expect![
            "`params.supply.max` is 340282366920938463463374607431768211455 base units; use 1 to 9223372036854775807"
        ],
    );
    check(
        |genesis| genesis.params.supply.settlement_reserve = Watt(u128::MAX),
        expect![
            "`params.supply.settlement_reserve` is 340282366920938463463374607431768211455 base units; use 0 to 9223372036854775807"
        ],
    );
    check(
        |genesis| genesis.params.credits.spread = ppm(500_001),
        expect!["`params.credits.spread` is 500001 ppm; use 0 to 500000"],
    );
    check(
        |genesis| genesis.params.oracle.step = ppm(500_001),
        expect!["`params.oracle.step` is 500001 ppm; use 1 to 500000"],
    );
    check(
        |genesis| genesis.params.providers.bond_floor = Nusd(u128::MAX),
        expect![
            "`params.providers.bond_floor` is 340282366920938463463374607431768211455 nano-USD; use 0 to 1000000000000000000"
        ],
    );
    check(
        |genesis| genesis.params.fees.tx = Watt(u128::MAX),
        expect![
            "`params.fees.tx` is 340282366920938463463374607431768211455 base units; use 0 to 9223372036854775807"
        ],
    );
    check(
        |genesis| genesis.params.fees.byte = Watt(u128::MAX),
        expect![
            "`params.fees.byte` is 340282366920938463463374607431768211455 base units; use 0 to 9223372036854775807"
        ],
    );
    check(
        |genesis| genesis.params.stake.unbonding_ms = 0,
        expect!["`params.stake.unbonding_ms` is 0 ms; use 1 to 315360000000"],
    );
    check(
        |genesis| genesis.params.providers.idle_ms = u64::MAX,
        expect!["`params.providers.idle_ms` is 18446744073709551615 ms; use 1 to 315360000000"],
    );
    check(
        |genesis| genesis.params.channels.withdraw_delay_ms_min = u64::MAX / 2,
        expect![
            "`params.channels.withdraw_delay_ms_min` is 9223372036854775807 ms; use 1 to 315360000000"
        ],
    );
    check(
        |genesis| {
            genesis.params.channels.withdraw_delay_ms_min =
                genesis.params.channels.withdraw_delay_ms_max + 1
        },
        expect![
            "`params.channels.withdraw_delay_ms_min`: use at most `channels.withdraw_delay_ms_max`"
        ],
    );
}

#[test]
fn another_document_is_another_history() {
    let first = State::from_genesis(&genesis()).unwrap();
    let mut other = genesis();
    other.params.fees.tx = Watt(1_000_001);
    let other = State::from_genesis(&other).unwrap();
    assert_ne!(first.app_hash(), other.app_hash());
    assert_eq!(first.genesis_hash(), genesis().hash());
}
