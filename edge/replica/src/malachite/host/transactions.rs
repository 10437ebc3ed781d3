//! Transactions: from submitters and peers to the machine of `replication`, and what it wants done.

use std::{
    collections::{BTreeSet, VecDeque},
    iter,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use keys::Ed25519;
use light::CertificateError;
use replication::{
    gossip::{Fault, GossipLimits, Verdict},
    mempool::{Candidate, Full, Transaction},
    node::{Effect, Fate, Input, Source},
    sync,
};
use types::{Address, PublicKey, TxId, consensus::Certificate};

use super::Host;
use crate::{
    Application, Refusal, SubmitError,
    handle::{Submission, Waiter},
    peers::{PeerCommand, PeerEvent, PeerMessage, PeerSaid},
};

/// Submissions that are admitted between two other events.
const SUBMISSIONS_PER_TURN: usize = 1_024;

/// Transactions of peers that are remembered as looked into.
const SEEN_MAX: usize = 16 * 1_024;

/// Transactions that need no second look, the newest [`SEEN_MAX`] of them.
#[derive(Default)]
pub(super) struct Seen {
    ids: BTreeSet<TxId>,
    order: VecDeque<TxId>,
}

impl Seen {
    fn contains(&self, id: &TxId) -> bool {
        self.ids.contains(id)
    }

    fn insert(&mut self, id: TxId) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    fn remove(&mut self, id: &TxId) {
        self.ids.remove(id);
    }
}

/// What a peer sent, checked.
pub(super) struct Batch<A: Application> {
    peer: PublicKey,
    txs: Vec<Option<Checked<A>>>,
}

/// A transaction whose signatures are valid, and its bytes.
type Checked<A> = (Arc<<A as Application>::Tx>, Arc<[u8]>);

impl<A: Application> Host<A> {
    /// Tells the machine something and does what it wants.
    pub(super) fn step(&mut self, input: Input<A::Tx, PublicKey, Waiter<A>>) {
        for effect in self.node.step(self.now(), input) {
            self.apply(effect);
        }
    }

    fn apply(&mut self, effect: Effect<PublicKey, Waiter<A>>) {
        match effect {
            Effect::Start { height } => self.go |= height == self.parts.worker.height(),
            Effect::SendTxs { peer, txs } => self.tell(peer, PeerMessage::Txs(txs)),
            Effect::Check { peer, txs } => self.check(peer, txs),
            Effect::Drop { peer, why: why @ Fault::TooManyPeers } => {
                self.parts.connected.remove(&peer);
                self.command(PeerCommand::Close { peer, why: why.to_string() });
            }
            Effect::Drop { peer, why } => self.cut(peer, why.to_string()),
            Effect::Answer { id, fate, waiters } => self.answer_waiters(id, &fate, waiters),
            Effect::Report(evidence) => {
                if let Some(reports) = &self.parts.evidence {
                    // What finds no place now is reported again later.
                    let _ = reports.try_send(evidence);
                }
            }
            Effect::Certify { height, from } => self.certify(height, from),
            Effect::RequestChunk { peer, height, index } => {
                self.tell(peer, PeerMessage::ChunkWanted { height, index });
            }
            Effect::Restore { height, app_hash, bytes } => self.restore(height, app_hash, &bytes),
            Effect::ReplayBlocks { snapshot: Some(_) } => {}
            Effect::ReplayBlocks { snapshot: None } => self.no_snapshot(),
        }
    }

    pub(super) fn tell(&self, peer: PublicKey, message: PeerMessage) {
        self.command(PeerCommand::Send { peer, message });
    }

    /// What cannot be sent is lost; nothing that peers tell each other this way has to arrive.
    pub(super) fn command(&self, command: PeerCommand) {
        let _ = self.parts.peers.commands.try_send(command);
    }

    /// Drops a peer for something that the machine does not know of.
    pub(super) fn drop_peer(&mut self, peer: PublicKey, why: String) {
        self.cut(peer, why);
        self.step(Input::PeerGone { peer });
    }

    fn cut(&mut self, peer: PublicKey, why: String) {
        tracing::warn!(%peer, %why, "a peer is dropped");
        self.parts.connected.remove(&peer);
        self.checking.gone(&peer);
        self.command(PeerCommand::Drop { peer, why });
    }

    pub(super) fn hear_peer(&mut self, PeerEvent { peer, said }: PeerEvent) {
        match said {
            PeerSaid::Connected => {
                self.parts.connected.insert(peer);
                self.step(Input::PeerConnected { peer });
                self.tell_tip(peer);
                if self.is_syncing() {
                    self.tell(peer, PeerMessage::SnapshotWanted);
                }
            }
            PeerSaid::Gone => {
                self.parts.connected.remove(&peer);
                self.snapshots.gone(&peer);
                self.checking.gone(&peer);
                self.step(Input::PeerGone { peer });
            }
            PeerSaid::Message(message) => self.hear_message(peer, message),
        }
    }

    fn hear_message(&mut self, peer: PublicKey, message: PeerMessage) {
        let cost = self.cost(&message);
        if cost > 0 {
            self.step(Input::Heard { peer, txs: cost });
            if !self.parts.connected.contains(&peer) {
                // That was more than it may say.
                return;
            }
        }
        match message {
            PeerMessage::Txs(txs) => self.step(Input::Batch { peer, txs }),
            PeerMessage::Decided(certificate) => self.hear_decided(peer, &certificate),
            PeerMessage::SnapshotWanted => self.snapshot_wanted(peer),
            PeerMessage::Snapshot(manifest) => {
                self.step(Input::Sync(sync::Input::Offer { peer, manifest }));
            }
            PeerMessage::ChunkWanted { height, index } => self.chunk_wanted(peer, height, index),
            PeerMessage::Chunk { height, index, bytes: Some(bytes) } => {
                self.step(Input::Sync(sync::Input::Chunk { peer, height, index, bytes }));
            }
            PeerMessage::Chunk { height, bytes: None, .. } => {
                self.step(Input::Sync(sync::Input::NoChunk { peer, height }));
            }
            PeerMessage::HeaderWanted { height } => self.header_wanted(peer, height),
            PeerMessage::Header { height, block } => {
                self.header(peer, height, block.map(|block| *block));
            }
        }
    }

    /// What a message costs to look at, in transactions, if the machine does not count it by itself. The
    /// signatures in one are checked only if it says something new.
    fn cost(&self, message: &PeerMessage) -> u64 {
        match message {
            PeerMessage::Txs(_) => 0,
            // Those that were asked for come as fast as they can.
            PeerMessage::Chunk { bytes: Some(bytes), .. } if !self.is_syncing() => {
                GossipLimits::STANDARD.cost(bytes.len())
            }
            PeerMessage::Decided(_)
            | PeerMessage::Snapshot(_)
            | PeerMessage::Chunk { .. }
            | PeerMessage::Header { .. }
            | PeerMessage::SnapshotWanted
            | PeerMessage::ChunkWanted { .. }
            | PeerMessage::HeaderWanted { .. } => 1,
        }
    }

    /// A peer says how far it is. That counts when the validators of today decided the block. After a
    /// change of many of them they did not; then the peer is asked for the next block that is missing
    /// here, which they did decide: whoever says otherwise of that one lies.
    pub(super) fn hear_decided(&mut self, peer: PublicKey, certificate: &Certificate) {
        let (height, next) = (certificate.height, self.parts.worker.height());
        self.claimed = self.claimed.max(height);
        if height < next || self.node.peer_at(&peer).is_some_and(|at| at >= height) {
            return;
        }
        match self.is_decided(certificate) {
            Ok(()) => self.step(Input::PeerAt { peer, height }),
            // Wrong whoever the validators of its height are.
            Err(error @ (CertificateError::Signature { .. } | CertificateError::Order { .. })) => {
                self.drop_peer(peer, format!("its certificate is forged: {error}"));
            }
            Err(_) if height == next => {
                self.drop_peer(peer, format!("its certificate of block {height} is not valid"));
            }
            Err(_) if !self.is_syncing() => {
                self.tell(peer, PeerMessage::HeaderWanted { height: next });
            }
            Err(_) => {}
        }
    }

    /// Whether the validators of today decided that block.
    fn is_decided(&self, certificate: &Certificate) -> Result<(), CertificateError> {
        let Certificate { height, block, .. } = *certificate;
        let (chain_id, set) = (&self.parts.worker.chain_id, &self.validators);
        light::verify_certificate(chain_id, (height, block), certificate, set, &Ed25519)
    }

    /// Tells a peer how far we are.
    pub(super) fn tell_tip(&self, peer: PublicKey) {
        if let Some(decided) = &self.parts.worker.parent.decided {
            self.tell(peer, PeerMessage::Decided(decided.certificate.clone()));
        }
    }

    /// Lets transactions wait until their signatures are checked.
    fn check(&mut self, peer: PublicKey, txs: Vec<Arc<[u8]>>) {
        let mut lost = 0u64;
        for bytes in self.unknown(peer, txs) {
            if !self.checking.push(peer, bytes) {
                lost = lost.saturating_add(1);
            }
        }
        if lost > 0 {
            tracing::debug!(%peer, lost, "transactions of a peer find no place to wait");
        }
        self.check_next();
    }

    /// Those that are not looked into yet: every peer tells every transaction.
    fn unknown(&mut self, peer: PublicKey, txs: Vec<Arc<[u8]>>) -> Vec<Arc<[u8]>> {
        let mut unknown = Vec::with_capacity(txs.len());
        for bytes in txs {
            let id = A::tx_id(&bytes);
            if self.node.mempool().contains(&id) || self.seen.contains(&id) {
                self.step(Input::Judged { peer, verdict: Verdict::Known { id } });
            } else {
                unknown.push(bytes);
            }
        }
        unknown
    }

    /// Checks signatures where they hold nobody up, and once.
    fn check_next(&mut self) {
        while let Some((peer, txs)) = self.checking.next() {
            // Another peer's may have been checked while these waited.
            let txs = self.unknown(peer, txs);
            if txs.is_empty() {
                self.checking.done(&peer);
                continue;
            }
            for bytes in &txs {
                self.seen.insert(A::tx_id(bytes));
            }
            let to_admit = self.to_admit.clone();
            self.runtime.spawn_blocking(move || {
                let check = || {
                    let slices: Vec<&[u8]> = txs.iter().map(AsRef::as_ref).collect();
                    A::verify_many(&slices)
                };
                // A batch that comes to nothing must not keep its place for ever.
                let verified = panic::catch_unwind(AssertUnwindSafe(check)).unwrap_or_default();
                let verified =
                    verified.into_iter().map(Result::ok).chain(iter::repeat_with(|| None));
                let txs = verified.zip(txs).map(|(tx, bytes)| Some((Arc::new(tx?), bytes)));
                // The replica may have stopped.
                let _ = to_admit.blocking_send(Batch { peer, txs: txs.collect() });
            });
        }
    }

    pub(super) fn admit_batch(&mut self, Batch { peer, txs }: Batch<A>) {
        self.checking.done(&peer);
        self.check_next();
        for tx in txs {
            let Some((tx, bytes)) = tx else {
                self.step(Input::Judged { peer, verdict: Verdict::Invalid });
                continue;
            };
            match self.ahead(&tx, &bytes) {
                Ok(ahead) => {
                    let id = tx.id();
                    self.step(Input::Checked { tx, bytes, from: Source::Peer(peer), ahead });
                    if !self.node.mempool().contains(&id) {
                        // There may be room for it another time.
                        self.seen.remove(&id);
                    }
                }
                Err(_) => {
                    // The state may come to take it.
                    self.seen.remove(&tx.id());
                    let verdict = Verdict::Refused { id: tx.id() };
                    self.step(Input::Judged { peer, verdict });
                }
            }
        }
    }

    pub(super) fn admit_all(&mut self, first: Submission<A>) {
        self.admit(first);
        for _ in 1..SUBMISSIONS_PER_TURN {
            match self.parts.arriving.try_recv() {
                Ok(submission) => self.admit(submission),
                Err(_) => return,
            }
        }
    }

    /// Answers a submission at once, or lets it wait for a block.
    pub(super) fn admit(&mut self, submission: Submission<A>) {
        let Submission { tx, bytes, waiter } = submission;
        match self.ahead(&tx, &bytes) {
            Ok(ahead) => {
                self.step(Input::Checked { tx, bytes, from: Source::Local(waiter), ahead });
            }
            Err(source) => {
                // Whoever submitted may have gone.
                let _ = waiter.send(Err(SubmitError::Refused { source }));
            }
        }
    }

    /// How many transactions come before it. The first after a silence is also tried: one without
    /// a place in a block must not make an empty one.
    fn ahead(&mut self, tx: &Arc<A::Tx>, bytes: &Arc<[u8]>) -> Result<u64, Refusal> {
        if self.node.mempool().contains(&tx.id()) {
            // It has its place already.
            return Ok(0);
        }
        let ahead = self.parts.worker.app.check(tx)?;
        let others = self.node.mempool().of_sender(&tx.sender());
        let mut queue: Vec<Arc<A::Tx>> =
            others.filter(|other| other.nonce() != tx.nonce()).cloned().collect();
        if !queue.is_empty() {
            let place = queue.partition_point(|other| other.nonce() < tx.nonce());
            queue.insert(place, Arc::clone(tx));
            self.parts.worker.app.check_queue(&queue).map_err(|(_, refusal)| refusal)?;
        }
        if let (0, true, Some(me)) = (ahead, self.node.mempool().is_empty(), self.me()) {
            let alone = vec![Candidate { tx: Arc::clone(tx), bytes: Arc::clone(bytes) }];
            let now = self.parts.clock.now();
            match self.parts.worker.build(now, me, alone) {
                Ok(built) => {
                    if let Some((_, refusal)) = built.skipped.into_iter().next() {
                        return Err(refusal);
                    }
                }
                // The block will say it again, to somebody who can do something about it.
                Err(error) => tracing::error!(%error, "a transaction cannot be tried"),
            }
        }
        Ok(ahead)
    }

    /// After a block: takes out what these senders cannot pay for any more.
    pub(super) fn check_queues(&mut self, senders: &BTreeSet<Address>) {
        for sender in senders {
            let queue: Vec<_> = self.node.mempool().of_sender(sender).cloned().collect();
            let Err((place, refusal)) = self.parts.worker.app.check_queue(&queue) else { continue };
            let unpaid: Vec<TxId> = queue.iter().skip(place).map(|tx| tx.id()).collect();
            self.refused = unpaid.iter().map(|id| (*id, refusal.clone())).collect();
            let nonces = self.nonces([*sender]);
            self.step(Input::Refused { txs: unpaid, nonces });
            self.refused.clear();
        }
    }

    fn answer_waiters(&mut self, id: TxId, fate: &Fate, waiters: Vec<Waiter<A>>) {
        let not_taken = |reason: &Full| SubmitError::NotTaken { reason: reason.clone() };
        for waiter in waiters {
            let answer = match fate {
                Fate::Decided => self.included.get(&id).cloned().ok_or(SubmitError::Halted),
                Fate::Refused => match self.refused.get(&id) {
                    Some(source) => Err(SubmitError::Refused { source: source.clone() }),
                    None => Err(not_taken(&Full::OutOfTurn)),
                },
                Fate::Left(reason) => Err(not_taken(reason)),
            };
            // Whoever submitted may have gone.
            let _ = waiter.send(answer);
        }
    }
}
