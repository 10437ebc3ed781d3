//! One poll of a connection.
//!
//! Who writes asks an answer for more until it has nothing. What asks its own source in turn knows that before, and says so here: asking
//! once more goes through all that stands between a client's socket and a provider's, which is a large part of what a chunk costs.

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

    /// In this turn the answer has nothing more to say: it is polled by its source from here on.
    pub(crate) fn wait(&self) {
        self.is_waited_for.store(true, Relaxed);
    }

    /// Whether it has said so in this turn.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.is_waited_for.load(Relaxed)
    }
}
