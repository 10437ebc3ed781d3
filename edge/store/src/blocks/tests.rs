//! What the block store keeps, what it refuses, and what a crash leaves of it.

use types::{
    Address, Nusd, PublicKey, Signature, TimeMs, Watt,
    block::Block,
    consensus::{CommitSignature, ValidatorPower},
    genesis::{GenesisValidator, Params},
    stake::CommissionTerms,
};

use super::*;
use crate::testing::{Crash, Disk};

fn genesis(name: &str) -> Genesis {
    Genesis {
        chain_id: name.parse().unwrap(),
        time: TimeMs(1),
        params: Params::standard(),
        nusd_per_watt: Nusd::whole(1),
        accounts: vec![],
        vesting: vec![],
        validators: vec![GenesisValidator {
            consensus_key: PublicKey([1; 32]),
            operator: Address::of_module("test"),
            moniker: "test".to_owned(),
            stake: Watt::whole(10_000),
            commission: CommissionTerms::ALL,
        }],
    }
}

/// The block of `height` in a chain whose content follows from its heights.
fn block(height: u64) -> (StoredBlock, Vec<TxId>) {
    let txs: Vec<Vec<u8>> = (0..height % 3).map(|n| vec![height as u8, n as u8]).collect();
    let ids = txs.iter().map(|tx| TxId(sha256(&[tx]).0)).collect();
    let header = BlockHeader {
        height: Height(height),
        time: TimeMs(height),
        parent: Hash32::default(),
        txs_root: Block::txs_root(&txs),
        last_certificate: Hash32::default(),
        validators: validators(height).hash(),
        next_validators: validators(height + 1).hash(),
        app_hash: sha256(&[&height.to_le_bytes()]),
        proposer: PublicKey([1; 32]),
    };
    let (signer, signature) = (PublicKey([1; 32]), Signature([2; 64]));
    let certificate = Certificate {
        height: header.height,
        round: 0,
        block: header.hash(),
        signatures: vec![CommitSignature { signer, signature }],
    };
    let outcomes = vec![7; 40];
    (StoredBlock { header, txs, last_certificate: None, certificate, outcomes }, ids)
}

/// One set for even heights, another for odd ones.
fn validators(height: u64) -> ValidatorSet {
    ValidatorSet::new([ValidatorPower { key: PublicKey([1; 32]), power: 1 + height % 2 }])
}

fn append(store: &BlockStore, height: u64) -> Result<(), StoreError> {
    let (block, tx_ids) = block(height);
    let state = vec![height as u8; 3_000];
    let snapshot = height.is_multiple_of(2).then_some((block.header.height, state.as_slice()));
    store.append(Append {
        block: &block,
        validators: &validators(height),
        tx_ids: &tx_ids,
        snapshot,
    })
}

/// Checks that the store holds exactly the blocks `1..=height` and what belongs to them.
fn check(store: &BlockStore, height: u64) {
    assert_eq!(store.height().unwrap(), Height(height));
    assert_eq!(store.block(Height(height + 1)).unwrap(), None);
    for at in 1..=height {
        let (block, tx_ids) = block(at);
        assert_eq!(store.block(Height(at)).unwrap().as_ref(), Some(&block));
        for (index, id) in (0u32..).zip(tx_ids) {
            let place = Some(TxPlace { height: Height(at), index });
            assert_eq!(store.tx_place(id).unwrap(), place);
        }
    }
    let even = height / 2 * 2;
    let snapshot = (even > 0).then(|| (Height(even), vec![even as u8; 3_000]));
    assert_eq!(store.snapshot().unwrap(), snapshot);
    for at in 1..=height {
        let set = validators(at);
        assert_eq!(store.validators(set.hash()).unwrap(), Some(set));
    }
}

#[test]
fn blocks_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks.redb");
    for height in 0..7 {
        let store = BlockStore::open(&path, &genesis("a")).unwrap();
        check(&store, height);
        append(&store, height + 1).unwrap();
        check(&store, height + 1);
    }
}

#[test]
fn a_block_out_of_order_or_with_another_certificate_is_refused() {
    let store = BlockStore::open_on(Disk::new(), Path::new("disk"), &genesis("a")).unwrap();
    assert!(matches!(append(&store, 2), Err(StoreError::NotNext { .. })));
    append(&store, 1).unwrap();
    assert!(matches!(append(&store, 1), Err(StoreError::NotNext { .. })));
    let (mut other, _) = block(2);
    other.certificate = block(3).0.certificate;
    let set = validators(2);
    let other = Append { block: &other, validators: &set, tx_ids: &[], snapshot: None };
    assert!(matches!(store.append(other), Err(StoreError::OtherCertificate { .. })));
    let (good, set) = (block(2).0, validators(3));
    let other = Append { block: &good, validators: &set, tx_ids: &[], snapshot: None };
    assert!(matches!(store.append(other), Err(StoreError::OtherCertificate { .. })));
    check(&store, 1);
}

#[test]
fn one_file_is_open_once_and_the_error_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks.redb");
    let store = BlockStore::open(&path, &genesis("a")).unwrap();
    let again = BlockStore::open(&path, &genesis("a")).unwrap_err();
    assert!(matches!(again, StoreError::Locked { .. }), "{again:?}");
    assert!(again.to_string().contains(path.to_str().unwrap()));
    let reader = BlockStore::open_read_only(&path).unwrap_err();
    assert!(matches!(reader, StoreError::Locked { .. }), "{reader:?}");
    drop(store);

    let reader = BlockStore::open_read_only(&path).unwrap();
    let second = BlockStore::open_read_only(&path).unwrap();
    let writer = BlockStore::open(&path, &genesis("a")).unwrap_err();
    assert!(matches!(writer, StoreError::Locked { .. }), "{writer:?}");
    drop((reader, second));
    BlockStore::open(&path, &genesis("a")).unwrap();
}

#[test]
fn a_file_of_another_chain_or_of_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks.redb");
    let missing = BlockStore::open_read_only(&path).unwrap_err();
    assert!(matches!(missing, StoreError::Io { .. }), "{missing:?}");
    drop(BlockStore::open(&path, &genesis("a")).unwrap());
    let other = BlockStore::open(&path, &genesis("b")).unwrap_err();
    assert!(matches!(other, StoreError::OtherGenesis { .. }), "{other:?}");
    assert_eq!(*BlockStore::open_read_only(&path).unwrap().genesis(), genesis("a"));

    std::fs::write(&path, b"").unwrap();
    let empty = BlockStore::open_read_only(&path).unwrap_err();
    assert!(matches!(empty, StoreError::Empty { .. }), "{empty:?}");
    std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
    BlockStore::open(&path, &genesis("a")).unwrap_err();
    BlockStore::open_read_only(&path).unwrap_err();
}

#[test]
fn a_reader_repairs_what_a_killed_writer_left_without_changing_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("blocks.redb"), folder.path().join("copy.redb"));
    let store = BlockStore::open(&path, &genesis("a")).unwrap();
    (1..=5).for_each(|height| append(&store, height).unwrap());
    // As a kill leaves it: no closing, the mark that repair is needed still set.
    std::fs::copy(&path, &copy).unwrap();
    let before = std::fs::read(&copy).unwrap();
    check(&BlockStore::open_read_only(&copy).unwrap(), 5);
    assert!(std::fs::read(&copy).unwrap() == before, "the file has changed");
}

/// A run of five blocks on a disk that fails at one operation: how many blocks were answered as
/// durable, and the disk. The file itself is made before: see the test on half-made files.
fn run_until_failure(operation: u64) -> (u64, Disk) {
    let disk = Disk::new();
    drop(BlockStore::open_on(disk.clone(), Path::new("disk"), &genesis("a")).unwrap());
    disk.fail_after(operation);
    let mut answered = 0;
    if let Ok(store) = BlockStore::open_on(disk.clone(), Path::new("disk"), &genesis("a")) {
        while answered < 5 && append(&store, answered + 1).is_ok() {
            answered += 1;
        }
    }
    (answered, disk)
}

#[test]
fn a_file_that_a_kill_left_half_made_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks.redb");
    for half_made in [vec![], vec![0; 4_096], b"redb".to_vec()] {
        std::fs::write(path.with_extension("draft"), half_made).unwrap();
        let store = BlockStore::open(&path, &genesis("a")).unwrap();
        append(&store, 1).unwrap();
        let again = BlockStore::open(&path, &genesis("a")).unwrap_err();
        assert!(matches!(again, StoreError::Locked { .. }), "{again:?}");
        drop(store);
        check(&BlockStore::open(&path, &genesis("a")).unwrap(), 1);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_crash_at_any_write_loses_nothing_that_was_answered() {
    let mut operation = 1;
    loop {
        let (answered, disk) = run_until_failure(operation);
        if !disk.has_failed() {
            assert_eq!(answered, 5);
            break;
        }
        for crash in [Crash::LosesUnsynced, Crash::KeepsUnsynced, Crash::KeepsEveryOther] {
            let disk = disk.after(crash);
            let store = BlockStore::open_on(disk, Path::new("disk"), &genesis("a"))
                .unwrap_or_else(|error| panic!("operation {operation}, {crash:?}: {error:?}"));
            let height = store.height().unwrap().0;
            // The block whose write failed may be there, whole.
            assert!((answered..=answered + 1).contains(&height), "{operation} {crash:?}");
            check(&store, height);
            append(&store, height + 1).unwrap();
        }
        operation += 1;
    }
    assert!(operation > 20, "the run has {operation} operations, too few to show anything");
}

#[test]
fn a_damaged_or_cut_file_is_an_error_and_never_a_wrong_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("blocks.redb"), folder.path().join("copy.redb"));
    let store = BlockStore::open(&path, &genesis("a")).unwrap();
    (1..=5).for_each(|height| append(&store, height).unwrap());
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let damage = used.iter().step_by(97).map(|at| {
        let mut bytes = whole.clone();
        bytes[*at] ^= 0x20;
        bytes
    });
    let cuts = (0..40).map(|n| whole[..whole.len() * n / 40].to_vec());
    for bytes in damage.chain(cuts) {
        std::fs::write(&copy, &bytes).unwrap();
        if let Ok(store) = BlockStore::open_read_only(&copy) {
            for at in 1..=5 {
                let (block, ids) = block(at);
                if let Ok(Some(found)) = store.block(Height(at)) {
                    assert_eq!(found, block);
                }
                ids.into_iter().for_each(|id| drop(store.tx_place(id)));
            }
            drop(store.snapshot());
        }
    }
}

#[test]
fn old_blocks_can_be_forgotten_and_the_newest_cannot() {
    let disk = Disk::new();
    let store = BlockStore::open_on(disk.clone(), Path::new("disk"), &genesis("a")).unwrap();
    (1..=6).for_each(|height| append(&store, height).unwrap());
    let ids = |block: &StoredBlock| super::tests::block(block.header.height.0).1;
    // A few at a time, and without a sync: those that were forgotten since the last append come back.
    assert_eq!(store.prune(Height(4), 2, ids).unwrap(), 2);
    assert_eq!(store.first_height().unwrap(), Height(3));
    let after = disk.after(Crash::LosesUnsynced);
    let after = BlockStore::open_on(after, Path::new("disk"), &genesis("a")).unwrap();
    assert_eq!((after.first_height().unwrap(), after.height().unwrap()), (Height(1), Height(6)));
    assert_eq!(store.prune(Height(4), 2, ids).unwrap(), 1);
    assert_eq!(store.prune(Height(4), 2, ids).unwrap(), 0);
    assert_eq!((store.first_height().unwrap(), store.height().unwrap()), (Height(4), Height(6)));
    assert_eq!(store.block(Height(2)).unwrap(), None);
    assert_eq!(store.tx_place(block(2).1[0]).unwrap(), None);
    assert!(store.validators(block(5).0.header.validators).unwrap().is_some());
    assert_eq!(store.prune(Height(99), 8, ids).unwrap(), 2);
    assert_eq!(store.first_height().unwrap(), Height(6));
    append(&store, 7).unwrap();
    let after = disk.after(Crash::LosesUnsynced);
    let after = BlockStore::open_on(after, Path::new("disk"), &genesis("a")).unwrap();
    assert_eq!((after.first_height().unwrap(), after.height().unwrap()), (Height(6), Height(7)));
}

#[test]
fn an_empty_store_can_begin_after_a_snapshot() {
    let disk = Disk::new();
    let store = BlockStore::open_on(disk.clone(), Path::new("disk"), &genesis("a")).unwrap();
    let StoredBlock { header, certificate, .. } = block(40).0;
    let anchor = Anchor { header, certificate, validators: validators(40) };
    let other = Anchor { validators: validators(39), ..anchor.clone() };
    let refused = store.adopt(&other, &[1]);
    assert!(matches!(refused, Err(StoreError::OtherCertificate { .. })), "{refused:?}");
    assert_eq!((store.anchor().unwrap(), store.height().unwrap()), (None, Height(0)));

    store.adopt(&anchor, &[1, 2, 3]).unwrap();
    drop(store);
    let store =
        BlockStore::open_on(disk.after(Crash::LosesUnsynced), Path::new("disk"), &genesis("a"));
    let store = store.unwrap();
    assert_eq!(store.anchor().unwrap(), Some(anchor.clone()));
    assert_eq!((store.first_height().unwrap(), store.height().unwrap()), (Height(41), Height(40)));
    assert_eq!((store.block(Height(40)).unwrap(), store.tip().unwrap()), (None, None));
    assert!(matches!(store.adopt(&anchor, &[1]), Err(StoreError::NotEmpty { .. })));
    assert_eq!(store.snapshot().unwrap(), Some((Height(40), vec![1, 2, 3])));
    append(&store, 41).unwrap();
    assert_eq!((store.first_height().unwrap(), store.height().unwrap()), (Height(41), Height(41)));
}
