//! Statements that a third party checks: receipts, and proofs about the state.

use ::wire::chain::StateProof;
use keys::Ed25519;
use types::{
    Address, Hash32, Height, Lane, ModelId, Nusd, RequestId, TimeMs,
    block::{BlockHeader, Commit},
    hash::{from_hex, to_hex},
    inference::{CountMethod, FinishReason},
    limits,
    price::Price,
    receipt::{Acknowledgement, Receipt, ServiceReport, report_hash},
    state::StateKey,
};

use crate::network::{self, AcceptAll, PAYER, PROVIDER, STATE, address, signed};

/// In canonical bytes or in JSON: a receipt can be checked whatever it says, and one that checks
/// says the same in the other form.
pub(crate) fn receipt(bytes: &[u8]) -> bool {
    let decoded = limits::decode::<Receipt>(bytes, limits::TX_BYTES_MAX).ok();
    if let Some(receipt) = &decoded {
        assert_eq!(borsh::to_vec(receipt).ok().as_deref(), Some(bytes));
    }
    let parsed = serde_json::from_slice::<Receipt>(bytes).ok();
    let Some(receipt) = decoded.or(parsed) else { return false };
    let _ = (receipt.verify(&Ed25519), receipt.verify_response(bytes), receipt.agrees());
    if receipt.verify(&AcceptAll).is_ok() {
        let ack = &receipt.acknowledgement.value;
        let charge = ack.price.charge(ack.prompt_tokens, ack.delivered_tokens);
        assert_eq!(receipt.cost(), charge);
    }
    let json = serde_json::to_vec(&receipt).unwrap_or_default();
    assert_eq!(serde_json::from_slice::<Receipt>(&json).ok(), Some(receipt));
    true
}

const PRICE: Price = Price {
    request_nusd: Nusd(1_000),
    prompt_nusd_per_mtok: Nusd(100_000_000),
    completion_nusd_per_mtok: Nusd(400_000_000),
};

/// A report of a served request with so many tokens.
pub(crate) fn report(completion_tokens: u32) -> ServiceReport {
    let lane_total_before = Nusd(10);
    ServiceReport {
        request_id: RequestId([1; 16]),
        attempt: 0,
        provider: address(PROVIDER),
        model: ModelId([1; 32]),
        engine_version: "dummy 1".to_owned(),
        profile: "free".to_owned(),
        seed: Some(7),
        prompt_hash: Hash32([2; 32]),
        response_hash: Hash32([3; 32]),
        transcript_root: Hash32([4; 32]),
        prompt_tokens: 20,
        completion_tokens,
        counted: CountMethod::TokenIds,
        price: PRICE,
        channel: network::channel(),
        lane: Lane(1),
        lane_total_before,
        lane_total: lane_total_before.saturating_add(PRICE.charge(20, completion_tokens)),
        finish: FinishReason::Stop,
        started_at: TimeMs(1),
        ended_at: TimeMs(2),
    }
}

/// What the payer says about the same request.
pub(crate) fn acknowledgement(completion_tokens: u32, hash: Option<Hash32>) -> Acknowledgement {
    let report = report(completion_tokens);
    Acknowledgement {
        request_id: report.request_id,
        attempt: report.attempt,
        provider: report.provider,
        model: report.model,
        prompt_hash: report.prompt_hash,
        response_hash: report.response_hash,
        transcript_root: report.transcript_root,
        prompt_tokens: report.prompt_tokens,
        delivered_tokens: completion_tokens,
        counted: report.counted,
        price: report.price,
        channel: report.channel,
        lane: report.lane,
        lane_total_before: report.lane_total_before,
        lane_total: report.lane_total,
        report_hash: hash,
        finish: FinishReason::Stop,
        ended_at: TimeMs(3),
    }
}

pub(crate) fn receipt_seeds() -> Vec<Vec<u8>> {
    let chain_id = network::chain_id().clone();
    let report = signed(report(5), PROVIDER);
    let whole = Receipt {
        chain_id: chain_id.clone(),
        acknowledgement: signed(acknowledgement(5, Some(report_hash(&report))), PAYER),
        report: Some(report),
    };
    let acknowledgement = signed(acknowledgement(3, None), PAYER);
    let half = Receipt { chain_id, report: None, acknowledgement };
    let forms = [borsh::to_vec(&whole).ok(), serde_json::to_vec(&whole).ok()];
    forms.into_iter().chain([borsh::to_vec(&half).ok()]).flatten().collect()
}

/// A proof as the chain API sends it: it is refused, or the state really says so.
pub(crate) fn proof(bytes: &[u8]) -> bool {
    let Ok(it) = serde_json::from_slice::<StateProof>(bytes) else { return false };
    let trusted = it.commit.signer;
    let _ = light::verify_header(&it.chain_id, &it.header, &it.commit, &trusted, &Ed25519);
    let value = it.value.as_deref().map(|text| decode_hex(text).unwrap_or_default());
    let value = value.as_deref();
    let _ = light::verify_entry(it.header.app_hash, &it.key, value, &it.proof);
    if light::verify_entry(STATE.app_hash(), &it.key, value, &it.proof).is_ok() {
        let actual = STATE.prove(&it.key).ok().and_then(|(value, _)| value);
        assert_eq!(actual.as_deref(), value, "a false statement about {:?} is proven", it.key);
    }
    true
}

/// Bytes from hexadecimal digits of any number.
fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| from_hex::<1>(pair?).map(|[byte]| byte)).collect()
}

pub(crate) fn proof_seeds() -> Vec<Vec<u8>> {
    let keys = [
        StateKey::Account { address: address(PAYER) },
        StateKey::Account { address: Address([9; 20]) },
        StateKey::Channel { id: network::channel() },
        StateKey::Lane { channel: network::channel(), lane: Lane(1) },
        StateKey::Provider { operator: address(PROVIDER) },
    ];
    keys.into_iter().filter_map(proof_of).collect()
}

fn proof_of(key: StateKey) -> Option<Vec<u8>> {
    let (value, proof) = STATE.prove(&key).ok()?;
    let header = BlockHeader {
        height: STATE.height(),
        time: STATE.time(),
        parent: Hash32([1; 32]),
        txs_root: Hash32([2; 32]),
        app_hash: STATE.app_hash(),
        proposer: network::KEYS[0],
    };
    let commit = Commit { height: Height(header.height.0), block: header.hash() };
    let value = value.map(|bytes| to_hex(&bytes));
    let (chain_id, commit) = (network::chain_id().clone(), signed(commit, network::KEYS[0]));
    serde_json::to_vec(&StateProof { chain_id, key, value, proof, header, commit }).ok()
}
