//! Starting and stopping a replica.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use replication::{mempool::MempoolLimits, sync::Trusted};
use store::{BlockStore, RoundLog};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};
use types::{Height, limits, sign::Sign, stake::Evidence};

use crate::{
    Application, Clock, EngineConfig, Mark, Recovered, Replica, ReplicaError, Status,
    handle::{Punished, READS_MAX, Stop},
    malachite::{Ended, Engine, HeightLog, Host, HostParts},
    peers::{self, PeerLinks},
    verify::verify_submissions,
    worker::Worker,
};

/// Submissions that may wait for the thread.
const SUBMISSIONS_MAX: usize = 4_096;

/// Blocks between two snapshots, unless the operator wants others: replaying so many takes seconds.
pub const SNAPSHOT_INTERVAL: u64 = 500;

/// How a replica behaves.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    pub mempool: MempoolLimits,
    pub block_txs_max: usize,
    pub block_bytes_max: usize,
    /// Blocks between two snapshots of the state: how much a restart replays at most.
    pub snapshot_interval: u64,
    /// Old blocks that are kept, at least two snapshot intervals. `None`: all.
    pub blocks_kept: Option<u64>,
    /// Makes a block after this long without one. `None`: only when there is something to do.
    pub heartbeat: Option<Duration>,
    /// Begins with a snapshot of peers instead of replaying every block, if there are no blocks yet.
    pub state_sync: Option<StateSync>,
    /// Begins no height after this one: for upgrades at a height that all agreed on.
    pub halt_at: Option<Height>,
    pub engine: EngineConfig,
}

/// How a node begins with a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateSync {
    /// A block that the operator trusts; nothing before it is of interest. `None`: what the genesis
    /// document says, while it is young enough to be trusted.
    pub trusted: Option<Trusted>,
}

impl ReplicaConfig {
    /// No heartbeat, all blocks kept. A block holds a quarter of what the ledger allows, so that it
    /// stays well below what a client of the chain API reads in one answer.
    pub fn standard(engine: EngineConfig) -> ReplicaConfig {
        ReplicaConfig {
            mempool: MempoolLimits::STANDARD,
            block_txs_max: limits::BLOCK_TXS_MAX,
            block_bytes_max: limits::BLOCK_BYTES_MAX / 4,
            snapshot_interval: SNAPSHOT_INTERVAL,
            blocks_kept: None,
            heartbeat: None,
            state_sync: None,
            halt_at: None,
            engine,
        }
    }
}

/// What a replica is made of.
pub struct ReplicaParts<A: Application> {
    /// Recovered from `store`.
    pub app: A,
    pub recovered: Recovered,
    pub store: Arc<BlockStore>,
    /// Signs votes and proposals, with the mark of what it signed last. `None`: a full node.
    pub signing: Option<(Arc<dyn Sign>, Arc<Mark>)>,
    pub clock: Arc<dyn Clock>,
    pub config: ReplicaConfig,
    /// Where proofs of double signing go.
    pub evidence: Option<mpsc::Sender<Evidence>>,
}

impl<A: Application> fmt::Debug for ReplicaParts<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaParts").field("recovered", &self.recovered).finish_non_exhaustive()
    }
}

/// The running replica. Dropping it stops it where it stands, as a kill does.
#[derive(Debug)]
pub struct ReplicaTask {
    stop: watch::Sender<Stop>,
    task: JoinHandle<Result<(), ReplicaError>>,
}

impl ReplicaTask {
    /// Stops. One that decides alone puts what waits into blocks first.
    pub async fn shutdown(mut self) -> Result<(), ReplicaError> {
        self.stop.send_replace(Stop::Drain);
        self.stopped().await
    }

    /// Waits until it has stopped by itself, which only a failure makes it do.
    pub async fn stopped(&mut self) -> Result<(), ReplicaError> {
        (&mut self.task).await.unwrap_or(Err(ReplicaError::Panicked))
    }
}

impl Drop for ReplicaTask {
    fn drop(&mut self) {
        // The task ends by it, and takes the engine with it.
        self.stop.send_replace(Stop::Kill);
    }
}

/// Starts a replica. It serves when this returns; whether it has caught up, its status says.
pub async fn start<A: Application>(
    parts: ReplicaParts<A>,
) -> Result<(Replica<A>, PeerLinks, ReplicaTask), ReplicaError> {
    let ReplicaParts { app, recovered, store, signing, clock, config, evidence } = parts;
    let status = watch::Sender::new(Status {
        tip: app.tip(),
        block: recovered.parent.hash,
        mempool_txs: 0,
        round: 0,
        peers: 0,
        decided: 0,
        caught_up: 0,
        decision_time: Duration::ZERO,
        halted: false,
    });
    let (submissions, unverified) = mpsc::channel(SUBMISSIONS_MAX);
    let (verified, arriving) = mpsc::channel(SUBMISSIONS_MAX);
    let (punished, told) = mpsc::channel::<Punished>(SUBMISSIONS_MAX);
    let (peers, links) = peers::channels();
    let replica = Replica {
        submissions,
        status: status.subscribe(),
        store: Arc::clone(&store),
        reads: Arc::new(Semaphore::new(READS_MAX)),
        punished,
    };
    let worker = Worker {
        app,
        chain_id: store.genesis().chain_id.clone(),
        store,
        parent: recovered.parent,
        snapshot_interval: config.snapshot_interval.max(1),
        blocks_kept: config.blocks_kept,
    };
    let path = config.engine.wal.clone();
    let log = tokio::task::spawn_blocking(move || RoundLog::open(&path)).await;
    let log = log.map_err(|_| ReplicaError::Panicked)?;
    let log = HeightLog::new(log.map_err(|source| ReplicaError::Log { source })?);
    let (stop, stopping) = watch::channel(Stop::Run);
    let parts = HostParts {
        worker,
        log,
        key: None,
        follow_until: None,
        connected: BTreeSet::new(),
        clock,
        config,
        status: status.clone(),
        arriving,
        stop: stopping,
        evidence,
        punished: told,
        peers,
    };
    let begun = begin(parts, signing.as_ref(), false).await?;
    tokio::spawn(verify_submissions(unverified, verified));
    let task = tokio::spawn(supervise(begun, signing, status));
    Ok((replica, links, ReplicaTask { stop, task }))
}

/// A key and the mark of what it signed last.
type Signing = (Arc<dyn Sign>, Arc<Mark>);

/// Starts the engine and what drives it. A key that has signed for a height above the next one, as
/// happens with an old copy of the blocks, or that was `refused` a signature, is not used until the
/// blocks have come as far: until then the node follows.
async fn begin<A: Application>(
    mut parts: HostParts<A>,
    signing: Option<&Signing>,
    refused: bool,
) -> Result<(Host<A>, Engine), ReplicaError> {
    let next = parts.worker.height();
    let last = signing.and_then(|(_, mark)| mark.last());
    let ahead = last.filter(|last| last.height > next || refused).map(|last| last.height);
    if let Some(until) = ahead {
        tracing::warn!(
            %until, %next,
            "the key has signed more than the blocks here tell of; following until they have come as far"
        );
    }
    parts.follow_until = ahead;
    let signing = signing.filter(|_| ahead.is_none()).cloned();
    parts.key = signing.as_ref().map(|(key, _)| Arc::clone(key));
    let chain_id = parts.worker.chain_id.clone();
    let log = parts.log.clone();
    let (engine, ends) = Engine::start(&parts.config.engine, &chain_id, signing, log).await?;
    Ok((Host::new(parts, ends, Handle::current()), engine))
}

/// Runs the host on a thread of its own, and ends the engine after it; both again when the key may be
/// used again, or may not.
async fn supervise<A: Application>(
    (mut host, mut engine): (Host<A>, Engine),
    signing: Option<Signing>,
    status: watch::Sender<Status>,
) -> Result<(), ReplicaError> {
    let result = loop {
        let left = on_a_thread(host).await;
        engine.stop().await;
        let (parts, ended) = match left {
            Ok(left) => left,
            Err(error) => break Err(error),
        };
        let refused = signing.as_ref().is_some_and(|(_, mark)| mark.take_refused());
        match ended {
            Ok(Ended::PastMark) => {}
            Err(ReplicaError::EngineStopped) if refused => {}
            ended => {
                // Closing the store waits for the disk.
                drop(tokio::task::spawn_blocking(move || drop(parts)).await);
                break ended.map(drop);
            }
        }
        match begin(parts, signing.as_ref(), refused).await {
            Ok(begun) => (host, engine) = begun,
            Err(error) => break Err(error),
        }
    };
    status.send_modify(|status| status.halted = true);
    if let Err(error) = &result {
        let error: &(dyn std::error::Error + 'static) = error;
        tracing::error!(error, "the replica has stopped");
    }
    result
}

/// What is left of a host, and how it ended.
type Left<A> = (HostParts<A>, Result<Ended, ReplicaError>);

async fn on_a_thread<A: Application>(host: Host<A>) -> Result<Left<A>, ReplicaError> {
    let (done, finished) = oneshot::channel();
    let thread = std::thread::Builder::new().name("replica".to_owned()).spawn(move || {
        // Nobody may be waiting any more.
        drop(done.send(host.run()));
    });
    match thread {
        // A thread that panicked has dropped its end.
        Ok(_) => finished.await.map_err(|_| ReplicaError::Panicked),
        Err(error) => Err(ReplicaError::Engine { reason: error.to_string() }),
    }
}
