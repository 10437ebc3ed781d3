//! The consensus engine: Malachite behind [`crate::start`] (`docs/adr/0009-malachite.md`). No other
//! folder knows its types.

mod codec;
mod context;
mod engine;
mod host;
mod log;
mod part;
mod signing;

pub use codec::reads as reads_engine_message;
pub(crate) use engine::Engine;
pub use engine::{EngineConfig, Peer, Timeouts};
pub(crate) use host::{Ended, Host, HostParts};
pub(crate) use log::HeightLog;
pub use signing::{LastSigned, Mark, MarkError, Step};
