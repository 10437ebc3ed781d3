//! Blocks: an ordered list of opaque transactions with what binds it to the one before.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    hash::{Hash32, sha256},
    id::{Height, PublicKey, TimeMs},
    sign::Signable,
};

/// What identifies a block and what it claims about the state after it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct BlockHeader {
    pub height: Height,
    /// Never earlier than the parent's.
    pub time: TimeMs,
    /// Digest of the parent's header; that of the genesis document at height 1.
    pub parent: Hash32,
    /// Merkle root over the transactions' bytes.
    pub txs_root: Hash32,
    /// The ledger's digest after this block.
    pub app_hash: Hash32,
    pub proposer: PublicKey,
}

impl BlockHeader {
    pub fn hash(&self) -> Hash32 {
        sha256(&[b"peerwatt/block\0", &borsh::to_vec(self).unwrap_or_default()])
    }
}

/// What a validator signs to commit to a block.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Commit {
    pub height: Height,
    pub block: Hash32,
}

impl Signable for Commit {
    const DOMAIN: &'static str = "commit/1";
}

/// A block as proposed.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Block {
    pub header: BlockHeader,
    /// Canonical bytes of signed transactions, in the order in which they are applied.
    pub txs: Vec<Vec<u8>>,
}

impl Block {
    /// The Merkle root that the header must carry for `txs`.
    pub fn txs_root(txs: &[Vec<u8>]) -> Hash32 {
        let leaves: Vec<Hash32> = txs.iter().map(|tx| crate::hash::merkle_leaf(tx)).collect();
        crate::hash::merkle_root(&leaves)
    }
}
