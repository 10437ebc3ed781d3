//! A file that looks writable and is never written: changes live in memory. It lets a reader
//! repair what a killed writer left behind without touching the evidence.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::{BackendError, DatabaseError, StorageBackend, backends::FileBackend};

/// Bytes that are copied into memory when one of them is written.
const CHUNK_BYTES: usize = 4_096;

#[derive(Debug)]
pub(super) struct Overlay {
    file: FileBackend,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    len: u64,
    /// Up to here the file shows through; behind it are zeros until they are written.
    file_len: u64,
    /// Changed chunks by their number.
    chunks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(super) fn new(file: File) -> Result<Overlay, DatabaseError> {
        let file = FileBackend::new(file)?;
        let len = file.len()?;
        let state = State { len, file_len: len, chunks: BTreeMap::new() };
        Ok(Overlay { file, state: Mutex::new(state) })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state().len == 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A whole chunk as the file has it, zeros where it has nothing.
    fn file_chunk(&self, number: u64, file_len: u64) -> Result<Vec<u8>, io::Error> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let start = number * CHUNK_BYTES as u64;
        let there = usize::try_from(file_len.saturating_sub(start)).unwrap_or(CHUNK_BYTES);
        self.file.read(start, &mut chunk[..there.min(CHUNK_BYTES)])?;
        Ok(chunk)
    }
}

/// The pieces of `[offset, offset + len)` by chunk: number, first byte in the chunk, length.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = usize::try_from(at % CHUNK_BYTES as u64).unwrap_or(0);
        let length = (CHUNK_BYTES - within).min(len - done);
        done += length;
        Some((at / CHUNK_BYTES as u64, within, length))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.state();
        if offset.saturating_add(out.len() as u64) > state.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = out;
        for (number, within, length) in pieces(offset, rest.len()) {
            let (piece, behind) = rest.split_at_mut(length);
            match state.chunks.get(&number) {
                Some(chunk) => piece.copy_from_slice(&chunk[within..within + length]),
                None => {
                    let chunk = self.file_chunk(number, state.file_len)?;
                    piece.copy_from_slice(&chunk[within..within + length]);
                }
            }
            rest = behind;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut state = self.state();
        if len < state.len {
            // Should the file grow again, zeros stand behind the cut.
            state.file_len = state.file_len.min(len);
            let cut = len / CHUNK_BYTES as u64;
            let within = usize::try_from(len % CHUNK_BYTES as u64).unwrap_or(0);
            state.chunks.retain(|number, _| *number <= cut);
            if let Some(chunk) = state.chunks.get_mut(&cut) {
                chunk[within..].fill(0);
            }
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.state();
        let mut rest = data;
        for (number, within, length) in pieces(offset, data.len()) {
            let (piece, behind) = rest.split_at(length);
            if !state.chunks.contains_key(&number) {
                let chunk = self.file_chunk(number, state.file_len)?;
                state.chunks.insert(number, chunk);
            }
            if let Some(chunk) = state.chunks.get_mut(&number) {
                chunk[within..within + length].copy_from_slice(piece);
            }
            rest = behind;
        }
        state.len = state.len.max(offset.saturating_add(data.len() as u64));
        Ok(())
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }

    /// Shared, whatever is asked for: readers do not disturb each other, and a writer keeps out.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
