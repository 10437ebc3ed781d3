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
use replica::{
    Clock, RecoverError, Recovered, Replica, ReplicaError, Solo, SoloConfig, SoloTask, SystemClock,
};
use store::{BlockStore, StoreError};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use types::genesis::Genesis;

use crate::{
    BLOCKS_FILE,
    api::{self, Api},
    ledger_app::LedgerApp,
    price_vote::{PriceVote, Voter},
};

/// How long requests that are under way may take when the validator stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What a validator needs.
#[derive(Debug)]
pub struct ValidatorConfig {
    /// Folder of its own; made if it is missing.
    pub home: PathBuf,
    pub genesis: Genesis,
    /// Signs blocks; must be that of the genesis document's validator.
    pub consensus_key: SecretKey,
    /// Where the chain API listens. Loopback, unless the machine is meant to be asked by others.
    pub listen: SocketAddr,
    /// Makes a block after this long without one. `None`: only when there is something to do.
    pub heartbeat: Option<Duration>,
    /// Votes on the price of WATT. `None`: it does not vote.
    pub price_vote: Option<PriceVote>,
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
        let ValidatorConfig { home, genesis, consensus_key, listen, heartbeat, price_vote } =
            config;
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
        let (replica, task) = replica::start(Solo {
            app,
            recovered,
            store: Arc::clone(&store),
            key: Arc::new(consensus_key),
            clock: Arc::clone(&clock),
            config: SoloConfig { heartbeat, ..SoloConfig::STANDARD },
        })
        .map_err(|source| ValidatorError::Replica { source })?;

        let voter = price_vote.map(|vote| {
            let voter = Voter {
                vote,
                state: Arc::clone(&state),
                replica: replica.clone(),
                clock: Arc::clone(&clock),
            };
            AbortOnDrop(tokio::spawn(voter.run()))
        });
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
        tracing::info!(addr = %chain_api_addr, height = %recovered.parent.height, "chain API");
        Ok(ValidatorHandle { chain_api_addr, api, stop_server, server, voter, task })
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
    voter: Option<AbortOnDrop>,
    task: SoloTask,
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
        let ValidatorHandle { chain_api_addr: _, api, stop_server, mut server, voter, task } = self;
        drop(voter);
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
}
