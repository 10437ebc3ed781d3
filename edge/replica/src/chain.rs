//! What makes a block follow another: the checks that need no application.

use keys::Ed25519;
use light::{CertificateError, verify_certificate};
use store::{Anchor, BlockStore, StoreError, StoredBlock};
use types::{
    ChainId, Hash32, Height, PublicKey, TimeMs,
    block::{Block, BlockHeader},
    consensus::{Certificate, ValidatorSet},
    genesis::Genesis,
};

/// What the next block refers to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parent {
    pub height: Height,
    pub hash: Hash32,
    pub time: TimeMs,
    /// Of the state after it. `None`: that of genesis, which no header names.
    pub app_hash: Option<Hash32>,
    /// Who decided it, and that they did. `None`: it is the genesis document.
    pub decided: Option<Decided>,
}

/// Who decided a block, and the proof.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decided {
    pub validators: ValidatorSet,
    pub certificate: Certificate,
}

impl Parent {
    /// The genesis document stands before block 1.
    pub fn of_genesis(genesis: &Genesis) -> Parent {
        Parent {
            height: Height(0),
            hash: genesis.hash(),
            time: genesis.time,
            app_hash: None,
            decided: None,
        }
    }

    pub fn of_block(header: &BlockHeader, decided: Decided) -> Parent {
        let BlockHeader { height, time, app_hash, .. } = *header;
        Parent {
            height,
            hash: header.hash(),
            time,
            app_hash: Some(app_hash),
            decided: Some(decided),
        }
    }

    /// The block that a chain begins after which was not begun at genesis.
    pub fn of_anchor(anchor: Anchor) -> Parent {
        let Anchor { header, certificate, validators } = anchor;
        Parent::of_block(&header, Decided { validators, certificate })
    }

    /// The block at `height` of a store or the one that its chain begins after, the genesis document at
    /// height 0. `None`: it is not there.
    pub fn stored(store: &BlockStore, height: Height) -> Result<Option<Parent>, StoreError> {
        if height == Height(0) {
            return Ok(Some(Parent::of_genesis(store.genesis())));
        }
        let Some(block) = store.block(height)? else {
            let anchor = store.anchor()?.filter(|anchor| anchor.header.height == height);
            return Ok(anchor.map(Parent::of_anchor));
        };
        let Some(validators) = store.validators(block.header.validators)? else {
            return Ok(None);
        };
        let decided = Decided { validators, certificate: block.certificate };
        Ok(Some(Parent::of_block(&block.header, decided)))
    }

    /// Checks that it was decided by those who are said to have decided it. Who they should be, the state
    /// says.
    pub fn verify(&self, chain_id: &ChainId) -> Result<(), BlockFault> {
        let Some(Decided { validators, certificate }) = &self.decided else { return Ok(()) };
        let height = self.height;
        verify_certificate(chain_id, (height, self.hash), certificate, validators, &Ed25519)
            .map_err(|error| BlockFault::Undecided { height, source: error.into() })
    }

    /// Whose signature is missing in `certificate`, the one of this block that its successor carries.
    pub fn absent(&self, certificate: Option<&Certificate>) -> Vec<PublicKey> {
        let (Some(decided), Some(certificate)) = (&self.decided, certificate) else {
            return Vec::new();
        };
        let members = decided.validators.as_slice().iter().map(|validator| validator.key);
        members.filter(|key| !certificate.is_signed_by(key)).collect()
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
    #[error("block {height} names other validators than the state before it")]
    Validators { height: Height },
    #[error("{proposer}, who proposed block {height}, is not a validator of it")]
    Proposer { height: Height, proposer: PublicKey },
    #[error("the certificate of its parent that block {height} carries is not the one it names")]
    LastCertificate { height: Height },
    #[error("the certificate of its parent that block {height} carries proves nothing")]
    ParentUndecided { height: Height, source: Box<CertificateError> },
    #[error("the certificate of block {height} proves nothing")]
    Undecided { height: Height, source: Box<CertificateError> },
}

impl BlockFault {
    /// Whether it is about a certificate rather than the header.
    pub fn is_of_certificate(&self) -> bool {
        match self {
            BlockFault::LastCertificate { .. }
            | BlockFault::ParentUndecided { .. }
            | BlockFault::Undecided { .. } => true,
            BlockFault::Height { .. }
            | BlockFault::Parent { .. }
            | BlockFault::Time { .. }
            | BlockFault::TxsRoot { .. }
            | BlockFault::Validators { .. }
            | BlockFault::Proposer { .. } => false,
        }
    }
}

/// Checks all of a proposed block that needs no execution. `validators` are those of its height.
pub fn verify_proposed(
    chain_id: &ChainId,
    parent: &Parent,
    (header, txs, carried): (&BlockHeader, &[Vec<u8>], Option<&Certificate>),
    validators: &ValidatorSet,
) -> Result<(), BlockFault> {
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
    if header.txs_root != Block::txs_root(txs) {
        return Err(BlockFault::TxsRoot { height });
    }
    if header.validators != validators.hash() {
        return Err(BlockFault::Validators { height });
    }
    if !validators.contains(&header.proposer) {
        return Err(BlockFault::Proposer { height, proposer: header.proposer });
    }
    if header.last_certificate != Block::certificate_hash(carried) {
        return Err(BlockFault::LastCertificate { height });
    }
    match (&parent.decided, carried) {
        (None, None) => Ok(()),
        // The very one that was verified when the parent was decided.
        (Some(decided), Some(carried)) if decided.certificate == *carried => Ok(()),
        (Some(decided), Some(carried)) => {
            let named = (parent.height, parent.hash);
            verify_certificate(chain_id, named, carried, &decided.validators, &Ed25519)
                .map_err(|error| BlockFault::ParentUndecided { height, source: error.into() })
        }
        (None, Some(_)) | (Some(_), None) => Err(BlockFault::LastCertificate { height }),
    }
}

/// Checks all of a decided block that needs no execution.
pub fn verify_decided(
    chain_id: &ChainId,
    parent: &Parent,
    block: &StoredBlock,
    validators: &ValidatorSet,
) -> Result<(), BlockFault> {
    let header = &block.header;
    let proposed = (header, block.txs.as_slice(), block.last_certificate.as_ref());
    verify_proposed(chain_id, parent, proposed, validators)?;
    let named = (header.height, header.hash());
    verify_certificate(chain_id, named, &block.certificate, validators, &Ed25519)
        .map_err(|error| BlockFault::Undecided { height: header.height, source: error.into() })
}
