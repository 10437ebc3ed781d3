//! The state tree as third parties see it: how its nodes are hashed, and proofs about its entries.
//!
//! The rules are those of `nomt-core`'s binary Merkle trie with SHA-256: a leaf is the digest of its
//! path and its value's digest with the first bit set, an inner node that of its children with the
//! first bit cleared, an empty subtree is zeros, and a subtree of one leaf is that leaf.

use borsh::{BorshDeserialize, BorshSerialize};
use nomt_core::{
    hasher::{NodeHasher, node_kind_by_msb, set_msb, unset_msb},
    trie::{InternalData, LeafData, Node, NodeKind},
};
use serde::{Deserialize, Serialize};

use crate::hash::{Hash32, sha256};

/// Siblings of a proof: a path has 256 bits.
pub const PROOF_SIBLINGS_MAX: usize = 256;

/// SHA-256 over 64 bytes, with the kind of the node in the first bit.
#[derive(Clone, Copy, Debug)]
pub struct StateHasher;

impl NodeHasher for StateHasher {
    fn hash_leaf(leaf: &LeafData) -> [u8; 32] {
        let mut hash = sha256(&[&leaf.key_path, &leaf.value_hash]).0;
        set_msb(&mut hash);
        hash
    }

    fn hash_internal(node: &InternalData) -> [u8; 32] {
        let mut hash = sha256(&[&node.left, &node.right]).0;
        unset_msb(&mut hash);
        hash
    }

    fn node_kind(node: &Node) -> NodeKind {
        node_kind_by_msb(node)
    }
}

/// What a tree says about one path. `light` checks it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeProof {
    /// The leaf at the end of the path, which may be that of another path; `None`: nothing is there.
    pub leaf: Option<TreeLeaf>,
    /// The nodes beside the path, from the root downwards, at most [`PROOF_SIBLINGS_MAX`].
    pub siblings: Vec<Hash32>,
}

#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct TreeLeaf {
    pub path: Hash32,
    /// Digest of the entry's canonical bytes.
    pub value: Hash32,
}
