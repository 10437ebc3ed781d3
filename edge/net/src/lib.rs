//! Connections between providers and gateways: iroh in production, memory in tests.
//!
//! A connection is dialled by public key and authenticated both ways; on it either side opens
//! byte streams. What the bytes mean is `wire`'s business.
//!
//! Both implementations pass one suite (`tests/conformance.rs`). What it fixes, besides the
//! obvious: a stream reaches the peer with its first byte, not before; a send half that is dropped
//! without `shutdown` resets the stream, so that a half-written answer is never taken for a whole
//! one; the number of connections and of open streams on each is bounded.

mod iroh_endpoint;
mod limits;
pub mod memory;

use std::{fmt::Debug, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use types::PublicKey;

pub use iroh_endpoint::{IrohConfig, bind};
pub use limits::Limits;

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

/// A connection to one authenticated peer. It ends when every handle of it and every stream on it
/// has been dropped, at the latest.
#[async_trait]
pub trait Connection: Send + Sync + Debug {
    fn peer(&self) -> PublicKey;
    /// Waits while the peer allows no further stream.
    async fn open(&self) -> Result<(SendHalf, ReceiveHalf), NetError>;
    /// The next stream that the peer opened and wrote to.
    async fn accept(&self) -> Result<(SendHalf, ReceiveHalf), NetError>;
    /// Ends the connection at once, with every stream on it; `reason` (at most
    /// [`REASON_BYTES_MAX`] bytes, the rest is cut) is told to the peer.
    fn close(&self, reason: &str);
    /// Completes when the connection has ended, for whatever reason.
    async fn closed(&self);
}

pub type SharedEndpoint = Arc<dyn Endpoint>;
pub type SharedConnection = Arc<dyn Connection>;

/// Bytes of the reason for which a connection is closed: it must fit one packet.
pub const REASON_BYTES_MAX: usize = 200;

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

/// The longest prefix of `reason` that may be told to a peer.
fn told(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(told("going home"), "going home");
        assert_eq!(told(&"é".repeat(200)), "é".repeat(100));
        assert_eq!(told(&format!("x{}", "é".repeat(200))), format!("x{}", "é".repeat(99)));
    }
}
