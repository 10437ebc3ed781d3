//! The genesis document and the ledger's parameters: where a network starts from.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    amount::{Nusd, Ppm, Watt},
    hash::{Hash32, sha256},
    id::{Address, ChainId, PublicKey, TimeMs},
    split::Split,
};

/// Everything that the first state follows from. Its digest is the parent of block 1.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    pub chain_id: ChainId,
    pub time: TimeMs,
    pub params: Params,
    /// May set the price until governance exists.
    pub governor: Address,
    /// The price of one WATT in nano-USD.
    pub nusd_per_watt: Nusd,
    pub accounts: Vec<GenesisAccount>,
    pub validators: Vec<GenesisValidator>,
}

impl Genesis {
    pub fn hash(&self) -> Hash32 {
        sha256(&[b"peerwatt/genesis\0", &borsh::to_vec(self).unwrap_or_default()])
    }
}

/// A balance that exists from the start.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisAccount {
    pub address: Address,
    pub balance: Watt,
}

/// A validator of the first set.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisValidator {
    /// Signs blocks.
    pub consensus_key: PublicKey,
    /// Receives rewards.
    pub operator: Address,
    /// Voting power; shares of the stakers' income follow it.
    pub power: u64,
}

/// Parameters of the ledger. Money in base units, times in milliseconds.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    pub split: Split,
    /// WATT never exceed this.
    pub supply_max: Watt,
    /// Of the unminted supply, what settlements may mint when the vault is short.
    pub settlement_reserve: Watt,
    /// Kept from a purchase of credits: 2 500 is 25 basis points.
    pub credit_spread: Ppm,
    /// Fee of a transaction, and per byte of it.
    pub fee_tx: Watt,
    pub fee_byte: Watt,
    /// A provider's full bond, in USD, converted at the price in force.
    pub provider_bond: Nusd,
    /// Share of a provider's income withheld until its bond is full.
    pub withhold: Ppm,
    /// Providers whose bond is not full that may be registered at once.
    pub unbonded_providers_max: u32,
    /// An unbonded provider without income for this long is removed.
    pub provider_idle_ms: u64,
    /// Between leaving and receiving the bond.
    pub unbonding_ms: u64,
    /// Bounds of a channel's withdraw delay.
    pub withdraw_delay_ms_min: u64,
    pub withdraw_delay_ms_max: u64,
    /// The price may move by at most this share at once.
    pub price_step: Ppm,
}

impl Params {
    /// The parameters of ECONOMICS E22 as far as this ledger has them.
    pub fn standard() -> Params {
        const MINUTE_MS: u64 = 60_000;
        const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
        let ppm = |ppm| Ppm::new(ppm).unwrap_or_default();
        Params {
            split: Split::SPLIT_60,
            supply_max: Watt::whole(1_000_000_000),
            settlement_reserve: Watt::whole(100_000_000),
            credit_spread: ppm(2_500),
            fee_tx: Watt(1_000_000),
            fee_byte: Watt(1_000),
            provider_bond: Nusd::whole(5),
            withhold: ppm(200_000),
            unbonded_providers_max: 1_000,
            provider_idle_ms: 30 * DAY_MS,
            unbonding_ms: 21 * DAY_MS,
            withdraw_delay_ms_min: 15 * MINUTE_MS,
            withdraw_delay_ms_max: 30 * DAY_MS,
            price_step: ppm(125_000),
        }
    }
}
