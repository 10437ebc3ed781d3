//! The transport over iroh (QUIC): one endpoint per key and process, one connection per pair of
//! peers, streams inside it.
//!
//! Nothing here talks to anybody's public servers: no relay, no address lookup, no port mapping.
//! Peers are dialled at the addresses that the caller knows from the ledger. Keep-alive and path
//! handling are iroh's defaults; only counts and windows are ours.

mod accept;
mod stream;

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use iroh::{
    EndpointAddr, EndpointId, RelayMode, SecretKey, TransportAddr,
    endpoint::{Builder, QuicTransportConfig, VarInt, presets},
};
use tokio::sync::{Mutex, mpsc};
use tokio_util::task::AbortOnDropHandle;
use types::PublicKey;

use crate::{
    Connection, Endpoint, Limits, NetError, ReceiveHalf, SendHalf, SharedConnection,
    SharedEndpoint, told,
};
use stream::IrohSend;

/// The code with which we end connections and reset streams; nobody reads it.
const CODE: VarInt = VarInt::from_u32(0);

/// What an endpoint is made of. `Debug` does not show the seed.
#[derive(Clone)]
pub struct IrohConfig {
    /// The secret half of the node key.
    pub seed: [u8; 32],
    /// Port 0 takes a free one.
    pub bind: SocketAddr,
    /// Protocol that both sides must speak.
    pub alpn: Vec<u8>,
    pub limits: Limits,
}

impl IrohConfig {
    /// On a free port of the loopback interface, speaking the serving protocol.
    pub fn new(seed: [u8; 32]) -> IrohConfig {
        IrohConfig {
            seed,
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            alpn: wire::serve::ALPN.to_vec(),
            limits: Limits::default(),
        }
    }
}

impl std::fmt::Debug for IrohConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let IrohConfig { seed: _, bind, alpn, limits } = self;
        f.debug_struct("IrohConfig")
            .field("bind", bind)
            .field("alpn", &String::from_utf8_lossy(alpn))
            .field("limits", limits)
            .finish_non_exhaustive()
    }
}

/// What every endpoint of this network starts from: cryptography, and nothing that contacts anyone.
struct Silent;

impl presets::Preset for Silent {
    fn apply(self, builder: Builder) -> Builder {
        presets::Minimal.apply(builder).relay_mode(RelayMode::Disabled).clear_address_lookup()
    }
}

/// Binds an endpoint.
pub async fn bind(config: IrohConfig) -> Result<SharedEndpoint, NetError> {
    let IrohConfig { seed, bind: addr, alpn, limits } = config;
    let endpoint = bind_iroh(&seed, addr, &alpn, &limits).await?;
    // Room for the handshakes that may end while the caller looks at one connection.
    let (send, accepted) = mpsc::channel(usize::try_from(limits.handshakes_max).unwrap_or(64));
    let acceptor = tokio::spawn(accept::run(endpoint.clone(), limits.clone(), send));
    Ok(Arc::new(IrohEndpoint {
        endpoint,
        alpn,
        limits,
        accepted: Mutex::new(accepted),
        acceptor: Mutex::new(Some(AbortOnDropHandle::new(acceptor))),
    }))
}

async fn bind_iroh(
    seed: &[u8; 32],
    addr: SocketAddr,
    alpn: &[u8],
    limits: &Limits,
) -> Result<iroh::Endpoint, NetError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| NetError::Bind { addr, source };
    let window = VarInt::from_u32(limits.receive_window_bytes);
    let transport = QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(window)
        .stream_receive_window(VarInt::from_u32(limits.receive_window_bytes / 4))
        .send_window(u64::from(limits.receive_window_bytes))
        .build();
    iroh::Endpoint::builder(Silent)
        .secret_key(SecretKey::from_bytes(seed))
        .alpns(vec![alpn.to_vec()])
        .transport_config(transport)
        .clear_ip_transports()
        .bind_addr(addr)
        .map_err(|source| failed(source.into()))?
        .bind()
        .await
        .map_err(|source| failed(source.into()))
}

#[derive(Debug)]
struct IrohEndpoint {
    endpoint: iroh::Endpoint,
    alpn: Vec<u8>,
    limits: Limits,
    accepted: Mutex<mpsc::Receiver<SharedConnection>>,
    acceptor: Mutex<Option<AbortOnDropHandle<()>>>,
}

#[async_trait]
impl Endpoint for IrohEndpoint {
    fn node_key(&self) -> PublicKey {
        PublicKey(*self.endpoint.id().as_bytes())
    }

    fn addrs(&self) -> Vec<SocketAddr> {
        self.endpoint.bound_sockets()
    }

    async fn dial(
        &self,
        peer: PublicKey,
        addrs: &[SocketAddr],
    ) -> Result<SharedConnection, NetError> {
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| NetError::Dial { peer, source };
        let id = EndpointId::from_bytes(&peer.0).map_err(|source| failed(source.into()))?;
        let addr = EndpointAddr::from_parts(id, addrs.iter().copied().map(TransportAddr::Ip));
        let dialling = self.endpoint.connect(addr, &self.alpn);
        let connection = tokio::time::timeout(self.limits.dial_timeout, dialling)
            .await
            .map_err(|source| failed(source.into()))?
            .map_err(|source| failed(source.into()))?;
        Ok(Arc::new(IrohConnection::new(connection)))
    }

    async fn accept(&self) -> Option<SharedConnection> {
        self.accepted.lock().await.recv().await
    }

    async fn close(&self) {
        self.endpoint.close().await;
        // Closing ends the acceptor by itself; waiting for it here means that nothing outlives us.
        if let Some(acceptor) = self.acceptor.lock().await.take()
            && let Err(error) = acceptor.await
        {
            tracing::error!(%error, "net.accept ended abnormally");
        }
    }
}

#[derive(Debug)]
struct IrohConnection {
    connection: iroh::endpoint::Connection,
    peer: PublicKey,
}

impl IrohConnection {
    fn new(connection: iroh::endpoint::Connection) -> IrohConnection {
        let peer = PublicKey(*connection.remote_id().as_bytes());
        IrohConnection { connection, peer }
    }

    fn ended(&self, source: iroh::endpoint::ConnectionError) -> NetError {
        NetError::Ended { peer: self.peer, source: source.into() }
    }
}

#[async_trait]
impl Connection for IrohConnection {
    fn peer(&self) -> PublicKey {
        self.peer
    }

    async fn open(&self) -> Result<(SendHalf, ReceiveHalf), NetError> {
        let halves = self.connection.open_bi().await.map_err(|source| self.ended(source))?;
        Ok((Box::new(IrohSend::new(halves.0)), Box::new(halves.1)))
    }

    async fn accept(&self) -> Result<(SendHalf, ReceiveHalf), NetError> {
        let halves = self.connection.accept_bi().await.map_err(|source| self.ended(source))?;
        Ok((Box::new(IrohSend::new(halves.0)), Box::new(halves.1)))
    }

    fn close(&self, reason: &str) {
        self.connection.close(CODE, told(reason).as_bytes());
    }

    async fn closed(&self) {
        self.connection.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use iroh::Watcher as _;

    use super::*;

    #[tokio::test]
    async fn an_endpoint_knows_no_relay_and_no_lookup_service() {
        let config = IrohConfig::new([7; 32]);
        let endpoint =
            bind_iroh(&config.seed, config.bind, &config.alpn, &config.limits).await.unwrap();
        assert_eq!(endpoint.addr().relay_urls().count(), 0);
        assert!(endpoint.home_relay_status().get().is_empty());
        assert!(endpoint.address_lookup().unwrap().is_empty());
        let bound = endpoint.bound_sockets();
        assert!(bound.iter().all(|addr| addr.ip().is_loopback()), "{bound:?}");
        endpoint.close().await;
    }

    #[test]
    fn a_seed_is_never_shown() {
        let shown = format!("{:?}", IrohConfig::new([77; 32]));
        assert!(!shown.contains("77"), "{shown}");
    }
}
