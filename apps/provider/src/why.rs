//! Why requests went elsewhere, by the hour, as gateways tell it: kept for two days in the data folder, where
//! `peerwatt provider why` reads it, for a provider opens no port that could be asked.
//!
//! A gateway may tell what it likes, and nothing is decided by it. What is kept is bounded by the hours and by
//! the models that we offer ourselves, and every sum stops at its end.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use borsh::{BorshDeserialize, BorshSerialize};
use types::{ModelId, TimeMs, limits::NAME_BYTES_MAX, offer::ModelOffer};
use wire::serve::{PassedFor, Tally};

use crate::status::{ErrorNote, LinkStatus};

const HOUR_MS: u64 = 60 * 60 * 1_000;
/// Hours that are kept, the one that runs included.
pub const WHY_HOURS_MAX: u64 = 48;
/// Hours times models: room for an offer that is full, with some change of it.
const ROWS_MAX: usize = 4_096;
/// Bytes of the largest file that is read: all rows with the longest names, gateways and errors.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
const FILE: &str = "why";
/// The form of the file; another one is not read.
const VERSION: u8 = 2;

/// As of a moment, where a provider is connected and what gateways did with it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Why {
    pub at: TimeMs,
    pub models: Vec<String>,
    pub slots: u32,
    pub links: Vec<LinkStatus>,
    /// The latest ones, oldest first.
    pub errors: Vec<ErrorNote>,
    /// Oldest first.
    pub hours: Vec<WhyHour>,
}

/// One hour of one model, summed over gateways.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct WhyHour {
    /// When the hour began.
    pub hour: TimeMs,
    pub model: ModelId,
    pub alias: String,
    /// Requests that a gateway sent us.
    pub chosen: u64,
    /// Of these, because another provider was late.
    pub second: u64,
    passed: [u64; PassedFor::COUNT],
}

impl WhyHour {
    /// Looks at us for a request, whatever became of them.
    pub fn considered(&self) -> u64 {
        self.passed.iter().fold(self.chosen, |sum, count| sum.saturating_add(*count))
    }

    /// Why we were passed over, and how often, without what never happened.
    pub fn passed(&self) -> impl Iterator<Item = (PassedFor, u64)> + '_ {
        let count = |reason: PassedFor| self.passed.get(reason.index()).copied().unwrap_or(0);
        PassedFor::ALL.into_iter().map(move |it| (it, count(it))).filter(|(_, count)| *count > 0)
    }
}

/// Why the file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is of another version or damaged; it is written anew", path = path.display())]
    Form { path: PathBuf },
    #[error("cannot write {path}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What the provider of this data folder wrote down last. `None`: none has run here yet.
pub fn read_why(home: &Path) -> Result<Option<Why>, WhyError> {
    let path = home.join(FILE);
    let failed = |source: io::Error| WhyError::Read { path: path.clone(), source };
    let bytes = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(about) if about.len() > FILE_BYTES_MAX => return Err(WhyError::Form { path }),
        Ok(_) => fs::read(&path).map_err(failed)?,
    };
    match borsh::from_slice::<(u8, Why)>(&bytes) {
        Ok((VERSION, why)) => Ok(Some(why)),
        Ok(_) | Err(_) => Err(WhyError::Form { path }),
    }
}

/// Replaces the file. It may be lost in a power cut: it is a report, not a book.
pub(crate) fn write_why(home: &Path, why: &Why) -> Result<(), WhyError> {
    let path = home.join(FILE);
    let draft = path.with_extension("tmp");
    let write = || {
        fs::write(&draft, borsh::to_vec(&(VERSION, why))?)?;
        fs::rename(&draft, &path)
    };
    write().map_err(|source| WhyError::Write { path: path.clone(), source })
}

/// The counts of a provider that runs.
#[derive(Debug)]
pub(crate) struct Hours(Mutex<BTreeMap<(TimeMs, ModelId), WhyHour>>);

impl Hours {
    pub(crate) fn new(kept: Vec<WhyHour>) -> Hours {
        Hours(Mutex::new(kept.into_iter().map(|row| ((row.hour, row.model), row)).collect()))
    }

    /// Adds what a gateway tells. Models that we do not offer are none of ours.
    pub(crate) fn add(&self, now: TimeMs, tallies: &[Tally], offers: &[ModelOffer]) {
        let hour = TimeMs(now.0 - now.0 % HOUR_MS);
        let mut rows = self.lock();
        for tally in tallies {
            let Some(offer) = offers.iter().find(|offer| offer.model == tally.model) else {
                continue;
            };
            let row = rows.entry((hour, tally.model)).or_insert_with(|| WhyHour {
                hour,
                model: tally.model,
                alias: offer.alias.chars().take(NAME_BYTES_MAX).collect(),
                chosen: 0,
                second: 0,
                passed: [0; PassedFor::COUNT],
            });
            row.chosen = row.chosen.saturating_add(tally.chosen.into());
            row.second = row.second.saturating_add(tally.second.into());
            for (sum, count) in row.passed.iter_mut().zip(tally.passed) {
                *sum = sum.saturating_add(count.into());
            }
        }
        while rows.len() > ROWS_MAX {
            rows.pop_first();
        }
    }

    /// What is kept, oldest first, without what is over.
    pub(crate) fn rows(&self, now: TimeMs) -> Vec<WhyHour> {
        let mut rows = self.lock();
        let first = now.0.saturating_sub(WHY_HOURS_MAX * HOUR_MS);
        rows.retain(|(hour, _), _| hour.0 > first);
        rows.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(TimeMs, ModelId), WhyHour>> {
        // Plain counters are never half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use types::{Nusd, offer::EngineKind, price::Price};

    use super::*;

    const NOON: TimeMs = TimeMs(1_700_000_000_000 - 1_700_000_000_000 % HOUR_MS);

    fn offer(number: u8) -> ModelOffer {
        ModelOffer {
            model: ModelId([number; 32]),
            alias: format!("model-{number}"),
            price: Price {
                request_nusd: Nusd::ZERO,
                prompt_nusd_per_mtok: Nusd::ZERO,
                completion_nusd_per_mtok: Nusd::ZERO,
            },
            context_tokens: 1,
            engine: EngineKind::Dummy,
            engine_version: "dummy 1".into(),
            abilities: types::ability::Abilities::default(),
        }
    }

    fn tally(number: u8, chosen: u32, reason: PassedFor, count: u32) -> Tally {
        let mut tally = Tally { chosen, ..Tally::new(ModelId([number; 32])) };
        tally.passed[reason.index()] = count;
        tally
    }

    type Shown<'a> = (u64, &'a str, u64, Vec<(&'static str, u64)>);

    fn shown(rows: &[WhyHour]) -> Vec<Shown<'_>> {
        let mut shown = Vec::new();
        for row in rows {
            let passed = row.passed().map(|(reason, count)| (reason.name(), count)).collect();
            let hour = (row.hour.0 - NOON.0) / HOUR_MS;
            shown.push((hour, row.alias.as_str(), row.chosen, passed));
        }
        shown
    }

    #[test]
    fn counts_are_summed_by_hour_and_model_and_forgotten_after_two_days() {
        let hours = Hours::new(Vec::new());
        let offers = [offer(1), offer(2)];
        hours.add(NOON, &[tally(1, 2, PassedFor::Price, 3)], &offers);
        hours.add(NOON.plus_ms(HOUR_MS - 1), &[tally(1, 1, PassedFor::Full, 4)], &offers);
        hours.add(NOON.plus_ms(HOUR_MS), &[tally(2, 0, PassedFor::Region, 1)], &offers);
        // A model that is not ours.
        hours.add(NOON, &[tally(3, 9, PassedFor::Full, 9)], &offers);
        let rows = hours.rows(NOON.plus_ms(HOUR_MS));
        assert_eq!(
            shown(&rows),
            [
                (0, "model-1", 3, vec![("full", 4), ("price", 3)]),
                (1, "model-2", 0, vec![("region", 1)]),
            ]
        );
        assert_eq!(rows[0].considered(), 10);
        let last = NOON.plus_ms(WHY_HOURS_MAX * HOUR_MS);
        assert_eq!(shown(&hours.rows(TimeMs(last.0 - 1))).len(), 2);
        assert_eq!(shown(&hours.rows(last)), [(1, "model-2", 0, vec![("region", 1)])]);
    }

    #[test]
    fn a_liar_can_fill_neither_a_counter_nor_the_memory() {
        let hours = Hours::new(Vec::new());
        let most =
            Tally { passed: [u32::MAX; PassedFor::COUNT], ..tally(1, 7, PassedFor::Full, 0) };
        let row = |hour: u64| WhyHour {
            hour: NOON.plus_ms(hour),
            model: ModelId([1; 32]),
            alias: "model-1".into(),
            chosen: u64::MAX,
            second: 0,
            passed: [u64::MAX; PassedFor::COUNT],
        };
        hours.lock().insert((NOON, ModelId([1; 32])), row(0));
        hours.add(NOON, &[most; 3], &[offer(1)]);
        let rows = hours.rows(NOON);
        assert_eq!((rows.len(), rows[0].chosen, rows[0].considered()), (1, u64::MAX, u64::MAX));
        let full = (0..10_000).map(row).collect();
        let hours = Hours::new(full);
        hours.add(NOON, &[most], &[offer(1)]);
        assert_eq!(hours.rows(NOON).len(), ROWS_MAX);
    }

    #[test]
    fn the_file_is_read_back_and_a_damaged_one_is_refused() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(read_why(home.path()).unwrap(), None);
        let hours = Hours::new(Vec::new());
        hours.add(NOON, &[tally(1, 2, PassedFor::Price, 3)], &[offer(1)]);
        let why = Why {
            at: NOON,
            models: vec!["model-1".into()],
            slots: 4,
            links: Vec::new(),
            errors: Vec::new(),
            hours: hours.rows(NOON),
        };
        write_why(home.path(), &why).unwrap();
        assert_eq!(read_why(home.path()).unwrap(), Some(why));
        for damaged in [&b""[..], &[VERSION], &[VERSION + 1; 100]] {
            fs::write(home.path().join(FILE), damaged).unwrap();
            assert!(matches!(read_why(home.path()), Err(WhyError::Form { .. })));
        }
    }
}
