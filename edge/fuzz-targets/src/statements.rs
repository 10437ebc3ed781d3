//! Statements that a third party checks: receipts, and proofs about the state.

use std::sync::LazyLock;

use ::wire::chain::StateProof;
use keys::{Ed25519, SecretKey};
use light::{LightBlock, Rules, TrustedState};
use types::{
    Address, Hash32, Height, Lane, ModelId, Nusd, PublicKey, RequestId, Signature, TimeMs,
    block::BlockHeader,
    consensus::{Certificate, CommitSignature, ValidatorSet},
    genesis::{Genesis, GenesisValidator},
    hash::to_hex,
    inference::{CountMethod, FinishReason},
    limits,
    price::Price,
    receipt::{Acknowledgement, Receipt, ServiceReport, report_hash},
    sign::{Sign, signing_bytes},
    state::StateKey,
};

use crate::network::{self, AcceptAll, GENESIS, PAYER, PROVIDER, STATE, address, signed};

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
    let trusted = TrustedState::from_genesis(&GENESIS);
    let rules = Rules::of(&GENESIS.params);
    let block = it.block();
    let _ = trusted.advance(&block, block.header.time, &rules, &AcceptAll);
    let _ = block.verify(&it.chain_id, &Ed25519);
    if let (Ok(value), true) = (it.entry(), it.header.app_hash == STATE.app_hash()) {
        let actual = STATE.prove(&it.key).ok().and_then(|(value, _)| value);
        assert_eq!(actual, value, "a false statement about {:?} is proven", it.key);
    }
    true
}

/// A header with its certificate: whatever is believed of it, from the genesis document or from the
/// block before, is one of the blocks that were signed.
pub(crate) fn light_block(bytes: &[u8]) -> bool {
    let Ok(block) = serde_json::from_slice::<LightBlock>(bytes) else { return false };
    let (rules, now) = (Rules::of(&GENESIS.params), block.header.time);
    let genesis = TrustedState::from_genesis(&SIGNED.0);
    let later = SIGNED.1.iter().filter_map(|signed| {
        let id = (signed.height(), signed.header.hash());
        TrustedState::from_header(genesis.chain_id().clone(), id, signed.clone(), &Ed25519).ok()
    });
    for trusted in [genesis.clone()].into_iter().chain(later) {
        if let Ok(reached) = trusted.advance(&block, now, &rules, &Ed25519) {
            let is_signed = SIGNED.1.iter().any(|signed| signed.header.hash() == reached.hash());
            assert!(is_signed, "a header that nobody signed is trusted");
            let kept = reached.block().map(|block| block.verify(reached.chain_id(), &Ed25519));
            assert_eq!(kept, Some(Ok(())));
        }
        // What lies behind the signatures is to be reached too.
        let _ = trusted.advance(&block, now, &rules, &AcceptAll);
    }
    true
}

/// Three blocks of four validators, signed with real keys, and the document that they follow from.
static SIGNED: LazyLock<(Genesis, Vec<LightBlock>)> = LazyLock::new(|| {
    let seats: Vec<SecretKey> = (1..=4).map(|name| SecretKey::from_seed([name; 32])).collect();
    let seat = |key: &SecretKey| GenesisValidator {
        consensus_key: key.public_key(),
        ..GENESIS.validators[0].clone()
    };
    let genesis = Genesis { validators: seats.iter().map(seat).collect(), ..GENESIS.clone() };
    let validators = light::genesis_validators(&genesis);
    let mut blocks: Vec<LightBlock> = Vec::new();
    for height in (1..=3).map(Height) {
        let header = BlockHeader {
            height,
            time: genesis.time.plus_ms(height.0),
            parent: blocks.last().map_or_else(|| genesis.hash(), |it| it.header.hash()),
            app_hash: Hash32([height.0 as u8; 32]),
            ..header(&validators)
        };
        let vote = certificate(&header, &[]).vote();
        let message = signing_bytes(&genesis.chain_id, &vote);
        let signatures = seats.iter().map(|key| (key.public_key(), key.sign(&message)));
        let certificate = certificate(&header, &signatures.collect::<Vec<_>>());
        blocks.push(LightBlock { header, certificate, validators: validators.clone() });
    }
    (genesis, blocks)
});

fn header(validators: &ValidatorSet) -> BlockHeader {
    BlockHeader {
        height: STATE.height(),
        time: STATE.time(),
        parent: Hash32([1; 32]),
        txs_root: Hash32([2; 32]),
        last_certificate: Hash32([3; 32]),
        validators: validators.hash(),
        next_validators: validators.hash(),
        app_hash: STATE.app_hash(),
        proposer: network::KEYS[0],
    }
}

fn certificate(header: &BlockHeader, signed: &[(PublicKey, Signature)]) -> Certificate {
    let signature = |&(signer, signature)| CommitSignature { signer, signature };
    let mut signatures: Vec<CommitSignature> = signed.iter().map(signature).collect();
    signatures.sort_unstable_by_key(|it| it.signer);
    Certificate { height: header.height, round: 0, block: header.hash(), signatures }
}

pub(crate) fn light_block_seeds() -> Vec<Vec<u8>> {
    SIGNED.1.iter().filter_map(|block| serde_json::to_vec(block).ok()).collect()
}

/// One of them.
pub(crate) fn light_block_seed() -> LightBlock {
    SIGNED.1[0].clone()
}

pub(crate) fn proof_seeds() -> Vec<Vec<u8>> {
    let keys = [
        StateKey::Account { address: address(PAYER) },
        StateKey::Account { address: Address([9; 20]) },
        StateKey::Channel { id: network::channel() },
        StateKey::Lane { channel: network::channel(), lane: Lane(1) },
        StateKey::Provider { operator: address(PROVIDER) },
        StateKey::Auditor { operator: address(network::VALIDATORS[0]) },
        StateKey::Beacon,
        StateKey::Round { commitment: network::round() },
        StateKey::Standing { provider: address(PROVIDER) },
        StateKey::ModelStanding { provider: address(PROVIDER), model: ModelId([1; 32]) },
    ];
    keys.into_iter().filter_map(proof_of).collect()
}

fn proof_of(key: StateKey) -> Option<Vec<u8>> {
    let (value, proof) = STATE.prove(&key).ok()?;
    let validators = light::genesis_validators(&GENESIS);
    let header = header(&validators);
    let signed = validators.as_slice().iter().map(|it| (it.key, Signature([0; 64])));
    let certificate = certificate(&header, &signed.collect::<Vec<_>>());
    let (chain_id, value) = (network::chain_id().clone(), value.map(|bytes| to_hex(&bytes)));
    serde_json::to_vec(&StateProof { chain_id, key, value, proof, header, certificate, validators })
        .ok()
}

#[cfg(test)]
mod tests {
    use types::consensus::ValidatorPower;

    use super::*;

    /// `light` may not link the ledger, so that both draw the same first set is shown here.
    #[test]
    fn the_light_client_and_the_ledger_draw_the_same_set_from_genesis() {
        let state = ::ledger::State::from_genesis(&GENESIS).unwrap();
        let seats = state.active_validators();
        let seats = seats.map(|(key, seat)| ValidatorPower { key: *key, power: seat.power });
        assert_eq!(light::genesis_validators(&GENESIS), ValidatorSet::new(seats));
    }

    #[test]
    fn what_was_signed_is_followed_from_genesis() {
        let mut trusted = TrustedState::from_genesis(&SIGNED.0);
        for block in &SIGNED.1 {
            let (now, rules) = (block.header.time, Rules::of(&SIGNED.0.params));
            trusted = trusted.advance(block, now, &rules, &Ed25519).unwrap();
        }
        assert_eq!(trusted.height(), Height(3));
    }
}
