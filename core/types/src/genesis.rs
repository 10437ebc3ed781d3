//! The genesis document: where a network starts from.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

pub use crate::params::Params;
use crate::{
    amount::{Nusd, Watt},
    hash::{Hash32, sha256},
    id::{Address, ChainId, PublicKey, TimeMs},
    stake::CommissionTerms,
};

/// Everything that the first state follows from. Its digest is the parent of block 1.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    pub chain_id: ChainId,
    pub time: TimeMs,
    pub params: Params,
    /// The price of one WATT in nano-USD until the validators vote on it.
    pub nusd_per_watt: Nusd,
    pub accounts: Vec<GenesisAccount>,
    /// Budgets that are minted as they vest.
    pub vesting: Vec<GenesisVesting>,
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

/// A declared use of the unminted supply (ECONOMICS E17).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    Community,
    Ecosystem,
    Team,
    Investors,
    Liquidity,
    Treasury,
}

impl Bucket {
    pub const ALL: [Bucket; 6] = [
        Bucket::Community,
        Bucket::Ecosystem,
        Bucket::Team,
        Bucket::Investors,
        Bucket::Liquidity,
        Bucket::Treasury,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Bucket::Community => "community",
            Bucket::Ecosystem => "ecosystem",
            Bucket::Team => "team",
            Bucket::Investors => "investors",
            Bucket::Liquidity => "liquidity",
            Bucket::Treasury => "treasury",
        }
    }
}

/// A budget that vests linearly from `start` to `end`, nothing of it before `cliff`.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisVesting {
    pub bucket: Bucket,
    /// Receives what vests. `None`: the ledger's treasury.
    pub beneficiary: Option<Address>,
    pub total: Watt,
    pub start: TimeMs,
    pub cliff: TimeMs,
    pub end: TimeMs,
}

/// A validator of the first set. Its stake exists from the start, next to the accounts' balances.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisValidator {
    /// Signs blocks.
    pub consensus_key: PublicKey,
    /// Owns the stake and receives rewards.
    pub operator: Address,
    pub moniker: String,
    pub stake: Watt,
    pub commission: CommissionTerms,
}
