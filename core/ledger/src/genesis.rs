//! From the genesis document to the first state.

use std::collections::BTreeSet;

use types::{
    Hash32, Height, Nusd, Watt,
    genesis::{Genesis, GenesisAccount, GenesisValidator, Params},
};

use crate::{
    bank::{Account, Module, Supply},
    error::GenesisError,
    price::{PRICE_MAX, PRICE_MIN},
    rewards::Validator,
    state::{Market, Rules, State, Tip},
    table::{Cell, Table},
};

/// Validators of one set: rewards are divided among all of them in every block.
pub const VALIDATORS_MAX: usize = 256;

/// Base units of any supply: every balance fits a signed 64-bit integer, so indexes and spreadsheets
/// can hold it, and every product of two balances fits 128 bits.
const SUPPLY_BOUND: Watt = Watt(i64::MAX as u128);
/// A bond above one billion USD is a mistake.
const BOND_BOUND: Nusd = Nusd::whole(1_000_000_000);
/// No time of the parameters is longer than this.
const YEARS_10_MS: u64 = 10 * 365 * 24 * 60 * 60 * 1_000;
/// The largest spread and the largest step of the price, in ppm.
const HALF_PPM: u32 = 500_000;

impl State {
    /// The state before the first block. The document is checked first: see [`GenesisError`].
    pub fn from_genesis(genesis: &Genesis) -> Result<State, GenesisError> {
        check_params(&genesis.params)?;
        check_price(genesis.nusd_per_watt)?;
        let total = check_accounts(&genesis.accounts, &genesis.params)?;
        check_validators(&genesis.validators)?;

        let genesis_hash = genesis.hash();
        let mut state = State {
            tip: Tip { height: Height(0), time: genesis.time, app_hash: Hash32::default() },
            open: None,
            rules: Cell::new(Rules {
                chain_id: genesis.chain_id.clone(),
                genesis_hash,
                governor: genesis.governor,
                params: genesis.params.clone(),
            }),
            market: Cell::new(Market {
                nusd_per_watt: genesis.nusd_per_watt,
                price_set_at: Height(0),
                unbonded_providers: 0,
            }),
            supply: Cell::new(Supply { total, genesis: total, ..Supply::default() }),
            accounts: Table::default(),
            providers: Table::default(),
            gateways: Table::default(),
            node_keys: Table::default(),
            channels: Table::default(),
            lanes: Table::default(),
            parties: Table::default(),
            due: Table::default(),
            validators: Table::default(),
        };
        for &GenesisAccount { address, balance } in &genesis.accounts {
            state.put_account(address, Account { watt: balance, ..Account::default() });
        }
        for &GenesisValidator { consensus_key, operator, power } in &genesis.validators {
            let validator = Validator { operator, power, rewards: Watt::ZERO };
            state.validators.insert(consensus_key, validator);
        }
        // The document stands for the state that follows from it.
        state.tip.app_hash = genesis_hash;
        state.tip.app_hash = state.next_app_hash(Height(0), genesis.time);
        state.commit();
        Ok(state)
    }
}

fn check_params(params: &Params) -> Result<(), GenesisError> {
    let days_times = [
        ("provider_idle_ms", params.provider_idle_ms),
        ("unbonding_ms", params.unbonding_ms),
        ("withdraw_delay_ms_min", params.withdraw_delay_ms_min),
        ("withdraw_delay_ms_max", params.withdraw_delay_ms_max),
    ];
    for (field, ms) in days_times {
        if ms == 0 || ms > YEARS_10_MS {
            return Err(GenesisError::Param { field, problem: "use 1 ms to 10 years" });
        }
    }
    let bounds = [
        ("supply_max", params.supply_max <= SUPPLY_BOUND, "use at most 2^63 - 1 base units"),
        ("fee_tx", params.fee_tx <= SUPPLY_BOUND, "use at most 2^63 - 1 base units"),
        ("fee_byte", params.fee_byte <= SUPPLY_BOUND, "use at most 2^63 - 1 base units"),
        ("provider_bond", params.provider_bond <= BOND_BOUND, "use at most 1 000 000 000 USD"),
        ("credit_spread", params.credit_spread.get() <= HALF_PPM, "use at most 500000 ppm"),
        ("price_step", params.price_step.get() <= HALF_PPM, "use at most 500000 ppm"),
        (
            "settlement_reserve",
            params.settlement_reserve <= params.supply_max,
            "use at most `supply_max`",
        ),
        (
            "withdraw_delay_ms_min",
            params.withdraw_delay_ms_min <= params.withdraw_delay_ms_max,
            "use at most `withdraw_delay_ms_max`",
        ),
    ];
    match bounds.into_iter().find(|(_, within, _)| !within) {
        Some((field, _, problem)) => Err(GenesisError::Param { field, problem }),
        None => Ok(()),
    }
}

fn check_price(price: Nusd) -> Result<(), GenesisError> {
    if (PRICE_MIN..=PRICE_MAX).contains(&price) {
        return Ok(());
    }
    Err(GenesisError::Price { given: price, min: PRICE_MIN, max: PRICE_MAX })
}

/// The sum of all balances.
fn check_accounts(accounts: &[GenesisAccount], params: &Params) -> Result<Watt, GenesisError> {
    let max = params.supply_max.saturating_sub(params.settlement_reserve);
    let mut seen = BTreeSet::new();
    let mut total = Watt::ZERO;
    for &GenesisAccount { address, balance } in accounts {
        if !seen.insert(address) {
            return Err(GenesisError::DuplicateAccount { address });
        }
        if Module::is_one(&address) {
            return Err(GenesisError::ModuleAccount { address });
        }
        total = total
            .checked_add(balance)
            .filter(|total| *total <= max)
            .ok_or(GenesisError::Supply { max })?;
    }
    Ok(total)
}

fn check_validators(validators: &[GenesisValidator]) -> Result<(), GenesisError> {
    let count = validators.len();
    if count == 0 || count > VALIDATORS_MAX {
        return Err(GenesisError::ValidatorsCount { count, max: VALIDATORS_MAX });
    }
    let mut seen = BTreeSet::new();
    let mut sum = 0u64;
    for &GenesisValidator { consensus_key, power, .. } in validators {
        if !seen.insert(consensus_key) {
            return Err(GenesisError::DuplicateValidator { consensus_key });
        }
        sum = sum
            .checked_add(power)
            .filter(|sum| power > 0 && *sum <= 1 << 63)
            .ok_or(GenesisError::Power { consensus_key })?;
    }
    Ok(())
}
