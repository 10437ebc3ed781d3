//! What makes a block follow another: the checks that need no application.

use keys::Ed25519;
use types::{
    ChainId, Hash32, Height, PublicKey, TimeMs,
    block::{Block, BlockHeader, Commit},
    genesis::Genesis,
};

use crate::ValidatorPower;
use store::StoredBlock;

/// What the next block refers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parent {
    pub height: Height,
    pub hash: Hash32,
    pub time: TimeMs,
}

impl Parent {
    /// The genesis document stands before block 1.
    pub fn of_genesis(genesis: &Genesis) -> Parent {
        Parent { height: Height(0), hash: genesis.hash(), time: genesis.time }
    }

    pub fn of_header(header: &BlockHeader) -> Parent {
        Parent { height: header.height, hash: header.hash(), time: header.time }
    }
}

/// Why a block does not follow its parent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockFault {
    #[error("block {given} stands after block {parent}")]
    Height { given: Height, parent: Height },
    #[error("block {height} names {given} as parent, its parent is {parent}")]
    Parent { height: Height, given: Hash32, parent: Hash32 },
    #[error("block {height} is of {given} ms, its parent is of {parent} ms")]
    Time { height: Height, given: TimeMs, parent: TimeMs },
    #[error("the transactions of block {height} are not those that its header names")]
    TxsRoot { height: Height },
    #[error("{proposer}, who proposed block {height}, is not a validator of it")]
    Proposer { height: Height, proposer: PublicKey },
    #[error("the certificate of block {height} is for block {given} of height {given_height}")]
    OtherBlock { height: Height, given: Hash32, given_height: Height },
    #[error("the certificate of block {height} is not validly signed by {signer}")]
    Signature { height: Height, signer: PublicKey },
    #[error(
        "the certificate of block {height} has {signed} of {total} power, more than two thirds are needed"
    )]
    Power { height: Height, signed: u64, total: u64 },
}

impl BlockFault {
    /// Whether it is about the certificate rather than the header.
    pub fn is_of_certificate(&self) -> bool {
        match self {
            BlockFault::OtherBlock { .. }
            | BlockFault::Signature { .. }
            | BlockFault::Power { .. } => true,
            BlockFault::Height { .. }
            | BlockFault::Parent { .. }
            | BlockFault::Time { .. }
            | BlockFault::TxsRoot { .. }
            | BlockFault::Proposer { .. } => false,
        }
    }
}

/// Checks header and certificate of `block`. `validators` are those of its height.
pub fn verify_block(
    chain_id: &ChainId,
    parent: &Parent,
    block: &StoredBlock,
    validators: &[ValidatorPower],
) -> Result<(), BlockFault> {
    let header = &block.header;
    let height = header.height;
    if height != parent.height.next() {
        return Err(BlockFault::Height { given: height, parent: parent.height });
    }
    if header.parent != parent.hash {
        return Err(BlockFault::Parent { height, given: header.parent, parent: parent.hash });
    }
    if header.time < parent.time {
        return Err(BlockFault::Time { height, given: header.time, parent: parent.time });
    }
    if header.txs_root != Block::txs_root(&block.txs) {
        return Err(BlockFault::TxsRoot { height });
    }
    if !validators.iter().any(|validator| validator.key == header.proposer) {
        return Err(BlockFault::Proposer { height, proposer: header.proposer });
    }
    verify_certificate(chain_id, block, validators)
}

fn verify_certificate(
    chain_id: &ChainId,
    block: &StoredBlock,
    validators: &[ValidatorPower],
) -> Result<(), BlockFault> {
    let height = block.header.height;
    let certificate = &block.certificate;
    let Commit { height: given_height, block: given } = certificate.value;
    if given_height != height || given != block.header.hash() {
        return Err(BlockFault::OtherBlock { height, given, given_height });
    }
    let signer = certificate.signer;
    if certificate.clone().verify(chain_id, &Ed25519).is_err() {
        return Err(BlockFault::Signature { height, signer });
    }
    let sum = |power: &mut dyn Iterator<Item = u64>| power.fold(0u64, u64::saturating_add);
    let total = sum(&mut validators.iter().map(|validator| validator.power));
    let signed = validators.iter().filter(|validator| validator.key == signer);
    let signed = sum(&mut signed.map(|validator| validator.power));
    if !is_quorum(signed, total) {
        return Err(BlockFault::Power { height, signed, total });
    }
    Ok(())
}

/// More than two thirds.
pub fn is_quorum(signed: u64, total: u64) -> bool {
    u128::from(signed) * 3 > u128::from(total) * 2
}
