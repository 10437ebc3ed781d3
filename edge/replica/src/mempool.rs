//! Transactions that wait for a block: first come, first served, bounded in every direction.
//!
//! Pure: no clock, no task. Invariant: the transactions of one sender are in the order of their
//! nonces, without gaps, beginning at the nonce of its account; so whatever is taken from the
//! front can be executed in that order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use types::{Address, TxId};

use crate::Transaction;

/// How much may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MempoolLimits {
    pub txs_max: usize,
    pub bytes_max: usize,
    /// Of one sender, so that nobody fills the pool alone.
    pub sender_txs_max: usize,
    /// Submitters that wait for one and the same transaction.
    pub waiters_max: usize,
}

impl MempoolLimits {
    /// Twice what fits into the largest block, an eighth of a block per sender.
    pub const STANDARD: MempoolLimits = MempoolLimits {
        txs_max: 4_000,
        bytes_max: 8 * 1024 * 1024,
        sender_txs_max: 64,
        waiters_max: 8,
    };
}

/// A transaction with its bytes and those who wait for it.
#[derive(Debug)]
pub struct Entry<T, W> {
    pub tx: T,
    pub bytes: Vec<u8>,
    pub waiters: Vec<W>,
}

/// Why a transaction may not wait.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Full {
    /// Of everybody's transactions.
    Pool,
    /// Of this sender's.
    Sender,
    /// Of those who wait for this one.
    Waiters,
    /// Transactions of the sender that come before it are missing.
    Gap,
    /// Another transaction of the sender with the same nonce waits.
    NonceTaken,
}

/// The waiting transactions.
#[derive(Debug)]
pub struct Mempool<T, W> {
    limits: MempoolLimits,
    queue: VecDeque<Entry<T, W>>,
    ids: BTreeSet<TxId>,
    /// How many of each sender wait.
    senders: BTreeMap<Address, u64>,
    bytes: usize,
}

impl<T: Transaction, W> Mempool<T, W> {
    pub fn new(limits: MempoolLimits) -> Mempool<T, W> {
        Mempool {
            limits,
            queue: VecDeque::new(),
            ids: BTreeSet::new(),
            senders: BTreeMap::new(),
            bytes: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn contains(&self, id: &TxId) -> bool {
        self.ids.contains(id)
    }

    /// Adds somebody who waits for a transaction that is here already. Gives `waiter` back if there
    /// is no room for it.
    pub fn join(&mut self, id: &TxId, waiter: W) -> Result<(), W> {
        let waiters_max = self.limits.waiters_max;
        let entry = self.queue.iter_mut().find(|entry| entry.tx.id() == *id);
        match entry {
            Some(entry) if entry.waiters.len() < waiters_max => {
                entry.waiters.push(waiter);
                Ok(())
            }
            Some(_) | None => Err(waiter),
        }
    }

    /// Whether a transaction of `bytes` bytes, with `ahead` transactions of its sender to come
    /// before it, may wait.
    pub fn room(&self, tx: &T, bytes: usize, ahead: u64) -> Result<(), Full> {
        let waiting = self.senders.get(&tx.sender()).copied().unwrap_or(0);
        if ahead > waiting {
            return Err(Full::Gap);
        }
        if ahead < waiting {
            return Err(Full::NonceTaken);
        }
        if waiting >= self.limits.sender_txs_max as u64 {
            return Err(Full::Sender);
        }
        let bytes = self.bytes.saturating_add(bytes);
        if self.queue.len() >= self.limits.txs_max || bytes > self.limits.bytes_max {
            return Err(Full::Pool);
        }
        Ok(())
    }

    /// Adds a transaction for which there is [`Mempool::room`].
    pub fn push(&mut self, entry: Entry<T, W>) {
        self.bytes += entry.bytes.len();
        self.ids.insert(entry.tx.id());
        *self.senders.entry(entry.tx.sender()).or_default() += 1;
        self.queue.push_back(entry);
    }

    /// Takes from the front what fits into one block, and at least one.
    pub fn take(&mut self, txs_max: usize, bytes_max: usize) -> Vec<Entry<T, W>> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = self.queue.front() {
            bytes += entry.bytes.len();
            let full = taken.len() >= txs_max || bytes > bytes_max;
            if full && !taken.is_empty() {
                break;
            }
            taken.extend(self.queue.pop_front());
        }
        taken.iter().for_each(|entry| self.forget(entry));
        taken
    }

    fn forget(&mut self, entry: &Entry<T, W>) {
        self.bytes -= entry.bytes.len();
        self.ids.remove(&entry.tx.id());
        if let Some(waiting) = self.senders.get_mut(&entry.tx.sender()) {
            *waiting -= 1;
            if *waiting == 0 {
                self.senders.remove(&entry.tx.sender());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use types::{Nonce, PublicKey};

    use super::*;

    #[derive(Debug)]
    struct Tx {
        sender: u8,
        nonce: u64,
    }

    impl Transaction for Tx {
        fn id(&self) -> TxId {
            let mut id = [self.sender; 32];
            id[..8].copy_from_slice(&self.nonce.to_le_bytes());
            TxId(id)
        }
        fn sender(&self) -> Address {
            Address::of_key(&PublicKey([self.sender; 32]))
        }
        fn nonce(&self) -> Nonce {
            Nonce(self.nonce)
        }
    }

    const LIMITS: MempoolLimits =
        MempoolLimits { txs_max: 5, bytes_max: 100, sender_txs_max: 3, waiters_max: 2 };

    /// Feeds transactions (sender, nonce, bytes) of accounts whose nonce is zero and shows which
    /// may wait.
    fn check(txs: &[(u8, u64, usize)], expected: &[Result<(), Full>]) -> Mempool<Tx, u8> {
        let mut mempool = Mempool::new(LIMITS);
        let answers: Vec<_> = txs
            .iter()
            .map(|&(sender, nonce, bytes)| {
                let tx = Tx { sender, nonce };
                mempool.room(&tx, bytes, nonce)?;
                mempool.push(Entry { tx, bytes: vec![0; bytes], waiters: vec![0] });
                Ok(())
            })
            .collect();
        assert_eq!(answers, expected);
        mempool
    }

    #[test]
    fn every_limit_refuses_what_is_above_it() {
        let ok = || Ok(());
        check(&[(1, 0, 60), (2, 0, 40), (3, 0, 1)], &[ok(), ok(), Err(Full::Pool)]);
        check(
            &[(1, 0, 1), (1, 1, 1), (1, 2, 1), (1, 3, 1), (2, 0, 1), (3, 0, 1), (4, 0, 1)],
            &[ok(), ok(), ok(), Err(Full::Sender), ok(), ok(), Err(Full::Pool)],
        );
        check(&[(1, 1, 1), (1, 0, 1), (1, 0, 1)], &[Err(Full::Gap), ok(), Err(Full::NonceTaken)]);
    }

    #[test]
    fn a_block_takes_from_the_front_what_fits() {
        let ok = || Ok(());
        let mut mempool = check(&[(1, 0, 30), (2, 0, 30), (1, 1, 30)], &[ok(), ok(), ok()]);
        let nonces = |taken: Vec<Entry<Tx, u8>>| -> Vec<(u8, u64)> {
            taken.iter().map(|entry| (entry.tx.sender, entry.tx.nonce)).collect()
        };
        assert_eq!(nonces(mempool.take(5, 70)), [(1, 0), (2, 0)]);
        assert_eq!(nonces(mempool.take(5, 70)), [(1, 1)]);
        assert!(mempool.is_empty() && mempool.bytes == 0 && mempool.senders.is_empty());
    }

    #[test]
    fn a_transaction_that_waits_can_be_waited_for_again() {
        let mut mempool = check(&[(1, 0, 1)], &[Ok(())]);
        let id = Tx { sender: 1, nonce: 0 }.id();
        assert!(mempool.contains(&id));
        assert_eq!(mempool.join(&id, 1), Ok(()));
        assert_eq!(mempool.join(&id, 2), Err(2));
        assert_eq!(mempool.take(1, 10)[0].waiters, [0, 1]);
        assert_eq!(mempool.join(&id, 3), Err(3));
    }
}
