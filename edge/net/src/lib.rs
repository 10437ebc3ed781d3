//! Connections between providers and gateways: iroh in production, memory in tests.
//!
//! A connection is dialled by public key and authenticated both ways; on it either side opens
//! byte streams. What the bytes mean is `wire`'s business.

use std::{fmt::Debug, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use types::PublicKey;

/// The sending half of a stream. Dropping it without `shutdown` resets the stream.
pub type SendHalf = Box<dyn AsyncWrite + Send + Unpin>;
/// The receiving half of a stream.
pub type ReceiveHalf = Box<dyn AsyncRead + Send + Unpin>;

/// An endpoint with one key: dials and is dialled.
#[async_trait]
pub trait Endpoint: Send + Sync + Debug {
    /// The key under which others dial it.
    fn node_key(&self) -> PublicKey;

    /// The addresses it is bound to.
    fn addrs(&self) -> Vec<SocketAddr>;

    /// Connects to the endpoint with `peer`'s key at one of `addrs`.
    async fn dial(
        &self,
        peer: PublicKey,
        addrs: &[SocketAddr],
    ) -> Result<SharedConnection, NetError>;

    /// The next connection that a peer made to us. `None` once closed.
    async fn accept(&self) -> Option<SharedConnection>;

    /// Closes every connection and stops.
    async fn close(&self);
}

/// A connection to one authenticated peer.
#[async_trait]
pub trait Connection: Send + Sync + Debug {
    fn peer(&self) -> PublicKey;
    async fn open(&self) -> Result<(SendHalf, ReceiveHalf), NetError>;
    /// The next stream that the peer opened.
    async fn accept(&self) -> Result<(SendHalf, ReceiveHalf), NetError>;
    /// Ends the connection; `reason` (at most 200 bytes) is told to the peer.
    fn close(&self, reason: &str);
    /// Completes when the connection has ended, for whatever reason.
    async fn closed(&self);
}

pub type SharedEndpoint = Arc<dyn Endpoint>;
pub type SharedConnection = Arc<dyn Connection>;

/// Why a connection or stream could not be had.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("cannot bind {addr}; is another process using the port?")]
    Bind { addr: SocketAddr, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot reach peer {peer}")]
    Dial { peer: PublicKey, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the connection to peer {peer} has ended")]
    Ended { peer: PublicKey, source: Box<dyn std::error::Error + Send + Sync> },
}
