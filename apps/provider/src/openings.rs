//! What auditors may ask for: the openings of answers in a profile, kept in a journal of their own for a while.
//!
//! They hold prompts and answers, so they are kept no longer than they can be asked for, and nothing of them is logged.
//! An answer of which nothing is kept any more cannot be audited, which is the provider's fault; one that could
//! not be written down costs nobody the answer, and its report names no profile.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use borsh::{BorshDeserialize, BorshSerialize};
use store::{Journal, JournalConfig, JournalError, RecordId};
use types::{TimeMs, limits};
use wire::serve::{OPENING_BYTES_MAX, Opening};

use crate::books::Attempt;

/// Openings take no more than this on the disk, whatever their retention: about a million answers of 256 tokens.
const BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// A segment is finished at this size, so that old ones can go.
const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// An opening is written in records of this size: the journal's are bounded.
const PART_BYTES: usize = 512 * 1024;
const RECORD_BYTES_MAX: usize = PART_BYTES + 1024;

/// A part of an opening as it stands in the journal.
#[derive(BorshSerialize, BorshDeserialize)]
struct Part {
    attempt: Attempt,
    at: TimeMs,
    /// Of the whole opening, from 0.
    number: u32,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Index {
    places: BTreeMap<Attempt, Vec<RecordId>>,
    /// The oldest first, with what each takes.
    ages: VecDeque<(TimeMs, Attempt, u64)>,
    bytes: u64,
}

impl Index {
    fn add(&mut self, attempt: Attempt, at: TimeMs, number: u32, id: RecordId, bytes: u64) {
        let places = self.places.entry(attempt).or_default();
        if number == 0 {
            places.clear();
        }
        places.push(id);
        self.ages.push_back((at, attempt, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Forgets what is older than `before`, and as much more as is too much. Returns since when everything is known.
    fn forget(&mut self, before: TimeMs) -> TimeMs {
        let mut since = before;
        while let Some((at, attempt, bytes)) = self.ages.front().copied() {
            if at >= before && self.bytes <= BYTES_MAX {
                break;
            }
            since = since.max(at);
            self.ages.pop_front();
            self.bytes = self.bytes.saturating_sub(bytes);
            self.places.remove(&attempt);
        }
        since
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Openings {
    journal: Journal,
    index: Mutex<Index>,
}

/// The folder, which nobody else may look into: it will hold prompts.
fn private(folder: PathBuf) -> Result<PathBuf, JournalError> {
    let made = fs::create_dir_all(&folder)
        .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o700)));
    match made {
        Ok(()) => Ok(folder),
        Err(source) => Err(JournalError::Io { action: "make", path: folder, source }),
    }
}

impl Openings {
    /// Opens the journal under `home`. What is not readable is as if it had not been kept.
    pub(crate) fn open(home: &Path) -> Result<Openings, JournalError> {
        let mut index = Index::default();
        let config = JournalConfig { folder: private(home.join("openings"))? };
        let journal = Journal::open(&config, |id, bytes| {
            if let Ok(part) = limits::decode::<Part>(bytes, RECORD_BYTES_MAX) {
                index.add(part.attempt, part.at, part.number, id, bytes.len() as u64);
            }
        })?;
        Ok(Openings { journal, index: Mutex::new(index) })
    }

    /// Keeps the opening of an answer that has ended.
    pub(crate) fn keep(
        &self,
        attempt: Attempt,
        at: TimeMs,
        opening: &Opening,
    ) -> Result<(), JournalError> {
        let bytes = opening.encode();
        if bytes.len() > OPENING_BYTES_MAX {
            return Err(JournalError::TooLong { bytes: bytes.len(), bytes_max: OPENING_BYTES_MAX });
        }
        for (number, part) in (0..).zip(bytes.chunks(PART_BYTES)) {
            let part = Part { attempt, at, number, bytes: part.to_vec() };
            // Writing to memory cannot fail.
            let record = borsh::to_vec(&part).unwrap_or_default();
            let id = self.journal.append(&record)?;
            self.lock().add(attempt, at, number, id, record.len() as u64);
        }
        Ok(())
    }

    /// Whether an opening is kept.
    pub(crate) fn holds(&self, attempt: Attempt) -> bool {
        self.lock().places.contains_key(&attempt)
    }

    /// The bytes of an opening. `None`: none is kept, or not any more.
    pub(crate) fn get(&self, attempt: Attempt) -> Result<Option<Vec<u8>>, JournalError> {
        let Some(places) = self.lock().places.get(&attempt).cloned() else { return Ok(None) };
        let mut bytes = Vec::new();
        for id in places {
            let record = match self.journal.read(id) {
                Ok(record) => record,
                Err(JournalError::Pruned) => return Ok(None),
                Err(error) => return Err(error),
            };
            match limits::decode::<Part>(&record, RECORD_BYTES_MAX) {
                Ok(part) => bytes.extend(part.bytes),
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(bytes))
    }

    /// Forgets what is older than the retention. Waits for the disk: call it where blocking is allowed.
    pub(crate) fn tidy(&self, now: TimeMs, retention_ms: u64) -> Result<(), JournalError> {
        let since = self.lock().forget(TimeMs(now.0.saturating_sub(retention_ms)));
        if self.journal.segment_bytes() >= SEGMENT_BYTES_MAX {
            self.journal.rotate(&[])?;
        }
        let age = Duration::from_millis(now.ms_since(since));
        if let Some(before) = SystemTime::now().checked_sub(age) {
            self.journal.prune(before)?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // Every change is made whole.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of some openings, as they stand in the journal under `home`, beside the process that writes it. Those that are not
/// kept whole are left out.
pub(crate) fn recall(
    home: &Path,
    attempts: &BTreeSet<Attempt>,
) -> Result<BTreeMap<Attempt, Vec<u8>>, JournalError> {
    let mut parts: BTreeMap<Attempt, (u32, Vec<u8>)> = BTreeMap::new();
    Journal::read_only(&home.join("openings"), |_, bytes| {
        let Ok(part) = limits::decode::<Part>(bytes, RECORD_BYTES_MAX) else { return };
        if !attempts.contains(&part.attempt) {
            return;
        }
        let (next, opening) = parts.entry(part.attempt).or_default();
        if part.number == 0 {
            (*next, *opening) = (0, Vec::new());
        }
        if part.number == *next && opening.len() <= OPENING_BYTES_MAX {
            opening.extend(part.bytes);
            *next = next.saturating_add(1);
        }
    })?;
    Ok(parts.into_iter().map(|(attempt, (_, opening))| (attempt, opening)).collect())
}

#[cfg(test)]
mod tests {
    use keys::SecretKey;
    use types::{
        Address, ChainId, ChannelId, Hash32, Lane, ModelId, Nusd, RequestId,
        inference::{InferenceRequest, Prompt},
        price::Price,
        sign::Signed,
    };
    use wire::serve::Order;

    use super::*;

    fn attempt(number: u16) -> Attempt {
        Attempt { request_id: RequestId([3; 16]), number }
    }

    fn opening(number: u16, prompt: &str) -> Opening {
        let nothing = Nusd::ZERO;
        let order = Order {
            request_id: attempt(number).request_id,
            attempt: number,
            provider: Address([0; 20]),
            model: ModelId([0; 32]),
            prompt_hash: Hash32::default(),
            request_hash: Hash32::default(),
            price: Price {
                request_nusd: nothing,
                prompt_nusd_per_mtok: nothing,
                completion_nusd_per_mtok: nothing,
            },
            channel: ChannelId([1; 32]),
            lane: Lane(0),
            lane_total_before: nothing,
            issued_at: TimeMs(0),
            timeout_ms: 1,
        };
        let chain_id: ChainId = "test.1".parse().unwrap();
        Opening {
            order: Signed::new(order, &chain_id, &SecretKey::from_seed([5; 32])),
            salt: [7; 16],
            request: InferenceRequest::of(Prompt::Text(prompt.to_owned())),
            text: b"Hi".to_vec(),
            leaves: vec![vec![1, 2, 3]],
        }
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart_until_it_is_old() {
        let home = tempfile::tempdir().unwrap();
        let openings = Openings::open(home.path()).unwrap();
        // One that takes several records.
        let (small, large) = (opening(1, "x"), opening(2, &"word ".repeat(300_000)));
        openings.keep(attempt(1), TimeMs(1_000), &small).unwrap();
        openings.keep(attempt(2), TimeMs(2_000), &large).unwrap();
        drop(openings);
        let mode = fs::metadata(home.path().join("openings")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "nobody else reads prompts");
        let openings = Openings::open(home.path()).unwrap();
        for (number, kept) in [(1, &small), (2, &large)] {
            let bytes = openings.get(attempt(number)).unwrap().unwrap();
            assert_eq!(Opening::decode(&bytes).unwrap(), *kept);
        }
        assert_eq!(openings.get(attempt(3)).unwrap(), None);
        openings.tidy(TimeMs(2_500), 1_000).unwrap();
        assert_eq!(openings.get(attempt(1)).unwrap(), None);
        assert!(openings.get(attempt(2)).unwrap().is_some());
        assert!(openings.holds(attempt(2)) && !openings.holds(attempt(1)));
    }

    #[test]
    fn what_is_too_much_goes_first() {
        let mut index = Index::default();
        let home = tempfile::tempdir().unwrap();
        let openings = Openings::open(home.path()).unwrap();
        openings.keep(attempt(9), TimeMs(0), &opening(9, "x")).unwrap();
        let id = openings.lock().places[&attempt(9)][0];
        for number in 0..4 {
            index.add(attempt(number), TimeMs(number.into()), 0, id, BYTES_MAX / 3);
        }
        assert_eq!(index.forget(TimeMs(0)), TimeMs(0));
        assert_eq!(index.places.len(), 3);
        assert_eq!(index.forget(TimeMs(3)), TimeMs(3));
        assert_eq!(index.places.keys().map(|it| it.number).collect::<Vec<_>>(), [3]);
    }
}
