//! The genesis documents that this program makes by itself.

use types::{
    Address, Nusd, PublicKey, TimeMs, Watt,
    genesis::{Genesis, GenesisAccount, GenesisValidator, Params},
    hash::to_hex,
    id::ParseIdError,
    sha256,
};

/// All WATT of a local network.
pub const LOCAL_SUPPLY: Watt = Watt::whole(100_000_000);
/// What the local gateway begins with.
pub const LOCAL_GATEWAY_BALANCE: Watt = Watt::whole(1_000_000);
/// One WATT costs 0.10 USD until the governor says otherwise.
pub const LOCAL_NUSD_PER_WATT: Nusd = Nusd(100_000_000);
/// On a local network nobody floods the ledger, and a single short answer, a few thousand nano-USD,
/// should be worth redeeming: a redemption of 400 bytes costs 180 nano-USD.
pub const LOCAL_FEE_TX: Watt = Watt(1_000);
pub const LOCAL_FEE_BYTE: Watt = Watt(2);
/// A local network may close channels quickly: whoever tries it out should not wait.
pub const LOCAL_WITHDRAW_DELAY_MS_MIN: u64 = 60_000;

/// Who is who in a network that runs on one machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalNetwork {
    /// Now.
    pub time: TimeMs,
    /// Signs the blocks.
    pub consensus_key: PublicKey,
    /// Receives the validator's rewards.
    pub validator_operator: Address,
    /// Sets the price and holds what nobody else holds, as the treasury until there is governance.
    pub governor: Address,
    pub gateway: Address,
    /// Others that begin with a balance: a faucet, a community.
    pub accounts: Vec<GenesisAccount>,
}

/// Why there is no such network.
#[derive(Debug, thiserror::Error)]
pub enum LocalGenesisError {
    #[error(
        "the given accounts hold {given:?} together, {left:?} are left for them; give them less"
    )]
    Supply { given: Watt, left: Watt },
    #[error("the chain id cannot be made")]
    ChainId { source: ParseIdError },
}

/// The genesis of a local network. Its chain id ends with a digest of the consensus key and the
/// time, so that no two networks share signatures.
pub fn local(network: LocalNetwork) -> Result<Genesis, LocalGenesisError> {
    let LocalNetwork { time, consensus_key, validator_operator, governor, gateway, accounts } =
        network;
    let digest = sha256(&[b"peerwatt/local\0", &consensus_key.0, &time.0.to_le_bytes()]);
    let chain_id = format!("peerwatt-local-{}", &to_hex(&digest.0)[..8]);
    let chain_id = chain_id.parse().map_err(|source| LocalGenesisError::ChainId { source })?;

    let given: Watt = accounts.iter().map(|account| account.balance).sum();
    let left = LOCAL_SUPPLY.saturating_sub(LOCAL_GATEWAY_BALANCE);
    let rest = left.checked_sub(given).ok_or(LocalGenesisError::Supply { given, left })?;
    let mut balances = vec![
        GenesisAccount { address: gateway, balance: LOCAL_GATEWAY_BALANCE },
        GenesisAccount { address: governor, balance: rest },
    ];
    balances.extend(accounts);

    Ok(Genesis {
        chain_id,
        time,
        params: Params {
            withdraw_delay_ms_min: LOCAL_WITHDRAW_DELAY_MS_MIN,
            fee_tx: LOCAL_FEE_TX,
            fee_byte: LOCAL_FEE_BYTE,
            ..Params::standard()
        },
        governor,
        nusd_per_watt: LOCAL_NUSD_PER_WATT,
        accounts: merged(balances),
        validators: vec![GenesisValidator {
            consensus_key,
            operator: validator_operator,
            power: 1,
        }],
    })
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
            consensus_key: PublicKey([9; 32]),
            validator_operator: address(1),
            governor: address(2),
            gateway: address(3),
            accounts: vec![GenesisAccount { address: address(4), balance: Watt::whole(5) }],
        }
    }

    #[test]
    fn a_local_network_starts_with_one_hundred_million() {
        let genesis = local(network()).unwrap();
        let total: Watt = genesis.accounts.iter().map(|account| account.balance).sum();
        assert_eq!(total, LOCAL_SUPPLY);
        assert_eq!(genesis.chain_id.as_str().len(), "peerwatt-local-".len() + 8);
        ledger::State::from_genesis(&genesis).unwrap();
    }

    #[test]
    fn one_account_may_play_several_parts() {
        let all = Address::of_key(&PublicKey([1; 32]));
        let network = LocalNetwork { governor: all, gateway: all, ..network() };
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
