//! Books and journal together: a record is appended and applied as one, so that what is in memory
//! is always what a restart would rebuild.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use store::{Journal, JournalConfig, JournalError, RecordId};
use types::{TimeMs, limits::DecodeError};

use crate::{
    admission::ORDER_AGE_MS_MAX,
    books::{Attempt, Books, StoredReceipt},
    record::Record,
};

/// A segment is finished at this size: about 30 000 requests.
const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Attempts are remembered for as long as an order for them could still be taken, with room.
const GUARD_MS: u64 = 2 * ORDER_AGE_MS_MAX;

/// Why the books cannot be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("record {number} of the journal is not readable; was it written by a later version?")]
    Record { number: u64, source: DecodeError },
}

/// The provider's money, in memory and on disk.
#[derive(Debug)]
pub(crate) struct Bookkeeper {
    journal: Journal,
    books: Mutex<Books>,
}

impl Bookkeeper {
    /// Opens the journal under `home` and rebuilds the books from it.
    pub(crate) fn open(home: &Path) -> Result<Bookkeeper, BooksError> {
        let mut books = Books::default();
        let (mut number, mut failed) = (0_u64, None);
        let config = JournalConfig { folder: home.join("journal") };
        let journal = Journal::open(&config, |id, bytes| {
            number += 1;
            match Record::decode(bytes) {
                Ok(record) => books.apply(id, record),
                Err(source) => failed = failed.take().or(Some((number, source))),
            }
        })?;
        if let Some((number, source)) = failed {
            return Err(BooksError::Record { number, source });
        }
        Ok(Bookkeeper { journal, books: Mutex::new(books) })
    }

    /// Looks at the books.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Books) -> T) -> T {
        look(&self.lock())
    }

    /// Changes what is not in the journal.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Books) -> T) -> T {
        change(&mut self.lock())
    }

    /// Appends and applies a record.
    pub(crate) fn record(&self, record: Record) -> Result<RecordId, BooksError> {
        self.record_if(|_| Ok::<_, std::convert::Infallible>(record)).map(|Ok(id)| id)
    }

    /// Appends and applies what `decide` makes of the books, with nothing in between.
    pub(crate) fn record_if<E>(
        &self,
        decide: impl FnOnce(&mut Books) -> Result<Record, E>,
    ) -> Result<Result<RecordId, E>, BooksError> {
        let mut books = self.lock();
        let record = match decide(&mut books) {
            Ok(record) => record,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let id = self.journal.append(&record.clone().encode())?;
        books.apply(id, record);
        Ok(Ok(id))
    }

    pub(crate) fn is_durable(&self, id: RecordId) -> bool {
        self.journal.is_durable(id)
    }

    pub(crate) async fn sync(&self, id: RecordId) -> Result<(), BooksError> {
        Ok(self.journal.sync(id).await?)
    }

    /// Both parts of a receipt. `None` if there is none, or its retention is over.
    pub(crate) fn receipt(&self, attempt: Attempt) -> Result<Option<StoredReceipt>, BooksError> {
        let Some((report, acknowledgement)) = self.read(|books| books.receipt(attempt)) else {
            return Ok(None);
        };
        let Some(Record::Ended { report }) = self.look_up(report)? else { return Ok(None) };
        let acknowledgement =
            match acknowledgement.map(|id| self.look_up(id)).transpose()?.flatten() {
                Some(Record::Acknowledged { acknowledgement }) => Some(acknowledgement),
                _ => None,
            };
        Ok(Some(StoredReceipt { report, acknowledgement }))
    }

    fn look_up(&self, id: RecordId) -> Result<Option<Record>, BooksError> {
        match self.journal.read(id) {
            Ok(bytes) => match Record::decode(&bytes) {
                Ok(record) => Ok(Some(record)),
                Err(source) => Err(BooksError::Record { number: 0, source }),
            },
            Err(JournalError::Pruned) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets what has become too old, and starts a new segment when the current one is long.
    /// Waits for the disk: call it where blocking is allowed.
    pub(crate) fn tidy(
        &self,
        now: TimeMs,
        receipts_retention_ms: u64,
        openings_retention_ms: u64,
    ) -> Result<(), BooksError> {
        let since = |ms: u64| TimeMs(now.0.saturating_sub(ms));
        // Held throughout: a record between checkpoint and new segment would be undone by a replay.
        let mut books = self.lock();
        books.forget_before(
            since(GUARD_MS),
            since(receipts_retention_ms),
            since(openings_retention_ms),
        );
        if self.journal.segment_bytes() < SEGMENT_BYTES_MAX {
            return Ok(());
        }
        self.rotate(&books)?;
        drop(books);
        let oldest = Duration::from_millis(receipts_retention_ms);
        if let Some(before) = SystemTime::now().checked_sub(oldest) {
            self.journal.prune(before)?;
        }
        Ok(())
    }

    /// Restates all that still counts at the start of a new segment.
    fn rotate(&self, books: &Books) -> Result<(), BooksError> {
        let checkpoint: Vec<Vec<u8>> = books.checkpoint().into_iter().map(Record::encode).collect();
        self.journal.rotate(&checkpoint)?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // `apply` is total, and runs only after the append succeeded.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use keys::SecretKey;
    use types::{
        Address, ChainId, ChannelId, Hash32, Lane, ModelId, Nusd, RequestId,
        channel::Voucher,
        inference::{CountMethod, FinishReason},
        price::Price,
        receipt::ServiceReport,
        sign::Signed,
    };

    use super::*;
    use crate::books::LaneKey;

    const LANE: LaneKey = LaneKey { channel: ChannelId([1; 32]), lane: Lane(4) };

    fn attempt(number: u16) -> Attempt {
        Attempt { request_id: RequestId([3; 16]), number }
    }

    fn signed<T: types::sign::Signable>(value: T) -> Signed<T> {
        let chain_id: ChainId = "test.1".parse().unwrap();
        Signed::new(value, &chain_id, &SecretKey::from_seed([5; 32]))
    }

    fn opened(number: u16, total: u128) -> Record {
        let LaneKey { channel, lane } = LANE;
        let voucher = Voucher { channel, lane, sequence: total as u64, total: Nusd(total) };
        let total_before = Nusd::ZERO;
        let at = TimeMs(u64::from(number));
        Record::Opened { attempt: attempt(number), at, total_before, voucher: signed(voucher) }
    }

    fn ended(number: u16, lane_total: u128) -> Record {
        Record::Ended {
            report: signed(ServiceReport {
                request_id: attempt(number).request_id,
                attempt: number,
                provider: Address([0; 20]),
                model: ModelId([0; 32]),
                engine_version: "dummy 1".to_owned(),
                profile: "free".to_owned(),
                seed: None,
                prompt_hash: Hash32::default(),
                response_hash: Hash32::default(),
                transcript_root: Hash32::default(),
                prompt_tokens: 1,
                completion_tokens: 1,
                counted: CountMethod::TokenIds,
                price: Price {
                    request_nusd: Nusd::ZERO,
                    prompt_nusd_per_mtok: Nusd::ZERO,
                    completion_nusd_per_mtok: Nusd::ZERO,
                },
                channel: LANE.channel,
                lane: LANE.lane,
                lane_total_before: Nusd::ZERO,
                lane_total: Nusd(lane_total),
                finish: FinishReason::Stop,
                started_at: TimeMs(0),
                ended_at: TimeMs(u64::from(number)),
            }),
        }
    }

    #[test]
    fn a_new_segment_restates_what_counts_and_receipts_stay_readable() {
        let home = tempfile::tempdir().unwrap();
        let books = Bookkeeper::open(home.path()).unwrap();
        for record in [opened(1, 100), ended(1, 40), opened(2, 300)] {
            books.record(record).unwrap();
        }
        books.rotate(&books.lock()).unwrap();
        books.record(ended(2, 90)).unwrap();
        let live = books.read(Clone::clone);
        drop(books);
        let books = Bookkeeper::open(home.path()).unwrap();
        assert_eq!(books.read(Clone::clone), live);
        let lane = books.read(|books| books.lane(LANE).cloned().unwrap());
        assert_eq!((lane.charged, lane.promised()), (Nusd(90), Nusd(300)));
        for number in [1, 2] {
            let stored = books.receipt(attempt(number)).unwrap().unwrap();
            assert_eq!(stored.report.value.attempt, number);
            assert!(books.read(|books| books.was_served(attempt(number))));
        }
    }

    #[test]
    fn guards_and_receipts_are_forgotten_when_they_are_old() {
        let home = tempfile::tempdir().unwrap();
        let books = Bookkeeper::open(home.path()).unwrap();
        for record in [opened(1, 100), ended(1, 40), opened(2, 300), ended(2, 90)] {
            books.record(record).unwrap();
        }
        books.tidy(TimeMs(GUARD_MS + 2), 9 * GUARD_MS, GUARD_MS).unwrap();
        assert!(books.read(|books| books.was_served(attempt(1))), "while its receipt is kept");
        books.tidy(TimeMs(GUARD_MS + 2), GUARD_MS, GUARD_MS).unwrap();
        assert!(!books.read(|books| books.was_served(attempt(1))));
        assert!(books.read(|books| books.was_served(attempt(2))));
        assert_eq!(books.receipt(attempt(1)).unwrap(), None);
        assert_eq!(books.read(|books| books.latest_receipts(9)), [attempt(2)]);
        assert_eq!(books.read(|books| books.earned()), Nusd(90));
    }
}
