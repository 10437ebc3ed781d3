//! What a node wrote down about the height that is being decided: its votes, the blocks that were
//! proposed, whatever consensus must find again after a crash. One height at a time, in one file that is
//! written over and over, so that a height begins without a sync and a sync changes no length.
//!
//! A record carries the height and a digest that includes the digest of the record before it: reading
//! ends at the first that does not fit, be it cut off, of another height or of an earlier use of the
//! file. What means what, the caller says with a number of its own.
//!
//! Invariant: what was appended before [`RoundLog::sync`] returned is found by the next open.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use redb::{StorageBackend, backends::FileBackend};
use types::{Height, sha256};

use crate::StoreError;

/// The file's length at first; it is all written, so that syncing what is inside changes no metadata.
const LEN: u64 = 256 * 1024;
/// A file that has grown beyond this is cut when a height begins.
const LEN_MAX: u64 = 16 * 1024 * 1024;
/// Longest record.
const RECORD_MAX: usize = 8 * 1024 * 1024;
/// Digest, height, kind and length.
const HEAD: usize = 16 + 8 + 1 + 4;

type Digest = [u8; 16];

/// A record: what it is, and its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub kind: u8,
    pub bytes: Vec<u8>,
}

/// The open log.
#[derive(Debug)]
pub struct RoundLog {
    backend: Box<dyn StorageBackend>,
    path: PathBuf,
    height: Height,
    /// Of the height, in order.
    records: Vec<Record>,
    last: Digest,
    /// Where the next record goes.
    end: u64,
    len: u64,
    unsynced: bool,
}

impl RoundLog {
    /// Opens the log, or makes one. No other process can open it then.
    pub fn open(path: &Path) -> Result<RoundLog, StoreError> {
        let failed = |source| StoreError::Io { action: "open", path: path.to_owned(), source };
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(failed)?;
        if file.try_lock().is_err() {
            return Err(StoreError::Locked { path: path.to_owned() });
        }
        let backend = FileBackend::new(file).map_err(|error| failed(io::Error::other(error)))?;
        RoundLog::open_on(backend, path)
    }

    /// The same over any backend, for tests that make the disk fail. `name` stands for the path.
    pub fn open_on(backend: impl StorageBackend, name: &Path) -> Result<RoundLog, StoreError> {
        let mut log = RoundLog {
            backend: Box::new(backend),
            path: name.to_owned(),
            height: Height(0),
            records: Vec::new(),
            last: Digest::default(),
            end: 0,
            len: 0,
            unsynced: false,
        };
        log.read().map_err(|source| log.failed("read", source))?;
        Ok(log)
    }

    fn failed(&self, action: &'static str, source: io::Error) -> StoreError {
        StoreError::Io { action, path: self.path.clone(), source }
    }

    fn read(&mut self) -> io::Result<()> {
        self.len = self.backend.len()?;
        if self.len < LEN {
            self.backend.write(self.len, &vec![0; usize::try_from(LEN - self.len).unwrap_or(0)])?;
            self.backend.sync_data()?;
            self.len = LEN;
        }
        while let Some((height, record, digest)) = self.read_next()? {
            if self.records.is_empty() {
                self.height = height;
            }
            self.end += (HEAD + record.bytes.len()) as u64;
            self.last = digest;
            self.records.push(record);
        }
        Ok(())
    }

    fn read_next(&self) -> io::Result<Option<(Height, Record, Digest)>> {
        let mut head = [0; HEAD];
        if self.len - self.end < HEAD as u64 {
            return Ok(None);
        }
        self.backend.read(self.end, &mut head)?;
        let (digest, rest) = head.split_at(16);
        let (height, rest) = rest.split_at(8);
        let (kind, len) = rest.split_at(1);
        let height = Height(u64::from_le_bytes(height.try_into().unwrap_or_default()));
        let len = u32::from_le_bytes(len.try_into().unwrap_or_default()) as usize;
        let is_possible = len <= RECORD_MAX
            && (HEAD + len) as u64 <= self.len - self.end
            && (self.records.is_empty() || height == self.height);
        if !is_possible {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        self.backend.read(self.end + HEAD as u64, &mut bytes)?;
        let expected = digest_of(&self.last, height, kind[0], &bytes);
        if digest != expected {
            return Ok(None);
        }
        Ok(Some((height, Record { kind: kind[0], bytes }, expected)))
    }

    /// The height that it is about; 0 if nothing is in it.
    pub fn height(&self) -> Height {
        self.height
    }

    /// Everything about the height, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Turns to another height and forgets what is there. At the same height nothing happens.
    pub fn begin(&mut self, height: Height) -> Result<(), StoreError> {
        if height == self.height { Ok(()) } else { self.reset(height) }
    }

    fn reset(&mut self, height: Height) -> Result<(), StoreError> {
        if self.len > LEN_MAX {
            self.backend.set_len(LEN).map_err(|source| self.failed("cut", source))?;
            self.len = LEN;
        }
        self.height = height;
        self.records.clear();
        (self.last, self.end) = (Digest::default(), 0);
        Ok(())
    }

    /// Turns to a height as if nothing had been written about it; durable when this returns.
    pub fn clear(&mut self, height: Height) -> Result<(), StoreError> {
        let was_used = height == self.height && !self.records.is_empty();
        self.reset(height)?;
        if was_used {
            let write = self.backend.write(0, &[0; HEAD]);
            write.map_err(|source| self.failed("clear", source))?;
            self.unsynced = true;
        }
        self.sync()
    }

    /// Writes a record behind the others.
    pub fn append(&mut self, kind: u8, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() > RECORD_MAX {
            let source = io::Error::other(format!("a record of {} bytes is too long", bytes.len()));
            return Err(self.failed("write", source));
        }
        let digest = digest_of(&self.last, self.height, kind, bytes);
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut record = Vec::with_capacity(HEAD + bytes.len());
        record.extend_from_slice(&digest);
        record.extend_from_slice(&self.height.0.to_le_bytes());
        record.push(kind);
        record.extend_from_slice(&len.to_le_bytes());
        record.extend_from_slice(bytes);
        let end = self.end + record.len() as u64;
        self.unsynced = true;
        if end > self.len {
            let len = end.next_multiple_of(LEN);
            self.backend.set_len(len).map_err(|source| self.failed("lengthen", source))?;
            self.len = len;
        }
        self.backend.write(self.end, &record).map_err(|source| self.failed("write", source))?;
        (self.last, self.end) = (digest, end);
        self.records.push(Record { kind, bytes: bytes.to_vec() });
        Ok(())
    }

    /// Makes everything that was appended durable.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if self.unsynced {
            self.backend.sync_data().map_err(|source| self.failed("sync", source))?;
            self.unsynced = false;
        }
        Ok(())
    }
}

fn digest_of(last: &Digest, height: Height, kind: u8, bytes: &[u8]) -> Digest {
    let hash = sha256(&[last, &height.0.to_le_bytes(), &[kind], bytes]).0;
    let mut digest = Digest::default();
    digest.copy_from_slice(&hash[..16]);
    digest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Crash, Disk};

    fn open(disk: &Disk) -> Result<RoundLog, StoreError> {
        RoundLog::open_on(disk.clone(), Path::new("log"))
    }

    fn record(kind: u8, bytes: &[u8]) -> Record {
        Record { kind, bytes: bytes.to_vec() }
    }

    #[test]
    fn a_file_is_opened_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = RoundLog::open(&path).unwrap();
        assert!(matches!(RoundLog::open(&path), Err(StoreError::Locked { .. })));
        log.begin(Height(3)).unwrap();
        log.append(1, b"vote").unwrap();
        log.sync().unwrap();
        drop(log);
        let log = RoundLog::open(&path).unwrap();
        assert_eq!((log.height(), log.records()), (Height(3), &[record(1, b"vote")][..]));
    }

    #[test]
    fn an_earlier_height_behind_a_shorter_one_is_not_read() {
        let disk = Disk::new();
        let mut log = open(&disk).unwrap();
        log.begin(Height(1)).unwrap();
        (0..20).for_each(|kind| log.append(kind, &[kind; 7]).unwrap());
        log.begin(Height(2)).unwrap();
        (0..3).for_each(|kind| log.append(kind, &[kind; 7]).unwrap());
        let log = open(&disk).unwrap();
        assert_eq!((log.height(), log.records().len()), (Height(2), 3));
    }

    #[test]
    fn a_cleared_height_stays_empty() {
        let disk = Disk::new();
        let mut log = open(&disk).unwrap();
        log.begin(Height(1)).unwrap();
        (0..3).for_each(|kind| log.append(kind, &[kind]).unwrap());
        log.sync().unwrap();
        log.clear(Height(1)).unwrap();
        let log = open(&disk.after(Crash::LosesUnsynced)).unwrap();
        assert_eq!(log.records(), []);
    }

    #[test]
    fn a_long_record_makes_room_and_another_height_gives_it_back() {
        let disk = Disk::new();
        let mut log = open(&disk).unwrap();
        log.begin(Height(1)).unwrap();
        let long = vec![5; RECORD_MAX];
        (0..3).for_each(|kind| log.append(kind, &long).unwrap());
        assert!(log.append(9, &vec![5; RECORD_MAX + 1]).is_err());
        assert_eq!(open(&disk).unwrap().records().len(), 3);
        log.begin(Height(2)).unwrap();
        assert_eq!(log.len, LEN);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Begin(u64),
        Append(u8, Vec<u8>),
        Sync,
        Clear,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            1 => Just(Op::Begin(1)),
            6 => (any::<u8>(), prop::collection::vec(any::<u8>(), 0..40))
                .prop_map(|(kind, bytes)| Op::Append(kind, bytes)),
            2 => Just(Op::Sync),
            1 => Just(Op::Clear),
        ]
    }

    proptest! {
        /// Whatever happens at whatever write: what was synced is there, in order, and what is there
        /// besides is a beginning of what was appended after it.
        #[test]
        fn what_was_synced_survives_a_crash_at_any_write(
            ops in prop::collection::vec(op(), 1..40),
            fails_after in 0u64..60,
            crash in prop::sample::select(vec![
                Crash::LosesUnsynced, Crash::KeepsUnsynced, Crash::KeepsEveryOther,
            ]),
        ) {
            let disk = Disk::new();
            let mut log = open(&disk).unwrap();
            disk.fail_after(fails_after);
            let (mut height, mut written, mut synced) = (0, Vec::new(), 0);
            // Of the height before, until something of this one is durable.
            let mut before = (Height(0), Vec::new());
            for op in ops {
                let done = match &op {
                    Op::Begin(by) => {
                        before = (Height(height), written.clone());
                        (written, synced) = (Vec::new(), 0);
                        height += by;
                        log.begin(Height(height))
                    }
                    Op::Append(kind, bytes) => {
                        written.push(record(*kind, bytes));
                        log.append(*kind, bytes)
                    }
                    Op::Sync => log.sync(),
                    Op::Clear => {
                        before = (Height(height), written.clone());
                        (written, synced) = (Vec::new(), 0);
                        log.clear(Height(height))
                    }
                };
                if done.is_err() {
                    break;
                }
                if matches!(op, Op::Sync) {
                    synced = written.len();
                }
            }
            let Ok(found) = open(&disk.after(crash)) else { return Ok(()) };
            let records = found.records();
            if synced > 0 || found.height() == Height(height) && written.starts_with(records) {
                prop_assert!(records.len() >= synced, "{records:?} of {written:?}");
                prop_assert!(written.starts_with(records), "{records:?} of {written:?}");
            } else {
                // Nothing of this height was durable: it may still be the one before.
                prop_assert!(before.1.starts_with(records) || records.is_empty()
                    || found.height() < before.0, "{records:?} of {before:?}");
            }
        }

        #[test]
        fn any_file_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let disk = Disk::new();
            disk.write(0, &bytes).unwrap();
            drop(open(&disk).unwrap());
        }
    }
}
