//! What a journal promises, across reopening and damage.

use std::{fs, path::Path, time::SystemTime};

use proptest::prelude::*;

use super::{
    Journal, JournalConfig, JournalError,
    segment::{HEADER_BYTES, RECORD_PREFIX_BYTES},
};

fn open(folder: &Path) -> Result<(Journal, Vec<Vec<u8>>), JournalError> {
    let mut records = Vec::new();
    let config = JournalConfig { folder: folder.to_owned() };
    let journal = Journal::open(&config, |_, record| records.push(record.to_vec()))?;
    Ok((journal, records))
}

#[tokio::test]
async fn what_was_appended_is_replayed_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, records) = open(folder.path()).unwrap();
    assert!(records.is_empty());
    let first = journal.append(b"one").unwrap();
    let second = journal.append(b"two").unwrap();
    assert!(first < second);
    journal.sync(second).await.unwrap();
    assert!(journal.is_durable(first) && journal.is_durable(second));
    assert_eq!(journal.read(first).unwrap(), b"one");
    drop(journal);
    let (journal, records) = open(folder.path()).unwrap();
    assert_eq!(records, [b"one", b"two"]);
    assert_eq!(journal.read(second).unwrap(), b"two");
}

#[test]
fn a_second_process_cannot_open_it() {
    let folder = tempfile::tempdir().unwrap();
    let (_journal, _) = open(folder.path()).unwrap();
    assert!(matches!(open(folder.path()), Err(JournalError::InUse { .. })));
}

#[test]
fn it_is_read_beside_the_process_that_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path()).unwrap();
    let ids = [journal.append(b"one").unwrap(), journal.append(b"two").unwrap()];
    journal.rotate(&[b"both".to_vec()]).unwrap();
    journal.append(b"three").unwrap();
    // Half of a record, as if it was being written.
    let current = folder.path().join("00000002.journal");
    let half = [&5_u32.to_le_bytes()[..], &[0; 4], b"fo"].concat();
    let mut file = fs::OpenOptions::new().append(true).open(&current).unwrap();
    std::io::Write::write_all(&mut file, &half).unwrap();
    let mut seen = Vec::new();
    Journal::read_only(folder.path(), |id, record| seen.push((id, record.to_vec()))).unwrap();
    let records: Vec<&[u8]> = seen.iter().map(|(_, record)| &record[..]).collect();
    assert_eq!(records, [&b"one"[..], b"two", b"both", b"three"]);
    assert_eq!([seen[0].0, seen[1].0], ids);
    assert_eq!(fs::metadata(&current).unwrap().len(), 8 + 12 + 13 + 10, "nothing is cut off");
}

#[test]
fn a_torn_end_is_cut_and_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path()).unwrap();
    journal.append(b"whole").unwrap();
    journal.append(b"torn").unwrap();
    drop(journal);
    let path = folder.path().join("00000001.journal");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();

    let (journal, records) = open(folder.path()).unwrap();
    assert_eq!(records, [b"whole"]);
    assert!(path.with_extension("torn").exists());
    journal.append(b"next").unwrap();
    drop(journal);
    assert_eq!(open(folder.path()).unwrap().1, [b"whole".to_vec(), b"next".to_vec()]);
}

#[test]
fn damage_in_a_finished_segment_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path()).unwrap();
    journal.append(b"old").unwrap();
    journal.rotate(&[b"checkpoint".to_vec()]).unwrap();
    drop(journal);
    let path = folder.path().join("00000001.journal");
    let mut bytes = fs::read(&path).unwrap();
    bytes[(HEADER_BYTES + RECORD_PREFIX_BYTES) as usize] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(open(folder.path()), Err(JournalError::Damaged { .. })));
}

#[tokio::test]
async fn rotation_keeps_old_records_readable_until_they_are_pruned() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path()).unwrap();
    let old = journal.append(b"old").unwrap();
    let ids = journal.rotate(&[b"a".to_vec(), b"b".to_vec()]).unwrap();
    assert_eq!(journal.read(ids[1]).unwrap(), b"b");
    assert_eq!(journal.read(old).unwrap(), b"old");
    let new = journal.append(b"new").unwrap();
    journal.sync(new).await.unwrap();
    assert_eq!(journal.prune(SystemTime::UNIX_EPOCH).unwrap(), 0);
    let later = SystemTime::now() + std::time::Duration::from_secs(60);
    assert_eq!(journal.prune(later).unwrap(), 1);
    assert!(matches!(journal.read(old), Err(JournalError::Pruned)));
    drop(journal);
    let (_, records) = open(folder.path()).unwrap();
    assert_eq!(records, [b"a".to_vec(), b"b".to_vec(), b"new".to_vec()]);
}

#[test]
fn a_rotation_that_fails_leaves_the_journal_as_it_was_or_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path()).unwrap();
    journal.append(b"old").unwrap();
    // There is no room for the new segment.
    let draft = folder.path().join("00000002.draft");
    fs::create_dir(&draft).unwrap();
    assert!(journal.rotate(&[b"checkpoint".to_vec()]).is_err());
    journal.append(b"more").unwrap();
    journal.check().unwrap();
    // It is there, and may or may not be found after a restart: what the old one took now could be undone by it.
    fs::remove_dir(&draft).unwrap();
    let taken = folder.path().join("00000002.journal");
    fs::create_dir(&taken).unwrap();
    assert!(journal.rotate(&[b"checkpoint".to_vec()]).is_err());
    assert!(matches!(journal.append(b"lost"), Err(JournalError::Broken { .. })));
    assert!(matches!(journal.check(), Err(JournalError::Broken { .. })));
    drop(journal);
    fs::remove_dir(&taken).unwrap();
    assert_eq!(open(folder.path()).unwrap().1, [b"old".to_vec(), b"more".to_vec()]);
}

#[test]
fn empty_and_oversize_records_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path()).unwrap();
    for record in [vec![], vec![0; super::segment::RECORD_BYTES_MAX + 1]] {
        assert!(matches!(journal.append(&record), Err(JournalError::TooLong { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_cut_leaves_a_prefix(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = open(folder.path()).unwrap();
        for record in &records {
            journal.append(record).unwrap();
        }
        drop(journal);
        let path = folder.path().join("00000001.journal");
        let bytes = fs::read(&path).unwrap();
        let keep = 8 + cut.index(bytes.len() - 8);
        fs::write(&path, &bytes[..keep]).unwrap();
        let (_, replayed) = open(folder.path()).unwrap();
        prop_assert!(records.starts_with(&replayed));
    }
}
