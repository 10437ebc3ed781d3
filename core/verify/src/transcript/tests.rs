//! Leaves open under their root at their place, and nothing else does.

use expect_test::expect;
use proptest::prelude::*;

use super::*;

fn transcript(tokens: u32) -> Transcript {
    let mut transcript = Transcript::default();
    for id in 0..tokens {
        transcript.push(LeafToken::new(id, &[(id, -100), (id + 1, -9_000_000)]).unwrap());
    }
    transcript
}

#[test]
fn roots_are_these() {
    let roots: Vec<String> = [0, 1, 32, 33, 100].map(|n| transcript(n).root().to_string()).into();
    expect![[r#"
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
        98f316b1328cd7fc0c719c8b1a96ca84414087923bd936d4f00bfa4f5af71498
        941aa3ce65f76adb2bdb66d285064c8040cfe26b096ad8aeba3fcf1b02f8041e
        9d78bcb2604de8bcb80940e2c44402af4d9e6d5a7c6d2c36d3ac9becc5bfa58e
        dc9387e97f13ef49ce7e0786ac15e7c308b28a2c58abfcb922f831982167baf3"#]]
    .assert_eq(&roots.join("\n"));
}

#[test]
fn every_leaf_opens() {
    for tokens in (1..600).step_by(13) {
        let transcript = transcript(tokens);
        let leaves = transcript.leaves();
        let mut ids = Vec::new();
        for (index, bytes) in (0..).zip(&leaves) {
            let proof = prove(&leaves, index).unwrap();
            let opened = open(transcript.root(), tokens, &proof, bytes).unwrap();
            ids.extend(opened.iter().map(LeafToken::id));
        }
        assert_eq!(ids, (0..tokens).collect::<Vec<_>>());
        assert_eq!(prove(&leaves, leaves.len() as u32), None);
    }
}

#[test]
fn what_is_not_proven_does_not_open() {
    let transcript = transcript(100);
    let (root, leaves) = (transcript.root(), transcript.leaves());
    let proof = prove(&leaves, 1).unwrap();
    let check = |tokens, proof: &LeafProof, bytes: &[u8], expected: ProofError| {
        assert_eq!(open(root, tokens, proof, bytes), Err(expected));
    };
    check(100, &proof, &leaves[0], ProofError::Root { root });
    check(100, &LeafProof { index: 0, ..proof.clone() }, &leaves[1], ProofError::Root { root });
    let beyond = LeafProof { index: 4, ..proof.clone() };
    check(100, &beyond, &leaves[1], ProofError::Index { index: 4, tokens: 100 });
    check(0, &proof, &leaves[1], ProofError::Index { index: 1, tokens: 0 });
    let tokens = COMPLETION_TOKENS_MAX + 1;
    check(tokens, &proof, &leaves[1], ProofError::Index { index: 1, tokens });
    check(1_000, &proof, &leaves[1], ProofError::Shape { count: 2 });
    let long = LeafProof { index: 1, siblings: vec![root; 13] };
    check(100, &long, &leaves[1], ProofError::Shape { count: 13 });
    // The same tree, but the receipt says another length of its last leaf.
    let last = prove(&leaves, 3).unwrap();
    check(101, &last, &leaves[3], ProofError::Tokens { count: 4, expected: 5 });
}

proptest! {
    #[test]
    fn hostile_proofs_are_refused(
        index in any::<u32>(),
        tokens in any::<u32>(),
        siblings in prop::collection::vec(any::<[u8; 32]>(), 0..20),
        bytes in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let siblings = siblings.into_iter().map(Hash32).collect();
        let proof = LeafProof { index, siblings };
        prop_assert!(open(Hash32([0; 32]), tokens, &proof, &bytes).is_err());
    }
}
