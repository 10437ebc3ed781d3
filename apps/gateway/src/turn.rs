//! One poll of a connection.
//!
//! Whoever writes an answer asks it for more until it has nothing. An answer that has just asked its own source knows that before, and says so
//! here, so that it is not asked once more in the same turn: that would go through all that stands between the client's socket and
//! the provider's, which is a large part of what a chunk costs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// The turn that a connection has now. A request carries it in its extensions. Used by one task only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn {
    /// The answer has nothing more, and its task is woken when it has.
    is_waited_for: Arc<AtomicBool>,
}

impl Turn {
    /// The connection is polled.
    pub(crate) fn begin(&self) {
        self.is_waited_for.store(false, Relaxed);
    }

    /// The answer has nothing more in this turn, and its task is woken when it has.
    pub(crate) fn wait(&self) {
        self.is_waited_for.store(true, Relaxed);
    }

    /// Whether it has said so in this turn.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.is_waited_for.load(Relaxed)
    }
}
