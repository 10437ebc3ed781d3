//! Threads that answer clients, each with a runtime of its own.
//!
//! A runtime of several threads wakes a second one for whatever arrives, lest there be more of it than the first can do. What a
//! gateway does for a packet is less than that costs. So a connection stays with one thread, and what is asked of services
//! outside the network for its requests does too: `engine` keeps its connections apart by runtime. What is everybody's,
//! connections to providers and the treasury for example, stays in the runtime that the gateway was started in.
//!
//! For the same reason a thread is given connections until it is busy, and only then the next one: a thread that is woken for one of them
//! serves all on which something has come. Connections that were idle when they were placed may all become busy at once, so some
//! move, between two requests, from a thread that is busy to one that is not.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A timer that is due before all others wakes its runtime by a system call, in case it sleeps until a later one. So that the
/// deadlines of requests, of which nearly all are seconds away and none comes to pass, do not, one is always due earlier.
const TICK: Duration = Duration::from_millis(500);
/// A thread that is busy for more of its time, in thousandths, is given nothing more, and gives away to one that is so much less busy.
const BUSY: u64 = 500;
const APART: u64 = 250;
/// Connections that a thread is given before the next gets any. All may begin to stream at once: at the pace of a model they keep
/// it a quarter busy.
const CONNECTIONS_FIRST: usize = 128;
/// Time over which a thread's share is measured, at least.
const WATCH: Duration = Duration::from_millis(20);

/// See the module. They end, and what still runs on them, when this is dropped.
#[derive(Debug)]
pub(crate) struct Threads {
    places: Arc<Places>,
    _stop: DropGuard,
}

/// Which connections are on which thread.
#[derive(Debug)]
pub(crate) struct Places {
    threads: Vec<Thread>,
    began: Instant,
    /// When the threads were last looked at, in microseconds since then.
    looked_us: AtomicU64,
}

#[derive(Debug)]
struct Thread {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
    /// Time that it was busy until the last look.
    busy_us: AtomicU64,
    /// Thousandths of the time between the last two looks in which it was busy.
    share: AtomicU64,
    /// Connections that may move to another thread until the next look.
    leaving: AtomicUsize,
}

/// A connection's place on a thread, until it is dropped.
pub(crate) struct Place {
    pub(crate) runtime: Handle,
    number: usize,
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
        let threads = threads.collect::<io::Result<_>>()?;
        let places = Places { threads, began: Instant::now(), looked_us: AtomicU64::new(0) };
        Ok(Threads { places: Arc::new(places), _stop: stop.drop_guard() })
    }

    pub(crate) fn places(&self) -> Arc<Places> {
        Arc::clone(&self.places)
    }
}

impl Places {
    /// A place for a new connection.
    pub(crate) fn find(&self) -> Option<Place> {
        self.look();
        let has_room = |thread: &Thread| {
            thread.share.load(Relaxed) < BUSY
                && thread.connections.load(Relaxed) < CONNECTIONS_FIRST
        };
        let connections = |number: &usize| self.threads.get(*number).map(Thread::connections);
        let first = self.threads.iter().position(has_room);
        self.on(first.or_else(|| (0..self.threads.len()).min_by_key(connections))?)
    }

    /// Another place for a connection that waits for its next request, if it should move.
    pub(crate) fn better(&self, than: &Place) -> Option<Place> {
        self.look();
        let leaving = &self.threads.get(than.number)?.leaving;
        if leaving.load(Relaxed) == 0 {
            return None;
        }
        leaving.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).ok()?;
        let others = self.threads.iter().enumerate().filter(|(number, _)| *number != than.number);
        let (number, _) =
            others.min_by_key(|(_, it)| (it.share.load(Relaxed), it.connections()))?;
        self.on(number)
    }

    fn on(&self, number: usize) -> Option<Place> {
        let thread = self.threads.get(number)?;
        thread.connections.fetch_add(1, Relaxed);
        let connections = Arc::clone(&thread.connections);
        Some(Place { runtime: thread.runtime.clone(), number, connections })
    }

    /// Measures how busy each thread is, now and then.
    fn look(&self) {
        let now = micros(self.began.elapsed());
        let last = self.looked_us.load(Relaxed);
        let passed = now.saturating_sub(last);
        if passed < micros(WATCH)
            || self.looked_us.compare_exchange(last, now, Relaxed, Relaxed).is_err()
        {
            return;
        }
        let shares = self.threads.iter().map(|thread| {
            let busy = micros(thread.runtime.metrics().worker_total_busy_duration(0));
            let since = busy.saturating_sub(thread.busy_us.swap(busy, Relaxed));
            let share = since.saturating_mul(1_000).checked_div(passed).unwrap_or(0);
            thread.share.store(share, Relaxed);
            (share, thread.connections())
        });
        let shares: Vec<(u64, usize)> = shares.collect();
        for (thread, leaving) in self.threads.iter().zip(leaving(&shares)) {
            thread.leaving.store(leaving, Relaxed);
        }
    }

    /// Lets so many connections of a thread move, as if it were busy.
    #[cfg(test)]
    pub(crate) fn crowd(&self, number: usize, leaving: usize) {
        self.looked_us.store(u64::MAX, Relaxed);
        self.threads[number].leaving.store(leaving, Relaxed);
    }
}

impl Thread {
    fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Relaxed);
    }
}

/// How many connections each thread gives away, by how busy it is, in thousandths, and how many it has: so many that those who give
/// and who is least busy are about even then.
fn leaving(threads: &[(u64, usize)]) -> Vec<usize> {
    let idlest = threads.iter().map(|(share, _)| *share).min().unwrap_or(0);
    let gives = |share: u64| share > BUSY && share.saturating_sub(idlest) > APART;
    let giving = threads.iter().filter(|(share, _)| gives(*share)).count();
    let of = |&(share, connections): &(u64, usize)| {
        let apart = usize::try_from(share.saturating_sub(idlest)).unwrap_or(usize::MAX);
        let whole = usize::try_from(share).unwrap_or(usize::MAX).saturating_mul(giving + 1);
        match gives(share) {
            true => connections.saturating_mul(apart).checked_div(whole).unwrap_or(0),
            false => 0,
        }
    };
    threads.iter().map(of).collect()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
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
    Ok(Thread {
        runtime: handle,
        connections: Arc::default(),
        busy_us: AtomicU64::new(0),
        share: AtomicU64::new(0),
        leaving: AtomicUsize::new(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_thread_gives_away_what_makes_it_even_with_an_idle_one() {
        let check = |threads: &[(u64, usize)], expected: &[usize]| {
            assert_eq!(leaving(threads), expected, "{threads:?}");
        };
        check(&[(900, 32), (0, 0)], &[16, 0]);
        check(&[(900, 32), (300, 10)], &[10, 0]);
        check(&[(900, 16), (850, 16)], &[0, 0]);
        check(&[(450, 100), (0, 0)], &[0, 0]);
        // Two give to one, a third each.
        check(&[(900, 30), (900, 30), (0, 0)], &[10, 10, 0]);
        check(&[(900, 1), (0, 0)], &[0, 0]);
        check(&[(0, 0)], &[0]);
        check(&[], &[]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_first_thread_is_filled_first() {
        let places = Threads::beside_this().unwrap().places();
        let taken: Vec<Place> = (0..CONNECTIONS_FIRST + 1).filter_map(|_| places.find()).collect();
        let on = |number: usize| taken.iter().filter(|place| place.number == number).count();
        assert_eq!((on(0), on(1)), (CONNECTIONS_FIRST, 1));
        drop(taken);
        let first = places.find().unwrap();
        assert_eq!(first.number, 0);
        assert!(places.better(&first).is_none());
        places.crowd(0, 1);
        assert_eq!(places.better(&first).unwrap().number, 1);
        assert!(places.better(&first).is_none(), "one was to move");
    }
}
