//! What a mempool takes, refuses and gives.

use types::{PublicKey, hash::sha256};

use super::*;

#[derive(Clone, Debug)]
pub(super) struct Tx {
    pub(super) sender: u8,
    pub(super) nonce: u64,
    pub(super) tip: u64,
    pub(super) valid_until: Option<u64>,
    pub(super) salt: u64,
}

pub(super) fn address(sender: u8) -> Address {
    Address::of_key(&PublicKey([sender; 32]))
}

impl Transaction for Tx {
    fn id(&self) -> TxId {
        TxId(sha256(&[&[self.sender], &self.nonce.to_le_bytes(), &self.salt.to_le_bytes()]).0)
    }

    fn sender(&self) -> Address {
        address(self.sender)
    }

    fn nonce(&self) -> Nonce {
        Nonce(self.nonce)
    }

    fn tip(&self) -> Watt {
        Watt(u128::from(self.tip))
    }

    fn valid_until(&self) -> Option<TimeMs> {
        self.valid_until.map(TimeMs)
    }
}

pub(super) fn entry(tx: Tx, bytes: usize, arrived: u64) -> Entry<Tx, u8> {
    let (tx, bytes) = (Arc::new(tx), vec![0; bytes].into());
    Entry { tx, bytes, waiters: vec![0], arrived: TimeMs(arrived) }
}

const LIMITS: MempoolLimits = MempoolLimits {
    txs_max: 5,
    bytes_max: 100,
    sender_txs_max: 3,
    sender_bytes_max: 90,
    waiters_max: 2,
    age_ms_max: 1_000,
};

/// Sender, nonce, tip, bytes. The nonce of every account is zero.
type Given = (u8, u64, u64, usize);

fn tx((sender, nonce, tip, bytes): Given) -> Tx {
    Tx { sender, nonce, tip, valid_until: None, salt: tip ^ bytes as u64 }
}

/// Feeds transactions, one a millisecond; shows whom each pushed out or why it may not wait.
fn check(txs: &[Given], expected: &[Result<Vec<(u8, u64)>, Full>]) -> Mempool<Tx, u8> {
    let mut mempool = Mempool::new(LIMITS);
    let mut answers = Vec::new();
    for (now, given) in (0..).zip(txs) {
        let answer = mempool.insert(entry(tx(*given), given.3, now), given.1);
        answers.push(answer.map(|out| names(&out)).map_err(|refused| refused.why));
    }
    assert_eq!(answers, expected);
    mempool
}

fn names(entries: &[Entry<Tx, u8>]) -> Vec<(u8, u64)> {
    entries.iter().map(|entry| (entry.tx.sender, entry.tx.nonce)).collect()
}

fn order(mempool: &Mempool<Tx, u8>, txs_max: usize, bytes_max: usize) -> Vec<(u8, u64)> {
    let candidates = mempool.candidates(txs_max, bytes_max);
    candidates.iter().map(|candidate| (candidate.tx.sender, candidate.tx.nonce)).collect()
}

fn taken() -> Result<Vec<(u8, u64)>, Full> {
    Ok(Vec::new())
}

#[test]
fn every_limit_refuses_what_is_above_it() {
    let pool = || Err(Full::Pool);
    check(&[(1, 0, 0, 60), (2, 0, 0, 40), (3, 0, 0, 1)], &[taken(), taken(), pool()]);
    check(
        &[(1, 0, 0, 1), (1, 1, 0, 1), (1, 2, 0, 1), (1, 3, 0, 1)],
        &[taken(), taken(), taken(), Err(Full::Sender)],
    );
    check(&[(1, 0, 0, 50), (1, 1, 9, 50)], &[taken(), Err(Full::Sender)]);
    let five = [(1, 0, 0, 1), (2, 0, 0, 1), (3, 0, 0, 1), (4, 0, 0, 1), (5, 0, 0, 1)];
    let txs = [&five[..], &[(6, 0, 0, 1)]].concat();
    check(&txs, &[taken(), taken(), taken(), taken(), taken(), pool()]);
    check(&[(1, 1, 0, 1), (1, 0, 0, 1)], &[Err(Full::Gap), taken()]);
}

#[test]
fn whoever_pays_more_for_each_byte_comes_first_then_who_came_first() {
    let given = [(1, 0, 0, 10), (2, 0, 5, 20), (3, 0, 5, 10), (4, 0, 0, 10)];
    let mempool = check(&given, &[taken(), taken(), taken(), taken()]);
    assert_eq!(order(&mempool, 9, 100), [(3, 0), (2, 0), (1, 0), (4, 0)]);
}

#[test]
fn a_later_transaction_never_comes_before_an_earlier_one_of_its_sender() {
    let given = [(1, 0, 1, 10), (1, 1, 90, 10), (2, 0, 5, 10)];
    let mempool = check(&given, &[taken(), taken(), taken()]);
    assert_eq!(order(&mempool, 9, 100), [(2, 0), (1, 0), (1, 1)]);
}

#[test]
fn a_high_tip_behind_a_low_one_buys_nothing() {
    let given = [(1, 0, 1, 10), (2, 0, 1, 10), (3, 0, 2, 10), (1, 1, 90, 10), (1, 2, 90, 10)];
    let mempool = check(&given, &[taken(), taken(), taken(), taken(), taken()]);
    assert_eq!(order(&mempool, 9, 100), [(3, 0), (1, 0), (2, 0), (1, 1), (1, 2)]);
    assert_eq!(order(&mempool, 3, 100), [(3, 0), (1, 0), (2, 0)]);
}

#[test]
fn a_block_holds_what_fits_and_its_transactions_go_on_waiting() {
    let given = [(1, 0, 0, 30), (2, 0, 0, 40), (1, 1, 0, 20)];
    let mut mempool = check(&given, &[taken(), taken(), taken()]);
    assert_eq!(order(&mempool, 5, 70), [(1, 0), (2, 0)]);
    // What does not fit waits; smaller ones of others may take its place.
    assert_eq!(order(&mempool, 5, 50), [(1, 0), (1, 1)]);
    assert_eq!(order(&mempool, 1, 100), [(1, 0)]);
    assert_eq!(order(&mempool, 5, 1), []);
    let gone = mempool.remove(&[tx(given[0]).id(), tx(given[1]).id()]);
    assert_eq!(names(&gone), vec![(1, 0), (2, 0)].by_address());
    assert_eq!((mempool.len(), mempool.bytes()), (1, 20));
    assert_eq!(order(&mempool, 5, 100), [(1, 1)]);
}

trait ByAddress {
    fn by_address(self) -> Self;
}

impl ByAddress for Vec<(u8, u64)> {
    /// In the order of the senders' addresses.
    fn by_address(mut self) -> Self {
        self.sort_by_key(|(sender, nonce)| (address(*sender), *nonce));
        self
    }
}

#[test]
fn a_transaction_is_replaced_by_one_that_tips_a_tenth_and_one_unit_more() {
    let why = |tip_min| Err(Full::NonceTaken { tip_min: Watt(tip_min) });
    check(
        &[(1, 0, 100, 10), (1, 0, 110, 10), (1, 0, 111, 10), (1, 0, 122, 10)],
        &[taken(), why(111), Ok(vec![(1, 0)]), why(123)],
    );
    // From nothing one unit is enough, but not if it pays less for each byte.
    check(&[(1, 0, 0, 10), (1, 0, 0, 11), (1, 0, 1, 10)], &[taken(), why(1), Ok(vec![(1, 0)])]);
    check(&[(1, 0, 10, 10), (1, 0, 12, 20)], &[taken(), why(12)]);
}

#[test]
fn those_behind_a_replaced_one_stay() {
    let given = [(1, 0, 0, 10), (1, 1, 0, 10), (1, 0, 5, 10)];
    let mempool = check(&given, &[taken(), taken(), Ok(vec![(1, 0)])]);
    assert_eq!(order(&mempool, 9, 100), [(1, 0), (1, 1)]);
    assert_eq!(mempool.bytes(), 20);
}

#[test]
fn who_pays_more_pushes_out_the_end_of_the_cheapest_queue() {
    check(
        &[(1, 0, 3, 20), (1, 1, 1, 20), (2, 0, 3, 40), (3, 0, 4, 20), (4, 0, 9, 30)],
        &[taken(), taken(), taken(), taken(), Ok(vec![(1, 1), (2, 0)].by_address())],
    );
    // The end of a queue is worth no more than what stands before it.
    check(
        &[(1, 0, 1, 40), (1, 1, 90, 40), (2, 0, 2, 20), (3, 0, 20, 40)],
        &[taken(), taken(), taken(), Ok(vec![(1, 1)])],
    );
    // Nor does a high tip behind a low one push anybody out.
    check(&[(1, 0, 0, 30), (2, 0, 1, 70), (1, 1, 99, 10)], &[taken(), taken(), Err(Full::Pool)]);
}

#[test]
fn if_pushing_out_does_not_make_enough_room_nobody_goes() {
    let given = [(1, 0, 1, 30), (2, 0, 90, 70), (3, 0, 5, 40)];
    let mempool = check(&given, &[taken(), taken(), Err(Full::Pool)]);
    assert_eq!(order(&mempool, 9, 100), [(2, 0), (1, 0)]);
}

#[test]
fn one_that_was_refused_takes_those_behind_it_along() {
    let given = [(1, 0, 0, 10), (1, 1, 0, 10), (1, 2, 0, 10), (2, 0, 0, 10)];
    let mut mempool = check(&given, &[taken(), taken(), taken(), taken()]);
    assert_eq!(names(&mempool.remove(&[tx(given[1]).id()])), [(1, 1), (1, 2)]);
    assert_eq!(names(&mempool.remove(&[tx(given[0]).id()])), [(1, 0)]);
    assert_eq!(order(&mempool, 9, 100), [(2, 0)]);
}

#[test]
fn a_block_of_others_takes_used_nonces_and_what_has_a_gap() {
    let given = [(1, 0, 0, 10), (1, 1, 0, 10), (2, 0, 0, 10), (2, 1, 0, 10)];
    let mut mempool = check(&given, &[taken(), taken(), taken(), taken()]);
    let next = |sender: &Address| Nonce(if *sender == address(1) { 1 } else { 7 });
    let gone = mempool.rebase(next);
    assert_eq!(names(&gone), vec![(1, 0), (2, 0), (2, 1)].by_address());
    assert_eq!(order(&mempool, 9, 100), [(1, 1)]);
    // Whoever says how much comes before it by another state than the pool's is refused.
    let refused = mempool.insert(entry(tx((1, 2, 0, 10)), 10, 9), 2).unwrap_err();
    assert_eq!(refused.why, Full::Gap);
    assert!(mempool.insert(entry(tx((1, 2, 0, 10)), 10, 9), 1).is_ok());
}

#[test]
fn age_and_the_moment_in_the_transaction_end_the_wait() {
    let mut mempool = Mempool::new(LIMITS);
    let until = |sender, nonce, valid_until| Tx { valid_until, ..tx((sender, nonce, 0, 10)) };
    for (now, ahead, tx) in [
        (0, 0, until(1, 0, Some(500))),
        (1, 1, until(1, 1, None)),
        (2, 0, until(2, 0, Some(9_000))),
        (3, 0, until(3, 0, None)),
    ] {
        mempool.insert(entry(tx, 10, now), ahead).unwrap();
    }
    assert_eq!(mempool.next_deadline(), Some(TimeMs(501)));
    assert_eq!(names(&mempool.expire(TimeMs(500))), []);
    assert_eq!(names(&mempool.expire(TimeMs(501))), [(1, 0), (1, 1)]);
    assert_eq!(names(&mempool.expire(TimeMs(1_002))), [(2, 0)]);
    assert_eq!(names(&mempool.expire(TimeMs(u64::MAX))), [(3, 0)]);
    assert!(mempool.is_empty() && mempool.next_deadline().is_none());
}

#[test]
fn a_transaction_that_waits_can_be_waited_for_again() {
    let mut mempool = check(&[(1, 0, 0, 1)], &[taken()]);
    let id = tx((1, 0, 0, 1)).id();
    assert!(mempool.contains(&id) && mempool.get(&id).is_some());
    assert_eq!(mempool.join(&id, 1), Ok(()));
    assert_eq!(mempool.join(&id, 2), Err(2));
    assert_eq!(mempool.remove(&[id])[0].waiters, [0, 1]);
    assert_eq!(mempool.join(&id, 3), Err(3));
}

#[test]
fn the_largest_numbers_do_no_harm() {
    let mut mempool = Mempool::new(LIMITS);
    let last = Tx { nonce: u64::MAX, valid_until: Some(u64::MAX), ..tx((1, 0, u64::MAX, 10)) };
    mempool.insert(entry(last.clone(), 10, u64::MAX), 0).unwrap();
    let beyond = Tx { nonce: 0, ..last.clone() };
    assert_eq!(mempool.insert(entry(beyond, 10, 0), u64::MAX).unwrap_err().why, Full::Gap);
    assert_eq!(order_of_last(&mempool), [u64::MAX]);
    assert_eq!(mempool.remove(&[last.id()]).len(), 1);
}

fn order_of_last(mempool: &Mempool<Tx, u8>) -> Vec<u64> {
    mempool.candidates(9, 100).iter().map(|candidate| candidate.tx.nonce).collect()
}
