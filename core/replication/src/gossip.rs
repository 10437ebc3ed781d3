//! Who is told which transaction, and which peer tells too much.
//!
//! Invariants: a transaction goes to a peer at most once while the peer is connected, as far as
//! the bounded memory of what it has reaches, and never back to where it came from. A peer that
//! does what this machine does is never dropped, as long as transactions arrive at the rate of
//! [`GossipLimits`] or slower. What a dropped peer had left of its budget is gone when it comes
//! back.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use types::{TimeMs, TxId};

#[cfg(test)]
mod tests;

/// How much is sent at once, and how much a peer may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GossipLimits {
    pub peers_max: usize,
    pub batch_txs_max: usize,
    pub batch_bytes_max: usize,
    /// Transactions remembered of each peer; at least as many as can wait.
    pub known_max: usize,
    pub txs: Rate,
    pub bytes: Rate,
    /// A transaction counts as one for each so many of its bytes: fewer come with no signature, and
    /// signatures are what it costs to check.
    pub signed_bytes_min: usize,
    /// What a transaction that the mempool refuses costs, in transactions: its signature was
    /// checked for nothing.
    pub refused_txs: u64,
}

/// So much at once, and so much each second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    pub burst: u64,
    pub per_s: u64,
}

impl GossipLimits {
    /// A peer may tell all of a standard mempool when it connects, all of it vouchers, have all of it
    /// refused, and go on at three times what four validators were seen to decide.
    pub const STANDARD: GossipLimits = GossipLimits {
        peers_max: 128,
        batch_txs_max: 1_000,
        batch_bytes_max: 256 * 1024,
        known_max: 8_192,
        txs: Rate { burst: 80_000, per_s: 10_000 },
        bytes: Rate { burst: 32 * 1024 * 1024, per_s: 8 * 1024 * 1024 },
        signed_bytes_min: 160,
        refused_txs: 4,
    };

    /// What so many bytes with signatures in them cost, in transactions.
    pub fn cost(&self, bytes: usize) -> u64 {
        bytes.checked_div(self.signed_bytes_min).unwrap_or(bytes).max(1) as u64
    }
}

/// A transaction to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tx {
    pub id: TxId,
    pub bytes: Arc<[u8]>,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input<P> {
    /// `waiting` is what the mempool holds, in an order in which the peer can take it.
    PeerConnected {
        peer: P,
        waiting: Vec<Tx>,
    },
    PeerGone {
        peer: P,
    },
    /// A transaction came to wait. `from`: the peer that told it, `None` if somebody submitted it.
    Accepted {
        tx: Tx,
        from: Option<P>,
    },
    /// A peer sent a batch that nobody has looked into.
    Received {
        peer: P,
        txs: Vec<Arc<[u8]>>,
    },
    /// A peer sent something else that costs as much as so many transactions.
    Heard {
        peer: P,
        txs: u64,
    },
    /// What became of a transaction that a peer told.
    Judged {
        peer: P,
        verdict: Verdict,
    },
    /// Nothing more is at hand: what was gathered for the peers goes out.
    Flush,
}

/// What a node thinks of a transaction that it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It waits here already, or has come into a block.
    Known { id: TxId },
    /// The state or the mempool does not take it. That can happen to the honest.
    Refused { id: TxId },
    /// Not a transaction of this network, or not validly signed: whoever passes that on did not
    /// look.
    Invalid,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect<P> {
    Send {
        peer: P,
        txs: Vec<Arc<[u8]>>,
    },
    /// Check each and say [`Input::Accepted`] or [`Input::Judged`].
    Check {
        peer: P,
        txs: Vec<Arc<[u8]>>,
    },
    /// Close the connection. The peer counts as gone.
    Drop {
        peer: P,
        why: Fault,
    },
}

/// Why a peer is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    #[error("it sent more than its budget")]
    Flood,
    #[error("it sent a batch above the limits of one")]
    BatchTooLarge,
    #[error("it sent what is not a valid transaction")]
    InvalidTx,
    #[error("there are as many peers as there may be")]
    TooManyPeers,
    #[error("it offered a snapshot that is not what it said, or no possible one")]
    BadSnapshot,
}

/// Knows what each peer has.
#[derive(Debug)]
pub struct Gossip<P> {
    limits: GossipLimits,
    peers: BTreeMap<P, Peer>,
    /// What those who left had not yet won back.
    departed: BTreeMap<P, Budget>,
}

#[derive(Debug)]
struct Peer {
    known: Known,
    outbox: Vec<Tx>,
    outbox_bytes: usize,
    budget: Budget,
}

impl<P: Ord + Copy> Gossip<P> {
    pub fn new(limits: GossipLimits) -> Gossip<P> {
        Gossip { limits, peers: BTreeMap::new(), departed: BTreeMap::new() }
    }

    /// Whether it is connected.
    pub fn has(&self, peer: &P) -> bool {
        self.peers.contains_key(peer)
    }

    pub fn step(&mut self, now: TimeMs, input: Input<P>) -> Vec<Effect<P>> {
        match input {
            Input::PeerConnected { peer, waiting } => self.connect(now, peer, waiting),
            Input::PeerGone { peer } => {
                self.leave(now, peer);
                Vec::new()
            }
            Input::Accepted { tx, from } => self.accepted(&tx, from),
            Input::Received { peer, txs } => self.received(now, peer, txs),
            Input::Heard { peer, txs } => self.charge(now, peer, txs, 0),
            Input::Judged { peer, verdict } => self.judged(now, peer, verdict),
            Input::Flush => self.flush(),
        }
    }

    fn connect(&mut self, now: TimeMs, peer: P, waiting: Vec<Tx>) -> Vec<Effect<P>> {
        if self.peers.len() >= self.limits.peers_max && !self.peers.contains_key(&peer) {
            return vec![Effect::Drop { peer, why: Fault::TooManyPeers }];
        }
        self.leave(now, peer);
        let budget = self.departed.remove(&peer).unwrap_or_else(|| Budget::full(&self.limits, now));
        let known = Known::new(self.limits.known_max);
        self.peers.insert(peer, Peer { known, outbox: Vec::new(), outbox_bytes: 0, budget });
        let mut effects = Vec::new();
        for tx in &waiting {
            effects.extend(self.tell(peer, tx));
        }
        effects
    }

    fn leave(&mut self, now: TimeMs, peer: P) {
        let limits = self.limits;
        self.departed.retain(|_, budget| !budget.is_full(&limits, now));
        if let Some(mut gone) = self.peers.remove(&peer)
            && !gone.budget.is_full(&limits, now)
        {
            self.departed.insert(peer, gone.budget);
            // Whoever comes back under ever new names is the transport's to stop.
            if self.departed.len() > limits.peers_max {
                self.departed.pop_first();
            }
        }
    }

    fn accepted(&mut self, tx: &Tx, from: Option<P>) -> Vec<Effect<P>> {
        if let Some(from) = from.and_then(|from| self.peers.get_mut(&from)) {
            from.has(tx.id);
        }
        let peers: Vec<P> = self.peers.keys().copied().collect();
        peers.into_iter().filter_map(|peer| self.tell(peer, tx)).collect()
    }

    /// Puts a transaction into a peer's outbox, unless the peer has it. A batch that is full goes.
    fn tell(&mut self, peer: P, tx: &Tx) -> Option<Effect<P>> {
        let limits = self.limits;
        let to = self.peers.get_mut(&peer)?;
        if !to.known.insert(tx.id) {
            return None;
        }
        let bytes = to.outbox_bytes.saturating_add(tx.bytes.len());
        let full = to.outbox.len() >= limits.batch_txs_max || bytes > limits.batch_bytes_max;
        let batch = if full { to.take_outbox() } else { Vec::new() };
        to.outbox.push(tx.clone());
        to.outbox_bytes = to.outbox_bytes.saturating_add(tx.bytes.len());
        (!batch.is_empty()).then_some(Effect::Send { peer, txs: batch })
    }

    fn flush(&mut self) -> Vec<Effect<P>> {
        let batches = self.peers.iter_mut().map(|(peer, to)| (*peer, to.take_outbox()));
        let batches = batches.filter(|(_, txs)| !txs.is_empty());
        batches.map(|(peer, txs)| Effect::Send { peer, txs }).collect()
    }

    fn received(&mut self, now: TimeMs, peer: P, txs: Vec<Arc<[u8]>>) -> Vec<Effect<P>> {
        let limits = self.limits;
        if !self.has(&peer) {
            return Vec::new();
        }
        let bytes = txs.iter().map(|tx| tx.len()).fold(0, usize::saturating_add);
        // One that is larger than a batch goes alone.
        let large = txs.len() > 1 && bytes > limits.batch_bytes_max;
        if txs.len() > limits.batch_txs_max || large {
            return self.drop_peer(now, peer, Fault::BatchTooLarge);
        }
        let costs = txs.iter().map(|tx| limits.cost(tx.len()));
        // An empty batch costs something too.
        let cost = costs.fold(0, u64::saturating_add).max(1);
        let dropped = self.charge(now, peer, cost, bytes as u64);
        if dropped.is_empty() { vec![Effect::Check { peer, txs }] } else { dropped }
    }

    /// Drops a peer that cannot pay for what it sent.
    fn charge(&mut self, now: TimeMs, peer: P, txs: u64, bytes: u64) -> Vec<Effect<P>> {
        let limits = self.limits;
        let Some(from) = self.peers.get_mut(&peer) else { return Vec::new() };
        match from.budget.take(&limits, now, txs, bytes) {
            true => Vec::new(),
            false => self.drop_peer(now, peer, Fault::Flood),
        }
    }

    fn judged(&mut self, now: TimeMs, peer: P, verdict: Verdict) -> Vec<Effect<P>> {
        let limits = self.limits;
        let Some(from) = self.peers.get_mut(&peer) else { return Vec::new() };
        match verdict {
            Verdict::Known { id } => {
                from.has(id);
                Vec::new()
            }
            Verdict::Refused { id } => {
                from.has(id);
                self.charge(now, peer, limits.refused_txs, 0)
            }
            Verdict::Invalid => self.drop_peer(now, peer, Fault::InvalidTx),
        }
    }

    /// Drops a peer for a fault that another part found.
    pub fn drop_peer(&mut self, now: TimeMs, peer: P, why: Fault) -> Vec<Effect<P>> {
        let Some(dropped) = self.peers.get_mut(&peer) else { return Vec::new() };
        dropped.budget = Budget { txs_milli: 0, bytes_milli: 0, at: now };
        self.leave(now, peer);
        vec![Effect::Drop { peer, why }]
    }
}

impl Peer {
    fn take_outbox(&mut self) -> Vec<Arc<[u8]>> {
        self.outbox_bytes = 0;
        std::mem::take(&mut self.outbox).into_iter().map(|tx| tx.bytes).collect()
    }

    /// The peer told it, so it need not be told, not even if that was about to happen.
    fn has(&mut self, id: TxId) {
        if !self.known.insert(id)
            && let Some(place) = self.outbox.iter().position(|tx| tx.id == id)
        {
            let tx = self.outbox.remove(place);
            self.outbox_bytes = self.outbox_bytes.saturating_sub(tx.bytes.len());
        }
    }
}

/// The last so many transactions that a peer told or was told.
#[derive(Debug)]
struct Known {
    ids: BTreeSet<TxId>,
    order: VecDeque<TxId>,
    max: usize,
}

impl Known {
    fn new(max: usize) -> Known {
        Known { ids: BTreeSet::new(), order: VecDeque::new(), max: max.max(1) }
    }

    /// False if it was there.
    fn insert(&mut self, id: TxId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

/// What a peer may still send, in thousandths, as of `at`.
#[derive(Clone, Copy, Debug)]
struct Budget {
    txs_milli: u64,
    bytes_milli: u64,
    at: TimeMs,
}

impl Budget {
    fn full(limits: &GossipLimits, now: TimeMs) -> Budget {
        let full = |rate: Rate| rate.burst.saturating_mul(1_000);
        Budget { txs_milli: full(limits.txs), bytes_milli: full(limits.bytes), at: now }
    }

    fn refill(&mut self, limits: &GossipLimits, now: TimeMs) {
        let elapsed_ms = now.ms_since(self.at);
        let refill = |milli: u64, rate: Rate| {
            let more = rate.per_s.saturating_mul(elapsed_ms);
            milli.saturating_add(more).min(rate.burst.saturating_mul(1_000))
        };
        self.txs_milli = refill(self.txs_milli, limits.txs);
        self.bytes_milli = refill(self.bytes_milli, limits.bytes);
        self.at = self.at.max(now);
    }

    fn is_full(&mut self, limits: &GossipLimits, now: TimeMs) -> bool {
        self.refill(limits, now);
        let full = Budget::full(limits, now);
        self.txs_milli == full.txs_milli && self.bytes_milli == full.bytes_milli
    }

    /// False, and nothing left, if there is not enough.
    fn take(&mut self, limits: &GossipLimits, now: TimeMs, txs: u64, bytes: u64) -> bool {
        self.refill(limits, now);
        let left = |milli: u64, units: u64| milli.checked_sub(units.saturating_mul(1_000));
        let (txs, bytes) = (left(self.txs_milli, txs), left(self.bytes_milli, bytes));
        self.txs_milli = txs.unwrap_or(0);
        self.bytes_milli = bytes.unwrap_or(0);
        txs.is_some() && bytes.is_some()
    }
}
