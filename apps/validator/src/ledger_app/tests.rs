//! The ledger behind the sequencer on a disk that fails: money that was answered for is there.

use std::path::Path;

use keys::SecretKey;
use ledger::invariants;
use replica::{Clock, EngineConfig, Mark, ReplicaConfig, ReplicaParts, Timeouts, recover, start};
use store::{
    BlockStore, StoreError,
    testing::{Crash, Disk},
};
use tokio::task::JoinSet;
use types::{
    Nonce, Watt,
    genesis::GenesisAccount,
    sign::{Sign, Signed},
    tx::{Action, Tx},
};

use super::*;
use crate::genesis::{LOCAL_STAKE, LocalNetwork, LocalValidator, local};

#[derive(Debug)]
struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> TimeMs {
        TimeMs(2_000)
    }
}

fn key(part: u8) -> SecretKey {
    SecretKey::from_seed([part; 32])
}

const SENDERS: [u8; 2] = [10, 11];

fn genesis() -> Genesis {
    let account =
        |part| GenesisAccount { address: key(part).address(), balance: Watt::whole(1_000) };
    local(LocalNetwork {
        time: TimeMs(1_000),
        validators: vec![LocalValidator {
            moniker: "local".to_owned(),
            consensus_key: key(1).public_key(),
            operator: key(1).address(),
            stake: LOCAL_STAKE,
        }],
        holder: key(2).address(),
        gateway: key(3).address(),
        accounts: SENDERS.map(account).to_vec(),
    })
    .unwrap()
}

fn transfer(from: u8, nonce: u64) -> Vec<u8> {
    let genesis = genesis();
    let tx = Tx {
        chain_id: genesis.chain_id.clone(),
        nonce: Nonce(nonce),
        fee_max: Watt::whole(1),
        tip: Watt::ZERO,
        valid_until: None,
        action: Action::Transfer { to: key(99).address(), amount: Watt::whole(1) },
    };
    SignedTx(Signed::new(tx, &genesis.chain_id, &key(from))).encode()
}

fn open(disk: &Disk) -> Result<Arc<BlockStore>, StoreError> {
    BlockStore::open_on(disk.clone(), Path::new("disk"), &genesis()).map(Arc::new)
}

/// Transfers until the disk fails or there were enough. Returns how many were answered.
async fn run(disk: &Disk) -> u64 {
    let Ok(store) = open(disk) else { return 0 };
    let mut app = LedgerApp::new(&genesis()).unwrap();
    let recovered = recover(&mut app, &store).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let engine = EngineConfig {
        moniker: "test".to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        peers: Vec::new(),
        peers_only: false,
        node_seed: key(7).seed(),
        wal: folder.path().join("consensus.wal"),
        timeouts: Timeouts::STANDARD,
    };
    let config = ReplicaConfig { snapshot_interval: 2, ..ReplicaConfig::standard(engine) };
    let mark = Arc::new(Mark::open(&folder.path().join("consensus.mark")).unwrap());
    let key: Arc<dyn Sign> = Arc::new(key(1));
    let (signing, clock) = (Some((key, mark)), Arc::new(StandingClock));
    let parts = ReplicaParts { app, recovered, store, signing, clock, config, evidence: None };
    let (replica, _, task) = start(parts).await.unwrap();
    let mut answered = 0;
    for nonce in 0..4 {
        let submit = |sender| replica.submit(transfer(sender, nonce));
        let (first, second) = tokio::join!(submit(SENDERS[0]), submit(SENDERS[1]));
        answered += u64::from(first.is_ok()) + u64::from(second.is_ok());
        if first.is_err() || second.is_err() {
            break;
        }
    }
    drop(replica);
    // A failed disk was answered for already.
    let _ = task.shutdown().await;
    answered
}

/// Crashes at one operation of the disk. Returns whether it got so far.
async fn crash_at(operation: u64) -> bool {
    let disk = Disk::new();
    drop(open(&disk).unwrap());
    disk.fail_after(operation);
    let answered = run(&disk).await;
    if !disk.has_failed() {
        assert_eq!(answered, 8);
        return false;
    }
    for crash in [Crash::LosesUnsynced, Crash::KeepsUnsynced, Crash::KeepsEveryOther] {
        let store = open(&disk.after(crash)).unwrap();
        let mut app = LedgerApp::new(&genesis()).unwrap();
        recover(&mut app, &store).unwrap();
        let state = app.committed();
        invariants::check_all(&state).unwrap();
        let sent: u64 =
            SENDERS.map(|part| state.account(&key(part).address()).nonce.0).iter().sum();
        // The two that were under way may be there too.
        assert!((answered..=answered + 2).contains(&sent), "{operation} {crash:?}");
        let received = state.account(&key(99).address()).watt;
        assert_eq!(received, Watt::whole(sent), "{operation} {crash:?}");
    }
    true
}

#[tokio::test]
async fn a_crash_at_any_write_keeps_every_transfer_that_was_answered() {
    // Many at once: each mostly waits for its engine.
    const AT_ONCE: u64 = 16;
    for first in (1..).step_by(AT_ONCE as usize) {
        let crashes: JoinSet<bool> = (first..first + AT_ONCE).map(crash_at).collect();
        if crashes.join_all().await.contains(&false) {
            return;
        }
    }
}

#[test]
fn a_batch_finds_the_same_as_one_after_the_other() {
    let good: Vec<Vec<u8>> = (0..40).map(|nonce| transfer(SENDERS[0], nonce)).collect();
    let mut mixed = good.clone();
    mixed[3].pop();
    let last = mixed[7].len() - 1;
    mixed[7][last] ^= 1;
    mixed[9].clear();
    for txs in [&good[..], &mixed, &mixed[7..8], &[]] {
        let txs: Vec<&[u8]> = txs.iter().map(Vec::as_slice).collect();
        let each: Vec<_> = txs.iter().map(|tx| LedgerApp::verify(tx)).collect();
        assert_eq!(LedgerApp::verify_many(&txs), each);
    }
    let refused = LedgerApp::verify_many(&mixed.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_eq!(refused.iter().filter(|tx| tx.is_err()).count(), 3);
}
