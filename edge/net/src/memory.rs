//! A network in memory, with switches for what goes wrong. Deterministic under tokio's paused time.
//!
//! It is at least as harsh as the real one: a stream appears at the peer with its first byte only,
//! closing loses what was not read, and limits hold.

mod pipe;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use types::PublicKey;

use crate::{
    Connection, Endpoint, Limits, NetError, ReceiveHalf, SendHalf, SharedConnection,
    SharedEndpoint, told,
};
use pipe::{Announce, PipeReceive, PipeSend, StreamEnd, pipe};

/// A network; clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub struct MemoryNet(Arc<Mutex<Switches>>);

#[derive(Debug, Default)]
struct Switches {
    peers: BTreeMap<PublicKey, Peer>,
    delay: Duration,
}

#[derive(Debug)]
struct Peer {
    incoming: mpsc::Sender<SharedConnection>,
    limits: Limits,
    refuses: bool,
    /// Live connections by the peer at the other end, whoever dialled.
    connections: Vec<(PublicKey, Link)>,
}

/// Why a memory connection or stream is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    #[error("nobody has this key")]
    UnknownPeer,
    #[error("an endpoint does not dial itself")]
    Myself,
    #[error("the peer refuses")]
    Refused,
    #[error("the peer has as many connections as it takes")]
    Full,
    #[error("closed: {reason}")]
    Closed { reason: String },
}

impl MemoryNet {
    pub fn new() -> MemoryNet {
        MemoryNet::default()
    }

    /// An endpoint under `key`. A second one under the same key replaces the first, as a restarted
    /// process does.
    pub fn endpoint(&self, key: PublicKey, limits: Limits) -> SharedEndpoint {
        let (incoming, accepted) = mpsc::channel(64);
        let peer = Peer { incoming, limits, refuses: false, connections: Vec::new() };
        self.lock().peers.insert(key, peer);
        Arc::new(MemoryEndpoint {
            net: self.clone(),
            key,
            accepted: AsyncMutex::new(accepted),
            closed: CancellationToken::new(),
        })
    }

    /// Ends every connection between `a` and `b`, as a lost route does. Returns how many there were.
    pub fn cut(&self, a: PublicKey, b: PublicKey) -> usize {
        let cut: Vec<Link> = self.lock().peers.get(&a).map_or_else(Vec::new, |peer| {
            let between = peer.connections.iter().filter(|(key, link)| *key == b && link.is_open());
            between.map(|(_, link)| link.clone()).collect()
        });
        cut.iter().for_each(|link| link.end("the route is lost"));
        cut.len()
    }

    /// Whether `peer` refuses to be dialled from now on.
    pub fn set_refusing(&self, peer: PublicKey, refuses: bool) {
        if let Some(peer) = self.lock().peers.get_mut(&peer) {
            peer.refuses = refuses;
        }
    }

    /// How long dialling and every chunk of bytes takes from now on.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    fn delay(&self) -> Duration {
        self.lock().delay
    }

    fn lock(&self) -> MutexGuard<'_, Switches> {
        // No code under the lock leaves the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes both ends of a connection and hands one to `to`.
    fn connect(&self, from: PublicKey, to: PublicKey) -> Result<SharedConnection, MemoryError> {
        let mut switches = self.lock();
        if from == to {
            return Err(MemoryError::Myself);
        }
        let ours = switches.peers.get(&from).map(|peer| peer.limits.clone());
        let ours = ours.ok_or(MemoryError::UnknownPeer)?;
        let peer = switches.peers.get_mut(&to).ok_or(MemoryError::UnknownPeer)?;
        if peer.refuses {
            return Err(MemoryError::Refused);
        }
        peer.connections.retain(|(_, link)| link.is_open());
        if peer.connections.len() >= usize::try_from(peer.limits.connections_max).unwrap_or(0) {
            return Err(MemoryError::Full);
        }
        let link = Link::default();
        let (near, far) = ends(self, from, to, &link, &ours, &peer.limits);
        peer.incoming.try_send(far).map_err(|_| MemoryError::Full)?;
        peer.connections.push((from, link.clone()));
        if let Some(peer) = switches.peers.get_mut(&from) {
            peer.connections.retain(|(_, link)| link.is_open());
            peer.connections.push((to, link));
        }
        Ok(near)
    }

    fn close(&self, key: PublicKey) {
        let links = self.lock().peers.get_mut(&key).map(|peer| {
            peer.refuses = true;
            std::mem::take(&mut peer.connections)
        });
        links.iter().flatten().for_each(|(_, link)| link.end("the endpoint was closed"));
    }
}

/// The two ends of one connection.
fn ends(
    net: &MemoryNet,
    from: PublicKey,
    to: PublicKey,
    link: &Link,
    from_limits: &Limits,
    to_limits: &Limits,
) -> (SharedConnection, SharedConnection) {
    // Each side says how many streams the other may have open.
    let permits = |limits: &Limits| {
        Arc::new(Semaphore::new(usize::try_from(limits.streams_max).unwrap_or(1)))
    };
    let (to_far, at_far) = mpsc::unbounded_channel();
    let (to_near, at_near) = mpsc::unbounded_channel();
    let end = |peer, streams, opened, accepted| {
        Arc::new(MemoryConnection {
            net: net.clone(),
            peer,
            link: link.clone(),
            streams,
            opened,
            accepted: AsyncMutex::new(accepted),
            side: Arc::new(Side { link: link.clone() }),
        })
    };
    (end(to, permits(to_limits), to_far, at_near), end(from, permits(from_limits), to_near, at_far))
}

/// The one fact that both ends of a connection and all its streams share: whether it has ended.
#[derive(Clone, Debug, Default)]
struct Link {
    ended: CancellationToken,
    reason: Arc<Mutex<String>>,
}

impl Link {
    fn is_open(&self) -> bool {
        !self.ended.is_cancelled()
    }

    /// The first reason counts.
    fn end(&self, reason: &str) {
        let mut told_reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_open() {
            told_reason.push_str(told(reason));
            self.ended.cancel();
        }
    }

    fn error(&self) -> MemoryError {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        MemoryError::Closed { reason }
    }
}

/// Held by a connection and the streams of one side; the connection ends with the last of them.
#[derive(Debug)]
struct Side {
    link: Link,
}

impl Drop for Side {
    fn drop(&mut self) {
        self.link.end("dropped");
    }
}

#[derive(Debug)]
struct MemoryEndpoint {
    net: MemoryNet,
    key: PublicKey,
    accepted: AsyncMutex<mpsc::Receiver<SharedConnection>>,
    closed: CancellationToken,
}

#[async_trait]
impl Endpoint for MemoryEndpoint {
    fn node_key(&self) -> PublicKey {
        self.key
    }

    fn addrs(&self) -> Vec<SocketAddr> {
        vec![SocketAddr::from(([127, 0, 0, 1], 1))]
    }

    async fn dial(
        &self,
        peer: PublicKey,
        _addrs: &[SocketAddr],
    ) -> Result<SharedConnection, NetError> {
        let failed = |source: MemoryError| NetError::Dial { peer, source: source.into() };
        if self.closed.is_cancelled() {
            return Err(failed(MemoryError::Closed { reason: "this endpoint".into() }));
        }
        let delay = self.net.delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.net.connect(self.key, peer).map_err(failed)
    }

    async fn accept(&self) -> Option<SharedConnection> {
        let mut accepted = self.accepted.lock().await;
        tokio::select! {
            biased;
            () = self.closed.cancelled() => None,
            connection = accepted.recv() => connection,
        }
    }

    async fn close(&self) {
        self.closed.cancel();
        self.net.close(self.key);
    }
}

/// A stream on its way to the peer: its halves as the peer will hold them.
type PeerHalves = (PipeSend, PipeReceive);

#[derive(Debug)]
struct MemoryConnection {
    net: MemoryNet,
    peer: PublicKey,
    link: Link,
    /// Streams that we may still open.
    streams: Arc<Semaphore>,
    /// Unbounded, and bounded by `streams`.
    opened: mpsc::UnboundedSender<PeerHalves>,
    accepted: AsyncMutex<mpsc::UnboundedReceiver<PeerHalves>>,
    side: Arc<Side>,
}

impl MemoryConnection {
    fn ended(&self) -> NetError {
        NetError::Ended { peer: self.peer, source: self.link.error().into() }
    }
}

#[async_trait]
impl Connection for MemoryConnection {
    fn peer(&self) -> PublicKey {
        self.peer
    }

    async fn open(&self) -> Result<(SendHalf, ReceiveHalf), NetError> {
        let permit = tokio::select! {
            biased;
            () = self.link.ended.cancelled() => return Err(self.ended()),
            permit = Arc::clone(&self.streams).acquire_owned() => permit,
        };
        let permit = Arc::new(permit.map_err(|_| self.ended())?);
        let delay = self.net.delay();
        let (to_peer, from_us) = pipe(delay, &self.link);
        let (to_us, from_peer) = pipe(delay, &self.link);
        let theirs = (
            to_us.held_by(StreamEnd::Permit(Arc::clone(&permit))),
            from_us.held_by(StreamEnd::Permit(permit)),
        );
        let announce = Announce::new(self.opened.clone(), theirs);
        let held = || StreamEnd::Side(Arc::clone(&self.side));
        let send = to_peer.held_by(held()).announcing(announce);
        Ok((Box::new(send), Box::new(from_peer.held_by(held()))))
    }

    async fn accept(&self) -> Result<(SendHalf, ReceiveHalf), NetError> {
        let mut accepted = self.accepted.lock().await;
        let halves = tokio::select! {
            biased;
            () = self.link.ended.cancelled() => None,
            halves = accepted.recv() => halves,
        };
        let (send, receive) = halves.ok_or_else(|| self.ended())?;
        let side = &self.side;
        let send = send.held_by(StreamEnd::Side(Arc::clone(side)));
        let receive = receive.held_by(StreamEnd::Side(Arc::clone(side)));
        Ok((Box::new(send), Box::new(receive)))
    }

    fn close(&self, reason: &str) {
        self.link.end(reason);
    }

    async fn closed(&self) {
        self.link.ended.cancelled().await;
    }
}
