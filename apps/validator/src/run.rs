//! Starting and stopping a validator.

use std::{
    fs,
    future::IntoFuture,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::serve::ListenerExt;
use keys::SecretKey;
use net::IrohConfig;
use replica::{
    Clock, EngineConfig, Mark, Peer, RecoverError, Recovered, Replica, ReplicaConfig, ReplicaError,
    ReplicaParts, ReplicaTask, StateSync, SystemClock, Timeouts,
};
use store::{BlockStore, StoreError};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use types::{Height, Nusd, genesis::Genesis, sign::Sign};

use crate::{
    BLOCKS_FILE, WAL_FILE,
    api::{self, Api},
    evidence,
    ledger_app::LedgerApp,
    operator::Operator,
    peers,
    price_vote::Voter,
};

/// How long requests that are under way may take when the validator stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What a validator needs.
#[derive(Debug)]
pub struct ValidatorConfig {
    /// Folder of its own; made if it is missing.
    pub home: PathBuf,
    pub genesis: Genesis,
    /// `None`: a full node, which follows, answers, and decides nothing.
    pub consensus: Option<ConsensusKey>,
    /// Of the connections to other nodes.
    pub node_key: SecretKey,
    /// Where the chain API listens. Loopback, unless the machine is meant to be asked by others.
    pub listen: SocketAddr,
    /// Where other nodes connect.
    pub peer_listen: SocketAddr,
    pub peers: Vec<Peer>,
    /// Talks to `peers` only.
    pub peers_only: bool,
    pub timeouts: Timeouts,
    /// Makes a block after this long without one. `None`: only when there is something to do.
    pub heartbeat: Option<Duration>,
    /// Begins no height after this one.
    pub halt_at: Option<Height>,
    /// Old blocks that are kept. `None`: all.
    pub blocks_kept: Option<u64>,
    /// Blocks between two snapshots of the state.
    pub snapshot_interval: u64,
    /// Begins with a snapshot of its peers, if there are no blocks yet.
    pub state_sync: Option<StateSync>,
    /// Reports double signing and votes on the price, and pays the fees for it. `None`: it does
    /// neither.
    pub operator: Option<SecretKey>,
    /// What the operator votes for, in nano-USD for one WATT. `None`: it does not vote.
    pub vote_price: Option<Nusd>,
}

/// The key that signs votes.
#[derive(Debug)]
pub struct ConsensusKey {
    pub key: SecretKey,
    /// File of the mark of what it signed last. It belongs to the key: never restore it from an old
    /// copy.
    pub mark: PathBuf,
}

/// Starts validators.
#[derive(Debug)]
pub struct Validator;

impl Validator {
    /// Opens the home, replays what is needed and serves. Ready when this returns.
    pub async fn start(config: ValidatorConfig) -> Result<ValidatorHandle, ValidatorError> {
        Validator::start_with_clock(config, Arc::new(SystemClock)).await
    }

    /// The same with another source of block times.
    pub async fn start_with_clock(
        config: ValidatorConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<ValidatorHandle, ValidatorError> {
        let ValidatorConfig { home, genesis, consensus, listen, operator, vote_price, .. } =
            &config;
        let (home, genesis, listen) = (home.clone(), genesis.clone(), *listen);
        // First, so that a port in use is found before anything is replayed.
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|source| ValidatorError::Listen { addr: listen, source })?;
        let chain_api_addr = listener
            .local_addr()
            .map_err(|source| ValidatorError::Listen { addr: listen, source })?;

        let document = genesis.clone();
        let opened = tokio::task::spawn_blocking(move || open(&home, &document));
        let Opened { app, recovered, store } =
            opened.await.map_err(|_| ValidatorError::Panicked)??;
        let state = app.shared();
        let signing = match consensus {
            Some(ConsensusKey { key, mark }) => {
                let mark = Mark::open(mark).map_err(|source| ReplicaError::Mark { source });
                let mark = mark.map_err(|source| ValidatorError::Replica { source })?;
                let key: Arc<dyn Sign> = Arc::new(SecretKey::from_seed(*key.seed()));
                Some((key, Arc::new(mark)))
            }
            None => None,
        };
        let (reports, arriving) = mpsc::channel(evidence::REPORTS_MAX);
        let (replica, links, task) = replica::start(ReplicaParts {
            app,
            recovered,
            store: Arc::clone(&store),
            signing,
            clock: Arc::clone(&clock),
            config: replica_config(&config),
            evidence: operator.is_some().then_some(reports),
        })
        .await
        .map_err(|source| ValidatorError::Replica { source })?;

        let mut tasks = Vec::new();
        // A node that nobody knows and that knows nobody needs no port.
        if config.peer_listen.port() != 0 || !config.peers.is_empty() {
            let mut transport = IrohConfig::new(*config.node_key.seed());
            transport.bind = config.peer_listen;
            transport.alpn = peers::alpn(&genesis.chain_id);
            let endpoint = net::bind(transport).await;
            let endpoint = endpoint.map_err(|source| ValidatorError::Peers { source })?;
            let (peers, only) = (config.peers.clone(), config.peers_only);
            tasks.push(AbortOnDrop(tokio::spawn(peers::run(endpoint, peers, only, links))));
        }
        if let Some(key) = operator {
            let key = Arc::new(SecretKey::from_seed(*key.seed()));
            let operator = Operator { key, state: Arc::clone(&state), replica: replica.clone() };
            if let Some(nusd_per_watt) = *vote_price {
                let (operator, clock) = (operator.clone(), Arc::clone(&clock));
                let voter = Voter { operator, nusd_per_watt, clock };
                tasks.push(AbortOnDrop(tokio::spawn(voter.run())));
            }
            tasks.push(AbortOnDrop(tokio::spawn(evidence::report(operator, arriving))));
        }
        let api = Arc::new(Api { genesis, state, store, replica, clock });
        let (stop_server, stopping) = oneshot::channel::<()>();
        let listener = listener.tap_io(|stream| {
            // Answers are small; without this each would wait for the one before to be confirmed.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection keeps Nagle's algorithm");
            }
        });
        let server = axum::serve(listener, api::router(&api)).with_graceful_shutdown(async {
            // The other end says nothing; that it is gone is the sign.
            let _ = stopping.await;
        });
        let server = tokio::spawn(server.into_future());
        tracing::info!(addr = %chain_api_addr, "chain API");
        Ok(ValidatorHandle { chain_api_addr, api, stop_server, server, tasks, task })
    }
}

fn replica_config(config: &ValidatorConfig) -> ReplicaConfig {
    let engine = EngineConfig {
        moniker: config.node_key.public_key().to_string().chars().take(8).collect(),
        listen: config.peer_listen,
        peers: config.peers.clone(),
        peers_only: config.peers_only,
        node_seed: config.node_key.seed(),
        wal: config.home.join(WAL_FILE),
        timeouts: config.timeouts,
    };
    let ValidatorConfig { heartbeat, halt_at, blocks_kept, snapshot_interval, state_sync, .. } =
        *config;
    ReplicaConfig {
        heartbeat,
        halt_at,
        blocks_kept,
        snapshot_interval,
        state_sync,
        ..ReplicaConfig::standard(engine)
    }
}

/// A home that was opened and a ledger that stands where its blocks end.
struct Opened {
    app: LedgerApp,
    recovered: Recovered,
    store: Arc<BlockStore>,
}

fn open(home: &Path, genesis: &Genesis) -> Result<Opened, ValidatorError> {
    fs::create_dir_all(home)
        .map_err(|source| ValidatorError::Home { path: home.to_owned(), source })?;
    let mut app = LedgerApp::new(genesis).map_err(|source| ValidatorError::Genesis { source })?;
    let store = BlockStore::open(&home.join(BLOCKS_FILE), genesis)
        .map_err(|source| ValidatorError::Store { source })?;
    let recovered =
        replica::recover(&mut app, &store).map_err(|source| ValidatorError::Recover { source })?;
    Ok(Opened { app, recovered, store: Arc::new(store) })
}

/// A running validator. Dropped without [`ValidatorHandle::shutdown`] it stops as a killed one does.
#[derive(Debug)]
pub struct ValidatorHandle {
    chain_api_addr: SocketAddr,
    /// The only lasting reference: once it is gone, requests are refused and the store can close.
    api: Arc<Api>,
    stop_server: oneshot::Sender<()>,
    server: JoinHandle<io::Result<()>>,
    /// What it does on the ledger by itself.
    tasks: Vec<AbortOnDrop>,
    task: ReplicaTask,
}

/// A task that ends with its owner.
#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ValidatorHandle {
    /// Where the chain API really listens.
    pub fn chain_api_addr(&self) -> SocketAddr {
        self.chain_api_addr
    }

    /// The base URL for [`wire::chain::HttpChain::new`].
    pub fn chain_api_url(&self) -> String {
        format!("http://{}", self.chain_api_addr)
    }

    /// Waits until the validator stops by itself, which only a failure makes it do.
    pub async fn stopped(&mut self) -> ValidatorError {
        tokio::select! {
            stopped = self.task.stopped() => match stopped {
                Err(source) => ValidatorError::Replica { source },
                Ok(()) => ValidatorError::Panicked,
            },
            _ = &mut self.server => ValidatorError::Panicked,
        }
    }

    /// Lets requests finish, puts what is waiting into a block, closes the store and stops.
    pub async fn shutdown(self) -> Result<(), ValidatorError> {
        let ValidatorHandle { chain_api_addr: _, api, stop_server, mut server, tasks, task } = self;
        drop(tasks);
        drop(stop_server);
        if tokio::time::timeout(DRAIN_TIMEOUT, &mut server).await.is_err() {
            tracing::warn!("a client holds its connection; it is cut off");
            server.abort();
        }
        let stopped = task.shutdown().await;
        // Closing the store waits for the disk.
        let closed = tokio::task::spawn_blocking(move || drop(api)).await;
        stopped.map_err(|source| ValidatorError::Replica { source })?;
        closed.map_err(|_| ValidatorError::Panicked)
    }
}

/// Why a validator cannot start or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum ValidatorError {
    #[error("cannot make the folder {path}", path = path.display())]
    Home { path: PathBuf, source: io::Error },
    #[error("the chain API cannot listen on {addr}; choose another address")]
    Listen { addr: SocketAddr, source: io::Error },
    #[error("the genesis document starts no ledger")]
    Genesis { source: ledger::GenesisError },
    #[error("the home cannot be opened")]
    Store { source: StoreError },
    #[error("the home's chain cannot be brought back; `peerwatt ledger check` says more")]
    Recover { source: RecoverError },
    #[error("no more blocks can be made")]
    Replica { source: ReplicaError },
    #[error("other nodes cannot connect")]
    Peers { source: net::NetError },
    #[error("a part of the validator stopped unexpectedly; see its log")]
    Panicked,
}

/// For those who run a validator in their own process and want no HTTP in between.
impl ValidatorHandle {
    /// Height, digest and what waits.
    pub fn status(&self) -> replica::Status {
        let replica: &Replica<LedgerApp> = &self.api.replica;
        replica.status()
    }

    /// Submits a transaction and waits until it is in a durable block.
    pub async fn submit(&self, bytes: Vec<u8>) -> Result<(), replica::SubmitError> {
        self.submitter().submit(bytes).await
    }

    /// Submits from other tasks. It outlives the validator, and is refused then.
    pub fn submitter(&self) -> Submitter {
        Submitter(self.api.replica.clone())
    }
}

/// Submits transactions to a validator in the same process.
#[derive(Clone, Debug)]
pub struct Submitter(Replica<LedgerApp>);

impl Submitter {
    /// Waits until the transaction is in a durable block.
    pub async fn submit(&self, bytes: Vec<u8>) -> Result<(), replica::SubmitError> {
        self.0.submit(bytes).await.map(drop)
    }
}
