//! Puts transactions into an order that more than two thirds of the validators' power agree on, makes
//! blocks durable and answers whoever submitted.
//!
//! What a transaction means is the [`Application`]'s business; here it has bytes, an id, a sender,
//! a nonce and a tip. The engine is Malachite (`docs/adr/0009-malachite.md`), in a folder of its own;
//! one validator in one process and forty on forty machines run the same code.
//!
//! Invariants: a submitter is answered only after its block was decided and survives a power cut; the
//! application commits a block only after that; a key never signs two statements for one step of one
//! round.

/// The application of the integration tests names the crate as they do.
#[cfg(test)]
extern crate self as replica;

mod app;
pub mod chain;
mod clock;
mod handle;
mod malachite;
mod peers;
mod recover;
mod start;
mod verify;
mod worker;

pub use app::{AppError, Application, BlockContext, Executed, Proposal, Refusal, Tip};
pub use clock::{Clock, SystemClock};
pub use handle::{Included, Replica, Status, SubmitError};
#[doc(hidden)]
pub use malachite::reads_engine_message;
pub use malachite::{EngineConfig, LastSigned, Mark, MarkError, Peer, Step, Timeouts};
pub use peers::{
    PEER_MESSAGE_BYTES_MAX, PEERS_MAX, PeerCommand, PeerEvent, PeerLinks, PeerMessage, PeerSaid,
};
pub use recover::{RecoverError, Recovered, ReplayError, recover, replay_block};
pub use replication::evidence::subject as evidence_subject;
pub use replication::mempool::{Full, MempoolLimits, Transaction};
pub use replication::sync::Trusted;
pub use start::{ReplicaConfig, ReplicaParts, ReplicaTask, SNAPSHOT_INTERVAL, StateSync, start};
pub use verify::verify_all;
pub use worker::ReplicaError;
