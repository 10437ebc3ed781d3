//! From the genesis document to the first state.

use std::collections::BTreeSet;

use types::{
    Address, Height, Nusd, Watt,
    genesis::{Genesis, GenesisAccount, GenesisValidator, GenesisVesting},
    params::Params,
    stake::OperatorId,
    state::Account,
};

use crate::{
    bank::Supply,
    error::GenesisError,
    execute::Context,
    oracle::{Oracle, PRICE_MAX, PRICE_MIN},
    provider::check_moniker,
    stake,
    state::{Rules, State},
    validator::{self, ValidatorEntry, power_of},
    vesting::Vesting,
};

/// Validators of one set, whatever the parameters say: rewards are divided among all of them in
/// every block.
pub const VALIDATORS_MAX: usize = 256;

impl State {
    /// The state before the first block. The document is checked first: see [`GenesisError`].
    pub fn from_genesis(genesis: &Genesis) -> Result<State, GenesisError> {
        genesis.params.check().map_err(|source| GenesisError::Param { source })?;
        check_price(genesis.nusd_per_watt)?;
        check_validators(&genesis.validators, &genesis.params)?;
        check_vesting(&genesis.vesting)?;
        let total = check_supply(genesis)?;
        let rules = Rules {
            chain_id: genesis.chain_id.clone(),
            genesis_hash: genesis.hash(),
            params: genesis.params.clone(),
        };
        let oracle = Oracle::starting(genesis.nusd_per_watt, genesis.time);
        let mut state = State::empty(rules, oracle, genesis.time);
        state.supply.set(Supply { total, genesis: total, ..Supply::default() });
        for &GenesisAccount { address, balance } in &genesis.accounts {
            state.put_account(address, Account { watt: balance, ..Account::default() });
        }
        for vesting in &genesis.vesting {
            let &GenesisVesting { bucket, beneficiary, total, start, cliff, end } = vesting;
            let claimed = Watt::ZERO;
            state
                .vesting
                .insert(bucket, Vesting { beneficiary, total, start, cliff, end, claimed });
        }
        state.seat_first_set(genesis).map_err(|source| GenesisError::Seats { source })?;
        state.mark_time(Height(0), genesis.time);
        state.begin();
        Ok(state)
    }

    /// Registers and stakes the first validators as their own transactions would.
    fn seat_first_set(&mut self, genesis: &Genesis) -> Result<(), crate::TxError> {
        let sender = Address::of_module("genesis");
        let mut context =
            Context { height: Height(0), time: genesis.time, sender, events: Vec::new() };
        for validator in &genesis.validators {
            let GenesisValidator { consensus_key, operator, moniker, stake, commission } =
                validator.clone();
            let mut account = self.account(&operator);
            account.watt = account.watt.saturating_add(stake);
            self.put_account(operator, account);
            let entry = ValidatorEntry {
                consensus_key,
                moniker,
                registered_at: genesis.time,
                seated: false,
            };
            self.validators.insert(operator, entry);
            self.consensus_keys.insert(consensus_key, operator);
            let id = OperatorId::validator(operator);
            self.open_pool(&context, id, Some(commission))?;
            stake::delegate_from(self, &mut context, operator, operator, id, stake)?;
        }
        validator::end_block(self, &mut context)
    }
}

fn check_price(price: Nusd) -> Result<(), GenesisError> {
    if (PRICE_MIN..=PRICE_MAX).contains(&price) {
        return Ok(());
    }
    Err(GenesisError::Price { given: price, min: PRICE_MIN, max: PRICE_MAX })
}

/// The sum of all balances and stakes. With all that may be minted later it stays within the cap.
fn check_supply(genesis: &Genesis) -> Result<Watt, GenesisError> {
    let params = &genesis.params.supply;
    let budgets: Watt = genesis.vesting.iter().map(|vesting| vesting.total).sum();
    let reserved =
        budgets.saturating_add(params.settlement_reserve).saturating_add(params.emission_budget);
    let max = params.max.saturating_sub(reserved);
    let mut seen = BTreeSet::new();
    for &GenesisAccount { address, .. } in &genesis.accounts {
        if !seen.insert(address) {
            return Err(GenesisError::DuplicateAccount { address });
        }
        if address.is_module() {
            return Err(GenesisError::ModuleAccount { address });
        }
    }
    let balances: Watt = genesis.accounts.iter().map(|account| account.balance).sum();
    let stakes: Watt = genesis.validators.iter().map(|validator| validator.stake).sum();
    let total = balances.saturating_add(stakes);
    if total > max || reserved > params.max {
        return Err(GenesisError::Supply { max });
    }
    Ok(total)
}

fn check_vesting(vesting: &[GenesisVesting]) -> Result<(), GenesisError> {
    let mut seen = BTreeSet::new();
    for entry in vesting {
        let bucket = entry.bucket.name();
        if !seen.insert(entry.bucket) {
            return Err(GenesisError::DuplicateBucket { bucket });
        }
        if entry.start >= entry.end || entry.cliff > entry.end {
            return Err(GenesisError::VestingTimes { bucket });
        }
        if entry.beneficiary.is_some_and(|address| address.is_module()) {
            return Err(GenesisError::VestingBeneficiary { bucket });
        }
    }
    Ok(())
}

fn check_validators(validators: &[GenesisValidator], params: &Params) -> Result<(), GenesisError> {
    let count = validators.len();
    let max = usize::try_from(params.stake.validators_max).unwrap_or(VALIDATORS_MAX);
    let max = max.min(VALIDATORS_MAX);
    if count == 0 || count > max {
        return Err(GenesisError::ValidatorsCount { count, max });
    }
    let mut keys = BTreeSet::new();
    let mut operators = BTreeSet::new();
    for validator in validators {
        let &GenesisValidator { consensus_key, operator, stake, commission, .. } = validator;
        if !keys.insert(consensus_key) || !operators.insert(operator) || operator.is_module() {
            return Err(GenesisError::DuplicateValidator { consensus_key });
        }
        let min = params.stake.validator_bond_min;
        if stake < min || power_of(stake) == 0 {
            return Err(GenesisError::Stake { consensus_key, min });
        }
        if !commission.is_consistent() {
            return Err(GenesisError::Commission { consensus_key });
        }
        if check_moniker(&validator.moniker).is_err() {
            return Err(GenesisError::Moniker { consensus_key });
        }
    }
    Ok(())
}
