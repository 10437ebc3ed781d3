//! That the state with a certain root has an entry, or has none.

use bitvec::{order::Msb0, slice::BitSlice};
use nomt_core::{
    proof::{PathProof, PathProofTerminal},
    trie::LeafData,
    trie_pos::TriePosition,
};
use types::{
    Hash32, sha256,
    state::StateKey,
    tree::{PROOF_SIBLINGS_MAX, StateHasher, TreeLeaf, TreeProof},
};

/// Why an entry is not proven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("a path of {count} nodes is longer than any can be, {max}")]
    TooLong { count: usize, max: usize },
    #[error("the path leads to another root than {root}")]
    Root { root: Hash32 },
    #[error("the tree has another entry where this one would be, or another value")]
    Value,
    #[error("the tree has an entry where none is claimed to be")]
    Present,
}

/// Checks that the state with this root has `value` as the canonical bytes of the entry `key`, or,
/// with `None`, that it has no such entry.
pub fn verify_entry(
    root: Hash32,
    key: &StateKey,
    value: Option<&[u8]>,
    proof: &TreeProof,
) -> Result<(), ProofError> {
    let (count, max) = (proof.siblings.len(), PROOF_SIBLINGS_MAX);
    if count > max {
        return Err(ProofError::TooLong { count, max });
    }
    let path = key.path();
    let bits: &BitSlice<u8, Msb0> = BitSlice::from_slice(&path.0);
    let terminal = match proof.leaf {
        Some(TreeLeaf { path, value }) => {
            PathProofTerminal::Leaf(LeafData { key_path: path.0, value_hash: value.0 })
        }
        // An empty subtree hashes to zeros wherever it is.
        None => PathProofTerminal::Terminator(TriePosition::new()),
    };
    let siblings = proof.siblings.iter().map(|sibling| sibling.0).collect();
    let verified = PathProof { terminal, siblings }
        .verify::<StateHasher>(bits, root.0)
        .map_err(|_| ProofError::Root { root })?;
    let confirmed = match value {
        Some(value) => {
            let leaf = LeafData { key_path: path.0, value_hash: sha256(&[value]).0 };
            verified.confirm_value(&leaf).map_err(|_| ProofError::Value)
        }
        None => verified.confirm_nonexistence(&path.0).map_err(|_| ProofError::Present),
    };
    match (confirmed?, value) {
        (true, _) => Ok(()),
        (false, Some(_)) => Err(ProofError::Value),
        (false, None) => Err(ProofError::Present),
    }
}

#[cfg(test)]
mod tests {
    use nomt_core::{hasher::NodeHasher, trie::InternalData};
    use proptest::prelude::*;
    use types::Address;

    use super::*;

    fn key(name: u8) -> StateKey {
        StateKey::Account { address: Address([name; 20]) }
    }

    fn leaf_of(name: u8, value: &[u8]) -> TreeLeaf {
        TreeLeaf { path: key(name).path(), value: sha256(&[value]) }
    }

    fn hash(leaf: &TreeLeaf) -> [u8; 32] {
        StateHasher::hash_leaf(&LeafData { key_path: leaf.path.0, value_hash: leaf.value.0 })
    }

    /// A tree of two entries whose paths differ in the first bit.
    fn two() -> (Hash32, u8, u8) {
        let side = |name: u8| key(name).path().0[0] >> 7;
        let left = (0..).find(|name| side(*name) == 0).unwrap();
        let right = (0..).find(|name| side(*name) == 1).unwrap();
        let root = StateHasher::hash_internal(&InternalData {
            left: hash(&leaf_of(left, b"left")),
            right: hash(&leaf_of(right, b"right")),
        });
        (Hash32(root), left, right)
    }

    #[test]
    fn an_entry_is_proven_with_its_value_only() {
        let (root, left, right) = two();
        let sibling = Hash32(hash(&leaf_of(right, b"right")));
        let proof = TreeProof { leaf: Some(leaf_of(left, b"left")), siblings: vec![sibling] };
        assert_eq!(verify_entry(root, &key(left), Some(b"left"), &proof), Ok(()));
        assert_eq!(verify_entry(root, &key(left), Some(b"more"), &proof), Err(ProofError::Value));
        assert_eq!(verify_entry(root, &key(left), None, &proof), Err(ProofError::Present));
        let other = Hash32([7; 32]);
        let wrong = verify_entry(other, &key(left), Some(b"left"), &proof);
        assert_eq!(wrong, Err(ProofError::Root { root: other }));
    }

    #[test]
    fn an_absent_entry_is_proven_by_who_stands_in_its_place() {
        let (root, left, right) = two();
        let side = |name: u8| key(name).path().0[0] >> 7;
        let absent = (0..).find(|name| *name != left && side(*name) == 0).unwrap();
        let sibling = Hash32(hash(&leaf_of(right, b"right")));
        let proof = TreeProof { leaf: Some(leaf_of(left, b"left")), siblings: vec![sibling] };
        assert_eq!(verify_entry(root, &key(absent), None, &proof), Ok(()));
        let claimed = verify_entry(root, &key(absent), Some(b"left"), &proof);
        assert_eq!(claimed, Err(ProofError::Value));
        let nothing = TreeProof { leaf: None, siblings: vec![] };
        assert_eq!(verify_entry(Hash32([0; 32]), &key(absent), None, &nothing), Ok(()));
    }

    #[test]
    fn a_path_of_any_length_is_only_refused() {
        for count in [256, 257, 10_000] {
            let proof = TreeProof { leaf: None, siblings: vec![Hash32([1; 32]); count] };
            assert!(verify_entry(Hash32([0; 32]), &key(1), None, &proof).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_a_stranger_makes_up_proves_nothing(
            leaf: Option<([u8; 32], [u8; 32])>,
            siblings in prop::collection::vec(any::<[u8; 32]>(), 0..20),
            value: Option<Vec<u8>>,
        ) {
            let leaf = leaf.map(|(path, value)| TreeLeaf { path: Hash32(path), value: Hash32(value) });
            let siblings = siblings.into_iter().map(Hash32).collect();
            let proof = TreeProof { leaf, siblings };
            let (root, ..) = two();
            prop_assert!(verify_entry(root, &key(3), value.as_deref(), &proof).is_err());
        }
    }
}
