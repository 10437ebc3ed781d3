//! Connections to other nodes, for what they tell each other besides consensus: one QUIC connection with
//! one stream per pair of nodes, on the same port number as the consensus engine, which has TCP.
//!
//! Nothing is decided here: what comes in goes to the replica, what the replica wants goes out. A
//! peer that breaks the framing, or that the replica drops, is not spoken to for a while.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use net::{ReceiveHalf, SendHalf, SharedConnection, SharedEndpoint};
use replica::{
    PEER_MESSAGE_BYTES_MAX, PEERS_MAX, Peer, PeerCommand, PeerEvent, PeerLinks, PeerMessage,
    PeerSaid,
};
use tokio::{
    io::AsyncWriteExt,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};
use types::{ChainId, PublicKey};
use wire::frame::{self, FrameError};

/// Pause before a peer is dialled again; the first try is made at once, by the one with the larger
/// key a moment later, so that usually only one of the two dials.
const DIAL_PAUSE: Duration = Duration::from_secs(2);
const DIAL_GRACE: Duration = Duration::from_millis(500);
/// Within this time two connections of a pair were dialled at the same time.
const SIMULTANEOUS: Duration = Duration::from_secs(2);
/// How long a peer that was dropped is not spoken to.
const BAN: Duration = Duration::from_secs(60);
/// Messages that wait for a slow peer; what does not fit is lost to it.
const QUEUE_MAX: usize = 256;
/// How long a peer may take for the first byte of its stream.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// Peers that are connected and not configured. Together with those that are they are fewer than the replica
/// takes: however many strangers there are, a configured peer has its place.
const STRANGERS_MAX: usize = PEERS_MAX / 2;

/// The protocol's name; nodes of another network do not speak it.
pub(crate) fn alpn(chain_id: &ChainId) -> Vec<u8> {
    format!("peerwatt/ledger/1/{chain_id}").into_bytes()
}

/// What the tasks share.
struct Shared {
    endpoint: SharedEndpoint,
    /// Peers that are configured.
    configured: BTreeSet<PublicKey>,
    /// Strangers that may be connected.
    strangers_max: usize,
    events: mpsc::Sender<PeerEvent>,
    links: Mutex<BTreeMap<PublicKey, Link>>,
    banned: Mutex<BTreeMap<PublicKey, Instant>>,
    numbers: AtomicU64,
}

/// A connection in use.
struct Link {
    number: u64,
    since: Instant,
    /// Who made it: of two connections of one pair, the one that the smaller key made is kept.
    dialled_by: PublicKey,
    connection: SharedConnection,
    outgoing: mpsc::Sender<PeerMessage>,
}

/// Runs until the replica is gone.
pub(crate) async fn run(
    endpoint: SharedEndpoint,
    peers: Vec<Peer>,
    peers_only: bool,
    links: PeerLinks,
) {
    let PeerLinks { events, mut commands } = links;
    let configured: BTreeSet<PublicKey> = peers.iter().map(|peer| peer.node_key).collect();
    let places = PEERS_MAX.saturating_sub(configured.len()).min(STRANGERS_MAX);
    let shared = Arc::new(Shared {
        endpoint,
        configured,
        strangers_max: if peers_only { 0 } else { places },
        events,
        links: Mutex::new(BTreeMap::new()),
        banned: Mutex::new(BTreeMap::new()),
        numbers: AtomicU64::new(0),
    });
    let mut tasks = JoinSet::new();
    for peer in peers {
        tasks.spawn(keep_dialling(Arc::clone(&shared), peer));
    }
    tasks.spawn(accept(Arc::clone(&shared)));
    while let Some(command) = commands.recv().await {
        match command {
            PeerCommand::Send { peer, message } => shared.send(&peer, message),
            PeerCommand::Drop { peer, why } => shared.ban(peer, &why),
            PeerCommand::Close { peer, why } => shared.hang_up(&peer, &why),
        }
    }
    shared.endpoint.close().await;
}

async fn keep_dialling(shared: Arc<Shared>, peer: Peer) {
    let us = shared.endpoint.node_key();
    if peer.node_key == us {
        return;
    }
    if us > peer.node_key {
        sleep(DIAL_GRACE).await;
    }
    loop {
        if !shared.is_linked(&peer.node_key) && !shared.is_banned(&peer.node_key) {
            match shared.endpoint.dial(peer.node_key, &[peer.addr]).await {
                Ok(connection) => serve(&shared, connection, us).await,
                Err(error) => tracing::debug!(peer = %peer.node_key, %error, "a peer is away"),
            }
        }
        sleep(DIAL_PAUSE).await;
    }
}

async fn accept(shared: Arc<Shared>) {
    let mut serving = JoinSet::new();
    while let Some(connection) = shared.endpoint.accept().await {
        let peer = connection.peer();
        if !shared.has_place(&peer) || shared.is_banned(&peer) {
            connection.close("not welcome");
            continue;
        }
        let shared = Arc::clone(&shared);
        serving.spawn(async move { serve(&shared, connection, peer).await });
        while serving.try_join_next().is_some() {}
    }
}

/// Carries messages both ways until the connection ends.
async fn serve(shared: &Shared, connection: SharedConnection, dialled_by: PublicKey) {
    let peer = connection.peer();
    let us = shared.endpoint.node_key();
    let stream = match dialled_by == us {
        true => connection.open().await,
        false => match tokio::time::timeout(GREETING_TIMEOUT, connection.accept()).await {
            Ok(stream) => stream,
            Err(_) => return connection.close("no greeting"),
        },
    };
    let Ok((send, receive)) = stream else { return };
    let (outgoing, queue) = mpsc::channel(QUEUE_MAX);
    let number = shared.numbers.fetch_add(1, Ordering::Relaxed);
    let since = Instant::now();
    let link = Link { number, since, dialled_by, connection: Arc::clone(&connection), outgoing };
    let Some(is_first) = shared.link(peer, link) else {
        return connection.close("connected already, or no place");
    };
    if !is_first {
        // It may have been started again since, and know nothing any more of what it was told.
        shared.say(peer, PeerSaid::Gone).await;
    }
    shared.say(peer, PeerSaid::Connected).await;
    tokio::select! {
        () = write(send, queue) => {}
        broken = read(shared, peer, receive) => {
            if let Some(why) = broken {
                shared.ban(peer, &why);
            }
        }
        () = connection.closed() => {}
    }
    connection.close("done");
    if shared.unlink(&peer, number) {
        shared.say(peer, PeerSaid::Gone).await;
    }
}

async fn write(mut send: SendHalf, mut queue: mpsc::Receiver<PeerMessage>) {
    while let Some(message) = queue.recv().await {
        if frame::write(&mut send, &message).await.is_err() || send.flush().await.is_err() {
            return;
        }
    }
}

/// Returns how the peer broke the protocol, if it did.
async fn read(shared: &Shared, peer: PublicKey, mut receive: ReceiveHalf) -> Option<String> {
    loop {
        match frame::read(&mut receive, PEER_MESSAGE_BYTES_MAX).await {
            Ok(Some(message)) => shared.say(peer, PeerSaid::Message(message)).await,
            Ok(None) | Err(FrameError::Io { .. }) => return None,
            Err(error) => return Some(error.to_string()),
        }
    }
}

impl Shared {
    async fn say(&self, peer: PublicKey, said: PeerSaid) {
        // A replica that is gone hears nothing.
        let _ = self.events.send(PeerEvent { peer, said }).await;
    }

    fn send(&self, peer: &PublicKey, message: PeerMessage) {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(peer) {
            // A peer that does not keep up learns of transactions from others.
            let _ = link.outgoing.try_send(message);
        }
    }

    /// Whether it is configured, connected already or one of the strangers that may be connected.
    fn has_place(&self, peer: &PublicKey) -> bool {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_place_beside(&links, peer)
    }

    fn has_place_beside(&self, links: &BTreeMap<PublicKey, Link>, peer: &PublicKey) -> bool {
        let strangers = links.keys().filter(|linked| !self.configured.contains(linked));
        self.configured.contains(peer)
            || links.contains_key(peer)
            || strangers.count() < self.strangers_max
    }

    /// Takes a connection into use. `None`: there is no place for the peer, or one that is to be kept,
    /// because both dialled at the same time. A peer that dials again later has lost the old one. Otherwise, whether there was
    /// none.
    fn link(&self, peer: PublicKey, link: Link) -> Option<bool> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.has_place_beside(&links, &peer) {
            return None;
        }
        let smaller = peer.min(self.endpoint.node_key());
        match links.get(&peer) {
            Some(kept)
                if kept.dialled_by == smaller
                    && link.dialled_by != smaller
                    && kept.since.elapsed() < SIMULTANEOUS =>
            {
                None
            }
            Some(other) => {
                other.connection.close("connected twice");
                links.insert(peer, link);
                Some(false)
            }
            None => {
                links.insert(peer, link);
                Some(true)
            }
        }
    }

    /// Whether the connection was the one in use.
    fn unlink(&self, peer: &PublicKey, number: u64) -> bool {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ours = links.get(peer).is_some_and(|link| link.number == number);
        if is_ours {
            links.remove(peer);
        }
        is_ours
    }

    fn is_linked(&self, peer: &PublicKey) -> bool {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).contains_key(peer)
    }

    fn is_banned(&self, peer: &PublicKey) -> bool {
        let mut banned = self.banned.lock().unwrap_or_else(PoisonError::into_inner);
        banned.retain(|_, until| *until > Instant::now());
        banned.contains_key(peer)
    }

    fn ban(&self, peer: PublicKey, why: &str) {
        tracing::warn!(%peer, why, "a peer broke a rule; it is not spoken to for a minute");
        let mut banned = self.banned.lock().unwrap_or_else(PoisonError::into_inner);
        banned.insert(peer, Instant::now() + BAN);
        drop(banned);
        self.hang_up(&peer, why);
    }

    fn hang_up(&self, peer: &PublicKey, why: &str) {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(peer) {
            link.connection.close(why);
        }
    }
}

#[cfg(test)]
mod tests;
