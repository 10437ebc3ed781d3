//! Transfers with real signatures: what verifying them costs, and what all the rest costs.

use std::time::Duration;

use anyhow::{Context, ensure};
use keys::{Ed25519, SecretKey};
use ledger::State;
use types::{
    ChainId, Nonce, PublicKey, Signature, Watt,
    sign::{Sign, Signed, VerifySignature, signing_bytes},
    tx::{Action, SignedTx, Tx, VerifiedTx},
};

use super::{
    Sizes,
    clock::Stopwatch,
    network::{self, AcceptAll, Numbers, VALIDATORS},
};

/// One block, in several ways.
pub(super) struct Round {
    pub(super) txs: usize,
    /// Checking the signatures, given keys, messages and signatures.
    pub(super) bare: Duration,
    /// Decoding, and what verifying does beside signatures: canonical bytes, digests, copies.
    pub(super) form: Duration,
    /// Decoding, verifying, executing and keeping the block.
    pub(super) whole: Duration,
    /// Of that, executing and keeping.
    pub(super) execution: Duration,
}

/// What a signature covers, and by whom it is.
type Message = (PublicKey, Vec<u8>, Signature);

/// Blocks of transfers between random accounts.
pub(super) fn measure(sizes: &Sizes) -> anyhow::Result<Vec<Round>> {
    eprintln!("transfers with signatures: {} accounts", sizes.signers);
    let secrets: Vec<SecretKey> = (0..sizes.signers).map(secret).collect();
    let keys = secrets.iter().map(SecretKey::public_key);
    let genesis = network::genesis(keys, VALIDATORS)?;
    let mut state = State::from_genesis(&genesis).context("make the first state")?;
    let mut nonces = vec![0; secrets.len()];
    let mut numbers = Numbers(1);
    let mut rounds = Vec::new();
    // The first block is for the caches.
    for _ in 0..=sizes.rounds {
        let block: Vec<SignedTx> = (0..sizes.block_txs)
            .map(|_| {
                let (from, to) = (numbers.below(secrets.len()), numbers.below(secrets.len()));
                let nonce = Nonce(nonces[from]);
                nonces[from] += 1;
                transfer(&genesis.chain_id, nonce, &secrets[from], &secrets[to])
            })
            .collect();
        rounds.push(measure_block(&mut state, &block)?);
    }
    Ok(rounds.split_off(1))
}

fn secret(number: usize) -> SecretKey {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    SecretKey::from_seed(seed)
}

fn transfer(chain_id: &ChainId, nonce: Nonce, from: &SecretKey, to: &SecretKey) -> SignedTx {
    let tx = Tx {
        chain_id: chain_id.clone(),
        nonce,
        fee_max: Watt::whole(1),
        tip: Watt::ZERO,
        valid_until: None,
        action: Action::Transfer { to: to.address(), amount: Watt(1_000) },
    };
    SignedTx(Signed::new(tx, chain_id, from))
}

fn measure_block(state: &mut State, block: &[SignedTx]) -> anyhow::Result<Round> {
    let messages: Vec<Message> = block.iter().map(message).collect();
    let encoded: Vec<Vec<u8>> = block.iter().map(SignedTx::encode).collect();
    let bare = verify_all(&messages)?;
    let started = Stopwatch::start();
    read_all(&encoded, &AcceptAll)?;
    let form = started.elapsed();
    let started = Stopwatch::start();
    let txs = read_all(&encoded, &Ed25519)?;
    let execution = network::run_block(state, &txs)?;
    let whole = started.elapsed();
    Ok(Round { txs: block.len(), bare, form, whole, execution })
}

fn read_all(encoded: &[Vec<u8>], check: &dyn VerifySignature) -> anyhow::Result<Vec<VerifiedTx>> {
    let decoded = encoded.iter().map(|bytes| SignedTx::decode(bytes));
    let txs = decoded.map(|tx| anyhow::Ok(tx?.verify(check)?));
    txs.collect::<anyhow::Result<_>>().context("read a transaction")
}

fn message(SignedTx(signed): &SignedTx) -> Message {
    let bytes = signing_bytes(&signed.value.chain_id, &signed.value);
    (signed.signer, bytes, signed.signature)
}

fn verify_all(messages: &[Message]) -> anyhow::Result<Duration> {
    let started = Stopwatch::start();
    let valid =
        messages.iter().filter(|(key, bytes, signature)| Ed25519.verify(key, bytes, signature));
    let count = valid.count();
    let took = started.elapsed();
    ensure!(count == messages.len(), "{count} of {} signatures are valid", messages.len());
    Ok(took)
}
