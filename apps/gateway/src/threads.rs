//! Threads that answer clients, each with a runtime of its own.
//!
//! A runtime of several threads wakes a second one for whatever arrives, lest there be more of it than the first can do. What a
//! gateway does for a packet is less than that costs. So a connection stays with one thread, and what is asked of services
//! outside the network for its requests does too: `engine` keeps its connections apart by runtime. What is everybody's,
//! connections to providers and the treasury for example, stays in the runtime that the gateway was started in.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A timer that is due before all others wakes its runtime by a system call, in case it sleeps until a later one. So that the
/// deadlines of requests, of which nearly all are seconds away and none comes to pass, do not, one is always due earlier.
const TICK: Duration = Duration::from_millis(500);

/// See the module. They end, and what still runs on them, when this is dropped.
#[derive(Debug)]
pub(crate) struct Threads {
    threads: Vec<Thread>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Thread {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

/// A connection's place on a thread, until it is dropped.
pub(crate) struct Place {
    pub(crate) runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Threads {
    /// As many as the runtime that this is called in has. None if it is one that has no threads: then that answers.
    pub(crate) fn beside_this() -> io::Result<Threads> {
        let current = Handle::current();
        let count = match current.runtime_flavor() {
            RuntimeFlavor::MultiThread => current.metrics().num_workers(),
            _ => 0,
        };
        let stop = CancellationToken::new();
        let threads = (0..count).map(|number| thread(number, stop.clone()));
        Ok(Threads { threads: threads.collect::<io::Result<_>>()?, _stop: stop.drop_guard() })
    }

    /// A place on the thread that has fewest connections.
    pub(crate) fn place(&self) -> Option<Place> {
        let of = |thread: &&Thread| thread.connections.load(Ordering::Relaxed);
        let Thread { runtime, connections } = self.threads.iter().min_by_key(of)?;
        connections.fetch_add(1, Ordering::Relaxed);
        Some(Place { runtime: runtime.clone(), connections: Arc::clone(connections) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn thread(number: usize, stop: CancellationToken) -> io::Result<Thread> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let handle = runtime.handle().clone();
    // Not awaited: the last who holds the gateway may itself run there.
    std::thread::Builder::new().name(format!("clients-{number}")).spawn(move || {
        runtime.block_on(async {
            while tokio::time::timeout(TICK, stop.cancelled()).await.is_err() {}
        });
    })?;
    Ok(Thread { runtime: handle, connections: Arc::default() })
}
