//! The genesis documents that this program makes by itself.

use types::{
    Address, Nusd, Ppm, PublicKey, TimeMs, Watt,
    genesis::{Bucket, Genesis, GenesisAccount, GenesisValidator, GenesisVesting, Params},
    hash::to_hex,
    id::ParseIdError,
    sha256,
    stake::CommissionTerms,
};

/// All WATT that a local network starts with; the rest of the billion are budgets.
pub const LOCAL_SUPPLY: Watt = Watt::whole(100_000_000);
/// What the local gateway begins with.
pub const LOCAL_GATEWAY_BALANCE: Watt = Watt::whole(1_000_000);
/// What the validator has staked, and what it begins with to pay for its votes.
pub const LOCAL_STAKE: Watt = Watt::whole(100_000);
pub const LOCAL_VALIDATOR_BALANCE: Watt = Watt::whole(1_000);
/// One WATT costs 0.10 USD until the validator votes otherwise.
pub const LOCAL_NUSD_PER_WATT: Nusd = Nusd(100_000_000);
/// On a local network nobody floods the ledger, and a single short answer, a few thousand nano-USD,
/// should be worth redeeming: a redemption of 400 bytes costs 180 nano-USD.
pub const LOCAL_FEE_TX: Watt = Watt(1_000);
pub const LOCAL_FEE_BYTE: Watt = Watt(2);
/// A local network may close channels quickly: whoever tries it out should not wait.
pub const LOCAL_WITHDRAW_DELAY_MS_MIN: u64 = 60_000;
/// Nor for a price after a weekend: its only validator votes again within seconds.
const LOCAL_ORACLE_PERIOD_MS: u64 = 2_000;
const LOCAL_ORACLE_TWAP_MS: u64 = 5 * 60_000;
const LOCAL_ORACLE_MAX_AGE_MS: u64 = DAY_MS;
const DAY_MS: u64 = 24 * 60 * 60_000;
const YEAR_MS: u64 = 365 * DAY_MS;

/// Who is who in a network that runs on one machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalNetwork {
    /// Now.
    pub time: TimeMs,
    pub validators: Vec<LocalValidator>,
    /// Holds what nobody else holds, and receives the budgets as they vest.
    pub holder: Address,
    pub gateway: Address,
    /// Others that begin with a balance: a faucet, a community.
    pub accounts: Vec<GenesisAccount>,
}

/// One of those who decide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalValidator {
    pub moniker: String,
    /// Signs its votes.
    pub consensus_key: PublicKey,
    /// Owns the stake, receives the rewards and votes on the price.
    pub operator: Address,
    pub stake: Watt,
}

/// Why there is no such network.
#[derive(Debug, thiserror::Error)]
pub enum LocalGenesisError {
    #[error(
        "the given accounts hold {given:?} together, {left:?} are left for them; give them less"
    )]
    Supply { given: Watt, left: Watt },
    #[error("a network needs a validator")]
    NoValidator,
    #[error("the chain id cannot be made")]
    ChainId { source: ParseIdError },
}

/// The genesis of a local network. Its chain id ends with a digest of the first consensus key and the
/// time, so that no two networks share signatures.
pub fn local(network: LocalNetwork) -> Result<Genesis, LocalGenesisError> {
    let LocalNetwork { time, validators, holder, gateway, accounts } = network;
    let first = validators.first().ok_or(LocalGenesisError::NoValidator)?.consensus_key;
    let digest = sha256(&[b"peerwatt/local\0", &first.0, &time.0.to_le_bytes()]);
    let chain_id = format!("peerwatt-local-{}", &to_hex(&digest.0)[..8]);
    let chain_id = chain_id.parse().map_err(|source| LocalGenesisError::ChainId { source })?;

    let given: Watt = accounts.iter().map(|account| account.balance).sum();
    let own = validators.iter().map(|of| of.stake.saturating_add(LOCAL_VALIDATOR_BALANCE));
    let own = LOCAL_GATEWAY_BALANCE.saturating_add(own.sum());
    let left = LOCAL_SUPPLY.saturating_sub(own);
    let rest = left.checked_sub(given).ok_or(LocalGenesisError::Supply { given, left })?;
    let mut balances = vec![
        GenesisAccount { address: gateway, balance: LOCAL_GATEWAY_BALANCE },
        GenesisAccount { address: holder, balance: rest },
    ];
    balances.extend(validators.iter().map(|validator| GenesisAccount {
        address: validator.operator,
        balance: LOCAL_VALIDATOR_BALANCE,
    }));
    balances.extend(accounts);
    let commission = CommissionTerms {
        rate: Ppm::new(100_000).unwrap_or_default(),
        rate_max: Ppm::new(200_000).unwrap_or_default(),
        change_max: Ppm::new(10_000).unwrap_or_default(),
    };
    Ok(Genesis {
        chain_id,
        time,
        params: local_params(),
        nusd_per_watt: LOCAL_NUSD_PER_WATT,
        accounts: merged(balances),
        vesting: budgets(time, holder),
        validators: validators
            .into_iter()
            .map(|LocalValidator { moniker, consensus_key, operator, stake }| GenesisValidator {
                consensus_key,
                operator,
                moniker,
                stake,
                commission,
            })
            .collect(),
    })
}

/// As the standard ones, but nobody waits: claims are settled in the block that makes them, and a
/// price is found within seconds.
fn local_params() -> Params {
    let mut params = Params::standard();
    params.fees.tx = LOCAL_FEE_TX;
    params.fees.byte = LOCAL_FEE_BYTE;
    params.channels.withdraw_delay_ms_min = LOCAL_WITHDRAW_DELAY_MS_MIN;
    params.channels.holdback_ms = 0;
    params.oracle.period_ms = LOCAL_ORACLE_PERIOD_MS;
    params.oracle.twap_ms = LOCAL_ORACLE_TWAP_MS;
    params.oracle.max_age_ms = LOCAL_ORACLE_MAX_AGE_MS;
    params
}

/// Nine tenths of the supply, less what is kept for settlements, as declared budgets (ECONOMICS E17).
fn budgets(start: TimeMs, holder: Address) -> Vec<GenesisVesting> {
    let budget = |bucket, millions: u64, cliff_ms, length_ms| GenesisVesting {
        bucket,
        beneficiary: if bucket == Bucket::Treasury { None } else { Some(holder) },
        total: Watt::whole(millions * 1_000_000),
        start,
        cliff: start.plus_ms(cliff_ms),
        end: start.plus_ms(length_ms),
    };
    vec![
        budget(Bucket::Community, 300, 0, 10 * YEAR_MS),
        budget(Bucket::Ecosystem, 200, 0, 5 * YEAR_MS),
        budget(Bucket::Team, 120, YEAR_MS, 4 * YEAR_MS),
        budget(Bucket::Investors, 80, YEAR_MS / 2, 3 * YEAR_MS),
        budget(Bucket::Liquidity, 50, 0, 2 * YEAR_MS),
        budget(Bucket::Treasury, 50, 0, 10 * YEAR_MS),
    ]
}

/// One entry per account: one key may play several parts.
fn merged(accounts: Vec<GenesisAccount>) -> Vec<GenesisAccount> {
    let mut merged: Vec<GenesisAccount> = Vec::with_capacity(accounts.len());
    for account in accounts {
        match merged.iter_mut().find(|other| other.address == account.address) {
            Some(other) => other.balance = other.balance.saturating_add(account.balance),
            None => merged.push(account),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> LocalNetwork {
        let address = |name| Address::of_key(&PublicKey([name; 32]));
        LocalNetwork {
            time: TimeMs(1_700_000_000_000),
            validators: vec![LocalValidator {
                moniker: "local".to_owned(),
                consensus_key: PublicKey([9; 32]),
                operator: address(1),
                stake: LOCAL_STAKE,
            }],
            holder: address(2),
            gateway: address(3),
            accounts: vec![GenesisAccount { address: address(4), balance: Watt::whole(5) }],
        }
    }

    #[test]
    fn a_local_network_starts_with_one_hundred_million() {
        let genesis = local(network()).unwrap();
        let held: Watt = genesis.accounts.iter().map(|account| account.balance).sum();
        assert_eq!(held.saturating_add(LOCAL_STAKE), LOCAL_SUPPLY);
        let later: Watt = genesis.vesting.iter().map(|budget| budget.total).sum();
        let whole = [LOCAL_SUPPLY, later, genesis.params.supply.settlement_reserve];
        assert_eq!(whole.into_iter().sum::<Watt>(), genesis.params.supply.max);
        assert_eq!(genesis.chain_id.as_str().len(), "peerwatt-local-".len() + 8);
        ledger::State::from_genesis(&genesis).unwrap();
    }

    #[test]
    fn one_account_may_play_several_parts() {
        let all = Address::of_key(&PublicKey([1; 32]));
        let network = LocalNetwork { holder: all, gateway: all, ..network() };
        let genesis = local(network).unwrap();
        assert_eq!(genesis.accounts.len(), 2);
        ledger::State::from_genesis(&genesis).unwrap();
    }

    #[test]
    fn more_than_there_is_cannot_be_given_away() {
        let mut network = network();
        network.accounts[0].balance = LOCAL_SUPPLY;
        assert!(matches!(local(network), Err(LocalGenesisError::Supply { .. })));
    }
}
