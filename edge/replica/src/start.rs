//! Starting and stopping a replica.

use std::{fmt, num::NonZero, sync::Arc, time::Duration};

use replication::mempool::MempoolLimits;
use store::BlockStore;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};
use types::{Height, limits, sign::Sign, stake::Evidence};

use crate::{
    Application, Clock, EngineConfig, Mark, Recovered, Replica, ReplicaError, Status,
    handle::{Punished, Stop},
    malachite::{Engine, Host, HostParts},
    peers::{self, PeerLinks},
    worker::Worker,
};

/// Submissions that may wait for the thread.
const SUBMISSIONS_MAX: usize = 4_096;

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
    /// Begins no height after this one: for upgrades at a height that all agreed on.
    pub halt_at: Option<Height>,
    pub engine: EngineConfig,
}

impl ReplicaConfig {
    /// No heartbeat, all blocks kept. A block holds a quarter of what the ledger allows, so that it
    /// stays well below what a client of the chain API reads in one answer.
    pub fn standard(engine: EngineConfig) -> ReplicaConfig {
        ReplicaConfig {
            mempool: MempoolLimits::STANDARD,
            block_txs_max: limits::BLOCK_TXS_MAX,
            block_bytes_max: limits::BLOCK_BYTES_MAX / 4,
            snapshot_interval: 500,
            blocks_kept: None,
            heartbeat: None,
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
    let (submissions, arriving) = mpsc::channel(SUBMISSIONS_MAX);
    let (punished, told) = mpsc::channel::<Punished>(SUBMISSIONS_MAX);
    let (peers, links) = peers::channels();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let replica = Replica {
        submissions,
        status: status.subscribe(),
        store: Arc::clone(&store),
        punished,
        verifiers: Arc::new(Semaphore::new(cores)),
    };
    let worker = Worker {
        app,
        chain_id: store.genesis().chain_id.clone(),
        store,
        parent: recovered.parent,
        snapshot_interval: config.snapshot_interval.max(1),
        blocks_kept: config.blocks_kept,
    };
    let (stop, stopping) = watch::channel(Stop::Run);
    let key = signing.as_ref().map(|(key, _)| Arc::clone(key));
    let engine = config.engine.clone();
    let chain_id = worker.chain_id.clone();
    let parts = HostParts {
        worker,
        key,
        clock,
        config,
        status: status.clone(),
        arriving,
        stop: stopping,
        evidence,
        punished: told,
        peers,
    };
    let (engine, ends) = Engine::start(&engine, &chain_id, signing).await?;
    let host = match Host::new(parts, ends, Handle::current()) {
        Ok(host) => host,
        Err(error) => {
            engine.stop().await;
            return Err(error);
        }
    };
    let task = tokio::spawn(supervise(host, engine, status));
    Ok((replica, links, ReplicaTask { stop, task }))
}

/// Runs the host on a thread of its own, and ends the engine after it.
async fn supervise<A: Application>(
    host: Host<A>,
    engine: Engine,
    status: watch::Sender<Status>,
) -> Result<(), ReplicaError> {
    let (done, finished) = oneshot::channel();
    let thread = std::thread::Builder::new().name("replica".to_owned()).spawn(move || {
        let (parts, result) = host.run();
        // Closing the store waits for the disk: here, and not on a thread of the runtime.
        drop(parts);
        // Nobody may be waiting any more.
        drop(done.send(result));
    });
    let result = match thread {
        // A thread that panicked has dropped its end.
        Ok(_) => finished.await.unwrap_or(Err(ReplicaError::Panicked)),
        Err(error) => Err(ReplicaError::Engine { reason: error.to_string() }),
    };
    status.send_modify(|status| status.halted = true);
    if let Err(error) = &result {
        let error: &(dyn std::error::Error + 'static) = error;
        tracing::error!(error, "the replica has stopped");
    }
    engine.stop().await;
    result
}
