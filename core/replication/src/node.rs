//! One node around consensus: the parts of this crate joined, for the driver and the simulation
//! alike.
//!
//! Nothing here survives a crash, and nothing has to: blocks, votes and snapshots are kept by the
//! driver before it says that there are any, transactions come back from the peers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use types::{Address, Height, Nonce, PublicKey, TimeMs, TxId, stake::Evidence};

use crate::{
    evidence::{self, EvidenceLimits, EvidencePool},
    gossip::{self, Fault, Gossip, GossipLimits, Verdict},
    mempool::{Entry, Full, Mempool, MempoolLimits, Refused, Transaction},
    pace::{Decision, Pace, View},
    sync::{self, Sync, SyncLimits, Trusted},
};

/// How a node behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    pub mempool: MempoolLimits,
    pub gossip: GossipLimits,
    pub evidence: EvidenceLimits,
    pub sync: SyncLimits,
    pub pace: Pace,
}

/// Where the application stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tip {
    pub height: Height,
    /// Of the block's header.
    pub time: TimeMs,
    /// When the application needs a block even if nobody submits anything.
    pub next_due: Option<TimeMs>,
}

/// What happened.
#[expect(clippy::large_enum_variant, reason = "short-lived, and never kept in numbers")]
#[derive(Debug)]
pub enum Input<T, P, W> {
    PeerConnected {
        peer: P,
    },
    PeerGone {
        peer: P,
    },
    /// A peer has decided, or votes at, this height. Only what is proven counts, by a certificate
    /// or a validator's signed vote: it wakes an idle node.
    PeerAt {
        peer: P,
        height: Height,
    },
    /// A peer sent transactions that nobody has looked into.
    Batch {
        peer: P,
        txs: Vec<Arc<[u8]>>,
    },
    /// A peer sent something else that costs as much as so many transactions.
    Heard {
        peer: P,
        txs: u64,
    },
    /// A transaction passed the stateless phase and the state would take it after `ahead` others of
    /// its sender.
    Checked {
        tx: Arc<T>,
        bytes: Arc<[u8]>,
        from: Source<P, W>,
        ahead: u64,
    },
    /// A transaction of a [`Effect::Check`] did not.
    Judged {
        peer: P,
        verdict: Verdict,
    },
    /// A block is durable and executed. `nonces`: the next one of every sender in it.
    Decided {
        tip: Tip,
        txs: Vec<TxId>,
        nonces: Vec<(Address, Nonce)>,
    },
    /// Candidates that had no place in a block. Their senders' next nonces are in `nonces`.
    Refused {
        txs: Vec<TxId>,
        nonces: Vec<(Address, Nonce)>,
    },
    /// Consensus saw a validator contradict itself.
    Equivocation(Evidence),
    /// The ledger has punished these keys for what they did at these heights.
    Punished(Vec<(PublicKey, Height)>),
    /// The node is far behind: catch up from a snapshot.
    /// Offers of `preferred` peers are tried first.
    Behind {
        trusted: Option<Trusted>,
        preferred: BTreeSet<P>,
    },
    /// About a snapshot, but for that it was restored.
    Sync(sync::Input<P>),
    /// The application has become the snapshot. `nonces`: the next one of every sender in
    /// [`Mempool::senders`].
    Restored {
        tip: Tip,
        nonces: Vec<(Address, Nonce)>,
    },
    /// Nothing more is at hand: what was gathered for the peers goes out.
    Flush,
    /// Time has passed.
    Tick,
}

/// Where a transaction came from.
#[derive(Debug)]
pub enum Source<P, W> {
    Peer(P),
    /// Somebody submitted it here and waits.
    Local(W),
}

/// What is to be done.
#[expect(clippy::large_enum_variant, reason = "short-lived, and never kept in numbers")]
#[derive(Debug)]
pub enum Effect<P, W> {
    /// Start consensus at this height.
    Start {
        height: Height,
    },
    SendTxs {
        peer: P,
        txs: Vec<Arc<[u8]>>,
    },
    /// Check each and say [`Input::Checked`] or [`Input::Judged`].
    Check {
        peer: P,
        txs: Vec<Arc<[u8]>>,
    },
    /// Close the connection. The peer counts as gone.
    Drop {
        peer: P,
        why: Fault,
    },
    /// Tell who waits what became of a transaction.
    Answer {
        id: TxId,
        fate: Fate,
        waiters: Vec<W>,
    },
    /// Get it into a block.
    Report(Evidence),
    Certify {
        height: Height,
        from: Option<Trusted>,
    },
    RequestChunk {
        peer: P,
        height: Height,
        index: u32,
    },
    /// Become the state in `bytes` if its hash is `app_hash`, and say [`Input::Restored`] or
    /// [`sync::Input::NotRestored`].
    Restore {
        height: Height,
        app_hash: types::Hash32,
        bytes: Vec<u8>,
    },
    /// Fetch and execute the blocks from the tip on. `None`: there was no snapshot to be had.
    ReplayBlocks {
        snapshot: Option<Height>,
    },
}

/// What became of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is in the block that was just decided.
    Decided,
    /// It had no place in a block; whoever executed it knows why.
    Refused,
    /// It was not taken, or does not wait any longer.
    Left(Full),
}

/// The state of a node that a crash may take.
#[derive(Debug)]
pub struct Node<T, P, W> {
    config: Config,
    tip: Tip,
    mempool: Mempool<T, W>,
    gossip: Gossip<P>,
    evidence: EvidencePool,
    sync: Option<Sync<P>>,
    /// Where the connected peers are.
    peers_at: BTreeMap<P, Height>,
    /// Consensus is at this height. `None`: it has not started since the tip.
    started: Option<Height>,
    just_started: bool,
}

impl<T: Transaction, P: Ord + Copy, W> Node<T, P, W> {
    pub fn new(config: Config, tip: Tip) -> Node<T, P, W> {
        Node {
            config,
            tip,
            mempool: Mempool::new(config.mempool),
            gossip: Gossip::new(config.gossip),
            evidence: EvidencePool::new(config.evidence),
            sync: None,
            peers_at: BTreeMap::new(),
            started: None,
            just_started: true,
        }
    }

    /// Decides alone: nobody can have gone on while it was away, so it waits for something to decide
    /// from the beginning.
    #[must_use]
    pub fn alone(self) -> Node<T, P, W> {
        Node { just_started: false, ..self }
    }

    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    pub fn mempool(&self) -> &Mempool<T, W> {
        &self.mempool
    }

    pub fn evidence(&self) -> &EvidencePool {
        &self.evidence
    }

    /// How far a connected peer has shown to be.
    pub fn peer_at(&self, peer: &P) -> Option<Height> {
        self.peers_at.get(peer).copied()
    }

    pub fn sync(&self) -> Option<&Sync<P>> {
        self.sync.as_ref()
    }

    /// When a [`Input::Tick`] has something to do, if nothing else comes before.
    pub fn next_tick(&self, now: TimeMs) -> Option<TimeMs> {
        let pace = match self.pace(now) {
            Some(Decision::Wait { until }) => until,
            Some(Decision::Start) => Some(now),
            None => None,
        };
        let sync = self.sync.as_ref().and_then(Sync::next_tick);
        let deadlines = [pace, sync, self.mempool.next_deadline(), self.evidence.next_due()];
        deadlines.into_iter().flatten().min()
    }

    pub fn step(&mut self, now: TimeMs, input: Input<T, P, W>) -> Vec<Effect<P, W>> {
        let mut effects = self.react(now, input);
        if self.pace(now) == Some(Decision::Start) {
            let height = self.tip.height.next();
            self.started = Some(height);
            self.just_started = false;
            effects.push(Effect::Start { height });
        }
        effects
    }

    fn react(&mut self, now: TimeMs, input: Input<T, P, W>) -> Vec<Effect<P, W>> {
        match input {
            Input::PeerConnected { peer } => self.connected(now, peer),
            Input::PeerGone { peer } => self.gone(now, peer),
            Input::PeerAt { peer, height } => {
                if self.gossip.has(&peer) {
                    self.peers_at.insert(peer, height);
                }
                Vec::new()
            }
            Input::Batch { peer, txs } => self.tell(now, gossip::Input::Received { peer, txs }),
            Input::Heard { peer, txs } => self.tell(now, gossip::Input::Heard { peer, txs }),
            Input::Checked { tx, bytes, from, ahead } => self.checked(
                now,
                Entry { tx, bytes, waiters: Vec::new(), arrived: now },
                from,
                ahead,
            ),
            Input::Judged { peer, verdict } => {
                self.tell(now, gossip::Input::Judged { peer, verdict })
            }
            Input::Decided { tip, txs, nonces } => self.decided(tip, &txs, &nonces),
            Input::Refused { txs, nonces } => self.take_out(&txs, &nonces, &Fate::Refused),
            Input::Equivocation(evidence) => self.proof(now, evidence::Input::Seen(evidence)),
            Input::Punished(faults) => {
                for (signer, height) in faults {
                    self.evidence.included(&signer, height);
                }
                Vec::new()
            }
            Input::Behind { trusted, preferred } => {
                let limits = self.config.sync;
                if self.sync.is_none() {
                    let sync = Sync::new(limits, self.tip.height, trusted, now);
                    self.sync = Some(sync.preferring(preferred));
                }
                Vec::new()
            }
            Input::Sync(input) => self.catch_up(now, input),
            Input::Restored { tip, nonces } => {
                let mut effects = self.decided(tip, &[], &nonces);
                effects.extend(self.catch_up(now, sync::Input::Restored));
                effects
            }
            Input::Flush => self.tell(now, gossip::Input::Flush),
            Input::Tick => self.tick(now),
        }
    }

    /// `None`: there is nothing to decide.
    fn pace(&self, now: TimeMs) -> Option<Decision> {
        let next = self.tip.height.next();
        if self.sync.is_some() || self.started.is_some_and(|started| started >= next) {
            return None;
        }
        let view = View {
            has_txs: !self.mempool.is_empty(),
            next_due: self.tip.next_due,
            last_block: self.tip.time,
            peer_ahead: self.peers_at.values().any(|height| *height >= next),
            just_started: self.just_started,
        };
        Some(self.config.pace.decide(&view, now))
    }

    fn connected(&mut self, now: TimeMs, peer: P) -> Vec<Effect<P, W>> {
        let waiting = self.mempool.iter();
        let waiting = waiting.map(|(id, bytes)| gossip::Tx { id, bytes: Arc::clone(bytes) });
        let waiting = waiting.collect();
        self.tell(now, gossip::Input::PeerConnected { peer, waiting })
    }

    fn gone(&mut self, now: TimeMs, peer: P) -> Vec<Effect<P, W>> {
        self.peers_at.remove(&peer);
        let mut effects = self.tell(now, gossip::Input::PeerGone { peer });
        effects.extend(self.catch_up(now, sync::Input::PeerGone { peer }));
        effects
    }

    fn checked(
        &mut self,
        now: TimeMs,
        mut entry: Entry<T, W>,
        from: Source<P, W>,
        ahead: u64,
    ) -> Vec<Effect<P, W>> {
        let (id, bytes) = (entry.tx.id(), Arc::clone(&entry.bytes));
        if self.mempool.contains(&id) {
            return match from {
                Source::Peer(peer) => {
                    let verdict = Verdict::Known { id };
                    self.tell(now, gossip::Input::Judged { peer, verdict })
                }
                Source::Local(waiter) => match self.mempool.join(&id, waiter) {
                    Ok(()) => Vec::new(),
                    Err(waiter) => vec![answer(id, Fate::Left(Full::Waiters), vec![waiter])],
                },
            };
        }
        let peer = match from {
            Source::Peer(peer) => Some(peer),
            Source::Local(waiter) => {
                entry.waiters.push(waiter);
                None
            }
        };
        let sender = entry.tx.sender();
        match (self.mempool.insert(entry, ahead), peer) {
            (Ok(pushed_out), _) => {
                let why = |out: &Entry<T, W>| match out.tx.sender() == sender {
                    true => Full::Replaced,
                    false => Full::Evicted,
                };
                let mut effects = answers(pushed_out, |out| Fate::Left(why(out)));
                let tx = gossip::Tx { id, bytes };
                effects.extend(self.tell(now, gossip::Input::Accepted { tx, from: peer }));
                effects
            }
            (Err(_), Some(peer)) => {
                let verdict = Verdict::Refused { id };
                self.tell(now, gossip::Input::Judged { peer, verdict })
            }
            (Err(Refused { why, entry }), None) => {
                answers(vec![entry], |_| Fate::Left(why.clone()))
            }
        }
    }

    fn decided(
        &mut self,
        tip: Tip,
        txs: &[TxId],
        nonces: &[(Address, Nonce)],
    ) -> Vec<Effect<P, W>> {
        if tip.height > self.tip.height {
            self.tip = tip;
        }
        self.take_out(txs, nonces, &Fate::Decided)
    }

    fn take_out(
        &mut self,
        txs: &[TxId],
        nonces: &[(Address, Nonce)],
        fate: &Fate,
    ) -> Vec<Effect<P, W>> {
        let named: BTreeSet<&TxId> = txs.iter().collect();
        let mut effects = answers(self.mempool.remove(txs), |out| {
            let out_of_turn = || Fate::Left(Full::OutOfTurn);
            if named.contains(&out.tx.id()) { fate.clone() } else { out_of_turn() }
        });
        let next: BTreeMap<Address, Nonce> = nonces.iter().copied().collect();
        let senders: Vec<Address> = next.keys().copied().collect();
        let of = |sender: &Address| next.get(sender).copied().unwrap_or_default();
        let stale = self.mempool.rebase_senders(&senders, of);
        effects.extend(answers(stale, |_| Fate::Left(Full::OutOfTurn)));
        effects
    }

    fn tick(&mut self, now: TimeMs) -> Vec<Effect<P, W>> {
        let mut effects = answers(self.mempool.expire(now), |_| Fate::Left(Full::Expired));
        effects.extend(self.proof(now, evidence::Input::Tick));
        effects.extend(self.catch_up(now, sync::Input::Tick));
        effects
    }

    fn proof(&mut self, now: TimeMs, input: evidence::Input) -> Vec<Effect<P, W>> {
        let reports = self.evidence.step(now, input).into_iter();
        reports.map(|evidence::Effect::Report(evidence)| Effect::Report(evidence)).collect()
    }

    fn tell(&mut self, now: TimeMs, input: gossip::Input<P>) -> Vec<Effect<P, W>> {
        let told = self.gossip.step(now, input);
        self.translate(told)
    }

    fn translate(&mut self, told: Vec<gossip::Effect<P>>) -> Vec<Effect<P, W>> {
        let translate = |effect| match effect {
            gossip::Effect::Send { peer, txs } => Effect::SendTxs { peer, txs },
            gossip::Effect::Check { peer, txs } => Effect::Check { peer, txs },
            gossip::Effect::Drop { peer, why } => {
                self.peers_at.remove(&peer);
                Effect::Drop { peer, why }
            }
        };
        told.into_iter().map(translate).collect()
    }

    fn catch_up(&mut self, now: TimeMs, input: sync::Input<P>) -> Vec<Effect<P, W>> {
        let Some(sync) = &mut self.sync else { return Vec::new() };
        let wanted = sync.step(now, input);
        if sync.is_over() {
            self.sync = None;
        }
        let mut effects = Vec::new();
        for effect in wanted {
            match effect {
                sync::Effect::Certify { height, from } => {
                    effects.push(Effect::Certify { height, from });
                }
                sync::Effect::Request { peer, height, index } => {
                    effects.push(Effect::RequestChunk { peer, height, index });
                }
                sync::Effect::Restore { height, app_hash, bytes } => {
                    effects.push(Effect::Restore { height, app_hash, bytes });
                }
                sync::Effect::Drop { peer } => {
                    let dropped = self.gossip.drop_peer(now, peer, Fault::BadSnapshot);
                    effects.extend(self.translate(dropped));
                }
                sync::Effect::GiveUp => effects.push(Effect::ReplayBlocks { snapshot: None }),
                sync::Effect::Done { height } => {
                    effects.push(Effect::ReplayBlocks { snapshot: Some(height) });
                }
            }
        }
        effects
    }
}

/// Nobody is told what nobody waits for.
fn answers<T: Transaction, P, W>(
    entries: Vec<Entry<T, W>>,
    fate: impl Fn(&Entry<T, W>) -> Fate,
) -> Vec<Effect<P, W>> {
    let awaited = entries.into_iter().filter(|entry| !entry.waiters.is_empty());
    awaited.map(|entry| answer(entry.tx.id(), fate(&entry), entry.waiters)).collect()
}

fn answer<P, W>(id: TxId, fate: Fate, waiters: Vec<W>) -> Effect<P, W> {
    Effect::Answer { id, fate, waiters }
}
