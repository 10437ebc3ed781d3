//! Blocks: an ordered list of opaque transactions with what binds it to the one before.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    consensus::Certificate,
    hash::{Hash32, sha256},
    id::{Height, PublicKey, TimeMs},
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
    /// Digest of the parent's certificate, which the block carries; zeros at height 1.
    pub last_certificate: Hash32,
    /// Digest of the set of validators that decides this block.
    pub validators: Hash32,
    /// Digest of the set that decides the next.
    pub next_validators: Hash32,
    /// The ledger's digest after this block.
    pub app_hash: Hash32,
    pub proposer: PublicKey,
}

impl BlockHeader {
    pub fn hash(&self) -> Hash32 {
        sha256(&[b"peerwatt/block\0", &borsh::to_vec(self).unwrap_or_default()])
    }
}

/// A block as proposed.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Block {
    pub header: BlockHeader,
    /// Canonical bytes of signed transactions, in the order in which they are applied.
    pub txs: Vec<Vec<u8>>,
    /// Who signed the parent, as the proposer knew it: from it all count the same absences. `None`
    /// at height 1.
    pub last_certificate: Option<Certificate>,
}

impl Block {
    /// The Merkle root that the header must carry for `txs`.
    pub fn txs_root(txs: &[Vec<u8>]) -> Hash32 {
        let leaves: Vec<Hash32> = txs.iter().map(|tx| crate::hash::merkle_leaf(tx)).collect();
        crate::hash::merkle_root(&leaves)
    }

    /// The digest that the header must carry for the parent's certificate.
    pub fn certificate_hash(certificate: Option<&Certificate>) -> Hash32 {
        certificate.map(Certificate::hash).unwrap_or_default()
    }
}
