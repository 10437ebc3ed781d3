//! The state tree: a binary Merkle trie over all entries, whose root is the app hash.
//!
//! The rules of hashing and the checking of proofs are `nomt-core`'s (`docs/adr/0006-state-tree.md`);
//! here are the nodes in memory. There is one tree, changed in place: its shape follows from its
//! leaves alone, so the changes that undo an open block lead back to the very same tree. Every node
//! keeps the digests of both children beside each other, so that an update visits no node off its path.

use nomt_core::{
    hasher::NodeHasher,
    trie::{InternalData, LeafData},
};
use types::{
    Hash32,
    tree::{StateHasher, TreeLeaf, TreeProof},
};

/// A change of one leaf: its path and the digest of its new value, `None` if it goes.
pub(crate) type LeafChange = (Hash32, Option<Hash32>);

/// A whole tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    root: Child,
}

/// A subtree and its digest, which is zeros if it is empty: nomt's terminator.
#[derive(Clone, Debug, Default)]
struct Child {
    hash: [u8; 32],
    node: Node,
}

#[derive(Clone, Debug, Default)]
enum Node {
    #[default]
    Empty,
    Leaf(Box<TreeLeaf>),
    Inner(Box<Inner>),
}

#[derive(Clone, Debug)]
struct Inner {
    left: Child,
    right: Child,
}

impl Tree {
    /// The digest of everything in it; zeros if it is empty.
    pub(crate) fn root(&self) -> Hash32 {
        Hash32(self.root.hash)
    }

    /// Makes `changes`, at most one per path, in any order. Returns those that undo them.
    pub(crate) fn apply(&mut self, mut changes: Vec<LeafChange>) -> Vec<LeafChange> {
        changes.sort_unstable_by_key(|(path, _)| *path);
        let mut undo = Vec::with_capacity(changes.len());
        self.root.update(0, &changes, &mut undo);
        undo
    }

    /// What the tree says about `path`.
    pub(crate) fn prove(&self, path: &Hash32) -> TreeProof {
        let mut siblings = Vec::new();
        let mut at = &self.root;
        let mut depth = 0u16;
        while let Node::Inner(inner) = &at.node {
            let Inner { left, right } = &**inner;
            let (next, sibling) = if bit(path, depth) { (right, left) } else { (left, right) };
            siblings.push(Hash32(sibling.hash));
            at = next;
            depth = depth.saturating_add(1);
        }
        let leaf = match &at.node {
            Node::Leaf(leaf) => Some(**leaf),
            Node::Inner(_) | Node::Empty => None,
        };
        TreeProof { leaf, siblings }
    }
}

/// Bit `depth` of a path, the most significant one first. Beyond the end: the end of every path is
/// reached before that, because two equal paths do not occur.
fn bit(path: &Hash32, depth: u16) -> bool {
    let (byte, shift) = (usize::from(depth >> 3), 7 & !depth);
    path.0.get(byte).is_some_and(|byte| byte >> shift & 1 == 1)
}

impl Child {
    fn leaf(leaf: TreeLeaf) -> Child {
        let data = LeafData { key_path: leaf.path.0, value_hash: leaf.value.0 };
        Child { hash: StateHasher::hash_leaf(&data), node: Node::Leaf(Box::new(leaf)) }
    }

    /// A subtree over two others. One with a single leaf is that leaf itself.
    fn join(left: Child, right: Child) -> Child {
        match (&left.node, &right.node) {
            (Node::Empty, Node::Empty | Node::Leaf(_)) => right,
            (Node::Leaf(_), Node::Empty) => left,
            _ => {
                let hash = inner_hash(&left, &right);
                Child { hash, node: Node::Inner(Box::new(Inner { left, right })) }
            }
        }
    }

    /// Makes `changes`, which all belong into this subtree at `depth` and are sorted.
    fn update(&mut self, depth: u16, changes: &[LeafChange], undo: &mut Vec<LeafChange>) {
        if changes.is_empty() {
            return;
        }
        let leaf = match &mut self.node {
            Node::Inner(inner) => {
                let (to_left, to_right) = split(depth, changes);
                let deeper = depth.saturating_add(1);
                inner.left.update(deeper, to_left, undo);
                inner.right.update(deeper, to_right, undo);
                self.close();
                return;
            }
            Node::Leaf(leaf) => Some(**leaf),
            Node::Empty => None,
        };
        let before = |path: Hash32| leaf.filter(|leaf| leaf.path == path).map(|leaf| leaf.value);
        undo.extend(changes.iter().map(|(path, _)| (*path, before(*path))));
        let changed = |leaf: &TreeLeaf| changes.iter().any(|(path, _)| *path == leaf.path);
        *self = build(depth, changes, leaf.filter(|leaf| !changed(leaf)));
    }

    /// After a change below an inner node: its digest, or what it has become.
    fn close(&mut self) {
        let Node::Inner(inner) = &mut self.node else { return };
        let Inner { left, right } = &mut **inner;
        *self = match (&left.node, &right.node) {
            (Node::Empty, Node::Empty | Node::Leaf(_)) => std::mem::take(right),
            (Node::Leaf(_), Node::Empty) => std::mem::take(left),
            _ => {
                self.hash = inner_hash(left, right);
                return;
            }
        };
    }
}

fn inner_hash(left: &Child, right: &Child) -> [u8; 32] {
    StateHasher::hash_internal(&InternalData { left: left.hash, right: right.hash })
}

/// A subtree from nothing but `changes` and at most one leaf that was there.
fn build(depth: u16, changes: &[LeafChange], kept: Option<TreeLeaf>) -> Child {
    let mut present =
        changes.iter().filter_map(|(path, value)| Some(TreeLeaf { path: *path, value: (*value)? }));
    match (present.next(), present.next(), kept) {
        (None, _, None) => Child::default(),
        (Some(leaf), None, None) | (None, _, Some(leaf)) => Child::leaf(leaf),
        (Some(_), _, _) => {
            let (to_left, to_right) = split(depth, changes);
            let goes_right = kept.is_some_and(|leaf| bit(&leaf.path, depth));
            let deeper = depth.saturating_add(1);
            let left = build(deeper, to_left, kept.filter(|_| !goes_right));
            let right = build(deeper, to_right, kept.filter(|_| goes_right));
            Child::join(left, right)
        }
    }
}

fn split(depth: u16, changes: &[LeafChange]) -> (&[LeafChange], &[LeafChange]) {
    let middle = changes.partition_point(|(path, _)| !bit(path, depth));
    changes.split_at(middle)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nomt_core::update::build_trie;
    use proptest::prelude::*;
    use types::sha256;

    use super::*;

    /// What `nomt-core` makes of the same leaves.
    fn reference(leaves: &BTreeMap<Hash32, Hash32>) -> Hash32 {
        let ops: Vec<_> = leaves.iter().map(|(path, value)| (path.0, value.0)).collect();
        Hash32(build_trie::<StateHasher>(0, ops, |_| {}))
    }

    /// Short paths crowd together, so that subtrees of all shapes occur.
    fn path(name: u16) -> Hash32 {
        let mut path = sha256(&[&name.to_be_bytes()]);
        path.0[0] &= 0b11;
        path.0[1] = 0;
        path
    }

    proptest! {
        #[test]
        fn any_history_leads_to_the_tree_of_its_leaves(
            batches in prop::collection::vec(
                prop::collection::btree_map(0u16..200, prop::option::of(any::<u8>()), 0..60), 1..8)
        ) {
            let mut tree = Tree::default();
            let mut leaves = BTreeMap::new();
            for batch in batches {
                let mut changes = Vec::new();
                for (name, value) in batch {
                    let value = value.map(|value| sha256(&[&[value]]));
                    match value {
                        Some(value) => drop(leaves.insert(path(name), value)),
                        None => drop(leaves.remove(&path(name))),
                    }
                    changes.push((path(name), value));
                }
                let before = tree.root();
                let undo = tree.apply(changes.clone());
                prop_assert_eq!(tree.root(), reference(&leaves));
                tree.apply(undo);
                prop_assert_eq!(tree.root(), before);
                tree.apply(changes);
                prop_assert_eq!(tree.root(), reference(&leaves));
            }
        }
    }
}
