//! A running auditor: says on the ledger where it is reached, follows the rounds that draw its validator, takes openings, runs
//! the models, and commits to verdicts and reveals them.
//!
//! What is due follows from [`crate::desk`]; here it is done, and tried again at the next look if it failed. One model runs
//! at a time.

mod canaries;
mod examine;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use net::SharedEndpoint;
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use types::{
    Address, ChainId, Hash32, ModelId, TimeMs,
    audit::{AuditOutcome, CommitmentId, Verdict, verdict_commitment},
    sign::Sign,
    stake::OperatorId,
    tx::Action,
};
use wire::chain::{Chain, ChainError, HttpChain, RoundView, SendError, TxSender};

use crate::{
    canary::{CanaryConfig, CanaryError, Consumer},
    desk::{Desk, Sealed, Step},
    docket::{Docket, DocketError, Report},
    intake::{
        ARRIVING_KIB_MAX, DECODING_MAX,
        door::{self, Callers},
    },
    mirror::Mirror,
    shelf::{Shelf, ShelfError},
};

/// Within the time that verifiers have, so often is looked for what is due.
const LOOKS_PER_ROUND: u64 = 60;
/// Bounds of the time between two looks.
const LOOK_MS_MIN: u64 = 500;
const LOOK_MS_MAX: u64 = 5_000;
/// How often the folder of models is read again, and our entry on the ledger compared.
const REFRESH: Duration = Duration::from_secs(60);
/// A model that could not be fetched is asked for again after this.
const TRY_AGAIN: Duration = Duration::from_secs(60 * 60);

/// What an auditor needs.
pub struct AuditorConfig {
    /// Folder of its own, for its reports.
    pub home: PathBuf,
    pub chain_id: ChainId,
    /// The validator's own node: what it says is believed.
    pub chain: Arc<HttpChain>,
    /// The operator of the validator, which is drawn and speaks.
    pub operator: Arc<dyn Sign>,
    /// Where providers reach it. The auditor is its only user and closes it.
    pub endpoint: SharedEndpoint,
    /// What the ledger says about where that is: host and port.
    pub addrs: Vec<String>,
    pub shelf: Arc<Shelf>,
    /// Where models come from that rounds ask for and the shelf lacks, into its folder.
    pub mirror: Option<Mirror>,
    /// Asks for answers of its own, if it is told whom.
    pub canary: Option<CanaryConfig>,
    /// Tokens that are scored for one verdict, of the answers that come first; the rest is only checked. A model costs
    /// about as much for a token as when it makes one.
    pub tokens_max: u64,
}

impl std::fmt::Debug for AuditorConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditorConfig")
            .field("home", &self.home)
            .field("addrs", &self.addrs)
            .field("tokens_max", &self.tokens_max)
            .finish_non_exhaustive()
    }
}

/// What the tasks share.
pub(crate) struct Shared {
    pub(crate) chain_id: ChainId,
    pub(crate) chain: Arc<HttpChain>,
    pub(crate) operator: Address,
    pub(crate) shelf: Arc<Shelf>,
    desk: Mutex<Desk>,
    callers: Mutex<Callers>,
    /// Room for openings that are on their way, and turns for taking them apart.
    pub(crate) arriving: Semaphore,
    pub(crate) decoding: Semaphore,
    sender: TxSender,
    docket: Docket,
    fetching: Mutex<Fetching>,
    tokens_max: u64,
}

/// What is being fetched, and what was tried.
struct Fetching {
    mirror: Option<Mirror>,
    /// When each model was asked for last.
    tried: BTreeMap<ModelId, Instant>,
    now: Option<ModelId>,
}

impl Fetching {
    /// Whether a round may still wait for a model; and the mirror, if it is to be asked for it now.
    fn want(&mut self, model: ModelId) -> (bool, Option<Mirror>) {
        if self.now == Some(model) {
            return (true, None);
        }
        let recently = self.tried.get(&model).is_some_and(|at| at.elapsed() < TRY_AGAIN);
        let Some(mirror) = self.mirror.clone().filter(|_| !recently) else { return (false, None) };
        if self.now.is_some() {
            return (true, None);
        }
        self.tried.retain(|_, at| at.elapsed() < TRY_AGAIN);
        self.tried.insert(model, Instant::now());
        self.now = Some(model);
        (true, Some(mirror))
    }
}

impl Shared {
    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        // Every change is made whole.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetching(&self) -> MutexGuard<'_, Fetching> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> TimeMs {
        // A clock before 1970 finds every round in the future, and waits.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TimeMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Why an auditor does not start.
#[derive(Debug, thiserror::Error)]
pub enum AuditorError {
    #[error("cannot keep reports")]
    Docket(#[from] DocketError),
    #[error("cannot read the models")]
    Shelf(#[from] ShelfError),
    #[error("no canaries can be sent")]
    Canary { source: CanaryError },
    #[error("a part of the auditor stopped unexpectedly; see its log")]
    Panicked,
}

/// Why something that was due was not done. It is tried again.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("cannot ask the ledger")]
    Read { source: ChainError },
    #[error("cannot tell the ledger where the auditor is reached")]
    Register { source: SendError },
    #[error("the verdict on {commitment} was not taken")]
    Send { commitment: CommitmentId, source: SendError },
    #[error("cannot write down a verdict")]
    Docket(#[from] DocketError),
    #[error("cannot read the models")]
    Shelf(#[from] ShelfError),
    #[error("there is no randomness for a salt")]
    Random,
    #[error("a canary found nothing")]
    Canary { source: CanaryError },
    #[error("what a canary found of {provider} was not taken")]
    Report { provider: Address, source: SendError },
}

/// A running auditor. [`AuditorHandle::shutdown`] ends it.
#[derive(Debug)]
pub struct AuditorHandle {
    endpoint: SharedEndpoint,
    stop: CancellationToken,
    tasks: [JoinHandle<()>; 3],
}

impl AuditorHandle {
    /// Takes nothing more, and ends when what is being sent has been answered.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.endpoint.close().await;
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "auditor.task");
            }
        }
    }
}

/// Starts an auditor. Reads its folder of models first.
pub async fn start(config: AuditorConfig) -> Result<AuditorHandle, AuditorError> {
    let AuditorConfig { home, chain_id, chain, operator, endpoint, addrs, shelf, .. } = config;
    let AuditorConfig { mirror, canary, tokens_max, .. } = config;
    let consumer = match canary.map(|it| (it.every, Consumer::new(it))) {
        None => None,
        Some((every, Ok(consumer))) => Some((every, consumer)),
        Some((_, Err(source))) => return Err(AuditorError::Canary { source }),
    };
    let docket = Docket::open(&home.join("reports"))?;
    refresh(&shelf).await.map_err(|_| AuditorError::Panicked)??;
    tracing::info!(models = shelf.models().len(), "auditor.started");
    let sender: Arc<dyn Chain> = Arc::clone(&chain) as Arc<dyn Chain>;
    let shared = Arc::new(Shared {
        chain_id,
        operator: Address::of_key(&operator.public_key()),
        sender: TxSender::new(sender, operator),
        chain,
        shelf,
        desk: Mutex::default(),
        arriving: Semaphore::new(ARRIVING_KIB_MAX),
        decoding: Semaphore::new(DECODING_MAX),
        callers: Mutex::default(),
        docket,
        fetching: Mutex::new(Fetching { mirror, tried: BTreeMap::new(), now: None }),
        tokens_max,
    });
    let stop = CancellationToken::new();
    let place = Place { node_key: endpoint.node_key(), addrs };
    let task = tokio::spawn(follow(Arc::clone(&shared), place, stop.clone()));
    let canaries = tokio::spawn(canaries::send(Arc::clone(&shared), consumer, stop.clone()));
    let intake = tokio::spawn(door::run(shared, Arc::clone(&endpoint)));
    Ok(AuditorHandle { endpoint, stop, tasks: [task, intake, canaries] })
}

/// Where we are reached.
struct Place {
    node_key: types::PublicKey,
    addrs: Vec<String>,
}

async fn refresh(shelf: &Arc<Shelf>) -> Result<Result<(), ShelfError>, tokio::task::JoinError> {
    let shelf = Arc::clone(shelf);
    tokio::task::spawn_blocking(move || shelf.refresh()).await
}

/// Looks again and again, until it is told to stop.
async fn follow(shared: Arc<Shared>, place: Place, stop: CancellationToken) {
    let mut judging: JoinSet<(CommitmentId, Result<Report, LookError>)> = JoinSet::new();
    let mut fetching: JoinSet<()> = JoinSet::new();
    let mut refreshed: Option<tokio::time::Instant> = None;
    loop {
        if refreshed.is_none_or(|at| at.elapsed() >= REFRESH) {
            note(keep_up(&shared, &place).await);
            refreshed = Some(tokio::time::Instant::now());
        }
        while let Some(judged) = judging.try_join_next() {
            note(sealed(&shared, judged));
        }
        while fetching.try_join_next().is_some() {}
        let looked = look(&shared, &mut judging, &mut fetching).await;
        let wait = looked.unwrap_or_else(|error| {
            note(Err(error));
            Duration::from_millis(LOOK_MS_MAX)
        });
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(judged) = judging.join_next() => note(sealed(&shared, judged)),
            () = tokio::time::sleep(wait) => {}
        }
    }
    judging.shutdown().await;
    fetching.shutdown().await;
}

fn note(done: Result<(), LookError>) {
    if let Err(error) = done {
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::warn!(error, "auditor.look failed; it is tried again");
    }
}

/// Models and our entry on the ledger.
async fn keep_up(shared: &Arc<Shared>, place: &Place) -> Result<(), LookError> {
    if let Ok(refreshed) = refresh(&shared.shelf).await {
        refreshed?;
    }
    shared.docket.tidy()?;
    let read = |source| LookError::Read { source };
    let us = shared.operator;
    let listed = shared.chain.auditor(us).await.map_err(read)?;
    let is_listed =
        listed.is_some_and(|it| it.node_key == place.node_key && it.addrs == place.addrs);
    // Before its validator is registered there is nobody to draw.
    let validator = shared.chain.operator(OperatorId::validator(us)).await.map_err(read)?;
    if is_listed || validator.is_none() {
        return Ok(());
    }
    let Place { node_key, addrs } = place;
    let action = Action::RegisterAuditor { node_key: *node_key, addrs: addrs.clone() };
    let sent = shared.sender.send(action).await;
    let sent = sent.map_err(|source| LookError::Register { source })?;
    tracing::info!(tx = %sent.id, "auditor.registered");
    Ok(())
}

/// Does what is due. Returns how long to wait before the next look.
async fn look(
    shared: &Arc<Shared>,
    judging: &mut JoinSet<(CommitmentId, Result<Report, LookError>)>,
    fetching: &mut JoinSet<()>,
) -> Result<Duration, LookError> {
    let read = |source| LookError::Read { source };
    let commit_ms = shared.chain.status().await.map_err(read)?.params.audits.commit_ms;
    let rounds = shared.chain.open_rounds().await.map_err(read)?;
    let us = shared.operator;
    let ours = rounds.into_iter().filter(|it| it.verifiers.iter().any(|it| it.verifier == us));
    let known = |round: &RoundView| match shared.docket.read(&round.commitment) {
        Ok(report) => report.and_then(|it| said(shared, round, it)),
        Err(error) => {
            note(Err(error.into()));
            None
        }
    };
    let now = shared.now();
    let providers = {
        let mut desk = shared.desk();
        desk.update(&us, now, ours.collect(), known);
        desk.providers(&us, now)
    };
    door::look_up(shared, &providers).await;
    let mut steps: Vec<(TimeMs, CommitmentId, ModelId, Step)> = {
        let desk = shared.desk();
        let step = |case: &crate::desk::Case| {
            let RoundView { commitment, commit_by, .. } = case.round;
            let model = case.round.receipts.model;
            (commit_by, commitment, model, case.step(&us, now, shared.shelf.has(&model)))
        };
        desk.cases().map(step).collect()
    };
    // The model runs over the round that is due first.
    steps.sort_by_key(|(commit_by, commitment, ..)| (*commit_by, *commitment));
    for (commit_by, commitment, model, step) in steps {
        let done = match step {
            Step::Wait | Step::Rest => Ok(()),
            Step::Abstain if waits_for(shared, fetching, commitment, model) => Ok(()),
            Step::Abstain => seal(shared, abstained(shared, commitment)?),
            Step::Judge if judging.is_empty() => {
                shared.desk().judging(&commitment);
                let shared = Arc::clone(shared);
                judging.spawn(
                    async move { (commitment, judged(&shared, commitment, commit_by).await) },
                );
                Ok(())
            }
            // The model runs over another round.
            Step::Judge => Ok(()),
            Step::Commit(sealed) => commit(shared, commitment, &sealed).await,
            Step::Reveal(sealed) => reveal(shared, commitment, sealed).await,
        };
        note(done);
    }
    Ok(Duration::from_millis((commit_ms / LOOKS_PER_ROUND).clamp(LOOK_MS_MIN, LOOK_MS_MAX)))
}

/// What a report says of a round, if it is about this one: a commitment that was demanded may be demanded again.
fn said(shared: &Shared, round: &RoundView, report: Report) -> Option<Sealed> {
    let Report { commitment, at, verdict, salt, .. } = report;
    let (chain_id, us) = (&shared.chain_id, shared.operator);
    let committed = round.verifiers.iter().find(|it| it.verifier == us)?.committed;
    let is_of_round = match committed {
        Some(hash) => hash == verdict_commitment(chain_id, &us, &commitment, &salt.0, &verdict),
        None => at >= round.opened_at,
    };
    is_of_round.then_some(Sealed { verdict, salt })
}

/// Runs the model over a round, for as long as a verdict is of use: another round may be waiting for it.
async fn judged(
    shared: &Shared,
    commitment: CommitmentId,
    commit_by: TimeMs,
) -> Result<Report, LookError> {
    let left = Duration::from_millis(commit_by.ms_since(shared.now()));
    // Engines stop when what they compute is dropped.
    match timeout(left, examine::examine(shared, commitment)).await {
        Ok(examined) => examined,
        Err(_) => {
            tracing::warn!(%commitment, "auditor.judging took too long");
            abstained(shared, commitment)
        }
    }
}

/// Whether a model may still come before openings are due. Asks the mirror for it, if it was not asked.
fn waits_for(
    shared: &Arc<Shared>,
    fetching: &mut JoinSet<()>,
    commitment: CommitmentId,
    model: ModelId,
) -> bool {
    let in_time = {
        let desk = shared.desk();
        desk.case(&commitment).is_some_and(|case| shared.now() < case.collects_until())
    };
    let (waits, mirror) = shared.fetching().want(model);
    if let Some(mirror) = mirror {
        let shared = Arc::clone(shared);
        fetching.spawn(async move { fetch(&shared, &mirror, model).await });
    }
    waits && in_time
}

async fn fetch(shared: &Shared, mirror: &Mirror, model: ModelId) {
    match mirror.fetch(model).await {
        Ok(path) => tracing::info!(%model, path = %path.display(), "auditor.fetched"),
        Err(error) => {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(%model, error, "auditor.model is not fetched");
        }
    }
    if let Ok(Err(error)) = refresh(&shared.shelf).await {
        note(Err(error.into()));
    }
    shared.fetching().now = None;
}

fn salt() -> Result<Hash32, LookError> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(|_| LookError::Random)?;
    Ok(Hash32(salt))
}

/// A report on a round that nothing is known of yet.
fn blank(shared: &Shared, commitment: CommitmentId, verdict: Verdict) -> Result<Report, LookError> {
    let receipts = shared.desk().case(&commitment).map(|case| case.round.receipts);
    let nothing = types::audit::ReceiptsCommitment {
        model: ModelId([0; 32]),
        root: Hash32::default(),
        count: 0,
    };
    Ok(Report {
        commitment,
        receipts: receipts.unwrap_or(nothing),
        at: shared.now(),
        chosen: 0,
        opened: 0,
        scored: 0,
        l1_only: 0,
        verdict,
        salt: salt()?,
        l1: None,
        l2: None,
        projections: None,
        trace: Vec::new(),
    })
}

fn abstained(shared: &Shared, commitment: CommitmentId) -> Result<Report, LookError> {
    let verdict = Verdict { outcome: AuditOutcome::Abstained, evidence: None };
    blank(shared, commitment, verdict)
}

/// A model has run over a round, or could not.
fn sealed(
    shared: &Shared,
    judged: Result<(CommitmentId, Result<Report, LookError>), tokio::task::JoinError>,
) -> Result<(), LookError> {
    match judged {
        Ok((_, Ok(report))) => seal(shared, report),
        Ok((commitment, Err(error))) => {
            note(Err(error));
            seal(shared, abstained(shared, commitment)?)
        }
        Err(error) => {
            tracing::error!(%error, "auditor.judging ended abnormally");
            Ok(())
        }
    }
}

/// Writes a verdict down; after that it is committed to.
fn seal(shared: &Shared, report: Report) -> Result<(), LookError> {
    shared.docket.write(&report)?;
    let Report { commitment, chosen, opened, scored, verdict, salt, .. } = report;
    let outcome = verdict.outcome.name();
    let ln_e = verdict.evidence.as_ref().and_then(|it| it.ln_e()).map(|it| it.0);
    tracing::info!(%commitment, outcome, chosen, opened, scored, ?ln_e, "auditor.judged");
    shared.desk().seal(&commitment, Sealed { verdict, salt });
    Ok(())
}

async fn commit(
    shared: &Shared,
    commitment: CommitmentId,
    sealed: &Sealed,
) -> Result<(), LookError> {
    let Sealed { verdict, salt } = sealed;
    let hash =
        verdict_commitment(&shared.chain_id, &shared.operator, &commitment, &salt.0, verdict);
    send(shared, commitment, Action::CommitVerdict { commitment, hash }).await
}

async fn reveal(
    shared: &Shared,
    commitment: CommitmentId,
    sealed: Sealed,
) -> Result<(), LookError> {
    let Sealed { verdict, salt } = sealed;
    let action = Action::RevealVerdict { commitment, verdict: Box::new(verdict), salt };
    send(shared, commitment, action).await
}

async fn send(shared: &Shared, commitment: CommitmentId, action: Action) -> Result<(), LookError> {
    let what = action.name();
    let sent = shared.sender.send(action).await;
    let sent = sent.map_err(|source| LookError::Send { commitment, source })?;
    tracing::info!(%commitment, what, tx = %sent.id, "auditor.said");
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
