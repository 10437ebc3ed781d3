//! The loop between the consensus engine and everything else: one thread that owns the application and
//! drives the machine of `replication`. Events come in, answers go out; it may wait for the disk and
//! for nothing else.

mod announced;
mod blocks;
mod catching_up;
mod checking;
mod snapshots;
mod transactions;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_malachitebft_app_channel::{
    AppMsg, NetworkMsg, Reply,
    app::{events::RxEvent, types::LocallyProposedValue},
};
use arc_malachitebft_core_consensus::SignedConsensusMsg;
use arc_malachitebft_core_types::{HeightParams, LinearTimeouts};
use arc_malachitebft_engine::{host::Next, util::events::Event as EngineEvent};
use keys::Ed25519;
use replication::{
    evidence::EvidenceLimits,
    gossip::GossipLimits,
    node::{self, Input, Node},
    pace::Pace,
    sync::SyncLimits,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use types::{
    Height, PublicKey, TimeMs, TxId,
    consensus::ValidatorSet,
    sign::{Sign, Signable, Signed},
    stake::Evidence,
};

use self::{
    announced::Announced,
    checking::{CHECKING_MAX, Checking},
    snapshots::Snapshots,
};
use super::{
    codec,
    context::{At, BlockId, Consensus, Members, round_number},
    log::{HeightLog, Undecided},
    part::BlockPart,
};
use crate::{
    Application, Clock, Included, Refusal, ReplicaConfig, ReplicaError, Status,
    handle::{Punished, Stop, Submission, Waiter},
    peers::{PeerEnds, PeerEvent},
    worker::{Candidate, Worker},
};

/// Longest sleep. The machine's clock may be set, or stand still while it is suspended.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Shortest sleep, in milliseconds.
const SLEEP_MS_MIN: u64 = 1;
/// Proofs of double signing older than this are not reported any more; the ledger may want them to be
/// younger still.
const EVIDENCE_AGE_MS_MAX: u64 = 14 * 24 * 60 * 60 * 1_000;

/// What a host begins with.
pub(crate) struct HostParts<A: Application> {
    pub(crate) worker: Worker<A>,
    pub(crate) log: HeightLog,
    /// `None`: it follows, and decides nothing.
    pub(crate) key: Option<Arc<dyn Sign>>,
    /// It follows only until this block is decided here.
    pub(crate) follow_until: Option<Height>,
    /// Peers that are connected.
    pub(crate) connected: BTreeSet<PublicKey>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: ReplicaConfig,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) arriving: mpsc::Receiver<Submission<A>>,
    pub(crate) stop: watch::Receiver<Stop>,
    /// Where proofs of double signing go, and what came of them.
    pub(crate) evidence: Option<mpsc::Sender<Evidence>>,
    pub(crate) punished: mpsc::Receiver<Punished>,
    pub(crate) peers: PeerEnds,
}

/// The ends of the engine that a host holds.
pub(crate) struct Ends {
    pub(crate) consensus: mpsc::Receiver<AppMsg<Consensus>>,
    pub(crate) network: mpsc::Sender<NetworkMsg<Consensus>>,
    pub(crate) events: RxEvent<Consensus>,
}

/// Something to react to.
enum Event<A: Application> {
    Engine(Box<AppMsg<Consensus>>),
    EngineGone,
    /// A peer's vote or proposal, as the engine received it.
    Heard(Box<SignedConsensusMsg<Consensus>>),
    Submitted(Submission<A>),
    Peer(PeerEvent),
    /// Transactions of a peer whose signatures were checked.
    Verified(transactions::Batch<A>),
    Punished(Punished),
    /// A snapshot for peers was read.
    SnapshotRead(snapshots::Read),
    Stop(Stop),
    Woken,
}

/// A block that was proposed in a round of this height.
struct Proposed<A: Application> {
    round: u32,
    valid_round: Option<u32>,
    candidate: Arc<Candidate<A>>,
}

/// How a host ended that did not fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    Stopped,
    /// It followed, and what it waited for was decided.
    PastMark,
}

/// The engine waits to be told to begin the next height.
enum Start {
    First(Reply<(At, HeightParams<Consensus>)>),
    Next(Reply<Next<Consensus>>),
}

/// The state of the thread.
pub(crate) struct Host<A: Application> {
    parts: HostParts<A>,
    ends: Ends,
    node: Node<A::Tx, PublicKey, Waiter<A>>,
    checking: Checking,
    to_admit: mpsc::Sender<transactions::Batch<A>>,
    checked: mpsc::Receiver<transactions::Batch<A>>,
    seen: transactions::Seen,
    snapshots: Snapshots,
    /// Why it cannot go on, found where nobody waits for an answer.
    failure: Option<ReplicaError>,
    /// Who decides this height, and the same as the engine has it.
    validators: ValidatorSet,
    members: Members,
    proposals: Vec<Proposed<A>>,
    announced: Announced,
    /// Blocks of the next height by who announced them.
    parked: BTreeMap<PublicKey, BlockPart>,
    waiting: Option<Start>,
    /// There is something to decide at this height.
    go: bool,
    /// The last block that came from a peer which had it decided.
    caught_up: Option<Height>,
    /// The highest block that a peer has spoken of. Nobody has checked that it was decided.
    claimed: Height,
    /// What became of the transactions of the block at hand, while their submitters are answered.
    included: BTreeMap<TxId, Included<A::Outcome>>,
    refused: BTreeMap<TxId, Refusal>,
    counts: Counts,
    runtime: Handle,
    stopping: bool,
}

/// What the status says besides where the chain stands.
#[derive(Clone, Copy, Default)]
struct Counts {
    round: u32,
    /// When the height that is being decided began.
    began: Option<Instant>,
    decided: u64,
    caught_up: u64,
    decision_time: Duration,
}

impl<A: Application> Host<A> {
    /// Loads what was proposed before a crash.
    pub(crate) fn new(parts: HostParts<A>, ends: Ends, runtime: Handle) -> Host<A> {
        let validators = parts.worker.validators();
        let members = Members::of(&validators);
        let height = parts.worker.height();
        let stored = parts.log.blocks(height);
        let node = Node::new(node_config(&parts.config), node_tip(&parts.worker));
        let (to_admit, checked) = mpsc::channel(CHECKING_MAX);
        let me = parts.key.as_ref().map(|key| key.public_key());
        let node = if is_sole(&validators, me) { node.alone() } else { node };
        let mut host = Host {
            parts,
            ends,
            node,
            checking: Checking::new(),
            to_admit,
            checked,
            seen: transactions::Seen::default(),
            snapshots: Snapshots::new(),
            failure: None,
            validators,
            members,
            proposals: Vec::new(),
            announced: Announced::default(),
            parked: BTreeMap::new(),
            waiting: None,
            go: false,
            caught_up: None,
            claimed: Height(0),
            included: BTreeMap::new(),
            refused: BTreeMap::new(),
            counts: Counts::default(),
            runtime,
            stopping: false,
        };
        for Undecided { round, valid_round, block } in stored {
            // One that is not valid here was kept by another version of this program.
            if let Some(candidate) = host.validate(block, None) {
                if host.announced.has_place(round, round, &candidate.hash) {
                    host.announced.insert(round, candidate.hash);
                }
                host.proposals.push(Proposed { round, valid_round, candidate });
            }
        }
        host
    }

    /// Runs until it is told to stop or cannot go on. Must be called on a thread of its own.
    pub(crate) fn run(mut self) -> (HostParts<A>, Result<Ended, ReplicaError>) {
        let runtime = self.runtime.clone();
        let _inside = runtime.enter();
        let result = self.serve(&runtime);
        (self.parts, result)
    }

    fn serve(&mut self, runtime: &Handle) -> Result<Ended, ReplicaError> {
        for peer in self.parts.connected.clone() {
            self.step(Input::PeerConnected { peer });
        }
        self.begin_state_sync();
        self.step(Input::Tick);
        loop {
            if let Some(error) = self.failure.take() {
                return Err(error);
            }
            if self.stopping && (self.node.mempool().is_empty() || !self.is_sole()) {
                return Ok(Ended::Stopped);
            }
            if self.parts.follow_until.is_some_and(|until| self.parts.worker.parent.height >= until)
            {
                return Ok(Ended::PastMark);
            }
            self.start_if_due();
            self.show();
            match runtime.block_on(self.next_event()) {
                Event::Engine(message) => self.answer(*message)?,
                Event::EngineGone => return Err(ReplicaError::EngineStopped),
                Event::Heard(message) => self.hear(&message),
                Event::Submitted(submission) => self.admit_all(submission),
                Event::Peer(event) => self.hear_peer(event),
                Event::Verified(batch) => self.admit_batch(batch),
                Event::Punished(Punished { signer, height }) => {
                    self.step(Input::Punished(vec![(signer, height)]));
                }
                Event::SnapshotRead(read) => self.snapshot_read(read),
                Event::Stop(Stop::Kill) => return Ok(Ended::Stopped),
                Event::Stop(Stop::Drain) => {
                    self.stopping = true;
                    self.parts.arriving.close();
                    while let Ok(submission) = self.parts.arriving.try_recv() {
                        self.admit(submission);
                    }
                }
                Event::Stop(Stop::Run) => {}
                Event::Woken => {
                    self.step(Input::Tick);
                    self.tend_snapshots();
                }
            }
            self.step(Input::Flush);
        }
    }

    async fn next_event(&mut self) -> Event<A> {
        let sleep = self.sleep();
        let waiting = self.waiting.is_some();
        let stopping = self.stopping;
        tokio::select! {
            biased;
            changed = self.parts.stop.changed(), if !stopping => match changed {
                Ok(()) => Event::Stop(*self.parts.stop.borrow_and_update()),
                // Whoever held the other end is gone.
                Err(_) => Event::Stop(Stop::Kill),
            },
            message = self.ends.consensus.recv() => match message {
                Some(message) => Event::Engine(Box::new(message)),
                None => Event::EngineGone,
            },
            Some(submission) = self.parts.arriving.recv() => Event::Submitted(submission),
            Some(batch) = self.checked.recv() => Event::Verified(batch),
            Some(event) = self.parts.peers.events.recv() => Event::Peer(event),
            Some(punished) = self.parts.punished.recv() => Event::Punished(punished),
            Some(read) = self.snapshots.ready.recv() => Event::SnapshotRead(read),
            event = self.ends.events.recv() => match event {
                Ok(EngineEvent::Received(message)) if waiting => Event::Heard(Box::new(message)),
                // Of the others nothing follows; neither from some having been missed.
                Ok(_) | Err(_) => Event::Woken,
            },
            () = tokio::time::sleep(sleep) => Event::Woken,
        }
    }

    // Beginning heights.

    fn me(&self) -> Option<PublicKey> {
        self.parts.key.as_ref().map(|key| key.public_key())
    }

    /// Whether this node alone decides.
    fn is_sole(&self) -> bool {
        is_sole(&self.validators, self.me())
    }

    fn is_member(&self) -> bool {
        self.me().is_some_and(|me| self.validators.contains(&me))
    }

    /// A height begins when the node says that there is something to decide; until then an idle
    /// network is quiet.
    fn start_if_due(&mut self) {
        let halt_at = self.parts.config.halt_at;
        let halted = halt_at.is_some_and(|height| self.parts.worker.parent.height >= height);
        if halted || self.is_syncing() {
            return;
        }
        let due = self.go
            || !self.proposals.is_empty()
            // Somebody who only follows makes no blocks by it, and is up to date sooner.
            || !self.is_member();
        if due && let Some(start) = self.waiting.take() {
            self.go = false;
            self.counts.began = Some(Instant::now());
            let height = At(self.parts.worker.height());
            let params = self.height_params();
            match start {
                Start::First(reply) => give(reply, (height, params)),
                Start::Next(reply) => give(reply, Next::Start(height, params)),
            }
        }
    }

    fn height_params(&self) -> HeightParams<Consensus> {
        let timeouts: LinearTimeouts = self.parts.config.engine.timeouts.into();
        // Late precommits are waited for, or a validator that is only slow would count as absent.
        let target = self.parts.config.engine.timeouts.gather;
        let target = (!self.is_sole()).then_some(target);
        HeightParams::new(self.members.clone(), timeouts, target)
    }

    /// The clock's time, but never earlier than the newest block: a clock that was set back must not
    /// make the ledger wait for it.
    fn now(&self) -> TimeMs {
        self.parts.clock.now().max(self.parts.worker.parent.time)
    }

    fn sleep(&self) -> Duration {
        let now = self.now();
        let tick = self.node.next_tick(now);
        let until = tick.map(|at| Duration::from_millis(at.ms_since(now).max(SLEEP_MS_MIN)));
        let overdue =
            self.snapshots.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        until.into_iter().chain(overdue).fold(SLEEP_MAX, Duration::min)
    }

    /// A validator's vote or proposal for the height that we have not begun. It is checked: a
    /// stranger must not make the network produce blocks.
    fn hear(&mut self, message: &SignedConsensusMsg<Consensus>) {
        if self.go {
            return;
        }
        let valid = match message {
            SignedConsensusMsg::Vote(vote) => {
                let vote = codec::signed_vote(vote);
                self.is_of_validator(vote.value.height, &vote)
            }
            SignedConsensusMsg::Proposal(proposal) => {
                let proposal = codec::signed_proposal(proposal);
                self.is_of_validator(proposal.value.height, &proposal)
            }
        };
        self.go = valid;
    }

    /// Whether somebody who decides this height said it. The signature comes last: it costs most.
    fn is_of_validator<T: Signable + Clone>(&self, height: Height, said: &Signed<T>) -> bool {
        height == self.parts.worker.height()
            && self.validators.contains(&said.signer)
            && said.clone().verify(&self.parts.worker.chain_id, &Ed25519).is_ok()
    }

    // The engine's questions.

    fn answer(&mut self, message: AppMsg<Consensus>) -> Result<(), ReplicaError> {
        match message {
            AppMsg::ConsensusReady { reply } => self.waiting = Some(Start::First(reply)),
            AppMsg::StartedRound { height, round, reply_value, .. } => {
                self.counts.round = round_number(round);
                let seen = self.proposals.iter().filter(|proposed| {
                    height.0 == self.parts.worker.height() && proposed.round == round_number(round)
                });
                let seen = seen.map(|it| self.value(it.round, it.valid_round, it.candidate.hash));
                give(reply_value, seen.collect());
            }
            AppMsg::GetValue { height, round, reply, .. } => {
                if let Some(hash) = self.propose(round_number(round))? {
                    let value = LocallyProposedValue::new(height, round, BlockId(hash));
                    give(reply, value);
                }
            }
            AppMsg::ReceivedProposalPart { part, reply, .. } => {
                let part = part.content.into_data();
                give(reply, part.and_then(|part| self.receive(part)));
            }
            AppMsg::RestreamProposal { round, valid_round, value_id, .. } => {
                self.restream(round_number(round), valid_round.as_u32(), value_id.0);
            }
            AppMsg::Decided { certificate, reply, .. } => {
                self.decide(codec::certificate(&certificate))?;
                give(reply, ());
            }
            AppMsg::Finalized { certificate, evidence, reply, .. } => {
                self.finalize(codec::certificate(&certificate));
                self.report(&evidence);
                self.waiting = Some(Start::Next(reply));
            }
            AppMsg::ProcessSyncedValue { height, round, value_bytes, reply, .. } => {
                give(reply, self.synced(height.0, round, &value_bytes));
            }
            AppMsg::GetDecidedValues { range, reply } => {
                give(reply, self.decided(range.start().0, range.end().0));
            }
            AppMsg::GetHistoryMinHeight { reply } => {
                let first = self.parts.worker.store.first_height();
                let height = self.parts.worker.height();
                let first = first.map_err(|source| ReplicaError::Store { height, source })?;
                give(reply, At(first));
            }
            AppMsg::ExtendVote { reply, .. } => give(reply, None),
            AppMsg::VerifyVoteExtensions { extensions, reply, .. } => {
                give(reply, extensions.into_iter().map(|(member, ())| (member, Ok(()))).collect());
            }
        }
        Ok(())
    }

    // What others see.

    fn show(&self) {
        let status = Status {
            tip: self.parts.worker.app.tip(),
            block: self.parts.worker.parent.hash,
            mempool_txs: self.node.mempool().len() as u64,
            round: self.counts.round,
            peers: self.parts.connected.len() as u64,
            decided: self.counts.decided,
            caught_up: self.counts.caught_up,
            decision_time: self.counts.decision_time,
            halted: false,
        };
        self.parts.status.send_if_modified(|shown| {
            let modified = *shown != status;
            *shown = status;
            modified
        });
    }
}

/// Answers a question. An engine that has stopped reads no answer; the next event says so.
fn give<T>(reply: Reply<T>, answer: T) {
    let _ = reply.send(answer);
}

/// Whether `me` alone decides.
fn is_sole(validators: &ValidatorSet, me: Option<PublicKey>) -> bool {
    matches!((validators.as_slice(), me), ([one], Some(me)) if one.key == me)
}

fn node_tip<A: Application>(worker: &Worker<A>) -> node::Tip {
    let tip = worker.app.tip();
    node::Tip { height: tip.height, time: tip.time, next_due: worker.app.next_due() }
}

fn node_config(config: &ReplicaConfig) -> node::Config {
    let ms = |after: Duration| u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1);
    node::Config {
        mempool: config.mempool,
        gossip: GossipLimits::STANDARD,
        evidence: EvidenceLimits::standard(EVIDENCE_AGE_MS_MAX),
        sync: SyncLimits::STANDARD,
        pace: Pace { heartbeat_ms: config.heartbeat.map(ms), ..Pace::STANDARD },
    }
}
