//! One validator over a small application, with the real engine: order, answers, restarts, and crashes
//! at every write.

mod app;
mod network;
mod state_sync;

use std::{
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use app::{Counter, Kind, ManualClock, OnProposal, Tx, VERIFIED, genesis, validator_key};
use replica::{
    Application, Clock, EngineConfig, Full, Included, Mark, MempoolLimits, Replica, ReplicaConfig,
    ReplicaError, ReplicaParts, ReplicaTask, SubmitError, Timeouts, Tip, recover, start,
};
use store::{
    BlockStore,
    testing::{Crash, Disk},
};
use tempfile::TempDir;
use tokio::task::JoinSet;
use types::{Height, TimeMs, sign::Sign};

/// Of the validator in the genesis document.
const GENESIS_POWER: u8 = 1;

/// What a node keeps: blocks on a disk that can be made to fail, the engine's log and the mark in a
/// folder.
struct Home {
    disk: Disk,
    folder: TempDir,
}

impl Home {
    fn new() -> Home {
        Home { disk: Disk::new(), folder: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> Result<Arc<BlockStore>, store::StoreError> {
        BlockStore::open_on(self.disk.clone(), Path::new("disk"), &genesis(GENESIS_POWER))
            .map(Arc::new)
    }

    fn config(&self) -> ReplicaConfig {
        let engine = EngineConfig {
            moniker: "test".to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            peers: Vec::new(),
            peers_only: false,
            node_seed: zeroize::Zeroizing::new([9; 32]),
            wal: self.folder.path().join("consensus.wal"),
            timeouts: Timeouts::STANDARD,
        };
        ReplicaConfig { snapshot_interval: 2, ..ReplicaConfig::standard(engine) }
    }

    /// What a crash leaves of it.
    fn after(&self, crash: Crash) -> Home {
        let home = Home { disk: self.disk.after(crash), folder: tempfile::tempdir().unwrap() };
        for file in ["consensus.wal", "consensus.mark"] {
            let (from, to) = (self.folder.path().join(file), home.folder.path().join(file));
            // Neither is there when the disk failed before the engine began.
            if from.exists() {
                std::fs::copy(from, to).unwrap();
            }
        }
        home
    }

    async fn run(&self) -> Running {
        let store = self.store().unwrap();
        self.begin(store, ManualClock::at(1_000), self.config()).await
    }

    async fn begin(
        &self,
        store: Arc<BlockStore>,
        clock: Arc<dyn Clock>,
        config: ReplicaConfig,
    ) -> Running {
        self.begin_with(Counter::new(&[(1, 1)]), store, clock, config).await
    }

    async fn begin_with(
        &self,
        mut app: Counter,
        store: Arc<BlockStore>,
        clock: Arc<dyn Clock>,
        config: ReplicaConfig,
    ) -> Running {
        let recovered = recover(&mut app, &store).unwrap();
        let mark = Arc::new(Mark::open(&self.folder.path().join("consensus.mark")).unwrap());
        let key: Arc<dyn Sign> = Arc::new(validator_key(1));
        let signing = Some((key, mark));
        let parts = ReplicaParts { app, recovered, store, signing, clock, config, evidence: None };
        // Without peers: nothing comes in, and what goes out is dropped.
        let (replica, _, task) = start(parts).await.unwrap();
        (replica, task)
    }
}

type Running = (Replica<Counter>, ReplicaTask);

fn tx(sender: u8, nonce: u64, kind: Kind) -> Vec<u8> {
    Tx { sender, nonce, kind, arg: 0 }.bytes()
}

async fn count(replica: &Replica<Counter>, sender: u8, nonce: u64) -> Included<u64> {
    replica.submit(tx(sender, nonce, Kind::Counts)).await.unwrap()
}

/// The tip after replaying everything from genesis, without snapshots.
fn replayed(store: &BlockStore) -> Tip {
    let mut app = Counter::new(&[(1, 1)]);
    let mut parent = replica::chain::Parent::of_genesis(store.genesis());
    while let Some(block) = store.block(parent.height.next()).unwrap() {
        let chain_id = &store.genesis().chain_id;
        let replayed = replica::replay_block(&mut app, chain_id, &parent, &block).unwrap();
        parent = replica::chain::Parent::of_block(&block.header, replayed.1);
    }
    app.tip()
}

#[tokio::test]
async fn a_restart_continues_from_the_snapshot_where_it_was() {
    let home = Home::new();
    let mut tip = None;
    for nonce in 0..6 {
        let (replica, task) = home.run().await;
        assert_eq!(tip, (nonce > 0).then(|| replica.status().tip), "before {nonce}");
        let included = count(&replica, 1, nonce).await;
        assert_eq!((included.height, included.outcome), (Height(nonce + 1), nonce + 1));
        tip = Some(replica.status().tip);
        drop(replica);
        task.shutdown().await.unwrap();
    }
    let store = home.store().unwrap();
    let mut app = Counter::new(&[(1, 1)]);
    let recovered = recover(&mut app, &store).unwrap();
    assert_eq!((recovered.snapshot, recovered.blocks_replayed), (Height(4), 2));
    assert_eq!(app.tip(), replayed(&store));
}

#[tokio::test]
async fn the_same_bytes_are_counted_once_and_answered_alike() {
    let home = Home::new();
    let (replica, task) = home.run().await;
    let (first, second) = tokio::join!(count(&replica, 1, 0), count(&replica, 1, 0));
    let later = count(&replica, 1, 0).await;
    assert_eq!((&first, &first), (&second, &later));
    task.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_included_is_answered_and_leaves_no_trace() {
    let home = Home::new();
    let (replica, task) = home.run().await;
    let refused = |answer: Result<Included<u64>, SubmitError>| answer.unwrap_err().to_string();
    let no_place = replica.submit(tx(1, 0, Kind::HasNoPlace)).await;
    assert_eq!(refused(no_place), "no_place");
    assert_eq!(refused(replica.submit(tx(1, 0, Kind::FailsCheck)).await), "fails");
    assert!(refused(replica.submit(vec![1]).await).contains("malformed"));
    assert_eq!(replica.status().tip.height, Height(0));
    assert_eq!(count(&replica, 1, 0).await.height, Height(1));
    let low = replica.submit(tx(1, 0, Kind::AsksForABlock)).await;
    assert_eq!(refused(low), "nonce.too_low");
    let gap = replica.submit(tx(1, 2, Kind::Counts)).await;
    assert!(matches!(gap, Err(SubmitError::NotTaken { reason: Full::Gap })));
    task.shutdown().await.unwrap();
    let halted = replica.submit(tx(1, 1, Kind::Counts)).await;
    assert!(matches!(halted, Err(SubmitError::Halted)));
    assert!(replica.status().halted);
}

#[tokio::test]
async fn transactions_that_arrive_together_share_a_block_up_to_its_limits() {
    let home = Home::new();
    let mempool = MempoolLimits { sender_txs_max: 3, ..MempoolLimits::STANDARD };
    let config = ReplicaConfig { mempool, block_txs_max: 4, ..home.config() };
    let store = home.store().unwrap();
    let (replica, task) = home.begin(store, ManualClock::at(1_000), config).await;
    let submit = |sender: u8, nonce: u64| {
        let replica = replica.clone();
        tokio::spawn(async move { replica.submit(tx(sender, nonce, Kind::Counts)).await })
    };
    let mut answers = Vec::new();
    for sender in 0..6 {
        answers.push(submit(sender, 0));
    }
    let mut heights = Vec::new();
    for answer in answers {
        heights.push(answer.await.unwrap().unwrap().height.0);
    }
    heights.sort_unstable();
    assert!(heights.chunk_by(|a, b| a == b).all(|block| block.len() <= 4), "{heights:?}");
    task.shutdown().await.unwrap();
}

#[tokio::test]
async fn others_take_the_place_of_what_has_none_in_a_block() {
    let home = Home::new();
    let config = ReplicaConfig { block_txs_max: 4, ..home.config() };
    let mut app = Counter::new(&[(1, 1)]);
    let (go, wait) = std::sync::mpsc::channel();
    let proposals = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&proposals);
    app.on_proposal = Some(OnProposal(Box::new(move |height, candidates, skipped| {
        // The first is a try of the first transaction; the others arrive meanwhile.
        if seen.lock().unwrap().is_empty() {
            wait.recv().unwrap();
        }
        seen.lock().unwrap().push((height, candidates, skipped));
    })));
    let clock = ManualClock::at(1_000);
    let (replica, task) = home.begin_with(app, home.store().unwrap(), clock, config).await;
    let mut answers = Vec::new();
    for sender in 200..212 {
        let kind = if (202..206).contains(&sender) { Kind::HasNoPlace } else { Kind::Counts };
        let replica = replica.clone();
        answers.push(tokio::spawn(async move { replica.submit(tx(sender, 0, kind)).await }));
    }
    while VERIFIED.load(Ordering::SeqCst) < answers.len() {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    let mut included = 0;
    for answer in answers {
        included += usize::from(answer.await.unwrap().is_ok());
    }
    task.shutdown().await.unwrap();
    assert_eq!(included, 8);
    let proposals = proposals.lock().unwrap()[1..].to_vec();
    let blocks: Vec<_> = proposals.chunk_by(|one, next| one.0 == next.0).collect();
    let refilled = |block: &&[(u64, usize, usize)]| block.len() > 1;
    assert!(blocks.iter().any(refilled), "{proposals:?}");
    for block in blocks {
        let (_, _, skipped) = block.last().unwrap();
        assert!(*skipped == 0 || block.len() >= 3, "{proposals:?}");
    }
}

#[tokio::test]
async fn what_is_not_paid_for_behind_another_does_not_wait() {
    let home = Home::new();
    // The other validator is away, so nothing is decided.
    let app = Counter::new(&[(1, 1), (2, 5)]);
    let (store, clock) = (home.store().unwrap(), ManualClock::at(1_000));
    let (replica, task) = home.begin_with(app, store, clock, home.config()).await;
    let first = replica.clone();
    let first = tokio::spawn(async move { first.submit(tx(1, 0, Kind::Counts)).await });
    let mut status = replica.watch();
    status.wait_for(|status| status.mempool_txs == 1).await.unwrap();
    let unpaid = replica.submit(tx(1, 1, Kind::CannotWait)).await;
    assert_eq!(unpaid.unwrap_err().to_string(), "unpaid");
    assert_eq!(replica.status().mempool_txs, 1);
    first.abort();
    task.shutdown().await.unwrap();
}

#[tokio::test]
async fn block_time_never_goes_back() {
    let home = Home::new();
    let clock = ManualClock::at(5_000);
    let store = home.store().unwrap();
    let (replica, task) = home.begin(store, clock.clone(), home.config()).await;
    count(&replica, 1, 0).await;
    clock.0.store(2_000, Ordering::SeqCst);
    count(&replica, 1, 1).await;
    assert_eq!(replica.status().tip.time, TimeMs(5_000));
    task.shutdown().await.unwrap();
}

/// Moves the clock, makes the replica look at it and waits for a block.
async fn block_at(replica: &Replica<Counter>, clock: &ManualClock, ms: u64, height: u64) -> u64 {
    clock.0.store(ms, Ordering::SeqCst);
    // Refused, but seen.
    replica.submit(tx(1, 0, Kind::FailsCheck)).await.unwrap_err();
    let mut status = replica.watch();
    status.wait_for(|status| status.tip.height.0 >= height).await.unwrap().tip.time.0
}

#[tokio::test]
async fn a_block_is_made_when_something_is_due_and_not_before() {
    let home = Home::new();
    let clock = ManualClock::at(1_000);
    let store = home.store().unwrap();
    let (replica, task) = home.begin(store, clock.clone(), home.config()).await;
    replica.submit(tx(1, 0, Kind::AsksForABlock)).await.unwrap();
    clock.0.store(1_999, Ordering::SeqCst);
    replica.submit(tx(1, 0, Kind::FailsCheck)).await.unwrap_err();
    assert_eq!(replica.status().tip.height, Height(1), "nothing is due");
    assert_eq!(block_at(&replica, &clock, 2_000, 2).await, 2_000);
    clock.0.store(100_000, Ordering::SeqCst);
    replica.submit(tx(1, 0, Kind::FailsCheck)).await.unwrap_err();
    assert_eq!(replica.status().tip.height, Height(2), "nothing was due any more");
    task.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_heartbeat_makes_blocks_of_nothing() {
    let home = Home::new();
    let clock = ManualClock::at(1_000);
    let config = ReplicaConfig { heartbeat: Some(Duration::from_secs(5)), ..home.config() };
    let (replica, task) = home.begin(home.store().unwrap(), clock.clone(), config).await;
    for height in 1..4 {
        let ms = 1_000 + 5_000 * height;
        assert_eq!(block_at(&replica, &clock, ms, height).await, ms);
    }
    task.shutdown().await.unwrap();
}

/// Submits for three senders at once until the disk fails. Returns how far each was answered.
async fn run_until_failure(home: &Home) -> [u64; 3] {
    let mut answered = [0; 3];
    let Ok(store) = home.store() else { return answered };
    let (replica, mut task) = home.begin(store, ManualClock::at(1_000), home.config()).await;
    for nonce in 0..4 {
        let submit = |sender| replica.submit(tx(sender, nonce, Kind::Counts));
        let answers: [_; 3] = tokio::join!(submit(0), submit(1), submit(2)).into();
        for (answered, answer) in answered.iter_mut().zip(&answers) {
            *answered += u64::from(answer.is_ok());
        }
        if answers.iter().any(Result::is_err) {
            assert!(matches!(task.stopped().await, Err(ReplicaError::Store { .. })));
            return answered;
        }
    }
    drop(replica);
    task.shutdown().await.unwrap();
    answered
}

/// Crashes at one operation of the disk. Returns whether it got so far.
async fn crash_at(operation: u64) -> bool {
    let home = Home::new();
    drop(home.store().unwrap());
    home.disk.fail_after(operation);
    let answered = run_until_failure(&home).await;
    if !home.disk.has_failed() {
        assert_eq!(answered, [4; 3]);
        assert!(operation > 20, "{operation} operations are too few to show anything");
        return false;
    }
    for crash in [Crash::LosesUnsynced, Crash::KeepsUnsynced, Crash::KeepsEveryOther] {
        let home = home.after(crash);
        let store = home.store().unwrap();
        let mut app = Counter::new(&[(1, 1)]);
        recover(&mut app, &store).unwrap();
        assert_eq!(app.tip(), replayed(&store), "{operation} {crash:?}");
        for (sender, answered) in (0u8..).zip(answered) {
            let count = app.count(sender);
            // What was under way may be there too.
            assert!((answered..=answered + 1).contains(&count), "{operation} {crash:?}");
        }
        // And it goes on from there.
        drop(store);
        let (replica, task) = home.run().await;
        count(&replica, 7, 0).await;
        drop(replica);
        task.shutdown().await.unwrap();
    }
    true
}

#[tokio::test]
async fn a_crash_at_any_write_keeps_everything_that_was_answered() {
    // Many at once: each mostly waits for its engine.
    const AT_ONCE: u64 = 16;
    for first in (1..).step_by(AT_ONCE as usize) {
        let crashes: JoinSet<bool> = (first..first + AT_ONCE).map(crash_at).collect();
        if crashes.join_all().await.contains(&false) {
            return;
        }
    }
}
