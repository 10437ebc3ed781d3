//! Commits on the ledger to what can be audited, and opens what its rounds ask for to the verifiers that they drew.
//!
//! A commitment is written down before it is sent: one that came to the ledger and was forgotten here could not be opened,
//! which is a fault. To whom is opened, and what, follows from what the ledger proves, not from what anybody asks for.
//!
//! Each verifier of each round is opened to by a task of its own: one that takes its time keeps no other one waiting.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use net::{Connection, NetError, ReceiveHalf, SendHalf, SharedConnection};
use tokio::{
    io::AsyncWriteExt,
    sync::{Mutex, Semaphore},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use types::{
    Address, Hash32,
    audit::{CommitmentId, Demand, seal},
    params::AuditMode,
    sha256,
    tx::Action,
};
use wire::{
    audit::{TO_PROVIDER_FRAME_BYTES_MAX, ToAuditor, ToProvider, wanted},
    chain::{ChainError, RoundView, SendError},
    frame::{self, FrameError},
    serve::OPENING_PART_BYTES_MAX,
};

use crate::{
    audits::{AuditBatch, Audited},
    journal::BooksError,
    record::Record,
    shared::Shared,
    supervisor::resolve,
};

/// Within the time that verifiers have, so often is looked for rounds.
const LOOKS_PER_ROUND: u64 = 20;
/// Bounds of the time between two looks.
const LOOK_MS_MIN: u64 = 1_000;
const LOOK_MS_MAX: u64 = 15_000;
/// A verifier that has committed to no verdict this long after everything was opened to it may have been started again, and
/// have lost it.
const AGAIN: Duration = Duration::from_secs(60);
/// How long an auditor may take for one answer: it checks signatures and digests.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// How long it may take to take one part of an opening.
const PART_WAIT: Duration = Duration::from_secs(60);
/// How long one round may be opened to one verifier. What it has not taken by then it is told at a later look.
const OPEN_WAIT: Duration = Duration::from_secs(5 * 60);
/// Rounds that are opened at once, each to one verifier: an opening of each is in memory.
const PLACES: usize = 32;
/// How many of these one verifier may take, so that it takes sixteen to hold up the others.
const VERIFIER_PLACES: usize = 2;

/// Why something was not committed to or not opened. It is tried again at the next look.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditingError {
    #[error("cannot read what is audited")]
    Read { source: ChainError },
    #[error("cannot write down what is committed to")]
    Books(#[from] BooksError),
    #[error("cannot commit to {answers} answers for audits")]
    Commit { answers: usize, source: SendError },
    #[error("there is no randomness for a seal")]
    Random,
    #[error("cannot say that the faults of {commitment} are planted")]
    Seal { commitment: CommitmentId, source: SendError },
    #[error("the verifier {verifier} of {commitment} says nowhere where it is reached")]
    Nowhere { verifier: Address, commitment: CommitmentId },
    #[error("the auditor of {verifier} is not reached")]
    Net { verifier: Address, source: NetError },
    #[error("the auditor of {verifier} does not speak the protocol")]
    Frame { verifier: Address, source: FrameError },
    #[error("the auditor of {verifier} is silent")]
    Silent { verifier: Address },
    #[error("the auditor of {verifier} takes too long over {commitment}")]
    Slow { verifier: Address, commitment: CommitmentId },
    #[error("the auditor of {verifier} does not take what {commitment} asks for: {reason}")]
    Refused { verifier: Address, commitment: CommitmentId, reason: String },
}

/// Commits to all that can be audited and is in no commitment yet. What is too much waits for the next time.
pub(crate) async fn commit(shared: &Shared) -> Result<(), AuditingError> {
    let status = shared.config.chain.status().await;
    let status = status.map_err(|source| AuditingError::Read { source })?;
    if status.params.audits.mode == AuditMode::Off {
        return Ok(());
    }
    for batch in due(shared) {
        let Some(receipts) = batch.commitment() else { continue };
        let (root, answers) = (batch.root(), batch.answers.len());
        let mut last = None;
        for part in batch.parts() {
            last = Some(shared.books.record(Record::Committing { root, part })?);
        }
        if let Some(last) = last {
            shared.books.sync(last).await?;
        }
        // Whether they are planted faults nobody sees.
        let seal = match shared.config.plants {
            true => seal(&planting_salt(shared, &root), true),
            false => seal(&salt()?, false),
        };
        match shared.sender.send(Action::CommitReceipts { receipts, seal }).await {
            Ok(applied) => {
                tracing::info!(answers, model = %batch.model, tx = %applied.id, "provider.committed");
            }
            // It may be on the ledger; then a round will ask for it.
            Err(source @ SendError::Unknown { .. }) => {
                return Err(AuditingError::Commit { answers, source });
            }
            Err(source) => {
                shared.books.record(Record::Uncommitted { root })?;
                return Err(AuditingError::Commit { answers, source });
            }
        }
    }
    Ok(())
}

/// What there is to commit to. What a round may still ask for must not be forgotten before it does.
pub(crate) fn due(shared: &Shared) -> Vec<AuditBatch> {
    let since = shared.now().0.saturating_sub(shared.config.openings_retention_ms / 2);
    let can_open =
        |answer: &Audited| answer.ended_at.0 >= since && shared.openings.holds(answer.attempt);
    shared.books.read(|books| books.audits().due(can_open))
}

fn salt() -> Result<Hash32, AuditingError> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(|_| AuditingError::Random)?;
    Ok(Hash32(salt))
}

/// The salt of a seal that will be broken: nobody else can make it, and it need not be kept.
fn planting_salt(shared: &Shared, root: &Hash32) -> Hash32 {
    let chain_id = shared.config.chain_id.to_string();
    let message = [b"peerwatt/planting\0", chain_id.as_bytes(), &root.0].concat();
    sha256(&[&shared.config.operator.sign(&message).0])
}

/// A round and one of its verifiers.
type Pair = (CommitmentId, Address);

/// Opens rounds to their verifiers. What was opened to whom is lost with the process: an auditor says what it has already.
pub(crate) struct Opener {
    shared: Arc<Shared>,
    done: BTreeMap<Pair, Instant>,
    /// What is being opened, or waits for a place.
    running: BTreeMap<Pair, AbortHandle>,
    tasks: JoinSet<(Pair, Result<usize, AuditingError>)>,
    places: Arc<Semaphore>,
    lines: BTreeMap<Address, Arc<Line>>,
}

/// To one verifier: its auditor is dialled once, and has a stream for each round.
struct Line {
    places: Semaphore,
    connection: Mutex<Option<Weak<dyn Connection>>>,
}

impl Default for Line {
    fn default() -> Line {
        Line { places: Semaphore::new(VERIFIER_PLACES), connection: Mutex::default() }
    }
}

impl Opener {
    /// How long to wait after a look that failed.
    pub(crate) const RETRY: Duration = Duration::from_millis(LOOK_MS_MAX);

    pub(crate) fn new(shared: &Arc<Shared>) -> Opener {
        Opener {
            shared: Arc::clone(shared),
            done: BTreeMap::new(),
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            places: Arc::new(Semaphore::new(PLACES)),
            lines: BTreeMap::new(),
        }
    }

    /// Begins to open what rounds ask for. Returns how long to wait before the next look.
    pub(crate) async fn look(&mut self) -> Result<Duration, AuditingError> {
        let shared = Arc::clone(&self.shared);
        let read = |source| AuditingError::Read { source };
        self.note();
        if !shared.books.read(|books| books.audits().has_any()) {
            return Ok(Duration::from_millis(LOOK_MS_MAX));
        }
        let chain = &shared.config.chain;
        let commit_ms = chain.status().await.map_err(read)?.params.audits.commit_ms;
        let wait = (commit_ms / LOOKS_PER_ROUND).clamp(LOOK_MS_MIN, LOOK_MS_MAX);
        let mut open = chain.rounds_of(shared.operator).await.map_err(read)?;
        self.done.retain(|(commitment, _), _| open.iter().any(|it| it.commitment == *commitment));
        self.lines.retain(|_, line| Arc::strong_count(line) > 1);
        // Places are given in this order.
        open.sort_unstable_by_key(|round| (round.commit_by, round.commitment));
        let plants = shared.config.plants && !open.is_empty();
        for round in open {
            // Whom it drew must be proven, or a node could have our prompts told to anybody.
            let Some(round) = chain.round(round.commitment).await.map_err(read)? else { continue };
            let round = Arc::new(round);
            self.open(&round);
            if let Err(error) = break_seal(&shared, &round).await {
                shared.failed(&error);
            }
        }
        // A round whose verifiers have committed is soon over.
        Ok(Duration::from_millis(if plants { LOOK_MS_MIN } else { wait }))
    }

    /// Ends what is being opened.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Takes note of what has ended since the last look.
    fn note(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            match ended {
                Ok(((commitment, verifier), Ok(answers))) => {
                    self.done.insert((commitment, verifier), Instant::now());
                    tracing::info!(%commitment, %verifier, answers, "provider.opened");
                }
                Ok((_, Err(error))) => self.shared.failed(&error),
                Err(error) => self.shared.failed(&error),
            }
        }
        self.running.retain(|_, task| !task.is_finished());
    }

    /// Whether a verifier is being told what it needs; or has it, unless it has been started again since.
    fn is_seen_to(&self, pair: &Pair) -> bool {
        let is_done = self.done.get(pair).is_some_and(|at| at.elapsed() < AGAIN);
        is_done || self.running.contains_key(pair)
    }

    /// Begins to open one round to its verifiers that have not committed to a verdict yet.
    fn open(&mut self, round: &Arc<RoundView>) {
        let shared = &self.shared;
        let root = round.receipts.root;
        if shared.now() > round.commit_by {
            return;
        }
        let batch = shared.books.read(|books| match round.demand {
            Some(_) => books.audits().demanded(&root),
            None => books.audits().batch(&root).cloned(),
        });
        let Some(batch) = batch.map(Arc::new) else { return };
        let silent =
            round.verifiers.iter().filter(|it| it.committed.is_none() && it.outcome.is_none());
        for verifier in silent.map(|it| it.verifier) {
            let pair = (round.commitment, verifier);
            if self.is_seen_to(&pair) {
                continue;
            }
            let opening = Opening {
                shared: Arc::clone(&self.shared),
                round: Arc::clone(round),
                batch: Arc::clone(&batch),
                verifier,
                line: Arc::clone(self.lines.entry(verifier).or_default()),
                places: Arc::clone(&self.places),
            };
            let task = self.tasks.spawn(async move { (pair, opening.run().await) });
            self.running.insert(pair, task);
        }
    }
}

/// Says of planted faults that they are, when all verifiers have committed to what they say.
async fn break_seal(shared: &Shared, round: &RoundView) -> Result<(), AuditingError> {
    let is_own = round.demand.is_none() && !round.is_appeal;
    let is_due = is_own && round.is_revealing(shared.now()) && !round.planted;
    if !shared.config.plants || !is_due {
        return Ok(());
    }
    let commitment = round.commitment;
    let salt = planting_salt(shared, &round.receipts.root);
    match shared.sender.send(Action::RevealPlanted { commitment, salt }).await {
        Ok(applied) => tracing::info!(%commitment, tx = %applied.id, "provider.planted"),
        Err(source) => return Err(AuditingError::Seal { commitment, source }),
    }
    Ok(())
}

/// A round that is opened to one of its verifiers.
struct Opening {
    shared: Arc<Shared>,
    round: Arc<RoundView>,
    batch: Arc<AuditBatch>,
    verifier: Address,
    line: Arc<Line>,
    places: Arc<Semaphore>,
}

impl Opening {
    /// Waits for a place, and opens the round while that is of use. Returns how many answers that were.
    async fn run(&self) -> Result<usize, AuditingError> {
        let Opening { shared, round, verifier, .. } = self;
        let slow = |_| AuditingError::Slow { verifier: *verifier, commitment: round.commitment };
        let left = Duration::from_millis(round.commit_by.ms_since(shared.now()));
        let turn = async {
            // Nobody closes them.
            let _of_verifier = self.line.places.acquire().await;
            let _of_all = self.places.acquire().await;
            timeout(OPEN_WAIT, self.tell_wanted()).await.map_err(slow)?
        };
        timeout(left, turn).await.map_err(slow)?
    }

    /// Tells what the verifier wants of the batch.
    async fn tell_wanted(&self) -> Result<usize, AuditingError> {
        let Opening { shared, round, batch, verifier, .. } = self;
        let (commitment, verifier) = (round.commitment, *verifier);
        let (_connection, (send, receive)) = self.stream().await?;
        let mut talk = Talk { verifier, commitment, send, receive };
        let digests = batch.digests();
        let chain_id = shared.config.chain_id.clone();
        let first = ToAuditor::Committed { chain_id, commitment, digests: digests.clone() };
        let numbers = match talk.ask(&first).await? {
            ToProvider::Wanted(numbers) => numbers,
            ToProvider::Refused { reason } => return Err(talk.refused(reason)),
            ToProvider::Taken => return Err(talk.refused("it took what was not told".to_owned())),
        };
        // What the beacon chose, and nothing else: the rest is nobody's business.
        let chosen = wanted(&round.receipts, &digests, &round.beacon.value, round.share);
        if let Some(number) = not_chosen(&numbers, &chosen.unwrap_or_default()) {
            let reason = format!("it wants number {number}, which was not chosen, or twice");
            return Err(talk.refused(reason));
        }
        let mut answers = 0;
        for number in numbers {
            let index = usize::try_from(number).unwrap_or(usize::MAX);
            let Some(answer) = batch.answers.get(index) else { break };
            tell(shared, &mut talk, answer, round.demand.as_deref()).await?;
            answers += 1;
        }
        let _told = timeout(ANSWER_WAIT, talk.send.shutdown()).await;
        Ok(answers)
    }

    /// A stream to the auditor, on the connection that there is, or a new one. It ends when nobody uses it any more.
    async fn stream(&self) -> Result<(SharedConnection, (SendHalf, ReceiveHalf)), AuditingError> {
        let Opening { shared, round, verifier, line, .. } = self;
        let (commitment, verifier) = (round.commitment, *verifier);
        let entry = shared.config.chain.auditor(verifier).await;
        let entry = entry.map_err(|source| AuditingError::Read { source })?;
        let entry = entry.ok_or(AuditingError::Nowhere { verifier, commitment })?;
        let mut known = line.connection.lock().await;
        let connection = known.as_ref().and_then(Weak::upgrade);
        if let Some(connection) = connection.filter(|it| it.peer() == entry.node_key)
            && let Ok(Ok(halves)) = timeout(ANSWER_WAIT, connection.open()).await
        {
            return Ok((connection, halves));
        }
        let addrs = resolve(entry.node_key, &entry.addrs).await;
        let failed = |source| AuditingError::Net { verifier, source };
        let dialled = shared.config.audit_endpoint.dial(entry.node_key, &addrs).await;
        let connection = dialled.map_err(failed)?;
        *known = Some(Arc::downgrade(&connection));
        drop(known);
        let halves = connection.open().await.map_err(failed)?;
        Ok((connection, halves))
    }
}

/// The first of the numbers that was not chosen, or was asked for before.
fn not_chosen(numbers: &[u32], chosen: &[u32]) -> Option<u32> {
    let mut left: BTreeSet<u32> = chosen.iter().copied().collect();
    numbers.iter().copied().find(|number| !left.remove(number))
}

/// Tells one answer with its opening. Who demanded that has acknowledged it on the ledger, if not to us.
async fn tell(
    shared: &Shared,
    talk: &mut Talk,
    answer: &Audited,
    demand: Option<&Demand>,
) -> Result<(), AuditingError> {
    let stored = shared.books.receipt(answer.attempt)?;
    let chain_id = shared.config.chain_id.clone();
    let receipt = stored.and_then(|stored| match demand {
        Some(demand) => Some(stored.with(chain_id, demand.acknowledgement.clone())),
        None => stored.receipt(chain_id),
    });
    let opening = shared.openings.get(answer.attempt);
    let opening = opening.map_err(BooksError::from)?.unwrap_or_default();
    let Some(receipt) = receipt else {
        return Err(talk.refused(format!("the receipt {} is not kept any more", answer.digest)));
    };
    talk.say(&ToAuditor::Receipt(Box::new(receipt))).await?;
    let mut rest = &opening[..];
    loop {
        let (part, after) = rest.split_at(rest.len().min(OPENING_PART_BYTES_MAX));
        rest = after;
        let more = !rest.is_empty();
        talk.say(&ToAuditor::Opening { part: part.to_vec(), more }).await?;
        if !more {
            break;
        }
    }
    match talk.hear().await? {
        ToProvider::Taken => Ok(()),
        ToProvider::Refused { reason } => Err(talk.refused(reason)),
        ToProvider::Wanted(_) => Err(talk.refused("it wants what it wanted already".to_owned())),
    }
}

/// A stream to an auditor.
struct Talk {
    verifier: Address,
    commitment: CommitmentId,
    send: SendHalf,
    receive: ReceiveHalf,
}

impl Talk {
    async fn ask(&mut self, message: &ToAuditor) -> Result<ToProvider, AuditingError> {
        self.say(message).await?;
        self.hear().await
    }

    async fn say(&mut self, message: &ToAuditor) -> Result<(), AuditingError> {
        let verifier = self.verifier;
        let written = timeout(PART_WAIT, frame::write(&mut self.send, message)).await;
        let written = written.map_err(|_| AuditingError::Silent { verifier })?;
        written.map_err(|source| AuditingError::Frame { verifier, source })
    }

    async fn hear(&mut self) -> Result<ToProvider, AuditingError> {
        let verifier = self.verifier;
        let read = frame::read(&mut self.receive, TO_PROVIDER_FRAME_BYTES_MAX);
        let read =
            timeout(ANSWER_WAIT, read).await.map_err(|_| AuditingError::Silent { verifier })?;
        let heard = read.map_err(|source| AuditingError::Frame { verifier, source })?;
        heard.ok_or(AuditingError::Silent { verifier })
    }

    fn refused(&self, reason: String) -> AuditingError {
        let Talk { verifier, commitment, .. } = *self;
        AuditingError::Refused { verifier, commitment, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_wants_what_was_chosen_once_each() {
        let check = |numbers: &[u32], expected| {
            assert_eq!(not_chosen(numbers, &[5, 1, 3]), expected, "{numbers:?}");
        };
        check(&[], None);
        check(&[3, 5], None);
        check(&[1, 3, 5], None);
        check(&[1, 2], Some(2));
        check(&[1, 3, 1], Some(1));
        check(&[5; 1_020], Some(5));
    }
}
