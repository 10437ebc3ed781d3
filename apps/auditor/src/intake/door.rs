//! Who may talk to us: providers of rounds that draw us, each on one connection. Anybody can make a node key and dial, so
//! nobody else is listened to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use net::{SharedConnection, SharedEndpoint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use types::{Address, PublicKey};
use wire::chain::{Chain, ProviderView};

use super::{Manners, stream};
use crate::run::Shared;

/// Streams at once of one provider: it opens one for each round.
const STREAMS_MAX: usize = 4;
/// Providers that are listened to at once; others wait.
const PROVIDERS_MAX: usize = 32;
/// How long a provider may have no stream.
const IDLE_WAIT: Duration = Duration::from_secs(30);
/// How long one may take to read why it is sent away.
const PARTING_WAIT: Duration = Duration::from_secs(5);
/// A node key is looked up again after this: a provider may have changed it.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(60);

/// A provider of a round that draws us.
#[derive(Debug)]
struct Caller {
    /// `None`: it is not on the ledger.
    node_key: Option<PublicKey>,
    looked_up: Instant,
}

/// The node keys of providers of rounds that draw us. There are no more of them than rounds.
#[derive(Debug, Default)]
pub(crate) struct Callers(BTreeMap<Address, Caller>);

impl Callers {
    /// Forgets all but `providers`. Returns those of them that are to be looked up.
    pub(crate) fn due(&mut self, providers: &BTreeSet<Address>) -> Vec<Address> {
        self.0.retain(|provider, _| providers.contains(provider));
        let is_known = |provider: &Address| {
            self.0.get(provider).is_some_and(|it| it.looked_up.elapsed() < LOOK_UP_AGAIN)
        };
        providers.iter().copied().filter(|provider| !is_known(provider)).collect()
    }

    pub(crate) fn note(&mut self, provider: Address, entry: Option<ProviderView>) {
        let node_key = entry.map(|entry| entry.node_key);
        self.0.insert(provider, Caller { node_key, looked_up: Instant::now() });
    }

    #[cfg(test)]
    pub(crate) fn of(provider: Address, node_key: PublicKey) -> Callers {
        let caller = Caller { node_key: Some(node_key), looked_up: Instant::now() };
        Callers(BTreeMap::from([(provider, caller)]))
    }

    /// The providers with this node key.
    fn with(&self, node_key: PublicKey) -> Vec<Address> {
        let has = |caller: &Caller| caller.node_key == Some(node_key);
        self.0.iter().filter(|(_, caller)| has(caller)).map(|(provider, _)| *provider).collect()
    }
}

/// Looks up who may talk to us now. What cannot be looked up is tried again at the next look.
pub(crate) async fn look_up(shared: &Shared, providers: &BTreeSet<Address>) {
    let due = shared.callers().due(providers);
    for provider in due {
        match shared.chain.provider(provider).await {
            Ok(entry) => shared.callers().note(provider, entry),
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(%provider, error, "auditor.provider is not looked up");
                shared.desk().excuse_provider(&provider);
            }
        }
    }
}

/// Takes what providers open, until the endpoint is closed.
pub(crate) async fn run(shared: Arc<Shared>, endpoint: SharedEndpoint) {
    let turns = Arc::new(Semaphore::new(PROVIDERS_MAX));
    let mut serving = JoinSet::new();
    let mut talking: BTreeMap<PublicKey, AbortHandle> = BTreeMap::new();
    while let Some(connection) = endpoint.accept().await {
        while serving.try_join_next().is_some() {}
        talking.retain(|_, task| !task.is_finished());
        let peer = connection.peer();
        let providers = shared.callers().with(peer);
        if providers.is_empty() {
            connection.close("no round of yours draws this auditor, or it does not know yet");
            continue;
        }
        // A provider that dials anew was started again, or is somewhere else now.
        if let Some(before) = talking.remove(&peer) {
            before.abort();
        }
        let (shared, turns) = (Arc::clone(&shared), Arc::clone(&turns));
        let task = serving.spawn(async move {
            let Some(turn) = turn(&shared, &providers, turns, &connection).await else { return };
            serve(&shared, connection).await;
            drop(turn);
        });
        talking.insert(peer, task);
    }
}

/// Waits for a turn. `None`: the peer is gone.
async fn turn(
    shared: &Shared,
    providers: &[Address],
    turns: Arc<Semaphore>,
    connection: &SharedConnection,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(turn) = Arc::clone(&turns).try_acquire_owned() {
        return Some(turn);
    }
    for provider in providers {
        shared.desk().excuse_provider(provider);
    }
    tokio::select! {
        turn = turns.acquire_owned() => turn.ok(),
        () = connection.closed() => None,
    }
}

/// One provider, until it has nothing more to open.
async fn serve(shared: &Arc<Shared>, connection: SharedConnection) {
    let mut streams: JoinSet<Manners> = JoinSet::new();
    let mut idle = IDLE_WAIT;
    loop {
        tokio::select! {
            accepted = connection.accept(), if streams.len() < STREAMS_MAX => {
                let Ok((send, receive)) = accepted else { break };
                let (shared, peer) = (Arc::clone(shared), connection.peer());
                streams.spawn(async move { stream(&shared, peer, send, receive).await });
            }
            Some(ended) = streams.join_next() => match ended {
                Ok(Manners::Good) => {}
                Ok(Manners::Early) => idle = PARTING_WAIT,
                Ok(Manners::Bad) | Err(_) => {
                    // What it was told is lost if the connection ends before it has read that.
                    let _gone = timeout(PARTING_WAIT, connection.closed()).await;
                    break;
                }
            },
            () = sleep(idle), if streams.is_empty() => break,
        }
    }
    connection.close("done");
}

#[cfg(test)]
mod tests;
