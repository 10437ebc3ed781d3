//! kill -9 of every process at random points under load.
//!
//! Consumers read paced streams all the time; whenever a random number of tokens has arrived, a
//! random process is killed and started again. Progress must go on after every kill. At the end
//! the ledger is replayed and checked, streams that no kill touched must be billed to the unit, and
//! what was claimed in all may differ from what consumers saw by at most one window per touched
//! stream. `SEED=7 cargo test -p peerwatt --test chaos` replays the choices of one run.

mod support;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};

use support::{
    books::{owed, terms_of},
    network::{Network, Part, until_offered},
    process::check_ledger,
    stream::{Consumer, Seen},
    until,
};
use types::{Nusd, price::WINDOW_TOKENS};

const MODEL: &str = "dummy/paced";
/// Tokens of a whole answer of that model.
const ANSWER_TOKENS: u32 = 64;
const CONSUMERS: usize = 6;
/// Each part is killed this often; the order is random.
const KILLS_PER_PART: usize = 2;
/// Tokens that arrive between a recovery and the next kill: about a tenth of a second to two.
const TOKENS_BETWEEN_KILLS: std::ops::Range<u64> = 20..600;

/// What consumers and the killer tell each other.
#[derive(Default)]
struct Shared {
    tokens: AtomicU64,
    finished: AtomicU64,
    kills: AtomicU64,
    stop: AtomicBool,
    streams: Mutex<Vec<Stream>>,
}

/// A stream that ended, however.
struct Stream {
    seen: Seen,
    /// A process was killed while it ran.
    touched: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_close_after_kills_at_random_points() {
    let seed = std::env::var_os("SEED").map_or(1, |seed| seed.to_str().unwrap().parse().unwrap());
    let mut rng = Rng(seed);
    let mut network = Network::start().await;
    let consumer = network.consumer();
    until_offered(&consumer, MODEL).await;

    let shared = Arc::new(Shared::default());
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|_| tokio::spawn(consume(consumer.clone(), Arc::clone(&shared))))
        .collect();
    for part in rng.shuffled_parts() {
        let kill_at = shared.tokens.load(SeqCst) + rng.in_range(TOKENS_BETWEEN_KILLS);
        until(&format!("token {kill_at} (seed {seed})"), async || {
            (shared.tokens.load(SeqCst) >= kill_at).then_some(())
        })
        .await;
        shared.kills.fetch_add(1, SeqCst);
        network.kill(part).await;
        network.start_part(part).await;
        let finished = shared.finished.load(SeqCst);
        until(&format!("a whole answer after {part:?} was killed (seed {seed})"), async || {
            (shared.finished.load(SeqCst) > finished).then_some(())
        })
        .await;
    }
    shared.stop.store(true, SeqCst);
    for consumer in consumers {
        consumer.await.unwrap();
    }
    let streams = std::mem::take(&mut *shared.streams.lock().unwrap());
    audit(&mut network, &consumer, &streams, seed).await;
}

/// Reads streams, one after the other, until told to stop.
async fn consume(consumer: Consumer, shared: Arc<Shared>) {
    while !shared.stop.load(SeqCst) {
        let kills = shared.kills.load(SeqCst);
        let on_token = || {
            shared.tokens.fetch_add(1, SeqCst);
        };
        let seen = consumer.stream(MODEL, "go on and on", on_token).await;
        let touched = shared.kills.load(SeqCst) != kills;
        if seen.finished {
            shared.finished.fetch_add(1, SeqCst);
        } else {
            until_offered(&consumer, MODEL).await;
        }
        shared.streams.lock().unwrap().push(Stream { seen, touched });
    }
}

async fn audit(network: &mut Network, consumer: &Consumer, streams: &[Stream], seed: u64) {
    let mut all_terms = Vec::new();
    for Stream { seen, touched } in streams {
        if seen.finished {
            assert_eq!(seen.tokens, ANSWER_TOKENS, "{seen:?}");
        }
        if !touched && seen.finished {
            all_terms.push(terms_of(consumer, seen).await);
        }
    }
    all_terms.dedup();
    let [terms] = all_terms[..] else { panic!("equal requests on unequal terms: {all_terms:?}") };
    network.stop(Part::Provider).await;
    let claimed = network.claimed().await;
    let owed = owed(&terms, streams.iter().map(|stream| &stream.seen));
    let cut = |stream: &&Stream| stream.seen.answered && !stream.seen.finished;
    let touched = streams.iter().filter(|stream| stream.touched || cut(stream)).count();
    let slack = Nusd(terms.charge(WINDOW_TOKENS).0 * touched as u128);
    let gap = Nusd(claimed.0.abs_diff(owed.0));
    assert!(
        gap <= slack,
        "seed {seed}: claimed {claimed}, owed {owed}, {touched} of {} streams touched, {slack} allowed",
        streams.len()
    );
    network.stop(Part::Gateway).await;
    network.stop(Part::Validator).await;
    check_ledger(network.validator_home()).await;
}

/// splitmix64 (Steele, Lea, Flood 2014).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        it ^ (it >> 31)
    }

    fn in_range(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// Every part as often as it is to be killed, in random order (Fisher and Yates).
    fn shuffled_parts(&mut self) -> Vec<Part> {
        let mut parts = Part::ALL.repeat(KILLS_PER_PART);
        for last in (1..parts.len()).rev() {
            let other = self.in_range(0..last as u64 + 1);
            parts.swap(last, usize::try_from(other).unwrap());
        }
        parts
    }
}
