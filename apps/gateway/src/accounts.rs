//! API keys and what they may use. Pure; keys are known by their digest only.
//!
//! Invariant: what was used and what is reserved never exceed a budget by a request's doing, however
//! many run at once: a request reserves the most it can cost before it begins.

mod limits;
mod rate;

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use types::{Hash32, ModelId, Nusd, TimeMs, sha256};

pub use self::limits::{Budget, KeyLimits};
use self::{
    limits::{Spent, day, month},
    rate::Bucket,
};
use crate::{error::KeyError, views::KeyView};

/// Bytes of a key's name.
const NAME_BYTES_MAX: usize = 64;
/// Characters of a key that are kept readable, `pw-` included: 20 bits, for telling keys apart.
const PREFIX_CHARS: usize = 8;
/// Of what a key spent, one part in so many may be lost for its sake, and so much beside it.
const LOST_SHARE: u128 = 10;
const LOST_FREE: Nusd = Nusd(10_000_000);
/// Revoked keys whose names are still known; the oldest are forgotten first.
const REVOKED_MAX: usize = 4_096;

/// The digest by which a key is known.
pub(crate) type KeyId = Hash32;

pub(crate) fn key_id(key: &str) -> KeyId {
    sha256(&[b"peerwatt/api-key\0", key.as_bytes()])
}

/// A key as journals had it before it had limits besides a budget.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct OldKeyRecord {
    pub id: KeyId,
    pub name: String,
    pub prefix: String,
    pub budget: Nusd,
    pub used: Nusd,
    pub created_at: TimeMs,
}

/// A key as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct KeyRecord {
    pub id: KeyId,
    pub name: String,
    pub prefix: String,
    pub limits: KeyLimits,
    used: Nusd,
    used_day: Spent,
    used_month: Spent,
    created_at: TimeMs,
    pub revoked_at: Option<TimeMs>,
}

impl From<OldKeyRecord> for KeyRecord {
    fn from(old: OldKeyRecord) -> KeyRecord {
        let OldKeyRecord { id, name, prefix, budget, used, created_at } = old;
        KeyRecord {
            id,
            name,
            prefix,
            limits: KeyLimits::budget(budget),
            used,
            used_day: Spent::default(),
            used_month: Spent::default(),
            created_at,
            revoked_at: None,
        }
    }
}

#[derive(Clone, Debug)]
struct Account {
    record: KeyRecord,
    reserved: Nusd,
    /// What providers were paid for its requests beyond what it was billed, as far as the journal goes back.
    lost: Nusd,
    in_flight: u32,
    requests: Bucket,
    tokens: Bucket,
    /// Of the prompts in work, estimated.
    tokens_held: u64,
}

/// All keys.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    by_id: BTreeMap<KeyId, Account>,
}

/// Why a key cannot begin another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    Unknown,
    Expired,
    Model,
    TooMany,
    Requests { per_minute: u32, wait_ms: u64 },
    Tokens { per_minute: u32, wait_ms: u64 },
}

/// What a key is asked to pay for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// The time of day.
    pub now: TimeMs,
    /// The time of a clock that is never set: rates are measured by it.
    pub steady: TimeMs,
    pub model_name: &'a str,
    pub model: &'a ModelId,
    /// Estimated.
    pub prompt_tokens: u32,
}

impl Accounts {
    /// What the journal must know so that `key` exists under `name` with these limits.
    pub(crate) fn plan(
        &self,
        key: &str,
        name: &str,
        limits: KeyLimits,
        now: TimeMs,
        keys_max: usize,
    ) -> Result<KeyRecord, KeyError> {
        check_key(name, &limits)?;
        let id = key_id(key);
        match (self.by_id.get(&id), self.id_of(name)) {
            (Some(account), _) if account.record.revoked_at.is_some() => Err(KeyError::Revoked),
            (_, Some(_)) => Err(KeyError::NameTaken { name: name.into() }),
            (Some(_), None) => Err(KeyError::KeyTaken),
            (None, None) if self.valid().count() >= keys_max => Err(KeyError::TooMany { keys_max }),
            (None, None) => Ok(KeyRecord {
                id,
                name: name.into(),
                prefix: prefix_of(key),
                limits,
                used: Nusd::ZERO,
                used_day: Spent::default(),
                used_month: Spent::default(),
                created_at: now,
                revoked_at: None,
            }),
        }
    }

    /// Adds or replaces a key. What is in work stays reserved.
    pub(crate) fn restore(&mut self, record: KeyRecord) {
        match self.by_id.get_mut(&record.id) {
            Some(account) => {
                if account.record.limits != record.limits {
                    // What was taken at another rate would flow back at the new one.
                    (account.requests, account.tokens) = (Bucket::default(), Bucket::default());
                }
                account.record = record;
            }
            None => {
                let account = Account {
                    record,
                    reserved: Nusd::ZERO,
                    lost: Nusd::ZERO,
                    in_flight: 0,
                    requests: Bucket::default(),
                    tokens: Bucket::default(),
                    tokens_held: 0,
                };
                self.by_id.insert(account.record.id, account);
            }
        }
        self.forget_revoked();
    }

    fn forget_revoked(&mut self) {
        let revoked = self.by_id.values().filter_map(|account| {
            Some((account.record.revoked_at?, account.record.id)).filter(|_| account.in_flight == 0)
        });
        let mut revoked: Vec<(TimeMs, KeyId)> = revoked.collect();
        revoked.sort_unstable();
        for (_, id) in revoked.iter().take(revoked.len().saturating_sub(REVOKED_MAX)) {
            self.by_id.remove(id);
        }
    }

    fn valid(&self) -> impl Iterator<Item = &KeyRecord> {
        self.records().filter(|record| record.revoked_at.is_none())
    }

    /// The key of this name that is not revoked.
    pub(crate) fn id_of(&self, name: &str) -> Option<KeyId> {
        self.valid().find(|record| record.name == name).map(|record| record.id)
    }

    pub(crate) fn record(&self, id: &KeyId) -> Option<&KeyRecord> {
        self.by_id.get(id).map(|account| &account.record)
    }

    /// Whether a key may be used at all.
    pub(crate) fn admits(&self, id: &KeyId, now: TimeMs) -> Result<&KeyRecord, NotAdmitted> {
        let record = self.record(id).filter(|record| record.revoked_at.is_none());
        let record = record.ok_or(NotAdmitted::Unknown)?;
        if record.limits.has_expired(now) { Err(NotAdmitted::Expired) } else { Ok(record) }
    }

    /// Begins a request, of which a key may have `in_flight_max` at once.
    pub(crate) fn enter(
        &mut self,
        id: &KeyId,
        entry: &Entry<'_>,
        in_flight_max: u32,
    ) -> Result<(), NotAdmitted> {
        self.admits(id, entry.now)?;
        let account = self.by_id.get_mut(id).ok_or(NotAdmitted::Unknown)?;
        let limits = &account.record.limits;
        if !limits.allows(entry.model_name, entry.model) {
            return Err(NotAdmitted::Model);
        }
        if account.in_flight >= limits.requests_at_once.unwrap_or(u32::MAX).min(in_flight_max) {
            return Err(NotAdmitted::TooMany);
        }
        let steady = entry.steady;
        if let Some(per_minute) = limits.tokens_per_minute {
            let (held, prompt) = (account.tokens_held, entry.prompt_tokens.into());
            let wait_ms = account.tokens.wait_ms(steady, per_minute, held, prompt);
            if wait_ms > 0 {
                return Err(NotAdmitted::Tokens { per_minute, wait_ms });
            }
        }
        if let Some(per_minute) = limits.requests_per_minute {
            let wait_ms = account.requests.wait_ms(steady, per_minute, 0, 1);
            if wait_ms > 0 {
                return Err(NotAdmitted::Requests { per_minute, wait_ms });
            }
            account.requests.take(steady, per_minute, 1);
        }
        account.in_flight += 1;
        account.tokens_held = account.tokens_held.saturating_add(entry.prompt_tokens.into());
        Ok(())
    }

    /// Ends a request that entered with an estimate of its prompt.
    pub(crate) fn leave(&mut self, id: &KeyId, prompt_tokens: u32) {
        if let Some(account) = self.by_id.get_mut(id) {
            account.in_flight = account.in_flight.saturating_sub(1);
            account.tokens_held = account.tokens_held.saturating_sub(prompt_tokens.into());
        }
    }

    /// The budget that has least left, and what is neither used nor reserved of it.
    pub(crate) fn left(&self, id: &KeyId, now: TimeMs) -> (Budget, Nusd) {
        let Some(Account { record, reserved, .. }) = self.by_id.get(id) else {
            return (Budget::Total, Nusd::ZERO);
        };
        let KeyRecord { limits, used, used_day, used_month, .. } = record;
        let left = |budget: Option<Nusd>, used: Nusd| {
            budget.map(|budget| budget.saturating_sub(used.saturating_add(*reserved)))
        };
        [
            (Budget::Total, left(limits.budget, *used)),
            (Budget::Day, left(limits.budget_day, used_day.in_period(day(now)))),
            (Budget::Month, left(limits.budget_month, used_month.in_period(month(now)))),
        ]
        .into_iter()
        .filter_map(|(budget, left)| Some((budget, left?)))
        .min_by_key(|(_, left)| *left)
        .unwrap_or((Budget::Total, Nusd(u128::MAX)))
    }

    pub(crate) fn reserve(&mut self, id: &KeyId, amount: Nusd) {
        if let Some(account) = self.by_id.get_mut(id) {
            account.reserved = account.reserved.saturating_add(amount);
        }
    }

    pub(crate) fn unreserve(&mut self, id: &KeyId, amount: Nusd) {
        if let Some(account) = self.by_id.get_mut(id) {
            account.reserved = account.reserved.saturating_sub(amount);
        }
    }

    /// Takes what a request cost that ended at `at`.
    pub(crate) fn bill(&mut self, id: &KeyId, at: TimeMs, cost: Nusd) {
        if let Some(KeyRecord { used, used_day, used_month, .. }) =
            self.by_id.get_mut(id).map(|account| &mut account.record)
        {
            *used = used.saturating_add(cost);
            used_day.add(day(at), cost);
            used_month.add(month(at), cost);
        }
    }

    /// Notes what its providers were paid beyond its bill.
    pub(crate) fn lose(&mut self, id: &KeyId, amount: Nusd) {
        if let Some(account) = self.by_id.get_mut(id) {
            account.lost = account.lost.saturating_add(amount);
        }
    }

    /// Whether more may be lost for its sake.
    pub(crate) fn may_lose(&self, id: &KeyId) -> bool {
        self.by_id.get(id).is_some_and(|account| may_lose(account.lost, account.record.used))
    }

    /// The keys of this name, revoked ones too.
    pub(crate) fn ids_of(&self, name: &str) -> Vec<KeyId> {
        self.records().filter(|record| record.name == name).map(|record| record.id).collect()
    }

    /// Counts the tokens of an answer against the rate.
    pub(crate) fn count_tokens(&mut self, id: &KeyId, steady: TimeMs, tokens: u64) {
        if let Some(account) = self.by_id.get_mut(id)
            && let Some(per_minute) = account.record.limits.tokens_per_minute
        {
            account.tokens.take(steady, per_minute, tokens);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.by_id.clear();
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &KeyRecord> {
        self.by_id.values().map(|account| &account.record)
    }

    pub(crate) fn view(&self, id: &KeyId, now: TimeMs) -> Option<KeyView> {
        self.by_id.get(id).map(|account| account.view(now))
    }

    /// All keys, by age.
    pub(crate) fn views(&self, now: TimeMs) -> Vec<KeyView> {
        let mut views: Vec<KeyView> =
            self.by_id.values().map(|account| account.view(now)).collect();
        views.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
        views
    }
}

impl Account {
    fn view(&self, now: TimeMs) -> KeyView {
        let Account { record, reserved, in_flight, .. } = self;
        KeyView {
            name: record.name.clone(),
            prefix: record.prefix.clone(),
            limits: record.limits.clone(),
            used: record.used,
            used_day: record.used_day.in_period(day(now)),
            used_month: record.used_month.in_period(month(now)),
            reserved: *reserved,
            in_flight: *in_flight,
            created_at: record.created_at,
            revoked_at: record.revoked_at,
        }
    }
}

/// Whether more may be lost for the sake of a key than `lost`: a tenth of what it spent, and a cent. Otherwise a
/// key and some providers of one owner could live on prompts that are read again and again.
pub(crate) fn may_lose(lost: Nusd, spent: Nusd) -> bool {
    lost <= Nusd(spent.0 / LOST_SHARE).saturating_add(LOST_FREE)
}

/// What is kept readable of a key.
pub(crate) fn prefix_of(key: &str) -> String {
    key.chars().take(PREFIX_CHARS).collect()
}

/// Whether a key may have this name and these limits.
pub(crate) fn check_key(name: &str, limits: &KeyLimits) -> Result<(), KeyError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(KeyError::Name);
    }
    limits.check()
}

/// Whether `key` can be taken over from elsewhere.
pub(crate) fn check_format(key: &str) -> Result<(), KeyError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let fits = key.starts_with("pw-") && (20..=128).contains(&key.len()) && key.chars().all(plain);
    if fits { Ok(()) } else { Err(KeyError::Format) }
}
