//! What auditors read of strangers: openings of answers, and the leaves in them.

use std::sync::LazyLock;

use ::wire::serve::{Opening, Order, request_hash};
use keys::Ed25519;
use types::{
    TimeMs,
    hash::{merkle_leaf, merkle_root},
    inference::{InferenceRequest, Projection, Prompt},
    receipt::{Receipt, report_hash},
    sha256,
};
use verify::{
    leaf::{self, LeafToken},
    transcript,
};

use crate::{
    network::{self, AcceptAll, PAYER, PROVIDER, signed},
    statements,
};

/// Tokens of the answer: a full leaf and one that is not.
const TOKENS: u32 = 40;

/// A receipt and what was opened of it.
static OPENED: LazyLock<(Receipt, Opening)> = LazyLock::new(|| {
    let salt = [7; 16];
    let request = InferenceRequest {
        logprobs: Some(20),
        stop: vec!["\n".to_owned()],
        ..InferenceRequest::of(Prompt::Text("Once upon".to_owned()))
    };
    let text = b" a time".to_vec();
    let tokens: Vec<LeafToken> = (0..TOKENS).map(token).collect();
    let leaves: Vec<Vec<u8>> =
        tokens.chunks(leaf::LEAF_TOKENS_MAX).flat_map(leaf::encode).collect();
    let mut report = statements::report(TOKENS);
    report.profile = "np1".to_owned();
    report.engine_version = "embedded candle 0.11".to_owned();
    report.prompt_hash = request.prompt.hash(&salt);
    report.response_hash = sha256(&[&text]);
    report.transcript_root = root(&leaves);
    let mut acknowledgement = statements::acknowledgement(TOKENS, None);
    acknowledgement.prompt_hash = report.prompt_hash;
    acknowledgement.response_hash = report.response_hash;
    acknowledgement.transcript_root = report.transcript_root;
    let order = Order {
        request_id: report.request_id,
        attempt: report.attempt,
        provider: report.provider,
        model: report.model,
        prompt_hash: report.prompt_hash,
        request_hash: request_hash(&request, &salt),
        price: report.price,
        channel: report.channel,
        lane: report.lane,
        lane_total_before: report.lane_total_before,
        issued_at: TimeMs(1),
        timeout_ms: 1_000,
    };
    let report = signed(report, PROVIDER);
    acknowledgement.report_hash = Some(report_hash(&report));
    let acknowledgement = signed(acknowledgement, PAYER);
    let chain_id = network::chain_id().clone();
    let receipt = Receipt { chain_id, acknowledgement, report: Some(report) };
    (receipt, Opening { order: signed(order, PAYER), salt, request, text, leaves })
});

fn token(n: u32) -> LeafToken {
    let candidates: Vec<(u32, i32)> = (0..20).map(|id| (id, -1_000 * id as i32 - 7)).collect();
    // Of every other token all that a leaf can hold.
    let projection = n.is_multiple_of(2).then_some(Projection([1, -2, 3, -4, 5, -6, 7, i16::MIN]));
    LeafToken::new(n % 20, &candidates).expect("twenty small ids").projected(projection)
}

fn root(leaves: &[Vec<u8>]) -> types::Hash32 {
    let hashes: Vec<_> = leaves.iter().map(|bytes| merkle_leaf(bytes)).collect();
    merkle_root(&hashes)
}

/// An opening that is that of the receipt opens the same answer, whatever else its bytes say.
pub(crate) fn opening(bytes: &[u8]) -> bool {
    let Ok(opening) = Opening::decode(bytes) else { return false };
    assert_eq!(opening.encode(), bytes, "an opening has two forms");
    let (receipt, given) = &*OPENED;
    let _ = opening.check(receipt, &Ed25519);
    if opening.check(receipt, &AcceptAll).is_ok() {
        assert_eq!((&opening.text, &opening.leaves), (&given.text, &given.leaves));
        assert_eq!((&opening.request, opening.salt), (&given.request, given.salt));
    }
    for bytes in &opening.leaves {
        leaf(bytes);
    }
    true
}

pub(crate) fn opening_seeds() -> Vec<Vec<u8>> {
    let (_, opening) = &*OPENED;
    let empty = Opening { leaves: Vec::new(), text: Vec::new(), ..opening.clone() };
    vec![opening.encode(), empty.encode()]
}

/// What is let through has one form, and is proven to be in a transcript only if it is.
pub(crate) fn leaf(bytes: &[u8]) -> bool {
    let (_, opening) = &*OPENED;
    let (root, place) = (root(&opening.leaves), opening.leaves.iter().position(|it| it == bytes));
    for index in (0..).take(opening.leaves.len()) {
        let proof = transcript::prove(&opening.leaves, index).expect("there is such a leaf");
        let opened = transcript::open(root, TOKENS, &proof, bytes);
        assert_eq!(opened.is_ok(), place == usize::try_from(index).ok(), "a false proof");
    }
    let Ok(tokens) = leaf::decode(bytes) else { return false };
    assert_eq!(leaf::encode(&tokens).as_deref(), Ok(bytes), "a leaf has two forms");
    for token in &tokens {
        assert!(token.reported().as_slice().len() <= token.candidates().len());
    }
    true
}

pub(crate) fn leaf_seeds() -> Vec<Vec<u8>> {
    let bare = LeafToken::new(5, &[]).expect("a small id");
    OPENED.1.leaves.iter().cloned().chain(leaf::encode(&[bare])).collect()
}
