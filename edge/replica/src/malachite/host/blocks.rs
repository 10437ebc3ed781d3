//! The blocks of the height that is being decided: ours, those of others, and the decided one.

use std::{collections::BTreeSet, sync::Arc};

use arc_malachitebft_app_channel::{
    NetworkMsg,
    app::{
        streaming::StreamMessage,
        types::{MisbehaviorEvidence, ProposedValue},
    },
};
use arc_malachitebft_core_types::{Round, Validator, Validity};
use arc_malachitebft_engine::util::streaming::{StreamContent, StreamId};
use keys::Ed25519;
use replication::{
    mempool::{self, Transaction},
    node::Input,
};
use types::{
    Address, Hash32, Nonce, PublicKey, TimeMs, block::Block, consensus::Certificate, sign::Signed,
    stake::Evidence,
};

use super::{Host, Proposed, node_tip};
use crate::{
    Application, Included, Refusal, ReplicaError,
    malachite::{
        codec,
        context::{At, BlockId, Consensus, Member, Members},
        log::Undecided,
        part::{Announcement, BlockPart},
    },
    worker::{Built, Candidate},
};

/// How often a block is filled up before it is proposed: three executions of a full block still end
/// long before the others stop waiting for it.
const BUILDS_MAX: usize = 3;

impl<A: Application> Host<A> {
    /// A block of this height as the engine names it.
    pub(super) fn value(
        &self,
        round: u32,
        valid_round: Option<u32>,
        hash: Hash32,
    ) -> ProposedValue<Consensus> {
        let height = self.parts.worker.height();
        let proposer = self.members.proposer(height, round);
        ProposedValue {
            height: At(height),
            round: Round::new(round),
            valid_round: Round::from(valid_round),
            proposer: proposer.map_or(Member(PublicKey([0; 32])), |member| *member.address()),
            value: BlockId(hash),
            validity: Validity::Valid,
        }
    }

    /// Makes our block of this round, or takes the one we made before a crash.
    pub(super) fn propose(&mut self, round: u32) -> Result<Option<Hash32>, ReplicaError> {
        let Some(me) = self.me() else { return Ok(None) };
        let again = self.proposals.iter().find(|it| it.round == round);
        if let Some(again) = again.filter(|it| it.candidate.block.header.proposer == me) {
            let candidate = Arc::clone(&again.candidate);
            self.publish(round, again.valid_round, &candidate);
            return Ok(Some(candidate.hash));
        }
        let candidate = Arc::new(self.build(me)?);
        self.keep(round, None, &candidate)?;
        self.publish(round, None, &candidate);
        Ok(Some(candidate.hash))
    }

    /// A block of what waits. What has no place in it is answered and waits no longer; then others
    /// take its place, unless there were too many of the kind.
    fn build(&mut self, me: PublicKey) -> Result<Candidate<A>, ReplicaError> {
        let (txs_max, bytes_max) =
            (self.parts.config.block_txs_max, self.parts.config.block_bytes_max);
        let mut built = self.build_once(me, self.node.mempool().candidates(txs_max, bytes_max))?;
        for _ in 1..BUILDS_MAX {
            if built.skipped.is_empty() {
                break;
            }
            self.refuse(std::mem::take(&mut built.skipped));
            let candidates = self.node.mempool().candidates(txs_max, bytes_max);
            let ids = candidates.iter().map(|candidate| candidate.tx.id());
            if ids.eq(built.candidate.txs.iter().map(|tx| tx.id())) {
                break;
            }
            built = self.build_once(me, candidates)?;
        }
        self.refuse(built.skipped);
        Ok(built.candidate)
    }

    fn build_once(
        &mut self,
        me: PublicKey,
        candidates: Vec<mempool::Candidate<A::Tx>>,
    ) -> Result<Built<A>, ReplicaError> {
        self.parts.worker.build(self.parts.clock.now(), me, candidates)
    }

    fn refuse(&mut self, skipped: Vec<(Arc<A::Tx>, Refusal)>) {
        if skipped.is_empty() {
            return;
        }
        let senders: Vec<Address> = skipped.iter().map(|(tx, _)| tx.sender()).collect();
        let txs = skipped.iter().map(|(tx, _)| tx.id()).collect();
        self.refused = skipped.into_iter().map(|(tx, refusal)| (tx.id(), refusal)).collect();
        self.step(Input::Refused { txs, nonces: self.nonces(senders) });
        self.refused.clear();
    }

    pub(super) fn keep(
        &mut self,
        round: u32,
        valid_round: Option<u32>,
        candidate: &Arc<Candidate<A>>,
    ) -> Result<(), ReplicaError> {
        let (height, block) = (self.parts.worker.height(), candidate.block.clone());
        let kept = self.parts.log.keep(&Undecided { round, valid_round, block });
        kept.map_err(|source| ReplicaError::Store { height, source })?;
        let candidate = Arc::clone(candidate);
        self.proposals.push(Proposed { round, valid_round, candidate });
        Ok(())
    }

    /// Sends a block to the other validators.
    fn publish(&self, round: u32, valid_round: Option<u32>, candidate: &Candidate<A>) {
        let Some(key) = self.parts.key.as_ref().filter(|_| !self.is_sole()) else { return };
        let block = candidate.block.clone();
        let height = block.header.height;
        let announcement = Announcement { height, round, valid_round, block: candidate.hash };
        let announcement = Signed::new(announcement, &self.parts.worker.chain_id, &**key);
        let name = [height.0.to_be_bytes().as_slice(), &round.to_be_bytes()].concat();
        let content = StreamContent::Data(BlockPart { announcement, block });
        let message = StreamMessage::new(StreamId::new(name.into()), 0, content);
        let sent = self.ends.network.send(NetworkMsg::PublishProposalPart(message));
        // An engine that has stopped says so with the next event.
        drop(self.runtime.block_on(sent));
    }

    pub(super) fn restream(&self, round: u32, valid_round: Option<u32>, hash: Hash32) {
        if let Some(proposed) = self.proposals.iter().find(|it| it.candidate.hash == hash) {
            self.publish(round, valid_round, &proposed.candidate);
        }
    }

    /// A block that a peer passed on: kept for later, or checked and shown to the engine.
    pub(super) fn receive(&mut self, part: BlockPart) -> Option<ProposedValue<Consensus>> {
        let Announcement { height, round, valid_round, block: hash } = part.announcement.value;
        let ours = self.parts.worker.height();
        if height != part.block.header.height || hash != part.block.header.hash() {
            tracing::debug!(%height, round, "a block is not the announced one");
            return None;
        }
        if height == ours.next() {
            self.park(part);
            return None;
        }
        if height != ours {
            return None;
        }
        let proposer = self.members.proposer(height, round)?.address().0;
        if part.announcement.signer != proposer || !self.is_announced(&part) {
            tracing::debug!(%height, round, "a block is not from the proposer of its round");
            return None;
        }
        self.go = true;
        let mut value = self.value(round, valid_round, hash);
        if self.proposals.iter().any(|it| it.round == round && it.candidate.hash == hash) {
            return Some(value);
        }
        // Whoever passes it on may have changed what its header only names; that is not the proposer's doing.
        if !self.announced.has_place(self.counts.round, round, &hash) || !is_whole(&part.block) {
            tracing::debug!(%height, round, "a block is not looked at");
            return None;
        }
        self.announced.insert(round, hash);
        let known = self.proposals.iter().find(|it| it.candidate.hash == hash);
        let candidate = match known.map(|it| Arc::clone(&it.candidate)) {
            Some(candidate) => Some(candidate),
            None => self.validate(part.block, Some(self.parts.clock.now())),
        };
        match candidate {
            Some(candidate) => {
                if let Err(error) = self.keep(round, valid_round, &candidate) {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::error!(error, "a block gets no vote: it cannot be kept");
                    return None;
                }
            }
            None => value.validity = Validity::Invalid,
        }
        Some(value)
    }

    /// Keeps a block of the next height while this one is not decided here: of each signer that of its
    /// latest round. Its validators are not known yet; that today's announce it keeps strangers out.
    fn park(&mut self, part: BlockPart) {
        let signer = part.announcement.signer;
        let round = |of: &BlockPart| of.announcement.value.round;
        let older = self.parked.get(&signer).is_none_or(|kept| round(kept) < round(&part));
        if older
            && self.validators.contains(&signer)
            && self.is_announced(&part)
            && is_whole(&part.block)
        {
            self.parked.insert(signer, part);
        }
    }

    fn is_announced(&self, part: &BlockPart) -> bool {
        part.announcement.clone().verify(&self.parts.worker.chain_id, &Ed25519).is_ok()
    }

    pub(super) fn validate(
        &mut self,
        block: Block,
        now: Option<TimeMs>,
    ) -> Option<Arc<Candidate<A>>> {
        let Host { parts, node, .. } = self;
        let mempool = node.mempool();
        let (height, proposer) = (block.header.height, block.header.proposer);
        match parts.worker.validate(block, now, |id| mempool.tx(id)) {
            Ok(candidate) => Some(Arc::new(candidate)),
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, %height, %proposer, "a proposed block is not valid");
                None
            }
        }
    }

    pub(super) fn decide(&mut self, certificate: Certificate) -> Result<(), ReplicaError> {
        let (height, block) = (certificate.height, certificate.block);
        if height < self.parts.worker.height() {
            // Decided before a crash; the engine replays its log.
            return Ok(());
        }
        let proposed = self.proposals.iter().find(|it| it.candidate.hash == block);
        let candidate = proposed.map(|it| Arc::clone(&it.candidate));
        let candidate = candidate.ok_or(ReplicaError::Unknown { height, block })?;
        let outcomes = self.parts.worker.decide(&candidate, certificate)?;
        self.validators = self.parts.worker.validators();
        self.members = Members::of(&self.validators);
        self.forget_proposals();
        // The engine asks for decided blocks only once their height has begun. A claim cannot be checked
        // before the validators of its height are known; one that lies costs an empty block.
        self.go = self.caught_up == Some(height) && self.claimed > height;
        self.counts.round = 0;
        self.counts.decided += 1;
        if let Some(began) = self.counts.began.take() {
            self.counts.decision_time += began.elapsed();
        }
        // The status first: whoever is answered may ask for it.
        self.show();
        let outcomes = (0u32..).zip(candidate.txs.iter().zip(outcomes));
        self.included = outcomes
            .map(|(index, (tx, outcome))| (tx.id(), Included { height, index, outcome }))
            .collect();
        let senders: BTreeSet<Address> = candidate.txs.iter().map(|tx| tx.sender()).collect();
        let nonces = self.nonces(senders.iter().copied());
        let (tip, txs) = (node_tip(&self.parts.worker), candidate.tx_ids());
        self.step(Input::Decided { tip, txs, nonces });
        self.included.clear();
        self.check_queues(&senders);
        for peer in self.parts.connected.clone() {
            self.tell_tip(peer);
        }
        for part in std::mem::take(&mut self.parked).into_values() {
            // The engine learns of it when the round begins.
            self.receive(part);
        }
        Ok(())
    }

    /// Those of a height that is over.
    pub(super) fn forget_proposals(&mut self) {
        self.proposals.clear();
        self.announced.clear();
    }

    /// The next nonces of these accounts.
    pub(super) fn nonces(
        &self,
        accounts: impl IntoIterator<Item = Address>,
    ) -> Vec<(Address, Nonce)> {
        let accounts: BTreeSet<Address> = accounts.into_iter().collect();
        let app = &self.parts.worker.app;
        accounts.into_iter().map(|account| (account, app.next_nonce(&account))).collect()
    }

    /// Keeps the fuller certificate for the block that comes next.
    pub(super) fn finalize(&mut self, certificate: Certificate) {
        let parent = &mut self.parts.worker.parent;
        if let Some(decided) = parent.decided.as_mut()
            && (parent.height, parent.hash) == (certificate.height, certificate.block)
            && certificate.signatures.len() > decided.certificate.signatures.len()
        {
            decided.certificate = certificate;
        }
    }

    pub(super) fn report(&mut self, evidence: &MisbehaviorEvidence<Consensus>) {
        let votes = evidence.votes.iter().flat_map(|(_, pairs)| pairs).map(|(first, second)| {
            let (first, second) = (codec::signed_vote(first), codec::signed_vote(second));
            Evidence::DoubleVote { first, second }
        });
        let proposals =
            evidence.proposals.iter().flat_map(|(_, pairs)| pairs).map(|(first, second)| {
                let first = codec::signed_proposal(first);
                Evidence::DoubleProposal { first, second: codec::signed_proposal(second) }
            });
        for evidence in votes.chain(proposals).collect::<Vec<_>>() {
            self.step(Input::Equivocation(evidence));
        }
    }
}

/// Whether the transactions and the certificate are those that the header names.
fn is_whole(Block { header, txs, last_certificate }: &Block) -> bool {
    Block::txs_root(txs) == header.txs_root
        && Block::certificate_hash(last_certificate.as_ref()) == header.last_certificate
}

#[cfg(test)]
mod tests;
