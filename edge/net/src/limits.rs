//! What strangers may take of us.

use std::time::Duration;

/// Bounds of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that peers made to us. 10 000 idle ones take about 1 GB.
    pub connections_max: u32,
    /// Connections being made to us at once: each costs signatures before the peer is known.
    pub handshakes_max: u32,
    /// Streams that a peer may have open on one connection. More wait at the peer.
    pub streams_max: u32,
    /// Bytes that a peer may send on one connection before we read them; a stream may take a
    /// quarter of it.
    pub receive_window_bytes: u32,
    /// How long dialling, and a peer's handshake, may take.
    pub dial_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 4_096,
            handshakes_max: 64,
            // Twice `types::limits::LANES_MAX`, and room for what is not a request.
            streams_max: 1_024,
            // Two of the largest prompts in flight.
            receive_window_bytes: 8 * 1024 * 1024,
            dial_timeout: Duration::from_secs(10),
        }
    }
}
