//! The ledger's decoders: transactions and what they do, snapshots, genesis documents.

use ::ledger::{SnapshotError, State, invariants};
use keys::Ed25519;
use types::{
    PublicKey, Watt,
    genesis::Genesis,
    limits::TX_BYTES_MAX,
    tx::{SignedTx, Tx},
};

use crate::network::{self, BLOCK_MS, GENESIS, KEYS, STATE};

/// The longest jump between two blocks: longer than every delay of the parameters.
const JUMP_MS_MAX: u64 = 40 * 86_400_000;
/// Where a snapshot says its root: after its first 8 bytes, a height and a time.
const SNAPSHOT_ROOT: std::ops::Range<usize> = 24..56;

/// Canonical bytes come back; nobody can forge a signature; and whatever a transaction asks for,
/// alone or made to fit the network, leaves the books in order, at once and when all is due.
pub(crate) fn transaction(bytes: &[u8]) -> bool {
    let Ok(tx) = SignedTx::decode(bytes) else { return false };
    assert_eq!(tx.encode(), bytes, "a second form of the same transaction");
    assert!(bytes.len() <= TX_BYTES_MAX);
    let _ = tx.clone().verify(&Ed25519);
    let as_it_is = network::execute(&mut STATE.clone(), BLOCK_MS, tx.clone());
    assert!(as_it_is.is_some(), "a transaction made a block impossible");
    let later_ms = tx.0.value.valid_until.map_or(BLOCK_MS, |it| it.0 % JUMP_MS_MAX);
    let tx = fitting(tx);
    let mut state = STATE.clone();
    let outcome = network::execute(&mut state, later_ms, tx.clone());
    assert!(outcome.is_some(), "a transaction made a block impossible");
    check(&state);
    // Once more, after everything that it began is over.
    let outcome = network::execute(&mut state, JUMP_MS_MAX, tx);
    assert!(outcome.is_some(), "a transaction made a later block impossible");
    check(&state);
    true
}

/// The same action, by one of the network's accounts, in a form that is not refused for its form.
fn fitting(SignedTx(mut signed): SignedTx) -> SignedTx {
    let PublicKey(key) = signed.signer;
    if !KEYS.contains(&signed.signer) {
        signed.signer = KEYS[usize::from(key[0]) % KEYS.len()];
    }
    signed.value = Tx {
        chain_id: network::chain_id().clone(),
        fee_max: Watt(u128::MAX),
        tip: Watt::ZERO,
        valid_until: None,
        ..signed.value
    };
    SignedTx(signed)
}

fn check(state: &State) {
    if let Err(violation) = invariants::check_all(state) {
        panic!("{}: {}", violation.number, violation.detail);
    }
}

pub(crate) fn transaction_seeds() -> Vec<Vec<u8>> {
    let txs = network::actions().into_iter().map(|(signer, action)| network::tx(signer, action));
    txs.map(|tx| tx.encode()).collect()
}

/// A state that is let in has its books in order and writes the same snapshot again. With a wrong
/// root the entries are looked at too: whoever sends a snapshot can compute the right one.
pub(crate) fn snapshot(bytes: &[u8]) -> bool {
    let genesis = GENESIS.hash();
    let mut bytes = bytes.to_vec();
    let mut read = State::from_snapshot(&bytes, genesis);
    if let Err(SnapshotError::Root { actual, .. }) = &read
        && let Some(root) = bytes.get_mut(SNAPSHOT_ROOT)
    {
        root.copy_from_slice(&actual.0);
        read = State::from_snapshot(&bytes, genesis);
    }
    let state = match read {
        Ok(state) => state,
        Err(SnapshotError::Malformed { .. } | SnapshotError::Open { .. }) => return false,
        Err(SnapshotError::Root { stated, actual }) => {
            panic!("a root was set to {stated} and is {actual}")
        }
        Err(SnapshotError::Violation { .. } | SnapshotError::OtherGenesis { .. }) => return true,
    };
    check(&state);
    assert_eq!(state.snapshot().ok(), Some(bytes), "a second form of the same state");
    let _ = network::execute(&mut state.clone(), JUMP_MS_MAX, next_tx());
    true
}

fn next_tx() -> SignedTx {
    network::tx(network::PROVIDER, types::tx::Action::Heartbeat)
}

pub(crate) fn snapshot_seeds() -> Vec<Vec<u8>> {
    let first = State::from_genesis(&GENESIS).map(|state| state.snapshot());
    let states = [first.ok(), Some(STATE.snapshot())];
    states.into_iter().flatten().flatten().collect()
}

/// A document that is let in leads to a state whose books are in order.
pub(crate) fn genesis(bytes: &[u8]) -> bool {
    let Ok(genesis) = serde_json::from_slice::<Genesis>(bytes) else { return false };
    if let Ok(mut state) = State::from_genesis(&genesis) {
        check(&state);
        let _ = network::execute(&mut state, JUMP_MS_MAX, next_tx());
        check(&state);
    }
    true
}

pub(crate) fn genesis_seeds() -> Vec<Vec<u8>> {
    vec![serde_json::to_vec(&*GENESIS).unwrap_or_default()]
}
