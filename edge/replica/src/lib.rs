//! Puts transactions into an order, makes blocks durable and answers whoever submitted.
//!
//! What a transaction means is the [`Application`]'s business; here it has bytes, an id, a sender
//! and a nonce. `solo` is the one engine: a single validator that decides alone
//! (`docs/adr/0002-solo-sequencer.md`). The traits are shaped so that one with many validators can
//! take its place.
//!
//! Invariants: a submitter is answered only after its block survives a power cut; the application
//! commits a block only after that; one key never signs two blocks of one height.

mod app;
pub mod chain;
mod clock;
mod handle;
pub mod mempool;
mod recover;
mod solo;

pub use app::{
    AppError, Application, BlockContext, Executed, Proposal, Refusal, Tip, Transaction,
    ValidatorPower,
};
pub use clock::{Clock, SystemClock};
pub use handle::{Included, Replica, Status, SubmitError};
pub use recover::{RecoverError, Recovered, ReplayError, recover, replay_block, verify_all};
pub use solo::{ReplicaError, Solo, SoloConfig, SoloTask, start};
