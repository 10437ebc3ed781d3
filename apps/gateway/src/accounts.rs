//! API keys and what they may spend. Pure; keys are known by their digest only.
//!
//! Invariant: `used + reserved` never exceeds the budget by a request's doing, however many run at
//! once: a request reserves the most it can cost before it begins.

use std::collections::BTreeMap;

use types::{Hash32, Nusd, TimeMs, sha256};

use crate::{error::KeyError, views::KeyView};

/// Bytes of a key's name.
const NAME_BYTES_MAX: usize = 64;
/// Characters of a key that are kept readable, `pw-` included: 20 bits, for telling keys apart.
const PREFIX_CHARS: usize = 8;

/// The digest by which a key is known.
pub(crate) type KeyId = Hash32;

pub(crate) fn key_id(key: &str) -> KeyId {
    sha256(&[b"peerwatt/api-key\0", key.as_bytes()])
}

/// A key as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq, borsh::BorshSerialize, borsh::BorshDeserialize)]
pub(crate) struct KeyRecord {
    pub id: KeyId,
    pub name: String,
    pub prefix: String,
    pub budget: Nusd,
    pub used: Nusd,
    pub created_at: TimeMs,
}

#[derive(Clone, Debug)]
struct Account {
    record: KeyRecord,
    reserved: Nusd,
    in_flight: u32,
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
    TooMany,
}

impl Accounts {
    /// What the journal must know so that `key` exists under `name` with `budget`.
    pub(crate) fn plan(
        &self,
        id: KeyId,
        key: &str,
        name: &str,
        budget: Nusd,
        now: TimeMs,
        keys_max: usize,
    ) -> Result<KeyRecord, KeyError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(KeyError::Name);
        }
        match (self.by_id.get(&id), self.id_of(name)) {
            (Some(account), _) if account.record.name != name => Err(KeyError::KeyTaken),
            (Some(account), _) => Ok(KeyRecord { budget, ..account.record.clone() }),
            (None, Some(_)) => Err(KeyError::NameTaken { name: name.into() }),
            (None, None) if self.by_id.len() >= keys_max => Err(KeyError::TooMany { keys_max }),
            (None, None) => Ok(KeyRecord {
                id,
                name: name.into(),
                prefix: key.chars().take(PREFIX_CHARS).collect(),
                budget,
                used: Nusd::ZERO,
                created_at: now,
            }),
        }
    }

    /// Adds or replaces a key. What is in work stays reserved.
    pub(crate) fn restore(&mut self, record: KeyRecord) {
        match self.by_id.get_mut(&record.id) {
            Some(account) => account.record = record,
            None => {
                let account = Account { record, reserved: Nusd::ZERO, in_flight: 0 };
                self.by_id.insert(account.record.id, account);
            }
        }
    }

    pub(crate) fn id_of(&self, name: &str) -> Option<KeyId> {
        self.by_id.values().find(|a| a.record.name == name).map(|a| a.record.id)
    }

    pub(crate) fn record(&self, id: &KeyId) -> Option<&KeyRecord> {
        self.by_id.get(id).map(|account| &account.record)
    }

    /// Begins a request, of which a key may have `in_flight_max` at once.
    pub(crate) fn enter(&mut self, id: &KeyId, in_flight_max: u32) -> Result<(), NotAdmitted> {
        let account = self.by_id.get_mut(id).ok_or(NotAdmitted::Unknown)?;
        if account.in_flight >= in_flight_max {
            return Err(NotAdmitted::TooMany);
        }
        account.in_flight += 1;
        Ok(())
    }

    pub(crate) fn leave(&mut self, id: &KeyId) {
        if let Some(account) = self.by_id.get_mut(id) {
            account.in_flight = account.in_flight.saturating_sub(1);
        }
    }

    /// What is neither used nor reserved.
    pub(crate) fn left(&self, id: &KeyId) -> Nusd {
        self.by_id.get(id).map_or(Nusd::ZERO, |account| {
            let taken = account.record.used.saturating_add(account.reserved);
            account.record.budget.saturating_sub(taken)
        })
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

    pub(crate) fn bill(&mut self, id: &KeyId, cost: Nusd) {
        if let Some(account) = self.by_id.get_mut(id) {
            account.record.used = account.record.used.saturating_add(cost);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.by_id.clear();
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &KeyRecord> {
        self.by_id.values().map(|account| &account.record)
    }

    pub(crate) fn views(&self) -> Vec<KeyView> {
        let mut views: Vec<KeyView> = self
            .by_id
            .values()
            .map(|Account { record, reserved, .. }| KeyView {
                name: record.name.clone(),
                prefix: record.prefix.clone(),
                budget: record.budget,
                used: record.used,
                reserved: *reserved,
                created_at: record.created_at,
            })
            .collect();
        views.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
        views
    }
}

/// Whether `key` can be taken over from elsewhere.
pub(crate) fn check_format(key: &str) -> Result<(), KeyError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let fits = key.starts_with("pw-") && (20..=128).contains(&key.len()) && key.chars().all(plain);
    if fits { Ok(()) } else { Err(KeyError::Format) }
}
