//! Commits on the ledger to what can be audited, and opens what its rounds ask for to the verifiers that they drew.
//!
//! A commitment is written down before it is sent: one that came to the ledger and was forgotten here could not be opened,
//! which is a fault. To whom is opened, and what, follows from what the ledger proves, not from what anybody asks for.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::future::join_all;
use net::{NetError, ReceiveHalf, SendHalf};
use tokio::{io::AsyncWriteExt, time::timeout};
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

/// What was opened to whom, and when. Lost with the process: an auditor says what it has already.
#[derive(Debug, Default)]
pub(crate) struct Opener {
    done: BTreeMap<(CommitmentId, Address), Instant>,
}

impl Opener {
    /// How long to wait after a look that failed.
    pub(crate) const RETRY: Duration = Duration::from_millis(LOOK_MS_MAX);

    /// Opens what rounds ask for. Returns how long to wait before the next look.
    pub(crate) async fn look(&mut self, shared: &Shared) -> Result<Duration, AuditingError> {
        let read = |source| AuditingError::Read { source };
        if !shared.books.read(|books| books.audits().has_any()) {
            return Ok(Duration::from_millis(LOOK_MS_MAX));
        }
        let chain = &shared.config.chain;
        let commit_ms = chain.status().await.map_err(read)?.params.audits.commit_ms;
        let wait = (commit_ms / LOOKS_PER_ROUND).clamp(LOOK_MS_MIN, LOOK_MS_MAX);
        let open = chain.rounds_of(shared.operator).await.map_err(read)?;
        self.done.retain(|(commitment, _), _| open.iter().any(|it| it.commitment == *commitment));
        for round in &open {
            // Whom it drew must be proven, or a node could have our prompts told to anybody.
            let Some(round) = chain.round(round.commitment).await.map_err(read)? else { continue };
            self.open(shared, &round).await;
            if let Err(error) = break_seal(shared, &round).await {
                shared.failed(&error);
            }
        }
        // A round whose verifiers have committed is soon over.
        let plants = shared.config.plants && !open.is_empty();
        Ok(Duration::from_millis(if plants { LOOK_MS_MIN } else { wait }))
    }

    /// Whether a verifier has what it needs, unless it has been started again since.
    fn is_done(&self, commitment: CommitmentId, verifier: Address) -> bool {
        self.done.get(&(commitment, verifier)).is_some_and(|at| at.elapsed() < AGAIN)
    }

    /// Opens one round to its verifiers that have not committed to a verdict yet.
    async fn open(&mut self, shared: &Shared, round: &RoundView) {
        let root = round.receipts.root;
        let batch = shared.books.read(|books| match round.demand {
            Some(_) => books.audits().demanded(&root),
            None => books.audits().batch(&root).cloned(),
        });
        let Some(batch) = batch else { return };
        let commitment = round.commitment;
        let silent =
            round.verifiers.iter().filter(|it| it.committed.is_none() && it.outcome.is_none());
        let verifiers = silent.map(|it| it.verifier);
        let left: Vec<Address> = verifiers.filter(|it| !self.is_done(commitment, *it)).collect();
        let opened = left.iter().map(|verifier| open_to(shared, round, &batch, *verifier));
        for (verifier, opened) in left.iter().zip(join_all(opened).await) {
            match opened {
                Ok(answers) => {
                    self.done.insert((commitment, *verifier), Instant::now());
                    tracing::info!(%commitment, %verifier, answers, "provider.opened");
                }
                Err(error) => shared.failed(&error),
            }
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

/// Opens to one verifier what it wants of a batch. Returns how many answers that were.
async fn open_to(
    shared: &Shared,
    round: &RoundView,
    batch: &AuditBatch,
    verifier: Address,
) -> Result<usize, AuditingError> {
    let commitment = round.commitment;
    let entry = shared.config.chain.auditor(verifier).await;
    let entry = entry.map_err(|source| AuditingError::Read { source })?;
    let entry = entry.ok_or(AuditingError::Nowhere { verifier, commitment })?;
    let addrs = resolve(entry.node_key, &entry.addrs).await;
    let failed = |source| AuditingError::Net { verifier, source };
    let dialled = shared.config.audit_endpoint.dial(entry.node_key, &addrs).await;
    let connection = dialled.map_err(failed)?;
    let (send, receive) = connection.open().await.map_err(failed)?;
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
    let chosen = chosen.unwrap_or_default();
    let mut answers = 0;
    for number in numbers {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(answer) = batch.answers.get(index).filter(|_| chosen.contains(&number)) else {
            return Err(talk.refused(format!("it wants number {number}, which was not chosen")));
        };
        tell(shared, &mut talk, answer, round.demand.as_deref()).await?;
        answers += 1;
    }
    let _told = timeout(ANSWER_WAIT, talk.send.shutdown()).await;
    connection.close("done");
    Ok(answers)
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
