//! `check` on homes that are well, in use, damaged and forged.

use std::path::Path;

use store::{Append, BlockStore, StoreError, StoredBlock};
use types::{
    Hash32, TimeMs, TxId, Watt,
    block::Block,
    consensus::{Certificate, CommitSignature},
    sign::Signed,
    tx::SignedTx,
};
use validator::{CheckError, check};

use crate::{
    network::{CONSENSUS, HOLDER, Home, genesis, key, sender},
    transfer,
};

/// A home with five blocks whose validator has stopped.
async fn home_with_blocks() -> Home {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    let sender = sender(&chain, 10);
    for amount in 1..=5 {
        sender.send(transfer(11, Watt(amount))).await.unwrap();
    }
    validator.shutdown().await.unwrap();
    home
}

fn blocks_file(home: &Home) -> std::path::PathBuf {
    home.config().home.join("blocks.redb")
}

#[tokio::test]
async fn a_sound_chain_has_a_clean_report() {
    let home = home_with_blocks().await;
    let before = std::fs::read(blocks_file(&home)).unwrap();
    let report = check(&home.config().home).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.height.0, report.txs), (5, 5));
    let invariants = ledger::invariants::all().len() as u64;
    assert_eq!(report.invariants_checked, 6 * invariants, "after genesis and every block");
    assert!(std::fs::read(blocks_file(&home)).unwrap() == before, "the file has changed");
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<validator::Report>(&text).unwrap(), report);
}

#[tokio::test]
async fn a_home_in_use_or_without_blocks_says_so() {
    let home = Home::new();
    let (validator, _) = home.start().await;
    let locked = check(&home.config().home).unwrap_err();
    assert!(matches!(locked, CheckError::Store { source: StoreError::Locked { .. } }));
    validator.shutdown().await.unwrap();
    assert!(check(&home.config().home).unwrap().is_clean(), "a chain without blocks is sound");
    let missing = check(Path::new("nowhere")).unwrap_err();
    assert!(matches!(missing, CheckError::NoHome { .. }));
}

#[tokio::test]
async fn a_flipped_byte_in_a_block_and_a_torn_tail_are_found() {
    let home = home_with_blocks().await;
    let path = blocks_file(&home);
    let store = BlockStore::open_read_only(&path).unwrap();
    let block = store.block(types::Height(3)).unwrap().unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let needle = &block.txs[0];
    let found = whole.windows(needle.len()).position(|window| window == needle).unwrap();
    for at in [found, found + needle.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = check(&home.config().home).unwrap_err();
        assert!(
            matches!(error, CheckError::Store { source: StoreError::Damaged { .. } }),
            "{error:?}"
        );
        // A running validator that reads the block does not pass it on either.
        if let Ok(store) = BlockStore::open(&path, &genesis()) {
            assert!(store.block(types::Height(3)).is_err());
        }
    }
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(check(&home.config().home), Err(CheckError::Store { .. })));
}

/// Appends a block 6 that a cheating validator might have made, and names what `check` says.
async fn check_forged(forge: impl FnOnce(&mut StoredBlock, &mut Vec<TxId>)) -> String {
    let home = home_with_blocks().await;
    let store = BlockStore::open(&blocks_file(&home), &genesis()).unwrap();
    let tip = store.tip().unwrap().unwrap();
    let mut block = tip.clone();
    block.txs.clear();
    block.outcomes = br#"{"results":[],"events":[]}"#.to_vec();
    block.header.height = tip.header.height.next();
    block.header.parent = tip.header.hash();
    block.header.last_certificate = tip.certificate.hash();
    block.last_certificate = Some(tip.certificate.clone());
    block.header.txs_root = Block::txs_root(&[]);
    let mut tx_ids = Vec::new();
    forge(&mut block, &mut tx_ids);
    let validators = store.validators(block.header.validators).unwrap().unwrap();
    let append = Append { block: &block, validators: &validators, tx_ids: &tx_ids, snapshot: None };
    store.append(append).unwrap();
    drop(store);
    let report = check(&home.config().home).unwrap();
    assert_eq!(report.height.0 + 1, 6, "what came before was replayed");
    report.violations.into_iter().map(|violation| violation.check).collect()
}

/// Signs the header as it is now.
fn sign(block: &mut StoredBlock, with: u8) {
    let (height, hash) = (block.header.height, block.header.hash());
    let mut certificate = Certificate { height, round: 0, block: hash, signatures: Vec::new() };
    let signed = Signed::new(certificate.vote(), &genesis().chain_id, &key(with));
    let Signed { signer, signature, .. } = signed;
    certificate.signatures = vec![CommitSignature { signer, signature }];
    block.certificate = certificate;
}

#[tokio::test]
async fn a_forged_block_is_named_by_what_is_wrong_with_it() {
    let unsigned = check_forged(|block, _| {
        let signatures = block.certificate.signatures.clone();
        sign(block, CONSENSUS);
        block.certificate.signatures = signatures;
    });
    assert_eq!(unsigned.await, "certificate");
    let by_another = check_forged(|block, _| sign(block, HOLDER)).await;
    assert_eq!(by_another, "certificate");
    let app_hash = check_forged(|block, _| {
        block.header.app_hash = Hash32([9; 32]);
        sign(block, CONSENSUS);
    });
    assert_eq!(app_hash.await, "app_hash");
    let last_certificate = check_forged(|block, _| {
        block.last_certificate = None;
        block.header.last_certificate = Hash32::default();
        sign(block, CONSENSUS);
    });
    assert_eq!(last_certificate.await, "certificate");
    let next_validators = check_forged(|block, _| {
        block.header.next_validators = Hash32([9; 32]);
        sign(block, CONSENSUS);
    });
    assert_eq!(next_validators.await, "app_hash");
    let parent = check_forged(|block, _| {
        block.header.parent = Hash32([9; 32]);
        sign(block, CONSENSUS);
    });
    assert_eq!(parent.await, "header");
    let earlier = check_forged(|block, _| {
        block.header.time = TimeMs(0);
        sign(block, CONSENSUS);
    });
    assert_eq!(earlier.await, "header");
    let hidden_txs = check_forged(|block, _| {
        block.txs.push(vec![1]);
        sign(block, CONSENSUS);
    });
    assert_eq!(hidden_txs.await, "header");
    let garbage = check_forged(|block, _| {
        block.txs.push(vec![1]);
        block.header.txs_root = Block::txs_root(&block.txs);
        sign(block, CONSENSUS);
    });
    assert_eq!(garbage.await, "transaction");
    let misplaced = check_forged(|block, _| {
        block.txs.push(crate::signed(10, 99, |_| {}).encode());
        block.header.txs_root = Block::txs_root(&block.txs);
        sign(block, CONSENSUS);
    });
    assert_eq!(misplaced.await, "execution");
}

#[tokio::test]
async fn outcomes_and_index_are_recomputed() {
    let home = home_with_blocks().await;
    let store = BlockStore::open_read_only(&blocks_file(&home)).unwrap();
    let good: Vec<StoredBlock> =
        (1..=5).map(|height| store.block(types::Height(height)).unwrap().unwrap()).collect();
    let validators = store.validators(good[0].header.validators).unwrap().unwrap();
    drop(store);
    // The same chain once more, told differently.
    let retold = |edit: fn(&mut StoredBlock, &mut Vec<TxId>)| {
        let home = Home::new();
        std::fs::create_dir_all(home.config().home).unwrap();
        let store = BlockStore::open(&blocks_file(&home), &genesis()).unwrap();
        for block in &good {
            let mut block = block.clone();
            let id = |tx: &Vec<u8>| SignedTx::decode(tx).unwrap().id();
            let mut tx_ids: Vec<TxId> = block.txs.iter().map(id).collect();
            edit(&mut block, &mut tx_ids);
            let append =
                Append { block: &block, validators: &validators, tx_ids: &tx_ids, snapshot: None };
            store.append(append).unwrap();
        }
        drop(store);
        let report = check(&home.config().home).unwrap();
        report.violations.into_iter().map(|violation| violation.check).collect::<String>()
    };
    assert_eq!(retold(|_, _| {}), "");
    assert_eq!(retold(|block, _| block.outcomes.truncate(3)), "outcome");
    assert_eq!(retold(|_, tx_ids| tx_ids.clear()), "index");
    assert_eq!(retold(|_, tx_ids| tx_ids.push(TxId([0; 32]))), "index");
}
