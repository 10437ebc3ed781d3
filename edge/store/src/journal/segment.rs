//! One file of a journal.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use super::{JournalError, RecordId};

const MAGIC: &[u8; 8] = b"pwjrnl\x00\x01";
pub(super) const HEADER_BYTES: u64 = MAGIC.len() as u64;
pub(super) const RECORD_PREFIX_BYTES: u64 = 8;
/// A record larger than this is a mistake; receipts and vouchers are below 4 KiB.
pub(super) const RECORD_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct Segment {
    number: u32,
    path: PathBuf,
    /// One descriptor for all who use it: to make another one to sync may fail where nothing is wrong with the disk.
    file: Arc<File>,
    bytes: u64,
}

/// A segment that is written and durable, and not one of the journal's yet.
#[derive(Debug)]
pub(super) struct Draft {
    number: u32,
    at: PathBuf,
    path: PathBuf,
    file: File,
    folder: File,
    bytes: u64,
}

impl Segment {
    /// The segments in `folder`, oldest first. Drafts of an interrupted rotation are removed.
    pub(super) fn list(folder: &Path) -> Result<Vec<Segment>, JournalError> {
        let failed = |source| JournalError::Io { action: "list", path: folder.to_owned(), source };
        let mut segments = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let extension = path.extension().and_then(|text| text.to_str());
            let stem = path.file_stem().and_then(|text| text.to_str());
            match (extension, stem.and_then(|text| text.parse().ok())) {
                (Some("journal"), Some(number)) => segments.push(Segment::open(number, path)?),
                (Some("draft"), _) => fs::remove_file(&path).map_err(failed)?,
                _ => {}
            }
        }
        segments.sort_by_key(|segment| segment.number);
        Ok(segments)
    }

    /// Gives every whole record in `folder` to `each`, in order, beside the process that writes them. What that one is
    /// writing just now, or removes, is not read.
    pub(super) fn read_only(
        folder: &Path,
        mut each: impl FnMut(RecordId, &[u8]),
    ) -> Result<(), JournalError> {
        let failed = |source| JournalError::Io { action: "list", path: folder.to_owned(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let is_segment = path.extension().is_some_and(|extension| extension == "journal");
            let stem = path.file_stem().and_then(|text| text.to_str());
            if let (true, Some(number)) = (is_segment, stem.and_then(|text| text.parse().ok())) {
                paths.push((number, path));
            }
        }
        paths.sort_unstable();
        for (number, path) in paths {
            match File::open(&path) {
                Ok(file) => read_records(file, number, &mut each).map(drop),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            }
            .map_err(|source| JournalError::Io { action: "read", path, source })?;
        }
        Ok(())
    }

    fn open(number: u32, path: PathBuf) -> Result<Segment, JournalError> {
        let failed = |source| JournalError::Io { action: "open", path: path.clone(), source };
        let file = OpenOptions::new().read(true).append(true).open(&path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok(Segment { number, file: Arc::new(file), bytes, path })
    }

    /// The bytes of a record on disk.
    pub(super) fn frame(record: &[u8]) -> Result<Vec<u8>, JournalError> {
        if record.is_empty() || record.len() > RECORD_BYTES_MAX {
            return Err(JournalError::TooLong { bytes: record.len(), bytes_max: RECORD_BYTES_MAX });
        }
        let mut bytes = Vec::with_capacity(record.len() + RECORD_PREFIX_BYTES as usize);
        bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(record).to_le_bytes());
        bytes.extend_from_slice(record);
        Ok(bytes)
    }

    /// Appends the framed record in one write.
    pub(super) fn append(&mut self, framed: &[u8]) -> Result<RecordId, JournalError> {
        (&*self.file).write_all(framed).map_err(|source| self.failed("write", source))?;
        self.bytes += framed.len() as u64;
        let bytes = (framed.len() - RECORD_PREFIX_BYTES as usize) as u32;
        Ok(RecordId { segment: self.number, end: self.bytes, bytes })
    }

    /// Reads every record. In the newest segment a torn end is cut off and kept beside it; anywhere
    /// else damage is an error.
    pub(super) fn replay(
        &mut self,
        newest: bool,
        mut each: impl FnMut(RecordId, &[u8]),
    ) -> Result<(), JournalError> {
        let file = File::open(&self.path).map_err(|source| self.failed("open", source))?;
        let offset = read_records(file, self.number, &mut each);
        let offset = offset.map_err(|source| self.failed("read", source))?;
        if offset == self.bytes {
            return Ok(());
        }
        if !newest || offset == 0 {
            return Err(JournalError::Damaged { path: self.path.clone(), offset });
        }
        self.cut_at(offset)
    }

    fn cut_at(&mut self, offset: u64) -> Result<(), JournalError> {
        let torn = self.path.with_extension("torn");
        tracing::warn!(
            path = %self.path.display(), kept = %torn.display(), bytes = self.bytes - offset,
            "journal.torn_end"
        );
        let content = fs::read(&self.path).map_err(|source| self.failed("read", source))?;
        let tail = content.get(offset as usize..).unwrap_or_default();
        fs::write(&torn, tail).map_err(|source| self.failed("write", source))?;
        self.file.set_len(offset).map_err(|source| self.failed("cut", source))?;
        self.bytes = offset;
        self.sync()
    }

    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(|source| self.failed("sync", source))
    }

    pub(super) fn finished_before(&self, before: SystemTime) -> Result<bool, JournalError> {
        let modified = self.file.metadata().and_then(|metadata| metadata.modified());
        Ok(modified.map_err(|source| self.failed("look at", source))? < before)
    }

    pub(super) fn remove(&self) -> Result<(), JournalError> {
        fs::remove_file(&self.path).map_err(|source| self.failed("remove", source))
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn shared_file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn failed(&self, action: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { action, path: self.path.clone(), source }
    }
}

impl Draft {
    /// Writes `records`. Whatever fails here leaves the journal as it is.
    pub(super) fn write(
        folder: &Path,
        number: u32,
        records: &[Vec<u8>],
    ) -> Result<(Draft, Vec<RecordId>), JournalError> {
        let path = folder.join(format!("{number:08}.journal"));
        let at = folder.join(format!("{number:08}.draft"));
        let failed = |source| JournalError::Io { action: "make", path: path.clone(), source };
        let mut content = MAGIC.to_vec();
        let mut ids = Vec::with_capacity(records.len());
        for record in records {
            content.extend_from_slice(&Segment::frame(record)?);
            ids.push(RecordId {
                segment: number,
                end: content.len() as u64,
                bytes: record.len() as u32,
            });
        }
        let folder = File::open(folder).map_err(failed)?;
        match fs::remove_file(&at) {
            // Of an earlier try.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).append(true).create_new(true).open(&at).map_err(failed)?;
        file.write_all(&content).and_then(|()| file.sync_all()).map_err(failed)?;
        let bytes = content.len() as u64;
        Ok((Draft { number, at, path, file, folder, bytes }, ids))
    }

    /// Makes it the journal's newest segment. If this fails, it may be that or not.
    pub(super) fn into_segment(self) -> Result<Segment, JournalError> {
        let Draft { number, at, path, file, folder, bytes } = self;
        let renamed = fs::rename(&at, &path).and_then(|()| folder.sync_all());
        match renamed {
            Ok(()) => Ok(Segment { number, path, file: Arc::new(file), bytes }),
            Err(source) => Err(JournalError::Io { action: "make", path, source }),
        }
    }
}

/// Every whole record of a segment's file. Returns where the last one ends: 0 if it is no segment.
fn read_records(
    file: File,
    segment: u32,
    each: &mut impl FnMut(RecordId, &[u8]),
) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let mut magic = [0; MAGIC.len()];
    if !read_all(&mut reader, &mut magic)? || &magic != MAGIC {
        return Ok(0);
    }
    let mut end = HEADER_BYTES;
    while let Some(record) = read_record(&mut reader)? {
        end += RECORD_PREFIX_BYTES + record.len() as u64;
        each(RecordId { segment, end, bytes: record.len() as u32 }, &record);
    }
    Ok(end)
}

/// The next whole record; `None` at the end or where the bytes stop making sense.
fn read_record(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut prefix = [0; RECORD_PREFIX_BYTES as usize];
    if !read_all(reader, &mut prefix)? {
        return Ok(None);
    }
    let [a, b, c, d, crc @ ..] = prefix;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if len == 0 || len > RECORD_BYTES_MAX {
        return Ok(None);
    }
    let mut record = vec![0; len];
    let whole = read_all(reader, &mut record)?;
    Ok((whole && crc32fast::hash(&record).to_le_bytes() == crc).then_some(record))
}

fn read_all(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
