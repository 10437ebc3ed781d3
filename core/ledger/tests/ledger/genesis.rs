//! Which genesis documents start a ledger.

use expect_test::{Expect, expect};
use ledger::{Module, State, VALIDATORS_MAX};
use types::{Nusd, Watt, genesis::Genesis};

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
    check(|_| {}, expect!["supply 8000 WATT"]);
    check(
        |genesis| genesis.accounts[0].balance = Watt::whole(900_000_000 - 7_000),
        expect!["supply 900000000 WATT"],
    );
    check(
        |genesis| genesis.accounts[0].balance = Watt(Watt::whole(900_000_000 - 7_000).0 + 1),
        expect![
            "`accounts` hold more than `params.supply_max` less `params.settlement_reserve`, 900000000 WATT; lower one of them"
        ],
    );
    check(
        |genesis| genesis.accounts[0].balance = Watt(u128::MAX),
        expect![
            "`accounts` hold more than `params.supply_max` less `params.settlement_reserve`, 900000000 WATT; lower one of them"
        ],
    );
    check(|genesis| genesis.accounts.clear(), expect!["supply 0 WATT"]);
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
            "`accounts`: watt1rfc6vv4z4krvzxs8z2p76n6pfldwwzctn5jhaa belongs to the ledger itself; remove it"
        ],
    );
}

#[test]
fn there_are_validators_and_each_has_power() {
    check(
        |genesis| genesis.validators.clear(),
        expect!["`validators` has 0 entries; use 1 to 256"],
    );
    check(
        |genesis| genesis.validators[1].consensus_key = genesis.validators[0].consensus_key,
        expect![
            "`validators`: 354773af95436bbb7786283c49eabdd37811f34cbb9bd5c59727619d5d429ece stands there twice; remove one"
        ],
    );
    check(
        |genesis| genesis.validators[1].power = 0,
        expect![
            "`validators`: the power of 2252a363de92f99e4f0ecbece6761fdc815dd4a452c6895f5b9e81ef7b98e3bb is zero or takes the sum above 2^63; change it"
        ],
    );
    check(
        |genesis| genesis.validators[1].power = u64::MAX,
        expect![
            "`validators`: the power of 2252a363de92f99e4f0ecbece6761fdc815dd4a452c6895f5b9e81ef7b98e3bb is zero or takes the sum above 2^63; change it"
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
        expect!["`validators` has 257 entries; use 1 to 256"],
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
        |genesis| genesis.params.supply_max = Watt(u128::MAX),
        expect!["`params.supply_max`: use at most 2^63 - 1 base units"],
    );
    check(
        |genesis| genesis.params.settlement_reserve = Watt(u128::MAX),
        expect!["`params.settlement_reserve`: use at most `supply_max`"],
    );
    check(
        |genesis| genesis.params.credit_spread = ppm(500_001),
        expect!["`params.credit_spread`: use at most 500000 ppm"],
    );
    check(
        |genesis| genesis.params.price_step = ppm(500_001),
        expect!["`params.price_step`: use at most 500000 ppm"],
    );
    check(
        |genesis| genesis.params.provider_bond = Nusd(u128::MAX),
        expect!["`params.provider_bond`: use at most 1 000 000 000 USD"],
    );
    check(
        |genesis| genesis.params.fee_tx = Watt(u128::MAX),
        expect!["`params.fee_tx`: use at most 2^63 - 1 base units"],
    );
    check(
        |genesis| genesis.params.fee_byte = Watt(u128::MAX),
        expect!["`params.fee_byte`: use at most 2^63 - 1 base units"],
    );
    check(
        |genesis| genesis.params.unbonding_ms = 0,
        expect!["`params.unbonding_ms`: use 1 ms to 10 years"],
    );
    check(
        |genesis| genesis.params.provider_idle_ms = u64::MAX,
        expect!["`params.provider_idle_ms`: use 1 ms to 10 years"],
    );
    check(
        |genesis| genesis.params.withdraw_delay_ms_min = u64::MAX / 2,
        expect!["`params.withdraw_delay_ms_min`: use 1 ms to 10 years"],
    );
    check(
        |genesis| genesis.params.withdraw_delay_ms_min = genesis.params.withdraw_delay_ms_max + 1,
        expect!["`params.withdraw_delay_ms_min`: use at most `withdraw_delay_ms_max`"],
    );
}

#[test]
fn another_document_is_another_history() {
    let first = State::from_genesis(&genesis()).unwrap();
    let mut other = genesis();
    other.params.fee_tx = Watt(1_000_001);
    let other = State::from_genesis(&other).unwrap();
    assert_ne!(first.app_hash(), other.app_hash());
    assert_eq!(first.genesis_hash(), genesis().hash());
}
