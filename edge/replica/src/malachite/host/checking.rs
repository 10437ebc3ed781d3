//! Transactions of peers that wait until their signatures are checked.
//!
//! Invariants: of one peer one batch is checked at a time, of all together a few; peers take turns. So
//! whatever a peer sends, the others wait for one batch of it at most.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZero,
    sync::Arc,
    thread,
};

use replication::gossip::GossipLimits;
use types::PublicKey;

/// Batches that are checked at once, each by one thread; half of the cores if that is fewer, because the
/// engine needs some.
pub(super) const CHECKING_MAX: usize = 4;
/// What waits of one peer: more than the transactions of a full mempool that are only signed by their
/// senders. What does not fit is left to other peers to tell, and to other validators to propose.
const WAITING_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What a transaction takes besides its bytes.
const OVERHEAD: usize = 64;

/// What waits, by peer, and whose batches are being checked.
pub(super) struct Checking {
    waiting: BTreeMap<PublicKey, Waiting>,
    busy: BTreeSet<PublicKey>,
    /// Whose turn it was last.
    last: Option<PublicKey>,
    busy_max: usize,
}

#[derive(Default)]
struct Waiting {
    txs: VecDeque<Arc<[u8]>>,
    bytes: usize,
}

impl Checking {
    pub(super) fn new() -> Checking {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Checking {
            waiting: BTreeMap::new(),
            busy: BTreeSet::new(),
            last: None,
            busy_max: (cores / 2).clamp(1, CHECKING_MAX),
        }
    }

    /// Lets one wait. False if there is no place for it.
    pub(super) fn push(&mut self, peer: PublicKey, tx: Arc<[u8]>) -> bool {
        let waiting = self.waiting.entry(peer).or_default();
        let bytes = waiting.bytes.saturating_add(tx.len()).saturating_add(OVERHEAD);
        let fits = bytes <= WAITING_BYTES_MAX;
        if fits {
            waiting.bytes = bytes;
            waiting.txs.push_back(tx);
        }
        fits
    }

    /// The next batch to check, until [`Checking::done`] of its peer.
    pub(super) fn next(&mut self) -> Option<(PublicKey, Vec<Arc<[u8]>>)> {
        if self.busy.len() >= self.busy_max {
            return None;
        }
        let free = |peer: &&PublicKey| !self.busy.contains(*peer);
        let after = self.waiting.keys().filter(|peer| Some(**peer) > self.last).find(free);
        let peer = *after.or_else(|| self.waiting.keys().find(free))?;
        let waiting = self.waiting.get_mut(&peer)?;
        let limits = GossipLimits::STANDARD;
        let (mut batch, mut bytes) = (Vec::new(), 0usize);
        while let Some(tx) = waiting.txs.pop_front_if(|tx| {
            let fits = bytes.saturating_add(tx.len()) <= limits.batch_bytes_max;
            batch.is_empty() || (fits && batch.len() < limits.batch_txs_max)
        }) {
            bytes = bytes.saturating_add(tx.len());
            waiting.bytes = waiting.bytes.saturating_sub(tx.len().saturating_add(OVERHEAD));
            batch.push(tx);
        }
        if waiting.txs.is_empty() {
            self.waiting.remove(&peer);
        }
        self.last = Some(peer);
        self.busy.insert(peer);
        Some((peer, batch))
    }

    /// A batch of this peer is checked.
    pub(super) fn done(&mut self, peer: &PublicKey) {
        self.busy.remove(peer);
    }

    /// What waits of a peer that is gone is not checked.
    pub(super) fn gone(&mut self, peer: &PublicKey) {
        self.waiting.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    fn tx(bytes: usize) -> Arc<[u8]> {
        vec![0; bytes].into()
    }

    fn checking() -> Checking {
        Checking { busy_max: 2, ..Checking::new() }
    }

    /// Whose batch is next, and how many transactions are in it.
    fn next(checking: &mut Checking) -> Option<(u8, usize)> {
        checking.next().map(|(peer, txs)| (peer.0[0], txs.len()))
    }

    #[test]
    fn peers_take_turns_and_none_has_two_batches_in_check() {
        let mut checking = checking();
        for _ in 0..3 {
            assert!(checking.push(peer(1), tx(192 * 1024)));
        }
        (0..3).for_each(|_| assert!(checking.push(peer(2), tx(200))));
        assert!(checking.push(peer(3), tx(200)));
        assert_eq!(next(&mut checking), Some((1, 1)));
        assert_eq!(next(&mut checking), Some((2, 3)));
        assert_eq!(next(&mut checking), None);
        checking.done(&peer(2));
        assert_eq!(next(&mut checking), Some((3, 1)));
        checking.done(&peer(3));
        // Only the first has more, and one batch of it is in check.
        assert_eq!(next(&mut checking), None);
        checking.done(&peer(1));
        assert_eq!(next(&mut checking), Some((1, 1)));
        checking.done(&peer(1));
        checking.gone(&peer(1));
        assert_eq!(next(&mut checking), None);
    }

    #[test]
    fn what_waits_of_a_peer_has_a_limit_of_its_own() {
        let mut checking = checking();
        let taken = (0..100).filter(|_| checking.push(peer(1), tx(192 * 1024))).count();
        assert_eq!(taken, 10);
        assert!(checking.push(peer(2), tx(192 * 1024)));
        // A place becomes free when one is checked.
        assert_eq!(next(&mut checking), Some((1, 1)));
        assert!(checking.push(peer(1), tx(192 * 1024)));
    }
}
