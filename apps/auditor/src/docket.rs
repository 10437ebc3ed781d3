//! What we have said, or will say, of rounds: a file for each. It is there before we commit to a verdict, so that a restart
//! loses neither verdict nor salt; and stays for a while, as a report for people. Nothing of a prompt or a text is in it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use types::{
    Hash32, TimeMs,
    audit::{CommitmentId, ReceiptsCommitment, Verdict},
};

use crate::{
    judge::{Level, Step},
    picture,
};

/// Files that are kept: reports and their pictures.
const FILES_MAX: usize = 8_192;
/// Bytes of a file; the evidence after each of 512 tokens is most of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// One round, as one verifier saw it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    pub commitment: CommitmentId,
    pub receipts: ReceiptsCommitment,
    pub at: TimeMs,
    /// Receipts that the beacon chose, and those of them that were opened and scored.
    pub chosen: u32,
    pub opened: u32,
    pub scored: u32,
    /// Of these, the answers of which only the log-probabilities were compared.
    #[serde(default)]
    pub l1_only: u32,
    pub verdict: Verdict,
    pub salt: Hash32,
    pub l1: Option<Level>,
    pub l2: Option<Level>,
    #[serde(default)]
    pub projections: Option<Level>,
    /// The evidence after each token, or after some of many.
    pub trace: Vec<Step>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Docket {
    folder: PathBuf,
}

/// Why a report cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum DocketError {
    #[error("cannot {action} {path}", path = path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} holds no report; was it written by a later version?", path = path.display())]
    Format { path: PathBuf, source: serde_json::Error },
}

impl Docket {
    /// In a folder of its own, which is made if it is missing.
    pub fn open(folder: &Path) -> Result<Docket, DocketError> {
        let made = fs::create_dir_all(folder);
        let failed = |source| DocketError::File { action: "make", path: folder.to_owned(), source };
        made.map_err(failed)?;
        Ok(Docket { folder: folder.to_owned() })
    }

    fn path(&self, id: &CommitmentId) -> PathBuf {
        self.folder.join(format!("{}-{}.json", id.provider, id.sequence))
    }

    /// Writes a report down, durably, in the place of an older one of the same round; and beside it, for people, the
    /// evidence as a picture.
    pub fn write(&self, report: &Report) -> Result<(), DocketError> {
        let path = self.path(&report.commitment);
        let bytes = serde_json::to_vec(report);
        let bytes = bytes.map_err(|source| DocketError::Format { path: path.clone(), source })?;
        self.put(&path, &bytes)?;
        match report.trace.is_empty() {
            true => Ok(()),
            false => self.put(
                &path.with_extension("svg"),
                picture::svg(&report.trace, report.l1_only).as_bytes(),
            ),
        }
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), DocketError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| DocketError::File { action, path, source }
        };
        let part = path.with_extension("part");
        // The salt is a secret until it is revealed.
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part);
        let written = file.and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(failed("write", &part))?;
        fs::rename(&part, path).map_err(failed("write", path))?;
        let folder = fs::File::open(&self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(failed("write", &self.folder))
    }

    /// `None`: there is none.
    pub fn read(&self, id: &CommitmentId) -> Result<Option<Report>, DocketError> {
        let path = self.path(id);
        let failed = |source| DocketError::File { action: "read", path: path.clone(), source };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(failed(io::Error::from(io::ErrorKind::FileTooLarge)));
            }
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(failed)?;
        let report = serde_json::from_slice(&bytes);
        report.map(Some).map_err(|source| DocketError::Format { path, source })
    }

    /// Forgets the oldest reports that are too many.
    pub fn tidy(&self) -> Result<(), DocketError> {
        let failed =
            |action, path: PathBuf| move |source| DocketError::File { action, path, source };
        let entries = fs::read_dir(&self.folder).map_err(failed("read", self.folder.clone()))?;
        let mut files = Vec::new();
        for entry in entries.flatten() {
            if let Ok(written) = entry.metadata().and_then(|metadata| metadata.modified()) {
                files.push((written, entry.path()));
            }
        }
        files.sort_unstable();
        let beyond = files.len().saturating_sub(FILES_MAX);
        for (_, path) in files.into_iter().take(beyond) {
            fs::remove_file(&path).map_err(failed("remove", path.clone()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use types::{Address, ModelId, audit::AuditOutcome};

    use super::*;

    #[test]
    fn a_verdict_and_its_salt_survive_and_are_shown_to_nobody_else() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("reports");
        let commitment = CommitmentId { provider: Address([7; 20]), sequence: 3 };
        let report = Report {
            commitment,
            receipts: ReceiptsCommitment {
                model: ModelId([1; 32]),
                root: Hash32([2; 32]),
                count: 4,
            },
            at: TimeMs(5),
            chosen: 1,
            opened: 0,
            scored: 0,
            l1_only: 0,
            verdict: Verdict { outcome: AuditOutcome::Missing, evidence: None },
            salt: Hash32([9; 32]),
            l1: None,
            l2: None,
            projections: None,
            trace: Vec::new(),
        };
        Docket::open(&folder).unwrap().write(&report).unwrap();
        let docket = Docket::open(&folder).unwrap();
        assert_eq!(docket.read(&commitment).unwrap(), Some(report));
        let mode = fs::metadata(docket.path(&commitment)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = CommitmentId { sequence: 4, ..commitment };
        assert_eq!(docket.read(&other).unwrap(), None);
        fs::write(docket.path(&other), "{}").unwrap();
        assert!(docket.read(&other).is_err());
        docket.tidy().unwrap();
    }
}
