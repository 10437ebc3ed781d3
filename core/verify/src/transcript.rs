//! The transcript of a response: the Merkle root over its leaves, and proofs that a leaf is one of them.
//!
//! Hashes are those of [`types::hash::merkle_root`]: SHA-256 with the prefixes of RFC 6962, an odd node
//! moves up. The root does not say how many leaves there are; the count of tokens on the receipt does.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{
    Hash32,
    hash::{merkle_leaf, merkle_root},
    limits::COMPLETION_TOKENS_MAX,
    sha256,
};

use crate::leaf::{self, LEAF_TOKENS_MAX, LeafError, LeafToken};

/// Nodes beside the path of a leaf: 2¹² leaves hold the longest response.
pub const SIBLINGS_MAX: usize = 12;

/// A transcript as it is written. Invariant: `open` is shorter than a leaf.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transcript {
    /// The bytes of the leaves that are full.
    leaves: Vec<Vec<u8>>,
    open: Vec<LeafToken>,
}

impl Transcript {
    pub fn push(&mut self, token: LeafToken) {
        self.open.push(token);
        if self.open.len() >= LEAF_TOKENS_MAX {
            self.leaves.extend(leaf::encode(&self.open));
            self.open.clear();
        }
    }

    /// Tokens in it.
    pub fn len(&self) -> usize {
        self.leaves.len().saturating_mul(LEAF_TOKENS_MAX).saturating_add(self.open.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes back all but the first `count` tokens.
    pub fn truncate(&mut self, count: usize) {
        if count >= self.len() {
            return;
        }
        let full = count / LEAF_TOKENS_MAX;
        if let Some(cut) = self.leaves.get(full) {
            // It was written here, so it can be read.
            self.open = leaf::decode(cut).unwrap_or_default();
            self.leaves.truncate(full);
        }
        self.open.truncate(count % LEAF_TOKENS_MAX);
    }

    /// The bytes of all leaves, the last one with what it has.
    pub fn leaves(&self) -> Vec<Vec<u8>> {
        self.leaves.iter().cloned().chain(leaf::encode(&self.open)).collect()
    }

    pub fn root(&self) -> Hash32 {
        merkle_root(&hashes(&self.leaves()))
    }
}

fn hashes(leaves: &[Vec<u8>]) -> Vec<Hash32> {
    leaves.iter().map(|bytes| merkle_leaf(bytes)).collect()
}

/// That a leaf is one of a transcript.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafProof {
    /// Which leaf, from 0.
    pub index: u32,
    /// The nodes beside the path, from the leaf upwards, at most [`SIBLINGS_MAX`].
    pub siblings: Vec<Hash32>,
}

/// Why a leaf is not proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofError {
    #[error("leaf {index} is not one of a response of {tokens} tokens")]
    Index { index: u32, tokens: u32 },
    #[error("the path has {count} nodes beside it, not as many as the tree's shape asks for")]
    Shape { count: usize },
    #[error("the path leads to another root than {root}")]
    Root { root: Hash32 },
    #[error("the leaf has {count} tokens, {expected} stand at its place")]
    Tokens { count: usize, expected: usize },
    #[error(transparent)]
    Leaf(#[from] LeafError),
}

/// The proof for leaf `index`; `None` if there is no such leaf.
pub fn prove(leaves: &[Vec<u8>], index: u32) -> Option<LeafProof> {
    let mut level = hashes(leaves);
    let mut at = usize::try_from(index).ok().filter(|at| *at < level.len())?;
    let mut siblings = Vec::new();
    while level.len() > 1 {
        siblings.extend(level.get(at ^ 1).copied());
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node(left, right),
                _ => pair.first().copied().unwrap_or_default(),
            })
            .collect();
        at /= 2;
    }
    Some(LeafProof { index, siblings })
}

/// The tokens of a leaf of which it is proven that it stands in a transcript with this root, of a response
/// of so many tokens. Their number must be the one that was signed with the root: where an odd node moves up, the same leaf stands
/// elsewhere in a longer transcript.
pub fn open(
    root: Hash32,
    tokens: u32,
    proof: &LeafProof,
    bytes: &[u8],
) -> Result<Vec<LeafToken>, ProofError> {
    let &LeafProof { index, ref siblings } = proof;
    let (count, leaf_tokens) = (siblings.len(), LEAF_TOKENS_MAX as u32);
    let leaves = tokens.div_ceil(leaf_tokens);
    if tokens > COMPLETION_TOKENS_MAX || index >= leaves {
        return Err(ProofError::Index { index, tokens });
    }
    if count > SIBLINGS_MAX {
        return Err(ProofError::Shape { count });
    }
    let (mut at, mut width) = (index, leaves);
    let mut hash = merkle_leaf(bytes);
    let mut siblings = siblings.iter();
    while width > 1 {
        // The last of an odd number moves up as it is.
        if at ^ 1 < width {
            let sibling = siblings.next().ok_or(ProofError::Shape { count })?;
            hash = if at % 2 == 0 { node(&hash, sibling) } else { node(sibling, &hash) };
        }
        (at, width) = (at / 2, width.div_ceil(2));
    }
    if siblings.next().is_some() {
        return Err(ProofError::Shape { count });
    }
    if hash != root {
        return Err(ProofError::Root { root });
    }
    let opened = leaf::decode(bytes)?;
    let rest = tokens.saturating_sub(index.saturating_mul(leaf_tokens));
    let expected = usize::try_from(rest.min(leaf_tokens)).unwrap_or(LEAF_TOKENS_MAX);
    if opened.len() == expected {
        Ok(opened)
    } else {
        Err(ProofError::Tokens { count: opened.len(), expected })
    }
}

fn node(left: &Hash32, right: &Hash32) -> Hash32 {
    sha256(&[&[1], &left.0, &right.0])
}

#[cfg(test)]
mod tests;
