//! Receipts and openings of strangers: whatever bytes they are, opening them panics nowhere, and what opens is the answer that
//! was committed to. Signatures are not looked at, so that what lies behind them is reached.

use std::sync::LazyLock;

use auditor::answer::{Answer, AnswerError};
use proptest::{prelude::*, sample::Index};
use types::{
    Address, ChannelId, Hash32, Lane, ModelId, Nusd, PublicKey, RequestId, Signature, TimeMs,
    hash::{merkle_leaf, merkle_root},
    inference::{CountMethod, FinishReason, InferenceRequest, Prompt},
    limits::COMPLETION_TOKENS_MAX,
    price::Price,
    receipt::{Acknowledgement, Receipt, ServiceReport, report_hash},
    sha256,
    sign::{Signed, VerifySignature},
};
use verify::{
    leaf::{self, LeafToken},
    profile::{self, Profile},
};
use wire::serve::{Opening, Order, request_hash};

const PAYER: PublicKey = PublicKey([3; 32]);
const PROVIDER: PublicKey = PublicKey([4; 32]);
const TOKENS: u32 = 40;
const PRICE: Price = Price {
    request_nusd: Nusd(1_000),
    prompt_nusd_per_mtok: Nusd(100_000_000),
    completion_nusd_per_mtok: Nusd(400_000_000),
};

/// A test double: nobody can make signatures here.
struct AcceptAll;

impl VerifySignature for AcceptAll {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &Signature) -> bool {
        true
    }
}

fn signed<T>(value: T, signer: PublicKey) -> Signed<T> {
    Signed { value, signer, signature: Signature([0; 64]) }
}

fn settings(seed: u32) -> Profile {
    Profile { temperature_micros: 800_000, top_k: 20, top_p_micros: 900_000, seed }
}

fn request(salt: [u8; 16], provider: &Address) -> InferenceRequest {
    let seed = profile::seed(&profile::NO_BEACON, &salt, provider, &RequestId([1; 16]));
    InferenceRequest {
        logprobs: Some(20),
        tokens_max: Some(TOKENS),
        stop: vec!["\n".to_owned()],
        sampling: settings(seed).sampling(),
        ..InferenceRequest::of(Prompt::Text("Once upon".to_owned()))
    }
}

fn leaves() -> Vec<Vec<u8>> {
    let candidates: Vec<(u32, i32)> = (0..20).map(|id| (id, -1_000 * id as i32 - 7)).collect();
    let token = |n| LeafToken::new(n % 20, &candidates).unwrap();
    let tokens: Vec<LeafToken> = (0..TOKENS).map(token).collect();
    tokens.chunks(leaf::LEAF_TOKENS_MAX).map(|it| leaf::encode(it).unwrap()).collect()
}

static OPENED: LazyLock<(Receipt, Opening)> = LazyLock::new(|| {
    let (salt, provider) = ([7; 16], Address::of_key(&PROVIDER));
    let (request, leaves, text) = (request(salt, &provider), leaves(), b" a time".to_vec());
    let hashes: Vec<Hash32> = leaves.iter().map(|bytes| merkle_leaf(bytes)).collect();
    let lane_total_before = Nusd(10);
    let report = ServiceReport {
        request_id: RequestId([1; 16]),
        attempt: 0,
        provider,
        model: ModelId([1; 32]),
        engine_version: "embedded candle 0.11".to_owned(),
        profile: profile::NAME.to_owned(),
        seed: request.sampling.seed,
        prompt_hash: request.prompt.hash(&salt),
        response_hash: sha256(&[&text]),
        transcript_root: merkle_root(&hashes),
        prompt_tokens: 20,
        completion_tokens: TOKENS,
        counted: CountMethod::TokenIds,
        price: PRICE,
        channel: ChannelId([1; 32]),
        lane: Lane(1),
        lane_total_before,
        lane_total: lane_total_before.saturating_add(PRICE.charge(20, TOKENS)),
        finish: FinishReason::Length,
        started_at: TimeMs(1),
        ended_at: TimeMs(2),
    };
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
        lane_total_before,
        issued_at: TimeMs(1),
        timeout_ms: 1_000,
    };
    let report = signed(report, PROVIDER);
    let stated = &report.value;
    let acknowledgement = Acknowledgement {
        request_id: stated.request_id,
        attempt: stated.attempt,
        provider: stated.provider,
        model: stated.model,
        prompt_hash: stated.prompt_hash,
        response_hash: stated.response_hash,
        transcript_root: stated.transcript_root,
        prompt_tokens: stated.prompt_tokens,
        delivered_tokens: TOKENS,
        counted: stated.counted,
        price: stated.price,
        channel: stated.channel,
        lane: stated.lane,
        lane_total_before,
        lane_total: stated.lane_total,
        report_hash: Some(report_hash(&report)),
        finish: stated.finish,
        ended_at: TimeMs(3),
    };
    let acknowledgement = signed(acknowledgement, PAYER);
    let chain_id = "test.1".parse().unwrap();
    let receipt = Receipt { chain_id, acknowledgement, report: Some(report) };
    (receipt, Opening { order: signed(order, PAYER), salt, request, text, leaves })
});

fn damaged(mut bytes: Vec<u8>, damages: &[(Index, u8, u8)]) -> Vec<u8> {
    for (place, kind, byte) in damages {
        if bytes.is_empty() {
            return bytes;
        }
        let at = place.index(bytes.len());
        match kind % 5 {
            0 => bytes[at] ^= 1 << (byte & 7),
            1 => bytes[at] = *byte,
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, *byte),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn damages() -> impl Strategy<Value = Vec<(Index, u8, u8)>> {
    prop::collection::vec(any::<(Index, u8, u8)>(), 1..4)
}

#[test]
fn what_is_whole_opens() {
    let (receipt, opening) = OPENED.clone();
    let answer = Answer::open(&receipt, opening.clone(), &AcceptAll).unwrap();
    assert_eq!((answer.tokens.len(), answer.stated_tokens), (TOKENS as usize, TOKENS));
    assert_eq!((answer.text, answer.stop), (opening.text, opening.request.stop));
    let seed = profile::seed(
        &profile::NO_BEACON,
        &[7; 16],
        &Address::of_key(&PROVIDER),
        &RequestId([1; 16]),
    );
    assert_eq!(answer.profile, Some(settings(seed)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() })]

    /// What it commits to is all that an answer is made of.
    #[test]
    fn a_damaged_opening_is_refused_or_opens_the_same_answer(damages in damages()) {
        let (receipt, opening) = &*OPENED;
        let whole = Answer::open(receipt, opening.clone(), &AcceptAll).unwrap();
        if let Ok(opening) = Opening::decode(&damaged(opening.encode(), &damages))
            && let Ok(answer) = Answer::open(receipt, opening, &AcceptAll)
        {
            prop_assert_eq!(answer, whole);
        }
    }

    #[test]
    fn a_damaged_receipt_opens_nothing_or_names_what_it_says(damages in damages()) {
        let (receipt, opening) = &*OPENED;
        let bytes = damaged(borsh::to_vec(receipt).unwrap(), &damages);
        if let Ok(receipt) = borsh::from_slice::<Receipt>(&bytes)
            && let Ok(answer) = Answer::open(&receipt, opening.clone(), &AcceptAll)
        {
            let report = receipt.report.unwrap().value;
            prop_assert_eq!(report.profile, profile::NAME);
            prop_assert_eq!((answer.model, answer.stated_tokens), (report.model, report.completion_tokens));
        }
    }

    /// Leaves that a provider commits to may be anything: they are readable, or refused.
    #[test]
    fn leaves_that_were_committed_to_are_read_or_refused(
        damages in damages(),
        random in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4),
        is_random in any::<bool>(),
    ) {
        let (mut receipt, mut opening) = OPENED.clone();
        if is_random {
            opening.leaves = random;
        } else {
            opening.leaves[0] = damaged(opening.leaves[0].clone(), &damages);
        }
        let hashes: Vec<Hash32> = opening.leaves.iter().map(|bytes| merkle_leaf(bytes)).collect();
        let report = receipt.report.as_mut().unwrap();
        report.value.transcript_root = merkle_root(&hashes);
        receipt.acknowledgement.value.transcript_root = merkle_root(&hashes);
        receipt.acknowledgement.value.report_hash = Some(report_hash(report));
        let leaves = opening.leaves.clone();
        if let Ok(answer) = Answer::open(&receipt, opening, &AcceptAll) {
            let read: Vec<LeafToken> = leaves.iter().flat_map(|it| leaf::decode(it).unwrap()).collect();
            prop_assert_eq!(answer.tokens, read);
        }
    }

    #[test]
    fn random_bytes_open_nothing(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Opening::decode(&bytes).is_err());
        prop_assert!(borsh::from_slice::<Receipt>(&bytes).is_err());
    }
}

/// The same opening with other leaves, whose provider has committed to them.
fn with_leaves(leaves: Vec<Vec<u8>>) -> Result<Answer, AnswerError> {
    let (mut receipt, mut opening) = OPENED.clone();
    opening.leaves = leaves;
    let hashes: Vec<Hash32> = opening.leaves.iter().map(|bytes| merkle_leaf(bytes)).collect();
    let report = receipt.report.as_mut().unwrap();
    report.value.transcript_root = merkle_root(&hashes);
    receipt.acknowledgement.value.transcript_root = merkle_root(&hashes);
    receipt.acknowledgement.value.report_hash = Some(report_hash(report));
    Answer::open(&receipt, opening, &AcceptAll)
}

#[test]
fn what_takes_more_memory_than_any_answer_is_refused_unread() {
    let token = LeafToken::new(1, &[]).unwrap();
    let of = |count: usize| leaf::encode(&vec![token.clone(); count]).unwrap();
    let full = leaf::LEAF_TOKENS_MAX;
    let most = COMPLETION_TOKENS_MAX as usize / full;
    let answer = with_leaves(vec![of(full); most]).unwrap();
    assert_eq!(answer.tokens.len(), COMPLETION_TOKENS_MAX as usize);
    let bytes = COMPLETION_TOKENS_MAX as usize * size_of::<LeafToken>();
    assert!((bytes..bytes + 1_024).contains(&answer.bytes()), "{}", answer.bytes());
    let refused = |leaves| with_leaves(leaves).unwrap_err();
    assert!(matches!(refused(vec![of(full); most + 1]), AnswerError::TooLong));
    assert!(matches!(refused(vec![Vec::new(); 1 << 20]), AnswerError::TooLong));
    let halved = vec![of(full), of(full - 1), of(full)];
    assert!(matches!(refused(halved), AnswerError::NotFull { number: 1 }));
    assert!(matches!(refused(vec![Vec::new(), of(1)]), AnswerError::NotFull { number: 0 }));
    assert_eq!(with_leaves(vec![of(full), of(1)]).unwrap().tokens.len(), full + 1);
    let (receipt, mut opening) = OPENED.clone();
    opening.request.tokens_max = Some(COMPLETION_TOKENS_MAX + 1);
    let refused = Answer::open(&receipt, opening, &AcceptAll).unwrap_err();
    assert!(matches!(refused, AnswerError::Limits(_)), "{refused}");
}
