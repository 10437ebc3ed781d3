//! What the database decides, against what `accounts` decides, and what holds between gateways. On one database,
//! without gateways: the questions are asked directly.

use std::{
    slice::from_ref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use types::{ModelId, sha256};

use super::*;
use crate::{
    accounts::{Accounts, Entry},
    tests::postgres,
};

const MODEL: ModelId = ModelId([7; 32]);

/// A clock that a test sets. 2026-01-31 12:00 UTC, so that days and months end.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn new() -> Clock {
        Clock(Arc::new(AtomicU64::new(1_769_860_800_000)))
    }

    fn now(&self) -> TimeMs {
        TimeMs(self.0.load(Ordering::SeqCst))
    }

    fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

/// Another gateway on the same database.
async fn member(url: &DatabaseUrl, clock: &Clock, seed: u8) -> Fleet {
    let mut fleet = Fleet::start(url, Hash32([seed; 32])).await.unwrap();
    let clock = clock.clone();
    fleet.time = Some(Box::new(move || (clock.now(), clock.now())));
    fleet.announce().await.unwrap();
    fleet
}

/// Runs a test with a database of its own, or says why not.
fn on_a_database<F: Future<Output = ()>>(name: &str, test: impl FnOnce(DatabaseUrl) -> F) {
    match postgres::server() {
        Ok(server) => {
            let url = server.database().parse().unwrap();
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(test(url));
        }
        Err(reason) => postgres::skip(name, reason),
    }
}

fn request(number: u64) -> RequestId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    RequestId(id)
}

fn key(number: u64) -> KeyId {
    sha256(&[&number.to_be_bytes()])
}

fn beginning(number: u64, key: KeyId, least: u128, most: u128) -> Beginning<'static> {
    Beginning {
        request: request(number),
        key,
        model_name: "m",
        model_id: "0707",
        prompt_tokens: 10,
        least: Nusd(least),
        most: Nusd(most),
    }
}

fn booking(number: u64, key: KeyId, attempt: u16, billed: u128) -> Booking {
    Booking {
        request: request(number),
        attempt,
        key,
        ended_at: TimeMs(1_769_860_800_000 + number),
        answered: true,
        billed: Nusd(billed),
        lost: Nusd::ZERO,
        tokens: 0,
        is_last: true,
        record: vec![1, 2, 3],
    }
}

async fn put(fleet: &Fleet, key: KeyId, name: &str, limits: KeyLimits) {
    fleet.put_key(&key, name, "pw-00000", &limits, 100).await.unwrap();
}

async fn view(fleet: &Fleet, key: KeyId) -> KeyView {
    fleet.keys(Some(&key)).await.unwrap().pop().unwrap().view
}

fn filled(begun: &Begun) -> Option<Nusd> {
    match begun {
        Begun::Filled(filled) => Some(filled.amount),
        Begun::NotAdmitted(_) | Begun::Short { .. } => None,
    }
}

#[test]
fn one_budget_is_spent_once_however_many_ask() {
    on_a_database("one_budget_is_spent_once_however_many_ask", async |url| {
        let clock = Clock::new();
        let fleets = [member(&url, &clock, 1).await, member(&url, &clock, 2).await].map(Arc::new);
        put(&fleets[0], key(1), "k", KeyLimits::budget(Nusd(1_050))).await;
        let mut asks = tokio::task::JoinSet::new();
        for number in 0..60 {
            let fleet = Arc::clone(&fleets[usize::from(number % 2 == 0)]);
            asks.spawn(async move { fleet.begin(&beginning(number, key(1), 100, 100)).await });
        }
        let begun: Vec<Begun> = asks.join_all().await.into_iter().map(Result::unwrap).collect();
        assert_eq!(begun.iter().filter_map(filled).sum::<Nusd>(), Nusd(1_000));
        let short = Begun::Short { budget: Budget::Total, left: Nusd(50) };
        assert!(begun.iter().all(|begun| filled(begun).is_some() || *begun == short));
        let view = view(&fleets[1], key(1)).await;
        assert_eq!((view.reserved, view.in_flight), (Nusd(1_000), 10));
    });
}

#[test]
fn an_attempt_is_booked_once() {
    on_a_database("an_attempt_is_booked_once", async |url| {
        let clock = Clock::new();
        let fleet = member(&url, &clock, 1).await;
        put(&fleet, key(1), "k", KeyLimits::budget(Nusd(1_000))).await;
        fleet.begin(&beginning(1, key(1), 500, 500)).await.unwrap();
        let part = Booking { is_last: false, ..booking(1, key(1), 0, 100) };
        for _ in 0..3 {
            fleet.book(from_ref(&part), &[]).await.unwrap();
            let view = view(&fleet, key(1)).await;
            assert_eq!((view.used, view.reserved), (Nusd(100), Nusd(400)));
        }
        // At the same time over two connections, and once more after the end.
        let last = Booking { ended_at: TimeMs(9), ..booking(1, key(1), 3, 50) };
        let both = [part, last];
        let (one, other) = tokio::join!(fleet.book(&both, &[]), fleet.book(&both, &[]));
        one.unwrap();
        other.unwrap();
        fleet.book(&both, &[request(1)]).await.unwrap();
        let view = view(&fleet, key(1)).await;
        assert_eq!((view.used, view.reserved, view.in_flight), (Nusd(150), Nusd::ZERO, 0));
        assert_eq!(fleet.finished(request(1), None).await.unwrap().unwrap().len(), 2);
    });
}

#[test]
fn what_a_dead_gateway_held_is_free_after_its_lease() {
    on_a_database("what_a_dead_gateway_held_is_free_after_its_lease", async |url| {
        let clock = Clock::new();
        let (dead, alive) = (member(&url, &clock, 1).await, member(&url, &clock, 2).await);
        let limits = KeyLimits { requests_at_once: Some(1), ..KeyLimits::budget(Nusd(100)) };
        put(&alive, key(1), "k", limits).await;
        assert!(filled(&dead.begin(&beginning(1, key(1), 100, 100)).await.unwrap()).is_some());
        let too_many = Begun::NotAdmitted(NotAdmitted::TooMany);
        clock.advance(25_000);
        alive.beat(&[]).await.unwrap();
        assert_eq!(alive.begin(&beginning(2, key(1), 100, 100)).await.unwrap(), too_many);
        clock.advance(5_000);
        assert!(filled(&alive.begin(&beginning(3, key(1), 100, 100)).await.unwrap()).is_some());
        // It comes back, with another run, and books what it had settled: too late to be within the budget.
        let again = member(&url, &clock, 1).await;
        again.book(&[booking(1, key(1), 0, 60)], &[]).await.unwrap();
        assert_eq!(view(&again, key(1)).await.used, Nusd(60));
        let begun = again.begin(&beginning(4, key(1), 1, 1)).await.unwrap();
        assert_eq!(begun, too_many, "the living one's request counts");
    });
}

#[test]
fn a_gateway_that_starts_again_holds_nothing_of_its_last_run() {
    on_a_database("a_gateway_that_starts_again_holds_nothing_of_its_last_run", async |url| {
        let clock = Clock::new();
        let fleet = member(&url, &clock, 1).await;
        put(&fleet, key(1), "k", KeyLimits::budget(Nusd(100))).await;
        fleet.begin(&beginning(1, key(1), 100, 100)).await.unwrap();
        let fleet = member(&url, &clock, 1).await;
        assert_eq!(view(&fleet, key(1)).await.reserved, Nusd::ZERO);
        // What it does not know to be in work ends with a beat, if it is not quite new.
        fleet.begin(&beginning(2, key(1), 50, 50)).await.unwrap();
        fleet.beat(&[]).await.unwrap();
        assert_eq!(view(&fleet, key(1)).await.reserved, Nusd(50));
        fleet.begin(&beginning(3, key(1), 10, 10)).await.unwrap();
        clock.advance(31_000);
        fleet.beat(&[request(3)]).await.unwrap();
        assert_eq!(view(&fleet, key(1)).await.reserved, Nusd(10));
    });
}

#[test]
fn leases_that_ran_out_together_still_count() {
    on_a_database("leases_that_ran_out_together_still_count", async |url| {
        let clock = Clock::new();
        let (first, second) = (member(&url, &clock, 1).await, member(&url, &clock, 2).await);
        put(&first, key(1), "k", KeyLimits::budget(Nusd(100))).await;
        first.begin(&beginning(1, key(1), 100, 100)).await.unwrap();
        // Nobody reached the database for an hour.
        clock.advance(3_600_000);
        let begun = second.begin(&beginning(2, key(1), 100, 100)).await.unwrap();
        assert_eq!(begun, Begun::Short { budget: Budget::Total, left: Nusd::ZERO });
    });
}

#[test]
fn a_purse_is_filled_up_from_what_is_left() {
    on_a_database("a_purse_is_filled_up_from_what_is_left", async |url| {
        let fleet = member(&url, &Clock::new(), 1).await;
        put(&fleet, key(1), "k", KeyLimits::budget(Nusd(100))).await;
        fleet.begin(&beginning(1, key(1), 10, 40)).await.unwrap();
        let of_key = key(1);
        let more = |least, most| fleet.more(request(1), &of_key, 10, (Nusd(least), Nusd(most)));
        let added = |amount| More::Added { budget: Budget::Total, amount: Nusd(amount) };
        assert_eq!(more(20, 30).await.unwrap(), added(30));
        assert_eq!(more(20, 50).await.unwrap(), added(30));
        let short = More::Short { budget: Budget::Total, left: Nusd::ZERO };
        assert_eq!(more(1, 1).await.unwrap(), short);
    });
}

#[test]
fn exports_come_page_by_page_and_old_requests_are_forgotten() {
    on_a_database("exports_come_page_by_page", async |url| {
        let clock = Clock::new();
        let fleet = member(&url, &clock, 1).await;
        put(&fleet, key(1), "one", KeyLimits::default()).await;
        put(&fleet, key(2), "two", KeyLimits::default()).await;
        let bookings: Vec<Booking> =
            (0..450).map(|number| booking(number, key(1 + number % 2), 0, 1)).collect();
        fleet.book(&bookings, &[]).await.unwrap();
        let start = clock.now().0;
        let list = async |from: u64, to: u64, keys: Option<&[KeyId]>| {
            let mut cursor = Cursor::new(TimeMs(from), TimeMs(to));
            let mut ids = Vec::new();
            loop {
                let page = fleet.usage(&mut cursor, keys).await.unwrap();
                if page.is_empty() {
                    return ids;
                }
                ids.extend(page.into_iter().map(|it| it.request));
            }
        };
        let all: Vec<RequestId> = (0..450).map(request).collect();
        assert_eq!(list(0, u64::MAX, None).await, all);
        assert_eq!(list(start + 3, start + 5, None).await, all[3..5]);
        assert_eq!(list(0, u64::MAX, Some(&[key(2)])).await.len(), 225);
        clock.advance(1_000 + 10);
        fleet.forget(1_000).await.unwrap();
        assert_eq!(list(0, u64::MAX, None).await, all[10..]);
    });
}

#[test]
fn several_start_at_once_on_an_empty_database() {
    on_a_database("several_start_at_once_on_an_empty_database", async |url| {
        let clock = Clock::new();
        let start = |seed| member(&url, &clock, seed);
        let fleets = tokio::join!(start(1), start(2), start(3), start(4));
        put(&fleets.0, key(1), "k", KeyLimits::default()).await;
        assert!(fleets.3.key(&key(1)).await.unwrap().is_some());
    });
}

#[test]
fn a_server_is_trusted_by_its_certificate() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let options = format!(
        "-c listen_addresses=127.0.0.1 -c port={port} -c ssl=on \
         -c ssl_cert_file=FOLDER/server.pem -c ssl_key_file=FOLDER/server.key"
    );
    let names = vec!["127.0.0.1".to_owned()];
    let certified = rcgen::generate_simple_self_signed(names.clone()).unwrap();
    let stranger = rcgen::generate_simple_self_signed(names).unwrap();
    let server = postgres::Server::start_with(&options, |folder| {
        use std::os::unix::fs::OpenOptionsExt;
        std::fs::write(folder.join("server.pem"), certified.cert.pem()).unwrap();
        std::fs::write(folder.join("stranger.pem"), stranger.cert.pem()).unwrap();
        let mut key = std::fs::OpenOptions::new();
        let key = key.create(true).write(true).mode(0o600).open(folder.join("server.key"));
        let pem = certified.key_pair.serialize_pem();
        std::io::Write::write_all(&mut key.unwrap(), pem.as_bytes()).unwrap();
    });
    let server = match server {
        Ok(server) => server,
        Err(reason) => return postgres::skip("a_server_is_trusted_by_its_certificate", &reason),
    };
    let start = async |roots: &str| {
        let roots = server.file(roots);
        let url = format!(
            "postgres://postgres@127.0.0.1:{port}/postgres?sslmode=require&sslrootcert={}",
            roots.display()
        );
        Fleet::start(&url.parse().unwrap(), Hash32([1; 32])).await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let fleet = start("server.pem").await.unwrap();
        let statement = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = fleet.database.row("ask", statement, &[]).await.unwrap();
        assert!(get::<bool>(&row, "ssl").unwrap());
        let refused = start("stranger.pem").await.unwrap_err().to_string();
        assert!(refused.contains("certificate"), "{refused}");
        let refused = start("nothing.pem").await.unwrap_err().to_string();
        assert!(refused.contains("no certificate"), "{refused}");
    });
}

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn maybe(&mut self, bound: u64) -> Option<u64> {
        (self.below(3) == 0).then(|| 1 + self.below(bound))
    }
}

/// A key, and its requests in work as `accounts` has them: what each has reserved.
struct Model {
    accounts: Accounts,
    key: KeyId,
    in_work: Vec<(u64, Nusd, u16)>,
}

impl Model {
    fn begin(&mut self, clock: &Clock, number: u64, asked: &Beginning<'_>) -> Begun {
        let entry = Entry {
            now: clock.now(),
            steady: clock.now(),
            model_name: asked.model_name,
            model: &MODEL,
            prompt_tokens: asked.prompt_tokens,
        };
        if let Err(why) = self.accounts.enter(&self.key, &entry, u32::MAX) {
            return Begun::NotAdmitted(why);
        }
        let (budget, left) = self.accounts.left(&self.key, clock.now());
        if left < asked.least {
            self.accounts.leave(&self.key, asked.prompt_tokens);
            return Begun::Short { budget, left };
        }
        let amount = left.min(asked.most);
        self.accounts.reserve(&self.key, amount);
        self.in_work.push((number, amount, 0));
        Begun::Filled(Filled {
            amount,
            budget,
            key_name: String::new(),
            key_used: Nusd::ZERO,
            key_lost: Nusd::ZERO,
        })
    }

    fn book(&mut self, clock: &Clock, at: usize, booking: &Booking) {
        let (_, reserved, attempt) = &mut self.in_work[at];
        *attempt += 1;
        let freed = booking.billed.min(*reserved);
        *reserved = reserved.saturating_sub(freed);
        self.accounts.unreserve(&self.key, freed);
        self.accounts.bill(&self.key, clock.now(), booking.billed);
        self.accounts.lose(&self.key, booking.lost);
        if booking.tokens > 0 {
            self.accounts.count_tokens(&self.key, clock.now(), booking.tokens);
        }
        if booking.is_last {
            self.end(at);
        }
    }

    fn end(&mut self, at: usize) {
        let (_, reserved, _) = self.in_work.swap_remove(at);
        self.accounts.unreserve(&self.key, reserved);
        self.accounts.leave(&self.key, 10);
    }
}

fn some_limits(random: &mut Random) -> KeyLimits {
    KeyLimits {
        budget: random.maybe(5_000).map(|it| Nusd(it.into())),
        budget_day: random.maybe(1_000).map(|it| Nusd(it.into())),
        budget_month: random.maybe(3_000).map(|it| Nusd(it.into())),
        requests_per_minute: random.maybe(6).map(|it| it as u32),
        tokens_per_minute: random.maybe(200).map(|it| it as u32),
        requests_at_once: random.maybe(4).map(|it| it as u32),
        expires_at: None,
        models: if random.below(6) == 0 { vec!["other".into()] } else { Vec::new() },
    }
}

/// What the database does not say in the same words.
fn plain(begun: Begun) -> Begun {
    match begun {
        Begun::Filled(filled) => Begun::Filled(Filled {
            key_name: String::new(),
            key_used: Nusd::ZERO,
            key_lost: Nusd::ZERO,
            ..filled
        }),
        begun => begun,
    }
}

async fn walk(fleets: &[Fleet; 2], clock: &Clock, seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let name = format!("k{seed}");
    let secret = format!("pw-of-the-tests-{seed:08}");
    let id = crate::accounts::key_id(&secret);
    let limits = some_limits(&mut random);
    let mut model = Model { accounts: Accounts::default(), key: id, in_work: Vec::new() };
    let record = model.accounts.plan(&secret, &name, limits.clone(), clock.now(), 100).unwrap();
    let prefix = record.prefix.clone();
    model.accounts.restore(record);
    fleets[0].put_key(&id, &name, &prefix, &limits, 10_000).await.unwrap();
    for step in 0..80_u64 {
        let number = seed * 1_000 + step;
        let fleet = &fleets[usize::from(random.below(2) == 0)];
        match random.below(12) {
            0..=4 => {
                let least = 1 + u128::from(random.below(300));
                let most = least + u128::from(random.below(300));
                let asked = beginning(number, id, least, most);
                let begun = plain(fleet.begin(&asked).await.unwrap());
                assert_eq!(begun, model.begin(clock, number, &asked), "seed {seed} step {step}");
            }
            5..=7 if !model.in_work.is_empty() => {
                let at = random.below(model.in_work.len() as u64) as usize;
                let (number, _, attempt) = model.in_work[at];
                let booking = Booking {
                    lost: Nusd(random.below(50).into()),
                    tokens: random.below(80),
                    is_last: random.below(3) > 0,
                    ..booking(number, id, attempt, random.below(400).into())
                };
                for _ in 0..=random.below(2) {
                    fleet.book(from_ref(&booking), &[]).await.unwrap();
                }
                model.book(clock, at, &booking);
            }
            8 if !model.in_work.is_empty() => {
                let at = random.below(model.in_work.len() as u64) as usize;
                fleet.book(&[], &[request(model.in_work[at].0)]).await.unwrap();
                model.end(at);
            }
            9 => {
                let limits = some_limits(&mut random);
                fleet.limit_key(&name, |_| Ok(limits.clone())).await.unwrap();
                let mut record = model.accounts.record(&id).unwrap().clone();
                record.limits = limits;
                model.accounts.restore(record);
            }
            _ => {
                let hours = if random.below(20) == 0 { 3_600_000 * random.below(30) } else { 0 };
                clock.advance(random.below(20_000) + hours);
                for fleet in fleets {
                    fleet.announce_again().await;
                }
            }
        }
        let (ours, theirs) =
            (view(fleet, id).await, model.accounts.view(&id, clock.now()).unwrap());
        assert_eq!(ours, theirs, "seed {seed} step {step}");
    }
}

impl Fleet {
    /// The lease goes on, with all that is in work.
    async fn announce_again(&self) {
        let (now, _) = self.moments();
        let statement = "SELECT peerwatt.renew($1, $2, $3)";
        let parameters: [&(dyn ToSql + Sync); 3] = [&self.gateway(), &LEASE_MS, &now];
        self.database.rows("renew", statement, &parameters).await.unwrap();
    }
}

#[test]
fn the_database_decides_as_accounts_do() {
    on_a_database("the_database_decides_as_accounts_do", async |url| {
        let clock = Clock::new();
        let fleets = [member(&url, &clock, 1).await, member(&url, &clock, 2).await];
        for seed in 1..=30 {
            walk(&fleets, &clock, seed).await;
        }
    });
}
