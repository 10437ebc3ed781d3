//! Entries of the state with all that is needed to check them offline. What is received is checked by
//! nobody: the header is for `light` to judge, the entry by the methods here.

use light::{LightBlock, ProofError, verify_entry};
use serde::{Deserialize, Serialize};
use types::{
    ChainId, Hash32,
    block::BlockHeader,
    consensus::{Certificate, ValidatorSet},
    hash::from_hex,
    state::StateKey,
    tree::TreeProof,
};

/// An entry: the value's canonical bytes, the path through the tree, and a header that names the root,
/// with what shows that it was decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateProof {
    pub chain_id: ChainId,
    pub key: StateKey,
    /// Hexadecimal; `None`: there is no such entry.
    pub value: Option<String>,
    pub proof: TreeProof,
    pub header: BlockHeader,
    pub certificate: Certificate,
    /// Who decided the block.
    pub validators: ValidatorSet,
}

/// Several entries under one header.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateProofs {
    pub chain_id: ChainId,
    pub entries: Vec<ProvenEntry>,
    pub header: BlockHeader,
    pub certificate: Certificate,
    pub validators: ValidatorSet,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenEntry {
    pub key: StateKey,
    /// Hexadecimal; `None`: there is no such entry.
    pub value: Option<String>,
    pub proof: TreeProof,
}

/// An entry's canonical bytes under its key. `None`: there is no such entry.
pub type KnownEntry = (StateKey, Option<Vec<u8>>);

/// Why an entry is not proven by what came with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("the value is not hexadecimal")]
    NotHex,
    #[error("the entry does not stand in the state")]
    Proof(#[from] ProofError),
}

impl StateProof {
    /// The header with what certifies it.
    pub fn block(&self) -> LightBlock {
        LightBlock {
            header: self.header.clone(),
            certificate: self.certificate.clone(),
            validators: self.validators.clone(),
        }
    }

    /// The entry's canonical bytes, or that there are none, as the header's state has it. Whether the
    /// header is to be trusted is another question.
    pub fn entry(&self) -> Result<Option<Vec<u8>>, EntryError> {
        entry(self.header.app_hash, &self.key, self.value.as_deref(), &self.proof)
    }
}

impl StateProofs {
    /// The header with what certifies it.
    pub fn block(&self) -> LightBlock {
        LightBlock {
            header: self.header.clone(),
            certificate: self.certificate.clone(),
            validators: self.validators.clone(),
        }
    }

    /// The entries' keys with what [`StateProof::entry`] says of each.
    pub fn entries(&self) -> Result<Vec<KnownEntry>, EntryError> {
        let root = self.header.app_hash;
        let proven =
            |it: &ProvenEntry| Ok((it.key, entry(root, &it.key, it.value.as_deref(), &it.proof)?));
        self.entries.iter().map(proven).collect()
    }
}

fn entry(
    root: Hash32,
    key: &StateKey,
    value: Option<&str>,
    proof: &TreeProof,
) -> Result<Option<Vec<u8>>, EntryError> {
    let value = value.map(|text| unhex(text).ok_or(EntryError::NotHex)).transpose()?;
    verify_entry(root, key, value.as_deref(), proof)?;
    Ok(value)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| {
        let [byte] = from_hex::<1>(std::str::from_utf8(pair).ok()?)?;
        Some(byte)
    };
    text.as_bytes().chunks(2).map(byte).collect()
}
