//! A disk in memory for tests: it has a write cache, fails when it is told to and can be looked at
//! after the crash.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

/// A disk that many handles share. Everything after the first failure fails too: the machine is gone.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What a power cut leaves.
    durable: Vec<u8>,
    /// What the process sees.
    current: Vec<u8>,
    /// Changes since the last sync, in order.
    unsynced: Vec<Change>,
    /// Changes and syncs so far.
    operations: u64,
    /// The operation that fails, and the first that did.
    fails_at: Option<u64>,
    failed: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

/// What of the unsynced changes is on the disk after a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// Nothing: the power went, the cache is lost.
    LosesUnsynced,
    /// Everything: the process was killed, the operating system goes on.
    KeepsUnsynced,
    /// Every other write, as a disk that reorders writes may leave it.
    KeepsEveryOther,
}

impl Disk {
    pub fn new() -> Disk {
        Disk::default()
    }

    /// Makes the disk fail at the `count`-th change or sync from now.
    pub fn fail_after(&self, count: u64) {
        let mut state = self.state();
        state.fails_at = Some(state.operations + count);
    }

    /// Whether the failure has happened.
    pub fn has_failed(&self) -> bool {
        self.state().failed
    }

    /// The disk as the next process finds it.
    pub fn after(&self, crash: Crash) -> Disk {
        let state = self.state();
        let mut image = state.durable.clone();
        for (index, change) in state.unsynced.iter().enumerate() {
            let kept = match (crash, change) {
                (Crash::LosesUnsynced, _) => false,
                (Crash::KeepsUnsynced, _) | (Crash::KeepsEveryOther, Change::SetLen(_)) => true,
                (Crash::KeepsEveryOther, Change::Write { .. }) => index % 2 == 0,
            };
            if kept {
                change.apply(&mut image);
            }
        }
        let state = State { durable: image.clone(), current: image, ..State::default() };
        Disk(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn operate(&mut self) -> Result<(), io::Error> {
        self.operations += 1;
        if self.failed || self.fails_at == Some(self.operations) {
            self.failed = true;
            return Err(io::Error::other("the disk failed, as the test asked"));
        }
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<(), io::Error> {
        self.operate()?;
        change.apply(&mut self.current);
        self.unsynced.push(change);
        Ok(())
    }
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        match self {
            Change::SetLen(len) => image.resize(place(*len), 0),
            Change::Write { offset, bytes } => {
                let (start, end) = (place(*offset), place(*offset) + bytes.len());
                image.resize(image.len().max(end), 0);
                image[start..end].copy_from_slice(bytes);
            }
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.state().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.state();
        if state.failed {
            return Err(io::Error::other("the disk failed before"));
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = start.checked_add(out.len()).and_then(|end| state.current.get(start..end));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.state().change(Change::SetLen(len))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.state();
        state.operate()?;
        state.durable = state.current.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.state().change(Change::Write { offset, bytes: data.to_vec() })
    }
}
