//! Several gateways with the same keys: what they share lies in a PostgreSQL database.
//!
//! Keys with their limits and rates, requests in work with what they hold of budgets, and what has ended are
//! there; channels and lanes are each gateway's own. A request asks the database once before it begins
//! ([`Fleet::begin`]) and once when it ends, through the outbox. Everything is decided in functions of the database
//! (`schema/1.sql`), under a lock on the key's row, so that no two gateways can spend the same money.

mod booking;
mod database;
mod outbox;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_postgres::{
    Row,
    types::{FromSql, ToSql},
};
use types::{Hash32, Nusd, RequestId, TimeMs};

use self::database::Database;
pub use self::database::{DatabaseError, DatabaseUrl, DatabaseUrlError};
pub(crate) use self::{
    booking::{begin, run},
    outbox::{Outbox, Settled},
};
use crate::{
    accounts::{Budget, KeyId, KeyLimits, NotAdmitted},
    error::KeyError,
    purses::Filled,
    views::KeyView,
};

/// How long the requests of a gateway count that is not heard of.
const LEASE_MS: i64 = 30_000;
/// How often it is heard of.
const BEAT: Duration = Duration::from_secs(10);
/// For how long a key that was known is let in without asking; whether it may spend is always asked.
const KNOWN: Duration = Duration::from_secs(30);
/// Keys that are known so: all there may be, and as many again.
const KNOWN_MAX: usize = 8_192;
/// Requests in one part of an export.
const PAGE_ROWS: i32 = 200;
/// Old requests that are forgotten at once.
const FORGET_ROWS: i32 = 5_000;

/// See the module.
pub(crate) struct Fleet {
    database: Database,
    /// This gateway, the same in every run.
    gateway: Hash32,
    known: Mutex<HashMap<KeyId, Instant>>,
    /// Told when there is something to book.
    pub(crate) work: Notify,
    /// Told when something was booked.
    pub(crate) booked: Notify,
    #[cfg(test)]
    time: Option<Time>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// The time of day, and that of rates.
#[cfg(test)]
type Time = Box<dyn Fn() -> (TimeMs, TimeMs) + Send + Sync>;

/// A request that wants to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning<'a> {
    pub request: RequestId,
    pub key: KeyId,
    pub model_name: &'a str,
    pub model_id: &'a str,
    pub prompt_tokens: u32,
    /// What it costs at least, and at most.
    pub least: Nusd,
    pub most: Nusd,
}

/// Whether it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    Filled(Filled),
    NotAdmitted(NotAdmitted),
    Short { budget: Budget, left: Nusd },
}

/// More money for a request in work, or what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Added { budget: Budget, amount: Nusd },
    Short { budget: Budget, left: Nusd },
}

/// A key as the database has it now.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub id: KeyId,
    /// Its limits as the database wrote them.
    limits: String,
    pub view: KeyView,
    pub expired: bool,
}

/// An attempt to be booked.
#[derive(Clone, Debug)]
pub(crate) struct Booking {
    pub request: RequestId,
    pub attempt: u16,
    pub key: KeyId,
    pub ended_at: TimeMs,
    pub answered: bool,
    pub billed: Nusd,
    pub lost: Nusd,
    pub tokens: u64,
    pub is_last: bool,
    /// The settlement as the journal has it.
    pub record: Vec<u8>,
}

/// A request that ended, and the records of its parts.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub request: RequestId,
    pub key_name: String,
    pub records: Vec<Vec<u8>>,
}

/// Where an export goes on.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    after: i64,
    after_place: i64,
    to: i64,
}

impl Cursor {
    pub(crate) fn new(from: TimeMs, to: TimeMs) -> Cursor {
        let after = milliseconds(from).saturating_sub(1);
        Cursor { after, after_place: i64::MAX, to: milliseconds(to) }
    }
}

impl Fleet {
    /// Connects, makes the tables if they are not there, and announces this gateway.
    pub(crate) async fn start(url: &DatabaseUrl, gateway: Hash32) -> Result<Fleet, DatabaseError> {
        let fleet = Fleet {
            database: Database::new(url)?,
            gateway,
            known: Mutex::default(),
            work: Notify::new(),
            booked: Notify::new(),
            #[cfg(test)]
            time: None,
        };
        schema::migrate(&fleet.database).await?;
        Ok(fleet)
    }

    /// From now on what this gateway begins counts, and nothing that an earlier run began.
    pub(crate) async fn announce(&self) -> Result<(), DatabaseError> {
        let (now, _) = self.moments();
        let statement = "SELECT peerwatt.start_gateway($1, $2, $3)";
        self.database.rows("start", statement, &[&self.gateway(), &LEASE_MS, &now]).await.map(drop)
    }

    /// The time of day, and the time that rates are measured by: the database's, and so nothing here.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests have a clock of their own")]
    fn moments(&self) -> (Option<i64>, Option<i64>) {
        (None, None)
    }

    #[cfg(test)]
    fn moments(&self) -> (Option<i64>, Option<i64>) {
        let time = self.time.as_ref().map(|time| time());
        (time.map(|(now, _)| milliseconds(now)), time.map(|(_, steady)| milliseconds(steady)))
    }

    /// Tests say what time it is.
    #[cfg(test)]
    pub(crate) fn with_clock_of(mut self, config: &crate::GatewayConfig) -> Fleet {
        let (clock, began) = (std::sync::Arc::clone(&config.clock), Instant::now());
        let steady = move || TimeMs(crate::shared::millis(began.elapsed()));
        self.time = Some(Box::new(move || (clock(), steady())));
        self
    }

    fn gateway(&self) -> &[u8] {
        &self.gateway.0
    }

    /// Whether the database answered when it was last asked.
    pub(crate) fn is_reached(&self) -> bool {
        self.database.is_reached()
    }

    // Requests.

    /// Lets a request in, within the limits of its key, and reserves what it may cost.
    pub(crate) async fn begin(&self, asked: &Beginning<'_>) -> Result<Begun, DatabaseError> {
        let (now, steady) = self.moments();
        let row = self
            .database
            .row(
                "let a request in",
                "SELECT outcome, amount, budget, per_minute, wait_ms, name, used, lost
             FROM peerwatt.begin_request($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                &[
                    &self.gateway(),
                    &asked.request.0.as_slice(),
                    &asked.key.0.as_slice(),
                    &asked.model_name,
                    &asked.model_id,
                    &i64::from(asked.prompt_tokens),
                    &asked.least.to_string(),
                    &asked.most.to_string(),
                    &LEASE_MS,
                    &now,
                    &steady,
                ],
            )
            .await?;
        let outcome: String = get(&row, "outcome")?;
        let rate = || {
            let per_minute = u32::try_from(get::<i64>(&row, "per_minute")?);
            let wait_ms = u64::try_from(get::<i64>(&row, "wait_ms")?);
            match (per_minute, wait_ms) {
                (Ok(per_minute), Ok(wait_ms)) => Ok((per_minute, wait_ms)),
                _ => Err(DatabaseError::Damaged { what: "a rate" }),
            }
        };
        Ok(match outcome.as_str() {
            "granted" => Begun::Filled(Filled {
                amount: amount(&row, "amount")?,
                budget: budget(&row)?,
                key_name: get(&row, "name")?,
                key_used: amount(&row, "used")?,
                key_lost: amount(&row, "lost")?,
            }),
            "short" => Begun::Short { budget: budget(&row)?, left: amount(&row, "amount")? },
            "unknown" => {
                self.known().remove(&asked.key);
                Begun::NotAdmitted(NotAdmitted::Unknown)
            }
            "expired" => Begun::NotAdmitted(NotAdmitted::Expired),
            "model" => Begun::NotAdmitted(NotAdmitted::Model),
            "too_many" => Begun::NotAdmitted(NotAdmitted::TooMany),
            "requests" => {
                let (per_minute, wait_ms) = rate()?;
                Begun::NotAdmitted(NotAdmitted::Requests { per_minute, wait_ms })
            }
            "tokens" => {
                let (per_minute, wait_ms) = rate()?;
                Begun::NotAdmitted(NotAdmitted::Tokens { per_minute, wait_ms })
            }
            _ => return Err(DatabaseError::Damaged { what: "an outcome" }),
        })
    }

    /// Reserves up to `most` more for a request in work, if `least` is left.
    pub(crate) async fn more(
        &self,
        request: RequestId,
        key: &KeyId,
        prompt_tokens: u32,
        (least, most): (Nusd, Nusd),
    ) -> Result<More, DatabaseError> {
        let (now, _) = self.moments();
        let row = self
            .database
            .row(
                "reserve more for a request",
                "SELECT outcome, amount, budget
             FROM peerwatt.more_for_request($1, $2, $3, $4, $5, $6, $7)",
                &[
                    &self.gateway(),
                    &request.0.as_slice(),
                    &key.0.as_slice(),
                    &i64::from(prompt_tokens),
                    &least.to_string(),
                    &most.to_string(),
                    &now,
                ],
            )
            .await?;
        match get::<String>(&row, "outcome")?.as_str() {
            "granted" => Ok(More::Added { budget: budget(&row)?, amount: amount(&row, "amount")? }),
            "short" => Ok(More::Short { budget: budget(&row)?, left: amount(&row, "amount")? }),
            // The key is gone, and with it what it may spend.
            "unknown" => Ok(More::Short { budget: Budget::Total, left: Nusd::ZERO }),
            _ => Err(DatabaseError::Damaged { what: "an outcome" }),
        }
    }

    /// Books attempts, each once however often it is said, and ends requests.
    pub(crate) async fn book(
        &self,
        bookings: &[Booking],
        ended: &[RequestId],
    ) -> Result<(), DatabaseError> {
        // The database locks keys in this order.
        let mut bookings: Vec<&Booking> = bookings.iter().collect();
        bookings.sort_by_key(|booking| booking.key);
        let (now, steady) = self.moments();
        let bytes =
            |of: fn(&Booking) -> &[u8]| bookings.iter().map(|it| of(it)).collect::<Vec<&[u8]>>();
        let texts = |of: fn(&Booking) -> Nusd| {
            bookings.iter().map(|it| of(it).to_string()).collect::<Vec<String>>()
        };
        let flags = |of: fn(&Booking) -> bool| bookings.iter().map(|it| of(it)).collect::<Vec<_>>();
        let numbers =
            |of: fn(&Booking) -> i64| bookings.iter().map(|it| of(it)).collect::<Vec<_>>();
        let attempts: Vec<i32> = bookings.iter().map(|it| it.attempt.into()).collect();
        let ended: Vec<&[u8]> = ended.iter().map(|request| request.0.as_slice()).collect();
        self.database
            .rows(
                "book what has ended",
                "SELECT peerwatt.finish($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
                &[
                    &bytes(|it| &it.request.0),
                    &attempts,
                    &bytes(|it| &it.key.0),
                    &numbers(|it| milliseconds(it.ended_at)),
                    &flags(|it| it.answered),
                    &texts(|it| it.billed),
                    &texts(|it| it.lost),
                    &numbers(|it| i64::try_from(it.tokens).unwrap_or(i64::MAX)),
                    &flags(|it| it.is_last),
                    &bytes(|it| &it.record),
                    &ended,
                    &now,
                    &steady,
                ],
            )
            .await
            .map(drop)
    }

    /// Says that this gateway lives, and what it has in work.
    pub(crate) async fn beat(&self, in_work: &[RequestId]) -> Result<(), DatabaseError> {
        let (now, _) = self.moments();
        let in_work: Vec<&[u8]> = in_work.iter().map(|request| request.0.as_slice()).collect();
        let statement = "SELECT peerwatt.beat($1, $2, $3, $4)";
        self.database
            .rows("prolong the lease", statement, &[&self.gateway(), &in_work, &LEASE_MS, &now])
            .await
            .map(drop)
    }

    /// This gateway has nothing in work any more.
    pub(crate) async fn stop(&self) -> Result<(), DatabaseError> {
        let statement = "SELECT peerwatt.stop_gateway($1)";
        self.database.rows("stop", statement, &[&self.gateway()]).await.map(drop)
    }

    /// Forgets what ended longer ago.
    pub(crate) async fn forget(&self, retention_ms: u64) -> Result<(), DatabaseError> {
        let (now, _) = self.moments();
        let retention_ms = i64::try_from(retention_ms).unwrap_or(i64::MAX);
        let statement = "SELECT peerwatt.forget($1, $2, $3) AS count";
        self.database
            .row("forget what is old", statement, &[&retention_ms, &FORGET_ROWS, &now])
            .await
            .map(drop)
    }

    /// The records of a request; of certain keys only, if they are given.
    pub(crate) async fn finished(
        &self,
        request: RequestId,
        keys: Option<&[KeyId]>,
    ) -> Result<Option<Vec<Vec<u8>>>, DatabaseError> {
        let statement = "SELECT records FROM peerwatt.finished
                         WHERE id = $1 AND ($2::bytea[] IS NULL OR key = ANY ($2))";
        let keys = keys.map(bytes_of);
        let rows = self
            .database
            .rows("find a receipt", statement, &[&request.0.as_slice(), &keys])
            .await?;
        rows.first().map(|row| get(row, "records")).transpose()
    }

    /// The next part of an export. None is the end.
    pub(crate) async fn usage(
        &self,
        cursor: &mut Cursor,
        keys: Option<&[KeyId]>,
    ) -> Result<Vec<Finished>, DatabaseError> {
        let statement =
            "SELECT id, ended_at, place, name, records FROM peerwatt.usage($1, $2, $3, $4, $5)";
        let keys = keys.map(bytes_of);
        let Cursor { after, after_place, to } = cursor;
        let parameters: [&(dyn ToSql + Sync); 5] = [after, after_place, to, &keys, &PAGE_ROWS];
        let rows = self.database.rows("list requests", statement, &parameters).await?;
        if let Some(last) = rows.last() {
            (*after, *after_place) = (get(last, "ended_at")?, get(last, "place")?);
        }
        let finished = |row: &Row| {
            let id = <[u8; 16]>::try_from(get::<&[u8]>(row, "id")?);
            Ok(Finished {
                request: RequestId(id.map_err(|_| DatabaseError::Damaged { what: "an id" })?),
                key_name: get(row, "name")?,
                records: get(row, "records")?,
            })
        };
        rows.iter().map(finished).collect()
    }

    // Keys.

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<KeyId, Instant>> {
        // Nothing under the lock can leave it half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a key was found not long ago, so that its request may be read before it is asked for again.
    pub(crate) fn was_known(&self, id: &KeyId) -> bool {
        self.known().get(id).is_some_and(|at| at.elapsed() < KNOWN)
    }

    /// A key that is not revoked, or `None`.
    pub(crate) async fn key(&self, id: &KeyId) -> Result<Option<Known>, DatabaseError> {
        let known = self.keys(Some(id)).await?.pop();
        let known = known.filter(|known| known.view.revoked_at.is_none());
        let mut cache = self.known();
        if cache.len() >= KNOWN_MAX {
            cache.clear();
        }
        match known.as_ref().filter(|known| !known.expired) {
            Some(_) => cache.insert(*id, Instant::now()),
            None => cache.remove(id),
        };
        drop(cache);
        Ok(known)
    }

    /// All keys by age, revoked ones too, or one.
    pub(crate) async fn keys(&self, id: Option<&KeyId>) -> Result<Vec<Known>, DatabaseError> {
        let (now, _) = self.moments();
        let statement = "SELECT * FROM peerwatt.key_views($1, $2)";
        let id = id.map(|id| id.0.as_slice());
        let rows = self.database.rows("list keys", statement, &[&id, &now]).await?;
        rows.iter().map(known).collect()
    }

    pub(crate) async fn put_key(
        &self,
        id: &KeyId,
        name: &str,
        prefix: &str,
        limits: &KeyLimits,
        keys_max: usize,
    ) -> Result<(), KeyError> {
        let (now, _) = self.moments();
        let keys_max_sent = i64::try_from(keys_max).unwrap_or(i64::MAX);
        let row = self
            .database
            .row(
                "make a key",
                "SELECT peerwatt.put_key($1, $2, $3, $4, $5, $6) AS outcome",
                &[&id.0.as_slice(), &name, &prefix, &written(limits)?, &keys_max_sent, &now],
            )
            .await?;
        match get::<String>(&row, "outcome")?.as_str() {
            "made" => Ok(()),
            "revoked" => Err(KeyError::Revoked),
            "name_taken" => Err(KeyError::NameTaken { name: name.into() }),
            "key_taken" => Err(KeyError::KeyTaken),
            "too_many" => Err(KeyError::TooMany { keys_max }),
            _ => Err(DatabaseError::Damaged { what: "an outcome" }.into()),
        }
    }

    /// Takes over a key of this gateway's own journal.
    pub(crate) async fn take_over(&self, id: &KeyId, view: &KeyView) -> Result<(), DatabaseError> {
        let (now, _) = self.moments();
        let limits = serde_json::to_string(&view.limits)
            .map_err(|_| DatabaseError::Damaged { what: "a key's limits" })?;
        let other_name: String = format!("{}-{id}", view.name).chars().take(64).collect();
        self.database
            .rows(
                "take over a key",
                "SELECT peerwatt.take_over_key($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                &[
                    &id.0.as_slice(),
                    &view.name,
                    &other_name,
                    &view.prefix,
                    &limits,
                    &view.used.to_string(),
                    &view.used_day.to_string(),
                    &view.used_month.to_string(),
                    &milliseconds(view.created_at),
                    &now,
                ],
            )
            .await
            .map(drop)
    }

    /// Changes the limits of a key, if nobody else does at the same time.
    pub(crate) async fn limit_key(
        &self,
        name: &str,
        change: impl FnOnce(&KeyLimits) -> Result<KeyLimits, KeyError>,
    ) -> Result<(), KeyError> {
        let unknown = || KeyError::Unknown { name: name.into() };
        let before = self.key_named(name).await?.ok_or_else(unknown)?;
        let limits = change(&before.view.limits)?;
        limits.check()?;
        let row = self
            .database
            .row(
                "limit a key",
                "SELECT peerwatt.limit_key($1, $2, $3) AS changed",
                &[&name, &before.limits, &written(&limits)?],
            )
            .await?;
        if get(&row, "changed")? { Ok(()) } else { Err(KeyError::Changed { name: name.into() }) }
    }

    pub(crate) async fn revoke_key(&self, name: &str) -> Result<(), KeyError> {
        let (now, _) = self.moments();
        let statement = "SELECT peerwatt.revoke_key($1, $2) AS revoked";
        let row = self.database.row("revoke a key", statement, &[&name, &now]).await?;
        if get(&row, "revoked")? { Ok(()) } else { Err(KeyError::Unknown { name: name.into() }) }
    }

    /// The key of this name that is not revoked.
    pub(crate) async fn key_named(&self, name: &str) -> Result<Option<Known>, DatabaseError> {
        for id in self.ids_of(name).await? {
            if let Some(known) = self.key(&id).await? {
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    /// The keys of this name, the one that is not revoked first.
    pub(crate) async fn ids_of(&self, name: &str) -> Result<Vec<KeyId>, DatabaseError> {
        let statement =
            "SELECT id FROM peerwatt.keys WHERE name = $1 ORDER BY revoked_at DESC NULLS FIRST";
        let rows = self.database.rows("find a key", statement, &[&name]).await?;
        rows.iter().map(key_id).collect()
    }
}

/// A time as the database has it. One beyond is no time of a clock.
fn milliseconds(at: TimeMs) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

fn bytes_of(keys: &[KeyId]) -> Vec<&[u8]> {
    keys.iter().map(|key| key.0.as_slice()).collect()
}

fn written(limits: &KeyLimits) -> Result<String, KeyError> {
    serde_json::to_string(limits).map_err(|error| KeyError::Change { problem: error.to_string() })
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &'static str) -> Result<T, DatabaseError> {
    row.try_get(column).map_err(|_| DatabaseError::Damaged { what: column })
}

fn amount(row: &Row, column: &'static str) -> Result<Nusd, DatabaseError> {
    let text: &str = get(row, column)?;
    text.parse().map(Nusd).map_err(|_| DatabaseError::Damaged { what: column })
}

/// Without a budget, the one in all is the one that binds.
fn budget(row: &Row) -> Result<Budget, DatabaseError> {
    match get::<Option<&str>>(row, "budget")? {
        None | Some("total") => Ok(Budget::Total),
        Some("day") => Ok(Budget::Day),
        Some("month") => Ok(Budget::Month),
        Some(_) => Err(DatabaseError::Damaged { what: "a budget" }),
    }
}

fn key_id(row: &Row) -> Result<KeyId, DatabaseError> {
    let id = <[u8; 32]>::try_from(get::<&[u8]>(row, "id")?);
    id.map(Hash32).map_err(|_| DatabaseError::Damaged { what: "a key's id" })
}

fn known(row: &Row) -> Result<Known, DatabaseError> {
    let time = |column: &'static str| {
        let time = get::<Option<i64>>(row, column)?.map(u64::try_from).transpose();
        time.map(|time| time.map(TimeMs)).map_err(|_| DatabaseError::Damaged { what: column })
    };
    let written: String = get(row, "limits")?;
    let limits = serde_json::from_str(&written);
    Ok(Known {
        limits: written,
        id: key_id(row)?,
        expired: get(row, "expired")?,
        view: KeyView {
            name: get(row, "name")?,
            prefix: get(row, "prefix")?,
            limits: limits.map_err(|_| DatabaseError::Damaged { what: "a key's limits" })?,
            used: amount(row, "used")?,
            used_day: amount(row, "used_day")?,
            used_month: amount(row, "used_month")?,
            reserved: amount(row, "reserved")?,
            in_flight: u32::try_from(get::<i64>(row, "in_flight")?).unwrap_or(u32::MAX),
            created_at: time("created_at")?.unwrap_or_default(),
            revoked_at: time("revoked_at")?,
        },
    })
}
