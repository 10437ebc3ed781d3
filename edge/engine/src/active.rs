//! Counts the requests that an engine runs.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// Counts a request as active while it lives.
#[derive(Debug)]
pub(crate) struct Active(Arc<AtomicU32>);

impl Active {
    pub(crate) fn count(active: &Arc<AtomicU32>) -> Active {
        active.fetch_add(1, Ordering::Relaxed);
        Active(Arc::clone(active))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
