//! A solo sequencer over a small application: order, answers, restarts, and crashes at every write.

mod app;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use app::{Counter, Kind, ManualClock, PausedClock, Tx};
use keys::SecretKey;
use replica::{
    Application, Clock, Included, Replica, ReplicaError, Solo, SoloConfig, SoloTask, SubmitError,
    Tip,
    mempool::{Full, MempoolLimits},
    recover, start,
};
use store::{
    BlockStore,
    testing::{Crash, Disk},
};
use types::{
    Height, Nusd, TimeMs, Watt,
    genesis::{Genesis, GenesisValidator, Params},
    sign::Sign,
    stake::CommissionTerms,
};

const CONFIG: SoloConfig = SoloConfig { snapshot_interval: 2, ..SoloConfig::STANDARD };

fn key() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

fn genesis() -> Genesis {
    Genesis {
        chain_id: "test".parse().unwrap(),
        time: TimeMs(0),
        params: Params::standard(),
        nusd_per_watt: Nusd::whole(1),
        accounts: vec![],
        vesting: vec![],
        validators: vec![GenesisValidator {
            consensus_key: key().public_key(),
            operator: key().address(),
            moniker: "test".to_owned(),
            stake: Watt::whole(10_000),
            commission: CommissionTerms::ALL,
        }],
    }
}

type Running = (Replica<Counter>, SoloTask);

fn open(disk: &Disk) -> Result<Arc<BlockStore>, store::StoreError> {
    BlockStore::open_on(disk.clone(), Path::new("disk"), &genesis()).map(Arc::new)
}

fn begin(store: Arc<BlockStore>, clock: Arc<dyn Clock>, config: SoloConfig) -> Running {
    let mut app = Counter::new(key().public_key());
    let recovered = recover(&mut app, &store).unwrap();
    start(Solo { app, recovered, store, key: Arc::new(key()), clock, config }).unwrap()
}

fn run(disk: &Disk) -> Running {
    begin(open(disk).unwrap(), ManualClock::at(1_000), CONFIG)
}

fn tx(sender: u8, nonce: u64, kind: Kind) -> Vec<u8> {
    Tx { sender, nonce, kind }.bytes()
}

async fn count(replica: &Replica<Counter>, sender: u8, nonce: u64) -> Included<u64> {
    replica.submit(tx(sender, nonce, Kind::Counts)).await.unwrap()
}

/// The tip after replaying everything from genesis, without snapshots.
fn replayed(store: &BlockStore) -> Tip {
    let mut app = Counter::new(key().public_key());
    let mut parent = replica::chain::Parent::of_genesis(store.genesis());
    while let Some(block) = store.block(parent.height.next()).unwrap() {
        replica::replay_block(&mut app, &store.genesis().chain_id, &parent, &block).unwrap();
        parent = replica::chain::Parent::of_header(&block.header);
    }
    app.tip()
}

#[tokio::test]
async fn a_restart_continues_from_the_snapshot_where_it_was() {
    let disk = Disk::new();
    let mut tip = None;
    for nonce in 0..6 {
        let (replica, task) = run(&disk);
        assert_eq!(tip, (nonce > 0).then(|| replica.status().tip), "before {nonce}");
        let included = count(&replica, 1, nonce).await;
        assert_eq!((included.height, included.outcome), (Height(nonce + 1), nonce + 1));
        tip = Some(replica.status().tip);
        drop(replica);
        task.shutdown().await.unwrap();
    }
    let store = open(&disk).unwrap();
    let mut app = Counter::new(key().public_key());
    let recovered = recover(&mut app, &store).unwrap();
    assert_eq!((recovered.snapshot, recovered.blocks_replayed), (Height(4), 2));
    assert_eq!(app.tip(), replayed(&store));
}

#[tokio::test]
async fn the_same_bytes_are_counted_once_and_answered_alike() {
    let disk = Disk::new();
    let (replica, task) = run(&disk);
    let (first, second) = tokio::join!(count(&replica, 1, 0), count(&replica, 1, 0));
    let later = count(&replica, 1, 0).await;
    assert_eq!((&first, &first), (&second, &later));
    task.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_included_is_answered_and_leaves_no_trace() {
    let disk = Disk::new();
    let (replica, task) = run(&disk);
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
    let disk = Disk::new();
    let mempool = MempoolLimits { sender_txs_max: 3, ..MempoolLimits::STANDARD };
    let config = SoloConfig { mempool, block_txs_max: 4, ..CONFIG };
    let (replica, task) = begin(open(&disk).unwrap(), ManualClock::at(1_000), config);
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
async fn block_time_never_goes_back() {
    let disk = Disk::new();
    let clock = ManualClock::at(5_000);
    let (replica, task) = begin(open(&disk).unwrap(), clock.clone(), CONFIG);
    count(&replica, 1, 0).await;
    clock.0.store(2_000, Ordering::SeqCst);
    count(&replica, 1, 1).await;
    assert_eq!(replica.status().tip.time, TimeMs(5_000));
    task.shutdown().await.unwrap();
}

/// Waits for the block at `height` and returns its time.
async fn time_of(replica: &Replica<Counter>, height: u64) -> u64 {
    let mut status = replica.watch();
    status.wait_for(|status| status.tip.height.0 >= height).await.unwrap().tip.time.0
}

#[tokio::test(start_paused = true)]
async fn a_block_is_made_when_something_is_due_and_not_before() {
    let disk = Disk::new();
    let clock = Arc::new(PausedClock(tokio::time::Instant::now()));
    let (replica, task) = begin(open(&disk).unwrap(), clock, CONFIG);
    replica.submit(tx(1, 0, Kind::AsksForABlock)).await.unwrap();
    let asked = replica.status().tip.time.0;
    assert_eq!(time_of(&replica, 2).await, asked + 1_000);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(replica.status().tip.height, Height(2), "nothing was due any more");
    task.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_makes_blocks_of_nothing() {
    let disk = Disk::new();
    let clock = Arc::new(PausedClock(tokio::time::Instant::now()));
    let config = SoloConfig { heartbeat: Some(Duration::from_secs(5)), ..CONFIG };
    let (replica, task) = begin(open(&disk).unwrap(), clock, config);
    let first = time_of(&replica, 1).await;
    assert_eq!(time_of(&replica, 3).await, first + 10_000);
    task.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_key_that_does_not_decide_alone_is_refused() {
    let disk = Disk::new();
    let store = open(&disk).unwrap();
    let mut app = Counter::new(SecretKey::from_seed([2; 32]).public_key());
    let recovered = recover(&mut app, &store).unwrap();
    let clock = ManualClock::at(0);
    let solo = Solo { app, recovered, store, key: Arc::new(key()), clock, config: CONFIG };
    assert!(matches!(start(solo), Err(ReplicaError::NotSole { power: 0, total: 1, .. })));
}

/// Submits for three senders at once until the disk fails. Returns how far each was answered.
async fn run_until_failure(disk: &Disk) -> [u64; 3] {
    let mut answered = [0; 3];
    let Ok(store) = open(disk) else { return answered };
    let (replica, mut task) = begin(store, ManualClock::at(1_000), CONFIG);
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

#[tokio::test]
async fn a_crash_at_any_write_keeps_everything_that_was_answered() {
    for operation in 1.. {
        let disk = Disk::new();
        drop(open(&disk).unwrap());
        disk.fail_after(operation);
        let answered = run_until_failure(&disk).await;
        if !disk.has_failed() {
            assert_eq!(answered, [4; 3]);
            assert!(operation > 20, "{operation} operations are too few to show anything");
            return;
        }
        for crash in [Crash::LosesUnsynced, Crash::KeepsUnsynced, Crash::KeepsEveryOther] {
            let disk = disk.after(crash);
            let store = open(&disk).unwrap();
            let mut app = Counter::new(key().public_key());
            recover(&mut app, &store).unwrap();
            assert_eq!(app.tip(), replayed(&store), "{operation} {crash:?}");
            for (sender, answered) in (0u8..).zip(answered) {
                let count = app.count(sender);
                // What was under way may be there too.
                assert!((answered..=answered + 1).contains(&count), "{operation} {crash:?}");
            }
            // And it goes on from there.
            drop(store);
            let (replica, task) = run(&disk);
            count(&replica, 7, 0).await;
            drop(replica);
            task.shutdown().await.unwrap();
        }
    }
}
