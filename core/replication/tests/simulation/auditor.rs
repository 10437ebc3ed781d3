//! What must hold, recounted from what happened; the machines are not asked whether they did well.

use std::collections::{BTreeMap, BTreeSet};

use replication::{
    gossip::Fault,
    mempool::{Full, MempoolLimits},
    node::{Fate, Node},
};
use types::{Hash32, TxId};

use crate::toy::{App, Block, Checked, tx_id};

/// How often things happened that a simulation is worth nothing without.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) blocks: u64,
    pub(crate) included: u64,
    pub(crate) crashes: u64,
    pub(crate) lost: u64,
    pub(crate) replaced: u64,
    pub(crate) evicted: u64,
    pub(crate) expired: u64,
    pub(crate) refused_full: u64,
    pub(crate) floods: u64,
    pub(crate) invalid: u64,
    pub(crate) large_batches: u64,
    pub(crate) bad_snapshots: u64,
    pub(crate) restored: u64,
    pub(crate) replayed: u64,
    pub(crate) punished: u64,
    pub(crate) set_changes: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Seen) {
        let Seen { blocks, included, crashes, lost, replaced, evicted, expired, .. } = other;
        let Seen { refused_full, floods, invalid, large_batches, bad_snapshots, .. } = other;
        let Seen { restored, replayed, punished, set_changes, .. } = other;
        for (sum, more) in [
            (&mut self.blocks, blocks),
            (&mut self.included, included),
            (&mut self.crashes, crashes),
            (&mut self.lost, lost),
            (&mut self.replaced, replaced),
            (&mut self.evicted, evicted),
            (&mut self.expired, expired),
            (&mut self.refused_full, refused_full),
            (&mut self.floods, floods),
            (&mut self.invalid, invalid),
            (&mut self.large_batches, large_batches),
            (&mut self.bad_snapshots, bad_snapshots),
            (&mut self.restored, restored),
            (&mut self.replayed, replayed),
            (&mut self.punished, punished),
            (&mut self.set_changes, set_changes),
        ] {
            *sum += more;
        }
    }

    pub(crate) fn all(&self) -> [u64; 16] {
        let Seen { blocks, included, crashes, lost, replaced, evicted, expired, .. } = *self;
        let Seen { refused_full, floods, invalid, large_batches, bad_snapshots, .. } = *self;
        let Seen { restored, replayed, punished, set_changes, .. } = *self;
        [
            blocks,
            included,
            crashes,
            lost,
            replaced,
            evicted,
            expired,
            refused_full,
            floods,
            invalid,
            large_batches,
            bad_snapshots,
            restored,
            replayed,
            punished,
            set_changes,
        ]
    }
}

#[derive(Debug, Default)]
pub(crate) struct Auditor {
    /// Block and state after it, as the first node had them.
    decided: BTreeMap<u64, (Hash32, Hash32)>,
    in_chain: BTreeSet<TxId>,
    next_nonce: BTreeMap<u8, u64>,
    /// Who told whom what over which connection.
    told: BTreeSet<(u64, u8, u8, TxId)>,
    heard: BTreeSet<(u64, u8, u8, TxId)>,
    /// Whoever submitted, at which life of which node.
    waiting: BTreeMap<u64, (u8, TxId)>,
    /// Had to make room where they were submitted.
    given_up: BTreeSet<TxId>,
    pub(crate) seen: Seen,
}

impl Auditor {
    /// A node has executed a block.
    pub(crate) fn executed(&mut self, block: &Block, app: &App) {
        let fact = (block.hash(), app.hash());
        if let Some(before) = self.decided.insert(block.height, fact) {
            assert_eq!(before, fact, "no two nodes decide differently at {}", block.height);
            return;
        }
        assert_eq!(self.decided.len() as u64, block.height, "no height is left out");
        self.seen.blocks += 1;
        for bytes in &block.txs {
            let Checked { tx, .. } = Checked::of(bytes).expect("only valid ones come into a block");
            assert!(self.in_chain.insert(tx_id(bytes)), "no transaction comes twice");
            let next = self.next_nonce.entry(tx.sender).or_default();
            assert_eq!(tx.nonce, *next, "in the order of the sender's nonces");
            *next += 1;
            self.seen.included += 1;
        }
    }

    pub(crate) fn has(&self, id: &TxId) -> bool {
        self.in_chain.contains(id)
    }

    /// Whether it had to make room where it was submitted.
    pub(crate) fn gave_up(&self, id: &TxId) -> bool {
        self.given_up.contains(id)
    }

    /// After a step: what a node holds keeps to its limits.
    pub(crate) fn bounds(&self, node: &Node<Checked, u8, u64>, limits: &MempoolLimits) {
        let mut senders: BTreeMap<u8, (usize, usize, u64)> = BTreeMap::new();
        let (mut txs, mut total) = (0, 0);
        for (_, bytes) in node.mempool().iter() {
            let Checked { tx, .. } = Checked::of(bytes).expect("only valid ones wait");
            (txs, total) = (txs + 1, total + bytes.len());
            let (count, sum, next) = senders.entry(tx.sender).or_insert((0, 0, tx.nonce));
            assert_eq!(tx.nonce, *next, "no gap");
            (*count, *sum, *next) = (*count + 1, *sum + bytes.len(), *next + 1);
            assert!(*count <= limits.sender_txs_max && *sum <= limits.sender_bytes_max);
        }
        assert!(txs <= limits.txs_max && total <= limits.bytes_max);
        assert_eq!((node.mempool().len(), node.mempool().bytes()), (txs, total));
    }

    pub(crate) fn tells(&mut self, session: u64, from: u8, to: u8, bytes: &[u8]) {
        let id = tx_id(bytes);
        assert!(self.told.insert((session, from, to, id)), "a peer is told once");
        assert!(!self.heard.contains(&(session, to, from, id)), "never back to where it came from");
    }

    /// `to` has taken what `from` told.
    pub(crate) fn hears(&mut self, session: u64, from: u8, to: u8, bytes: &[u8]) {
        self.heard.insert((session, from, to, tx_id(bytes)));
    }

    pub(crate) fn submitted(&mut self, waiter: u64, node: u8, id: TxId) {
        self.waiting.insert(waiter, (node, id));
    }

    pub(crate) fn answered(&mut self, node: u8, id: TxId, fate: &Fate, waiters: &[u64]) {
        for waiter in waiters {
            assert_eq!(self.waiting.remove(waiter), Some((node, id)), "one answer each");
        }
        match fate {
            Fate::Decided | Fate::Refused => {}
            Fate::Left(Full::Replaced) => self.seen.replaced += 1,
            Fate::Left(Full::Evicted) => {
                self.given_up.insert(id);
                self.seen.evicted += 1;
            }
            Fate::Left(Full::Expired) => self.seen.expired += 1,
            Fate::Left(Full::Pool | Full::Sender) => self.seen.refused_full += 1,
            Fate::Left(Full::Waiters | Full::Gap | Full::NonceTaken { .. } | Full::OutOfTurn) => {}
        }
    }

    pub(crate) fn crashed(&mut self, node: u8) {
        self.seen.crashes += 1;
        self.waiting.retain(|_, (at, _)| *at != node);
    }

    /// Honest peers are never dropped.
    pub(crate) fn dropped(&mut self, peer_is_honest: bool, why: Fault) {
        assert!(!peer_is_honest, "an honest peer is dropped: {why:?}");
        match why {
            Fault::Flood => self.seen.floods += 1,
            Fault::InvalidTx => self.seen.invalid += 1,
            Fault::BatchTooLarge => self.seen.large_batches += 1,
            Fault::BadSnapshot => self.seen.bad_snapshots += 1,
            Fault::TooManyPeers => {}
        }
    }

    /// At the end nobody waits in vain.
    pub(crate) fn nobody_waits(&self) {
        assert_eq!(self.waiting, BTreeMap::new(), "everybody has an answer");
    }
}
