//! From a request to the first piece of its answer: choose a provider, reserve, order, wait; and
//! start over with another provider as long as the client has seen nothing.

mod order;
mod search;

use std::sync::{Arc, atomic::AtomicU16};

use tokio::time::Instant;
use types::{
    Address, Hash32, ModelId, Nusd, RequestId, TimeMs,
    ability::{Abilities, ToolAbility},
    inference::InferenceRequest,
    price::Price,
};

use self::search::Search;
pub(crate) use self::search::nobody;
use crate::{
    accounts::{Entry, KeyId, KeyLimits, NotAdmitted},
    attempt::{Attempt, Race},
    error::{PaymentProblem, RequestFailure},
    hedges::{Second, hedge},
    keyring,
    lanes::Ask,
    payments::{Own, Payer},
    providers::Prefix,
    random,
    session::BYTES_PER_TOKEN_MAX,
    shared::Shared,
    traces::Place,
    upstreams::UpstreamRole,
};

/// What a client wants of whoever answers, besides what its request says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Needs {
    pub policy: market::Policy,
    pub context_tokens_min: Option<u32>,
    pub price_max: Option<Price>,
    pub provider: Option<Address>,
    pub region: Option<String>,
    /// Whether another provider may go on where one has failed.
    pub continues: bool,
    /// Whether a second provider is asked when the first one is slow, if the budget for that allows it.
    pub hedges: bool,
    /// Whether services outside the network may answer, whose answers nobody verifies.
    pub upstreams: bool,
    /// Whether the provider is to keep what an auditor may ask for.
    pub discloses: bool,
    /// Whether the client is given nothing before the end of the answer.
    pub whole: bool,
    /// Where it stands in a trace, if it is traced.
    pub place: Option<Place>,
}

impl Default for Needs {
    fn default() -> Needs {
        Needs {
            policy: market::Policy::BALANCED,
            context_tokens_min: None,
            price_max: None,
            provider: None,
            region: None,
            continues: true,
            hedges: false,
            upstreams: true,
            discloses: true,
            whole: false,
            place: None,
        }
    }
}

impl Needs {
    /// What is left to choose where the caller's own channel pays: it leads to one provider.
    fn paid_by(self, own: &Own) -> Result<Needs, RequestFailure> {
        if self.provider.is_some_and(|pinned| pinned != own.provider) {
            let why = "the channel leads to another provider than the one that is pinned".into();
            return Err(RequestFailure::Payment { problem: PaymentProblem::Invalid(why) });
        }
        let provider = Some(own.provider);
        Ok(Needs { provider, continues: false, hedges: false, upstreams: false, ..self })
    }
}

/// What is asked of whoever answers.
pub(crate) fn need(
    model: ModelId,
    abilities: Abilities,
    request: &InferenceRequest,
    needs: &Needs,
) -> market::Need {
    let size = Size::of(request);
    market::Need {
        model,
        prompt_tokens: size.estimate,
        prompt_tokens_min: size.min,
        context_tokens_min: needs.context_tokens_min,
        tokens_max: request.tokens_max,
        price_max: needs.price_max,
        abilities,
        provider: needs.provider,
        region: needs.region.clone(),
    }
}

/// How much there is to read, in tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) estimate: u32,
    pub(crate) max: u32,
    min: u32,
}

impl Size {
    pub(crate) fn of(request: &InferenceRequest) -> Size {
        Size {
            estimate: request.prompt_tokens_estimate(),
            max: request.prompt_tokens_max(),
            min: u32::try_from(request.context_bytes() / BYTES_PER_TOKEN_MAX).unwrap_or(u32::MAX),
        }
    }
}

/// What has happened to a request so far.
#[derive(Default)]
pub(crate) struct Since {
    /// Not asked any more.
    pub failed: Vec<Address>,
    /// Another attempt is under way.
    second: Option<Second>,
    /// Nobody would go on if the answer broke off.
    pub is_last: bool,
}

impl Since {
    /// After an answer that broke off.
    pub(crate) fn failed(failed: Vec<Address>, is_last: bool) -> Since {
        Since { failed, second: None, is_last }
    }
}

/// A request that was let in. Lives until its books are closed.
pub(crate) struct Job {
    pub request_id: RequestId,
    pub key: KeyId,
    /// If its caller pays the provider itself.
    pub own: Option<Own>,
    pub model: ModelId,
    /// The name that the client used.
    pub model_name: String,
    pub salt: [u8; 16],
    pub started_at: TimeMs,
    pub began: Instant,
    prompt_hash: Hash32,
    /// Held against the rate of its key.
    prompt_tokens_estimate: u32,
    abilities: Abilities,
    needs: Needs,
    /// Orders made so far.
    orders: AtomicU16,
    /// Of the prompt's beginning, if it is long enough to be worth keeping in a cache.
    pub prefix: Option<Prefix>,
    pub shared: Arc<Shared>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}

impl Job {
    pub(crate) fn place(&self) -> Option<Place> {
        self.needs.place
    }

    /// JSON that another engine goes on with may be none, and neither may a call. Vectors come whole.
    pub(crate) fn may_continue(&self) -> bool {
        let Abilities { completions, json, tools, .. } = self.abilities;
        self.needs.continues && completions && !json && tools == ToolAbility::None
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        keyring::leave(&self.shared, &self.key, self.request_id, self.prompt_tokens_estimate);
        self.shared.freed.notify_waiters();
    }
}

/// Lets a request in: the gateway is open, the model is known, nobody has too many at once.
pub(crate) async fn admit(
    shared: &Arc<Shared>,
    payer: impl Into<Payer>,
    request_id: RequestId,
    model_name: String,
    request: &InferenceRequest,
    needs: Needs,
) -> Result<Arc<Job>, RequestFailure> {
    let Payer { key, own } = payer.into();
    let needs = match &own {
        Some(own) => needs.paid_by(own)?,
        None => needs,
    };
    if shared.is_closing() {
        return Err(RequestFailure::Closing);
    }
    let model = known_model(shared, &key, &model_name).await?;
    let salt = random::bytes()
        .map_err(|_| RequestFailure::Books { reason: "the system gives no randomness".into() })?;
    let prompt_tokens_estimate = request.prompt_tokens_estimate();
    let entry = Entry {
        now: shared.now(),
        steady: shared.since_start(),
        model_name: &model_name,
        model: &model,
        prompt_tokens: prompt_tokens_estimate,
    };
    let bounds = || bounds(shared, (&model_name, model), request, &needs);
    keyring::enter(shared, (&key, request_id), &entry, bounds).await?;
    shared.hedges.earn();
    Ok(Arc::new(Job {
        request_id,
        key,
        own,
        model,
        model_name,
        salt,
        started_at: shared.now(),
        began: Instant::now(),
        prompt_hash: request.prompt.hash(&salt),
        prompt_tokens_estimate,
        abilities: Abilities::needed(request),
        needs,
        orders: AtomicU16::new(0),
        prefix: shared.directory.prefix(&request.prompt),
        shared: Arc::clone(shared),
    }))
}

/// A provider that is so many times as dear as the cheapest is not what a request reserves for.
const DEAR: u128 = 8;

/// What a request costs at least with the cheapest provider, and at most with the dearest of those that are not much dearer. If
/// another is chosen, more is reserved then: or whoever asks for any price would have each key serve one request at a time.
fn bounds(
    shared: &Shared,
    (name, model): (&str, ModelId),
    request: &InferenceRequest,
    needs: &Needs,
) -> (Nusd, Nusd) {
    let (size, needed) = (Size::of(request), Abilities::needed(request));
    let mut candidates = shared.directory.candidates(model, &[], None);
    if needs.upstreams {
        for role in [UpstreamRole::Policy, UpstreamRole::LastResort] {
            candidates.extend(shared.upstreams.candidates((name, model), &[], role));
        }
    }
    let fits = |it: &&market::Candidate| {
        needs.price_max.is_none_or(|max| needed.price(it.price).within(&max))
            && needs.provider.is_none_or(|provider| it.provider == provider)
    };
    let bounds = candidates.iter().filter(fits).map(|candidate| {
        let ask = Ask {
            price: needed.price(candidate.price),
            prompt_tokens_max: size.max,
            tokens_max: request.tokens_max,
            context_tokens: answer_room(&needed, candidate.context_tokens),
            budget_left: Ask::ALL,
        };
        ask.bounds()
    });
    let bounds: Vec<(Nusd, Nusd)> = bounds.collect();
    let least = bounds.iter().map(|(least, _)| *least).min().unwrap_or_default();
    let cheapest = bounds.iter().map(|(_, most)| *most).min().unwrap_or_default();
    let dearest = Nusd(cheapest.0.saturating_mul(DEAR));
    let most = bounds.iter().map(|(_, most)| *most).filter(|most| *most <= dearest).max();
    (least, most.unwrap_or_default())
}

/// What bounds an answer where nobody else does: the context, but not the number of vectors.
pub(crate) fn answer_room(needed: &Abilities, context_tokens: u32) -> u32 {
    if needed.completions { context_tokens } else { u32::MAX }
}

/// Why a key cannot be used for a request.
pub(crate) fn not_admitted(why: NotAdmitted, whose: &'static str, model: &str) -> RequestFailure {
    match why {
        NotAdmitted::Unknown => RequestFailure::BadKey,
        NotAdmitted::Expired => RequestFailure::ExpiredKey,
        NotAdmitted::Model => RequestFailure::ModelNotAllowed { model: model.to_owned() },
        NotAdmitted::TooMany => RequestFailure::TooMany { whose },
        NotAdmitted::Requests { per_minute, wait_ms } => {
            RequestFailure::Rate { what: "requests", per_minute, retry_after_ms: wait_ms }
        }
        NotAdmitted::Tokens { per_minute, wait_ms } => {
            RequestFailure::Rate { what: "tokens", per_minute, retry_after_ms: wait_ms }
        }
    }
}

/// What a client's name for a model means.
pub(crate) async fn known_model(
    shared: &Shared,
    key: &KeyId,
    name: &str,
) -> Result<ModelId, RequestFailure> {
    match shared.resolve(name) {
        Some(model) => Ok(model),
        None => {
            let limits = keyring::limits_of(shared, key).await?;
            Err(unknown_model(shared, &limits, name.to_owned()))
        }
    }
}

/// The refusal that lists what there is instead, of what a key may use.
pub(crate) fn unknown_model(shared: &Shared, limits: &KeyLimits, model: String) -> RequestFailure {
    const NAMES_MAX: usize = 20;
    let mut models = shared.models();
    if models.is_empty() {
        let reasons = "no provider is connected".into();
        return RequestFailure::NoProvider { model, reasons, retry_after_ms: 5_000 };
    }
    models.retain(|view| limits.allows(&view.alias, &view.model));
    let names: Vec<&str> = models.iter().take(NAMES_MAX).map(|view| view.alias.as_str()).collect();
    let offered = match models.len() > NAMES_MAX {
        _ if models.is_empty() => "none that this API key may use".into(),
        true => format!("{}, … (GET /v1/models lists all)", names.join(", ")),
        false => names.join(", "),
    };
    RequestFailure::UnknownModel { model: model.chars().take(100).collect(), offered }
}

/// Sends the request to providers until one gives the first piece of an answer, or an empty answer.
/// Dropping the future cancels.
pub(crate) async fn begin(
    shared: &Arc<Shared>,
    job: &Arc<Job>,
    request: &InferenceRequest,
    since: Since,
) -> Result<Attempt, RequestFailure> {
    let second = since.second.clone();
    let race = match &second {
        Some(second) => Some(Race::clone(&second.race)),
        None => job.needs.hedges.then(Race::default),
    };
    let mut search = Search::new(shared, job, request, since);
    loop {
        let found = search.provider().await?;
        let (provider, slow_after) = (found.provider, found.slow_after);
        let Some(attempt) = search.order(found, request, race.clone()).await? else { continue };
        if let Some(second) = &second {
            second.set_taken(true);
        }
        let begun = match (slow_after, &race) {
            (Some(slow_after), Some(race)) if second.is_none() => {
                let beside = Second::new(race);
                let other = search.second(provider, request, beside.clone());
                let first = search.first_event(provider, attempt);
                hedge(shared, first, slow_after, (&beside, other)).await?
            }
            _ => search.first_event(provider, attempt).await?,
        };
        if let Some(attempt) = begun {
            if let Some(race) = &race {
                let _ = race.set(attempt.number());
            }
            return Ok(attempt);
        }
    }
}

/// Any number, for spreading requests. Not a secret.
pub(crate) fn any_number() -> u64 {
    // Without randomness the choice is the same each time, which is no harm.
    u64::from_le_bytes(random::bytes().unwrap_or_default())
}
