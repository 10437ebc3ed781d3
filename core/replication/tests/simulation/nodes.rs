//! What a driver does with a node: it feeds it, does what it asks for, and may die between any two
//! of those things.

use std::{collections::VecDeque, sync::Arc};

use replication::{
    Transaction,
    gossip::Verdict,
    node::{Effect, Input, Source},
    sync::{self, Manifest},
};
use types::{
    Hash32, Height, Nonce, TimeMs,
    consensus::{ConsensusVote, VoteKind, is_quorum},
    sign::Signed,
    stake::Evidence,
};

use crate::{
    toy::{App, Block, Checked, Kind, Tx, account, key, tx_id},
    world::{CHUNK_BYTES, CONFIG, Event, Message, SNAPSHOT_INTERVAL, World, tip},
};

type In = Input<Checked, u8, u64>;
type Out = Effect<u8, u64>;

/// So that a newcomer has the time to fetch one.
const SNAPSHOTS_KEPT: usize = 4;
/// Transactions of one block, so that pools fill.
const BLOCK_TXS_MAX: usize = 8;
const BLOCK_BYTES_MAX: usize = 900;

impl World {
    /// Gives a node an input, does what comes out, and so on until it is quiet.
    pub(crate) fn feed(&mut self, node: u8, input: In) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = TimeMs(self.now);
            let Some(up) = self.hosts.get_mut(&node).and_then(|host| host.up.as_mut()) else {
                return;
            };
            let before = (up.node.mempool().len(), up.node.mempool().bytes());
            let effects = up.node.step(now, input);
            assert!(up.node.evidence().len() <= CONFIG.evidence.count_max);
            if before != (up.node.mempool().len(), up.node.mempool().bytes()) {
                self.auditor.bounds(&up.node, &CONFIG.mempool);
            }
            for effect in effects {
                if self.random.permille(self.weather.crash) {
                    self.crash(node);
                    return;
                }
                self.perform(node, effect, &mut inputs);
                if self.hosts[&node].up.is_none() {
                    return;
                }
            }
        }
        self.plan_tick(node);
    }

    fn plan_tick(&mut self, node: u8) {
        let now = self.now;
        let Some(up) = self.hosts.get_mut(&node).and_then(|host| host.up.as_mut()) else { return };
        let Some(TimeMs(next)) = up.node.next_tick(TimeMs(now)) else { return };
        let at = next.max(now + 1);
        if up.tick_at.is_none_or(|planned| at < planned) {
            up.tick_at = Some(at);
            self.after(at - now, Event::Tick { node, at });
        }
    }

    fn perform(&mut self, node: u8, effect: Out, inputs: &mut VecDeque<In>) {
        let life = self.hosts[&node].life;
        let me = u64::from(node);
        match effect {
            Effect::Start { height } => self.start(node, height.0),
            Effect::SendTxs { peer, txs } => {
                self.note(&[10, me, u64::from(peer), txs.len() as u64]);
                let session = self.links.get(&crate::world::pair(node, peer)).copied();
                for tx in &txs {
                    self.auditor.tells(session.expect("a peer that is there"), node, peer, tx);
                }
                assert!(txs.len() <= CONFIG.gossip.batch_txs_max);
                self.send(node, peer, Message::Txs(txs));
            }
            Effect::Check { peer, txs } => {
                for bytes in txs {
                    inputs.push_back(self.judge(node, peer, bytes));
                }
                inputs.push_back(Input::Flush);
            }
            Effect::Drop { peer, why } => {
                self.note(&[11, me, u64::from(peer), why as u64]);
                self.auditor.dropped(self.is_honest(peer), why);
                self.disconnect(node, peer);
            }
            Effect::Answer { id, fate, waiters } => {
                self.note(&[12, me, waiters.len() as u64]);
                self.auditor.answered(node, id, &fate, &waiters);
            }
            Effect::Report(evidence) => inputs.extend(self.report(node, &evidence)),
            Effect::Certify { height, .. } => {
                let ms = 5 + self.random.below(50);
                self.after(ms, Event::Certified { node, life, height: height.0 });
            }
            Effect::RequestChunk { peer, height, index } => {
                self.send(node, peer, Message::AskChunk { height: height.0, index });
            }
            Effect::Restore { app_hash, bytes, .. } => {
                inputs.push_back(self.restore(node, app_hash, &bytes));
            }
            Effect::ReplayBlocks { snapshot } => {
                match snapshot {
                    Some(_) => self.auditor.seen.restored += 1,
                    None => self.auditor.seen.replayed += 1,
                }
                self.note(&[13, me, snapshot.map_or(0, |height| height.0)]);
            }
        }
    }

    fn judge(&mut self, node: u8, peer: u8, bytes: Arc<[u8]>) -> In {
        let up = self.hosts[&node].up.as_ref().unwrap();
        let Some(checked) = Checked::of(&bytes) else {
            return Input::Judged { peer, verdict: Verdict::Invalid };
        };
        let id = checked.id();
        if let Some(session) = self.links.get(&crate::world::pair(node, peer)) {
            self.auditor.hears(*session, peer, node, &bytes);
        }
        if up.included.contains(&id) {
            return Input::Judged { peer, verdict: Verdict::Known { id } };
        }
        match up.app.check(&checked.tx) {
            Some(ahead) => {
                Input::Checked { tx: Arc::new(checked), bytes, from: Source::Peer(peer), ahead }
            }
            None => Input::Judged { peer, verdict: Verdict::Refused { id } },
        }
    }

    /// Signs a transaction about a fault and submits it.
    fn report(&mut self, node: u8, evidence: &Evidence) -> Vec<In> {
        let (signer, height) = replication::evidence::subject(evidence).unwrap();
        let up = self.hosts[&node].up.as_ref().unwrap();
        let (liar, height) = (signer.0[0], height.0);
        if up.app.punished.contains(&(liar, height)) {
            return vec![Input::Punished(vec![(signer, Height(height))])];
        }
        let sender = 200 + node;
        let waiting = up.node.mempool().iter().filter_map(|(_, bytes)| Checked::of(bytes));
        let waiting = waiting.filter(|waiting| waiting.tx.sender == sender).count() as u64;
        let nonce = up.app.next_nonce(sender) + waiting;
        let kind = Kind::Punish { node: liar, height };
        let tx = Tx {
            sender,
            nonce,
            tip: 1_000,
            valid_until: None,
            kind,
            padding: Vec::new(),
            signed: true,
        };
        self.submit(node, &tx).into_iter().chain([Input::Flush]).collect()
    }

    fn submit(&mut self, node: u8, tx: &Tx) -> Option<In> {
        let bytes = tx.encode();
        let up = self.hosts[&node].up.as_ref()?;
        let checked = Checked::of(&bytes)?;
        if up.included.contains(&checked.id()) {
            return None;
        }
        let ahead = up.app.check(tx)?;
        let waiter = self.random.next();
        self.auditor.submitted(waiter, node, checked.id());
        let from = Source::Local(waiter);
        Some(Input::Checked { tx: Arc::new(checked), bytes, from, ahead })
    }

    /// Somebody submits something somewhere: often the next of its account, at times again.
    pub(crate) fn submit_something(&mut self) {
        if !self.submitting {
            return;
        }
        let ms = 1 + self.random.below(8);
        self.after(ms, Event::Submit);
        let up: Vec<u8> =
            self.everybody().into_iter().filter(|node| self.is_honest(*node)).collect();
        let Some(node) = self.random.pick(&up) else { return };
        let sender = 100 + self.random.below(12) as u8;
        let host = self.hosts[&node].up.as_ref().unwrap();
        let next = host.app.next_nonce(sender);
        let nonce = next + self.random.below(4);
        let kind = match self.random.below(40) {
            0 => {
                let (node, power) =
                    (self.random.below(self.liar.into()) as u8, self.random.below(6));
                let keeps = self.genesis.power(node) > 0;
                Kind::SetPower { node, power: power + if keeps { 2 } else { 0 } }
            }
            _ => Kind::Plain,
        };
        let valid_until = self.random.permille(150).then(|| self.now + self.random.below(3_000));
        let padding = vec![0; self.random.below(120) as usize];
        let tip = [0, 0, self.random.below(5), self.random.below(400)];
        let tip = self.random.pick(&tip).unwrap();
        let tx = Tx { sender, nonce, tip, valid_until, kind, padding, signed: true };
        if let Some(input) = self.submit(node, &tx) {
            self.feed(node, input);
            self.feed(node, Input::Flush);
        }
    }

    fn start(&mut self, node: u8, height: u64) {
        self.starts += 1;
        self.note(&[14, u64::from(node), height]);
        if height == self.chain.len() as u64 + 1 {
            self.started.insert(node);
            let ms = 5 + self.random.below(60);
            self.after(ms, Event::Decide { height });
        }
        for peer in self.peers(node) {
            self.send(node, peer, Message::At(height));
        }
    }

    /// The ideal: one of those who take part proposes.
    pub(crate) fn decide(&mut self, height: u64) {
        if height != self.chain.len() as u64 + 1 {
            return;
        }
        let mut voters: Vec<u8> = self.started.iter().copied().collect();
        if self.random.permille(500) {
            voters.push(self.liar);
        }
        voters.retain(|node| self.state.power(*node) > 0);
        let Some(proposer) = self.random.pick(&voters) else { return };
        voters.retain(|node| *node == proposer || self.peers(proposer).contains(node));
        let signed = voters.iter().map(|node| u128::from(self.state.power(*node))).sum();
        let total = self.state.powers.values().map(|power| u128::from(*power)).sum();
        if !is_quorum(signed, total) || proposer == self.liar {
            self.equivocate(height, &voters);
            let ms = 20 + self.random.below(80);
            self.after(ms, Event::Decide { height });
            return;
        }
        let Some(block) = self.propose(proposer, height) else {
            return self.after(20, Event::Decide { height });
        };
        self.note(&[15, u64::from(proposer), height, block.txs.len() as u64]);
        if self.state.powers != self.chain_powers(&block) {
            self.auditor.seen.set_changes += 1;
        }
        self.state.execute(&block);
        self.chain.push(block.clone());
        // Somebody at least has kept it, or it would not be decided.
        self.follow(proposer, &block);
        for node in std::mem::take(&mut self.started) {
            let ms = 1 + self.random.below(40);
            let life = self.hosts[&node].life;
            if !self.random.permille(self.weather.loss) {
                self.after(ms, Event::Decided { node, life, height });
            }
        }
        self.equivocate(height, &voters);
    }

    fn chain_powers(&self, block: &Block) -> std::collections::BTreeMap<u8, u64> {
        let mut after = self.state.clone();
        after.execute(block);
        after.powers
    }

    fn propose(&mut self, node: u8, height: u64) -> Option<Block> {
        let up = self.hosts[&node].up.as_ref()?;
        // It has not heard of the block before yet: somebody else's turn.
        if up.app.height + 1 != height {
            return None;
        }
        let time = self.now.max(up.app.time);
        let candidates = up.node.mempool().candidates(BLOCK_TXS_MAX, BLOCK_BYTES_MAX);
        let mut app = up.app.clone();
        let (mut txs, mut skipped, mut senders) = (Vec::new(), Vec::new(), Vec::new());
        for candidate in candidates {
            if app.apply(&candidate.tx, time) {
                txs.push(candidate.bytes.to_vec());
            } else {
                skipped.push(candidate.tx.id());
                senders.push(candidate.tx.tx.sender);
            }
        }
        app.end(height, time);
        let block = Block { height, time, txs, app_hash: app.hash() };
        let next = |sender: &u8| (account(*sender), Nonce(up.app.next_nonce(*sender)));
        let nonces = senders.iter().map(next).collect();
        if !skipped.is_empty() {
            self.feed(node, Input::Refused { txs: skipped, nonces });
        }
        self.hosts[&node].up.is_some().then_some(block)
    }

    /// The liar votes twice, and those who took part see it.
    fn equivocate(&mut self, height: u64, voters: &[u8]) {
        if !self.lying || !voters.contains(&self.liar) || !self.random.permille(300) {
            return;
        }
        let vote = |block: u8| Signed {
            value: ConsensusVote {
                kind: VoteKind::Precommit,
                height: Height(height),
                round: 0,
                block: Some(Hash32([block; 32])),
            },
            signer: key(self.liar),
            signature: types::Signature([0; 64]),
        };
        let evidence = Evidence::DoubleVote { first: vote(1), second: vote(2) };
        for node in voters {
            if self.hosts.get(node).is_some_and(|host| host.up.is_some()) {
                self.feed(*node, Input::Equivocation(evidence.clone()));
            }
        }
    }

    /// A node has a block with what proves it: it keeps it, executes it, and tells the machine.
    pub(crate) fn follow(&mut self, node: u8, block: &Block) {
        let decided = self.chain.get(block.height as usize - 1);
        let certified = decided.is_some_and(|decided| decided.hash() == block.hash());
        let crash = self.weather.crash;
        let Some(host) = self.hosts.get_mut(&node) else { return };
        let Some(up) = host.up.as_mut() else { return };
        if !certified || block.height != up.app.height + 1 || up.node.sync().is_some() {
            return;
        }
        host.disk.blocks.push(block.clone());
        if self.random.permille(crash) {
            return self.crash(node);
        }
        let before = up.app.punished.clone();
        up.app.execute(block);
        let app = up.app.clone();
        if app.height.is_multiple_of(SNAPSHOT_INTERVAL) {
            host.disk.snapshots.push((app.height, borsh::to_vec(&app).unwrap()));
            if host.disk.snapshots.len() > SNAPSHOTS_KEPT {
                host.disk.snapshots.remove(0);
            }
        }
        up.included.extend(block.txs.iter().map(|tx| tx_id(tx)));
        self.auditor.executed(block, &app);
        self.note(&[16, u64::from(node), block.height]);
        if self.random.permille(crash) {
            return self.crash(node);
        }
        let txs = block.txs.iter().map(|tx| tx_id(tx)).collect();
        let senders = block.txs.iter().filter_map(|tx| Checked::of(tx));
        let senders = senders.map(|checked| checked.tx.sender);
        let nonces = senders.map(|sender| (account(sender), Nonce(app.next_nonce(sender))));
        self.feed(node, Input::Decided { tip: tip(&app), txs, nonces: nonces.collect() });
        let new = app.punished.difference(&before);
        let new: Vec<_> = new.map(|(node, height)| (key(*node), Height(*height))).collect();
        self.feed(node, Input::Punished(new));
    }

    fn restore(&mut self, node: u8, app_hash: Hash32, bytes: &[u8]) -> In {
        let app = borsh::from_slice::<App>(bytes).ok().filter(|app| app.hash() == app_hash);
        let Some(app) = app else { return Input::Sync(sync::Input::NotRestored) };
        let host = self.hosts.get_mut(&node).unwrap();
        host.disk.base = Some(app.clone());
        host.disk.blocks.clear();
        host.disk.snapshots = vec![(app.height, bytes.to_vec())];
        host.up.as_mut().unwrap().app = app.clone();
        let nonces = app.nonces().map(|(sender, nonce)| (account(sender), Nonce(nonce)));
        Input::Restored { tip: tip(&app), nonces: nonces.collect() }
    }

    pub(crate) fn certify(&mut self, node: u8, height: u64) {
        let input = match self.chain.get((height as usize).wrapping_sub(1)) {
            Some(block) => {
                sync::Input::Certified { height: Height(height), app_hash: block.app_hash }
            }
            None => sync::Input::NotCertified { height: Height(height) },
        };
        self.feed(node, Input::Sync(input));
    }

    /// What a node says to a peer when they meet, and what everybody repeats.
    pub(crate) fn greet(&mut self, node: u8, peer: u8) {
        let Some(up) = self.hosts[&node].up.as_ref() else { return };
        self.send(node, peer, Message::At(up.app.height));
        let snapshot = self.hosts[&node].disk.snapshots.last().filter(|_| self.serving);
        let offer =
            snapshot.map(|(height, bytes)| Manifest::of(Height(*height), bytes, CHUNK_BYTES));
        if let Some(manifest) = offer {
            self.send(node, peer, Message::Offer(manifest));
        }
    }

    pub(crate) fn status(&mut self, node: u8) {
        let at = self.app(node).unwrap().height;
        let at = if self.started.contains(&node) { at + 1 } else { at };
        for peer in self.peers(node) {
            self.send(node, peer, Message::At(at));
        }
    }

    pub(crate) fn deliver(&mut self, session: u64, from: u8, to: u8, message: Message) {
        if to == self.liar {
            return self.mislead(from, message);
        }
        match message {
            Message::Txs(txs) => {
                self.feed(to, Input::Batch { peer: from, txs });
            }
            Message::At(height) => self.hear_height(from, to, height),
            Message::AskBlock(height) => {
                if let Some(block) = self.hosts[&to].disk.block(height).cloned() {
                    self.send(to, from, Message::Block(block));
                }
            }
            Message::Block(block) => {
                if block.height > 0 {
                    self.follow(to, &block);
                }
                // More of them, if there are.
                let height = self.app(to).map_or(0, |app| app.height);
                if self.chain.len() as u64 > height {
                    self.send(to, from, Message::AskBlock(height + 1));
                }
            }
            Message::Offer(manifest) => {
                self.feed(to, Input::Sync(sync::Input::Offer { peer: from, manifest }));
            }
            Message::AskChunk { height, index } => {
                let answer = self.chunk(to, height, index);
                self.send(to, from, answer);
            }
            Message::Chunk { height, index, bytes } => {
                let height = Height(height);
                let chunk = sync::Input::Chunk { peer: from, height, index, bytes };
                self.feed(to, Input::Sync(chunk));
            }
            Message::NoChunk { height } => {
                let height = Height(height);
                self.feed(to, Input::Sync(sync::Input::NoChunk { peer: from, height }));
            }
        }
        let _ = session;
    }

    pub(crate) fn chunk(&self, node: u8, height: u64, index: u32) -> Message {
        let snapshots = &self.hosts[&node].disk.snapshots;
        match snapshots.iter().find(|(at, _)| *at == height) {
            Some((_, bytes)) => {
                let chunk = bytes.chunks(CHUNK_BYTES).nth(index as usize).unwrap_or_default();
                Message::Chunk { height, index, bytes: chunk.to_vec() }
            }
            None => Message::NoChunk { height },
        }
    }

    /// The driver passes on only what is proven: a decided height by its certificate, the one after
    /// it by the vote of a validator.
    fn hear_height(&mut self, from: u8, to: u8, height: u64) {
        let decided = self.chain.len() as u64;
        let proven = height <= decided || (height == decided + 1 && self.state.power(from) > 0);
        if !proven {
            return;
        }
        self.feed(to, Input::PeerAt { peer: from, height: Height(height) });
        let Some(app) = self.app(to) else { return };
        if app.height + 1 < height || (app.height < height && height <= decided) {
            let next = app.height + 1;
            self.send(to, from, Message::AskBlock(next));
        }
    }
}
