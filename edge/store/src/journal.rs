//! An append-only journal: money on the hot path without an fsync in it.
//!
//! [`Journal::append`] hands the record to the operating system before it returns, so a killed
//! process loses nothing that was appended. A background thread makes records durable in groups,
//! so a power cut loses at most the last moments; whoever must not lose even those waits in
//! [`Journal::sync`]. Opening replays every record in order.
//!
//! On disk: segments `NNNNNNNN.journal`, each a header and records of `u32` length, `u32` CRC-32
//! and bytes. [`Journal::rotate`] starts a segment with a checkpoint, after which older segments
//! serve only for reading back and may be removed by [`Journal::prune`].
//!
//! Invariant: a record is replayed if and only if every record before it is.

mod segment;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use segment::{Draft, Segment};

/// How long the background thread gathers records before it makes them durable, unless somebody
/// waits for them. Bounds what a power cut can take.
const GATHER: Duration = Duration::from_millis(50);

/// Where a journal lives.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    pub folder: PathBuf,
}

/// The place of a record. Later records compare greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordId {
    segment: u32,
    /// Of the byte after the record's last.
    end: u64,
    bytes: u32,
}

/// An open journal. One process at a time holds it.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    durable: watch::Receiver<Durable>,
    flusher: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    current: Segment,
    older: Vec<Segment>,
    last: Option<RecordId>,
    flushed: Option<RecordId>,
    waiting: bool,
    closing: bool,
    /// Set once writing or syncing has failed: what is on disk is then unknown, so nothing more is taken.
    broken: bool,
    /// Held for as long as the journal is open.
    lock_file: File,
}

/// How far records are durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Durable {
    UpTo(Option<RecordId>),
    Broken,
}

/// Why a journal cannot be opened, read or extended.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot {action} {path}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is in use by another process; stop that one first", path = path.display())]
    InUse { path: PathBuf },
    #[error("{path} is damaged at byte {offset}; restore it from a backup or move it away", path = path.display())]
    Damaged { path: PathBuf, offset: u64 },
    #[error("a record of {bytes} bytes is longer than the {bytes_max} allowed, or empty")]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("the journal in {path} failed to write before; restart after freeing or repairing the disk", path = path.display())]
    Broken { path: PathBuf },
    #[error("the record was removed when its retention ended")]
    Pruned,
}

impl Journal {
    /// Opens the journal in `config.folder`, making it if there is none, and gives every record to
    /// `replay` in order. A torn end, which a power cut leaves, is moved aside into a `.torn` file.
    pub fn open(
        config: &JournalConfig,
        mut replay: impl FnMut(RecordId, &[u8]),
    ) -> Result<Journal, JournalError> {
        let folder = config.folder.clone();
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { action, path, source }
        };
        fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
        let lock_path = folder.join("lock");
        let lock = File::create(&lock_path).map_err(failed("make", &lock_path))?;
        lock.try_lock().map_err(|_| JournalError::InUse { path: folder.clone() })?;

        let mut segments = Segment::list(&folder)?;
        let mut last = None;
        let count = segments.len();
        for (index, segment) in segments.iter_mut().enumerate() {
            segment.replay(index + 1 == count, |id, record| {
                last = Some(id);
                replay(id, record);
            })?;
        }
        let current = match segments.pop() {
            Some(segment) => segment,
            None => Draft::write(&folder, 1, &[])?.0.into_segment()?,
        };
        let shared = Arc::new(Shared {
            folder,
            state: Mutex::new(State {
                current,
                older: segments,
                last,
                flushed: last,
                waiting: false,
                closing: false,
                broken: false,
                lock_file: lock,
            }),
            wake: Condvar::new(),
        });
        let (publish, durable) = watch::channel(Durable::UpTo(last));
        let flusher = std::thread::Builder::new()
            .name("journal".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.flush_until_closed(&publish)
            })
            .map_err(failed("start the thread of", &shared.folder))?;
        Ok(Journal { shared, durable, flusher: Some(flusher) })
    }

    /// Gives every record of the journal in `folder` to `each`, in order, whether or not a process holds it. What is
    /// written or removed meanwhile may be missing.
    pub fn read_only(folder: &Path, each: impl FnMut(RecordId, &[u8])) -> Result<(), JournalError> {
        Segment::read_only(folder, each)
    }

    /// Appends `record`. When this returns, a kill of the process cannot lose it.
    pub fn append(&self, record: &[u8]) -> Result<RecordId, JournalError> {
        let bytes = Segment::frame(record)?;
        let mut state = self.shared.lock();
        if state.broken {
            return Err(JournalError::Broken { path: self.shared.folder.clone() });
        }
        let id = match state.current.append(&bytes) {
            Ok(id) => id,
            Err(error) => {
                state.broken = true;
                self.shared.wake.notify_all();
                return Err(error);
            }
        };
        let idle = state.last == state.flushed;
        state.last = Some(id);
        drop(state);
        if idle {
            self.shared.wake.notify_all();
        }
        Ok(id)
    }

    /// Fails if writing or syncing has failed, so that nothing more is taken.
    pub fn check(&self) -> Result<(), JournalError> {
        match self.shared.lock().broken {
            true => Err(JournalError::Broken { path: self.shared.folder.clone() }),
            false => Ok(()),
        }
    }

    /// Waits until `id` and everything before it would survive a power cut.
    pub async fn sync(&self, id: RecordId) -> Result<(), JournalError> {
        let broken = || JournalError::Broken { path: self.shared.folder.clone() };
        let mut durable = self.durable.clone();
        if !reached(*durable.borrow(), id) {
            self.shared.lock().waiting = true;
            self.shared.wake.notify_all();
        }
        let state = durable
            .wait_for(|durable| reached(*durable, id) || *durable == Durable::Broken)
            .await
            .map_err(|_| broken())?;
        if reached(*state, id) { Ok(()) } else { Err(broken()) }
    }

    /// Whether `id` would survive a power cut.
    pub fn is_durable(&self, id: RecordId) -> bool {
        reached(*self.durable.borrow(), id)
    }

    /// Reads a record back.
    pub fn read(&self, id: RecordId) -> Result<Vec<u8>, JournalError> {
        let state = self.shared.lock();
        let segment = std::iter::once(&state.current)
            .chain(&state.older)
            .find(|segment| segment.number() == id.segment)
            .ok_or(JournalError::Pruned)?;
        let (file, path) = (segment.file(), segment.path());
        let mut bytes = vec![0; usize::try_from(id.bytes).unwrap_or(usize::MAX)];
        let start = id.end.saturating_sub(u64::from(id.bytes));
        file.read_exact_at(&mut bytes, start).map_err(|source| JournalError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        Ok(bytes)
    }

    /// Bytes in the segment that is being written: the measure for when to [`Journal::rotate`].
    pub fn segment_bytes(&self) -> u64 {
        self.shared.lock().current.bytes()
    }

    /// Starts a segment that begins with `checkpoint`: records that restate all that still counts.
    /// Durable when this returns. Blocks for an fsync: call it off the hot path.
    pub fn rotate(&self, checkpoint: &[Vec<u8>]) -> Result<Vec<RecordId>, JournalError> {
        let mut state = self.shared.lock();
        if state.broken {
            return Err(JournalError::Broken { path: self.shared.folder.clone() });
        }
        let number = state.current.number() + 1;
        // Without room for it, all goes on as before.
        let (draft, ids) = Draft::write(&self.shared.folder, number, checkpoint)?;
        let segment = state.current.sync().and_then(|()| draft.into_segment());
        let segment = match segment {
            Ok(segment) => segment,
            Err(error) => {
                // What comes after the new segment's beginning would be lost in the old one.
                state.broken = true;
                self.shared.wake.notify_all();
                return Err(error);
            }
        };
        let finished = std::mem::replace(&mut state.current, segment);
        state.older.push(finished);
        if let Some(&id) = ids.last() {
            state.last = Some(id);
        }
        self.shared.wake.notify_all();
        Ok(ids)
    }

    /// Removes segments that were finished before `before`; never the one being written.
    pub fn prune(&self, before: SystemTime) -> Result<usize, JournalError> {
        let mut state = self.shared.lock();
        let mut removed = 0;
        while let Some(segment) = state.older.first() {
            if !segment.finished_before(before)? {
                break;
            }
            segment.remove()?;
            state.older.remove(0);
            removed += 1;
        }
        Ok(removed)
    }
}

impl Drop for Journal {
    /// Makes everything durable, then lets the folder go.
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_all();
        if let Some(flusher) = self.flusher.take() {
            // A panic of the thread was reported when it happened.
            let _ = flusher.join();
        }
        // Not left to the closing of the file: a program that this process is about to start has it too, for a moment.
        if let Err(error) = self.shared.lock().lock_file.unlock() {
            tracing::debug!(%error, "journal.unlock");
        }
    }
}

fn reached(durable: Durable, id: RecordId) -> bool {
    matches!(durable, Durable::UpTo(Some(last)) if id <= last)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush_until_closed(&self, publish: &watch::Sender<Durable>) {
        loop {
            let mut state = self.lock();
            while state.last == state.flushed && !state.closing && !state.broken {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if !state.waiting && !state.closing && !state.broken {
                let gathering = |state: &mut State| !state.waiting && !state.closing;
                state = self
                    .wake
                    .wait_timeout_while(state, GATHER, gathering)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            let (target, closing, broken) = (state.last, state.closing, state.broken);
            state.waiting = false;
            let file = state.current.shared_file();
            drop(state);
            if broken {
                publish.send_replace(Durable::Broken);
                return;
            }
            // Earlier segments were made durable when they were finished.
            if let Err(error) = file.sync_data() {
                tracing::error!(folder = %self.folder.display(), %error, "journal.sync_failed");
                self.lock().broken = true;
                publish.send_replace(Durable::Broken);
                return;
            }
            let mut state = self.lock();
            state.flushed = target;
            let done = closing && state.last == target;
            drop(state);
            publish.send_replace(Durable::UpTo(target));
            if done {
                return;
            }
        }
    }
}
