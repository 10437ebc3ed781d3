//! From a request to the first piece of its answer: choose a provider, reserve, order, wait; and
//! start over with another provider as long as the client has seen nothing.

mod search;

use std::{
    sync::{Arc, atomic::AtomicU16},
    time::Duration,
};

use bytes::BytesMut;
use market::Patience;
use tokio::time::{Instant, timeout};
use types::{
    Address, ChannelId, Hash32, ModelId, Nusd, RequestId, TimeMs,
    ability::{Abilities, ToolAbility},
    inference::InferenceRequest,
    limits::COMPLETION_TOKENS_MAX,
    price::Price,
    sign::Signed,
};
use wire::{
    frame,
    serve::{Open, Order, ToProvider, request_hash},
};

use self::search::{Found, Search};
use crate::{
    accounts::{Entry, KeyId, NotAdmitted},
    attempt::{Attempt, Beginning, Race},
    books::Opened,
    error::RequestFailure,
    hedges::hedge,
    keyring,
    lanes::Ask,
    providers::{Prefix, Slot},
    session::{Session, Terms, Waits},
    shared::Shared,
    traces::Place,
    treasury,
};

/// Ordinary text has fewer bytes per token than this with every tokenizer in use.
const BYTES_PER_TOKEN_MAX: usize = 8;

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
            place: None,
        }
    }
}

/// How much there is to read, in tokens.
#[derive(Clone, Copy)]
struct Size {
    estimate: u32,
    max: u32,
    min: u32,
}

impl Size {
    fn of(request: &InferenceRequest) -> Size {
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
    race: Option<Race>,
    /// Nobody would go on if the answer broke off.
    pub is_last: bool,
}

impl Since {
    /// After an answer that broke off.
    pub(crate) fn failed(failed: Vec<Address>, is_last: bool) -> Since {
        Since { failed, race: None, is_last }
    }
}

/// A request that was let in. Lives until its books are closed.
pub(crate) struct Job {
    pub request_id: RequestId,
    pub key: KeyId,
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
    shared: Arc<Shared>,
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
    key: KeyId,
    request_id: RequestId,
    model_name: String,
    request: &InferenceRequest,
    needs: Needs,
) -> Result<Arc<Job>, RequestFailure> {
    if shared.is_closing() {
        return Err(RequestFailure::Closing);
    }
    let Some(resolved) = shared.directory.resolve(&model_name) else {
        return Err(unknown_model(shared, model_name));
    };
    let mut salt = [0; 16];
    getrandom::fill(&mut salt)
        .map_err(|_| RequestFailure::Books { reason: "the system gives no randomness".into() })?;
    let prompt_tokens_estimate = request.prompt_tokens_estimate();
    let entry = Entry {
        now: shared.now(),
        steady: shared.since_start(),
        model_name: &model_name,
        model: &resolved.model,
        prompt_tokens: prompt_tokens_estimate,
    };
    let bounds = || bounds(shared, resolved.model, request, &needs);
    keyring::enter(shared, (&key, request_id), &entry, bounds).await?;
    shared.hedges.earn();
    Ok(Arc::new(Job {
        request_id,
        key,
        model: resolved.model,
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

/// What a request costs at least with the cheapest provider, and at most with the dearest.
fn bounds(
    shared: &Shared,
    model: ModelId,
    request: &InferenceRequest,
    needs: &Needs,
) -> (Nusd, Nusd) {
    let (size, needed) = (Size::of(request), Abilities::needed(request));
    let candidates = shared.directory.candidates(model, &[], None);
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
            budget_left: Nusd::ZERO,
        };
        ask.bounds()
    });
    let either = |(least, most): (Nusd, Nusd), it: (Nusd, Nusd)| (least.min(it.0), most.max(it.1));
    bounds.reduce(either).unwrap_or_default()
}

/// What bounds an answer where nobody else does: the context, but not the number of vectors.
fn answer_room(needed: &Abilities, context_tokens: u32) -> u32 {
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

/// The refusal that lists what there is instead.
pub(crate) fn unknown_model(shared: &Shared, model: String) -> RequestFailure {
    const NAMES_MAX: usize = 20;
    let models = shared.directory.models();
    if models.is_empty() {
        let reasons = "no provider is connected".into();
        return RequestFailure::NoProvider { model, reasons, retry_after_ms: 5_000 };
    }
    let names: Vec<&str> = models.iter().take(NAMES_MAX).map(|view| view.alias.as_str()).collect();
    let offered = match models.len() > NAMES_MAX {
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
    let (wanted, size) = (request.tokens_max, Size::of(request));
    let race = since.race.clone().or_else(|| job.needs.hedges.then(Race::default));
    let is_first = since.race.is_none();
    let mut search = Search::new(shared, job, request, since);
    loop {
        let Found { chosen, slot, price, context_tokens, patience, slow_after } =
            search.provider().await?;
        let ask = Ask {
            price,
            prompt_tokens_max: size.max,
            tokens_max: wanted,
            context_tokens,
            budget_left: Nusd::ZERO,
        };
        let Some(channel) = shared.books.channel_of(&chosen.provider) else {
            search.exclude(chosen.provider, "its channel has just closed".into());
            continue;
        };
        let payer = (&job.key, job.request_id);
        let hold = match shared.books.open_request(payer, channel, &ask, shared.now()) {
            Ok(opened) => Hold { shared, job, channel, opened: Some(opened) },
            Err(problem) => {
                search.not_opened(chosen.provider, &ask, problem).await?;
                continue;
            }
        };
        let Opened { grant, room, .. } = hold.opened();
        if room < treasury::room_min(shared) {
            treasury::top_up(shared, chosen.provider, treasury::room_min(shared));
        }
        // An answer that money bounds is asked for with that bound, so that it ends with `length`.
        // One that only the context bounds is left open: some engines refuse a bound that does not
        // fit beside the prompt.
        let open = wanted.is_none() && grant.tokens_max == context_tokens;
        let bound = grant.tokens_max.clamp(1, COMPLETION_TOKENS_MAX);
        let tokens_max = if open { None } else { Some(bound) };
        let ordered = InferenceRequest { tokens_max, ..request.clone() };
        let attempt = search.next_order();
        let waits = waits(shared, size, patience);
        let race = race.clone();
        let order = Prepared { provider: chosen.provider, price, size, attempt, waits, race };
        let connection = &*chosen.connection;
        let attempt = match order_from(hold, &order, connection, slot, ordered).await {
            Ok(attempt) => attempt,
            Err(NotOrdered::Provider(reason)) => {
                search.failed(chosen.provider, reason);
                continue;
            }
            Err(NotOrdered::Books(reason)) => return Err(RequestFailure::Books { reason }),
        };
        let provider = chosen.provider;
        let begun = match (slow_after, &order.race) {
            (Some(slow_after), Some(race)) if is_first => {
                let second = search.second(provider, request, Race::clone(race));
                let first = search.first_event(provider, attempt);
                hedge(shared, first, (slow_after, race), second).await?
            }
            _ => search.first_event(provider, attempt).await?,
        };
        if let Some(attempt) = begun {
            if let Some(race) = &order.race {
                let _ = race.set(attempt.number());
            }
            return Ok(attempt);
        }
    }
}

/// Money and a lane held for an order that is not sent yet; given back if it never is.
struct Hold<'a> {
    shared: &'a Arc<Shared>,
    job: &'a Arc<Job>,
    channel: ChannelId,
    /// `None` once an attempt has taken it over.
    opened: Option<Opened>,
}

impl Hold<'_> {
    fn opened(&self) -> Opened {
        match self.opened {
            Some(opened) => opened,
            // Taken only by `order_from`, which consumes the hold.
            None => unreachable!("a hold is consumed when it is taken"),
        }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if let Some(opened) = self.opened.take() {
            self.shared.books.cancel(&self.job.key, self.channel, &opened);
        }
    }
}

struct Prepared {
    provider: Address,
    price: Price,
    size: Size,
    attempt: u16,
    waits: Waits,
    race: Option<Race>,
}

enum NotOrdered {
    Provider(String),
    Books(String),
}

/// Opens a stream and makes the order. Nothing is signed before the lane's lease is durable.
async fn order_from(
    mut hold: Hold<'_>,
    prepared: &Prepared,
    connection: &dyn net::Connection,
    slot: Slot,
    request: InferenceRequest,
) -> Result<Attempt, NotOrdered> {
    let continues = request.begun.is_some();
    let (shared, job, channel, opened) = (hold.shared, hold.job, hold.channel, hold.opened());
    let config = &shared.config;
    let books = |error: store::JournalError| NotOrdered::Books(error.to_string());
    if let Some(lease) = opened.lease {
        shared.books.sync(lease).await.map_err(books)?;
    }
    let Prepared { provider, price, size, attempt, waits, .. } = *prepared;
    let streams = timeout(Duration::from_millis(waits.accept_ms), connection.open())
        .await
        .map_err(|_| NotOrdered::Provider("no stream to it could be opened in time".into()))?
        .map_err(|error| NotOrdered::Provider(error.to_string()))?;
    let Opened { grant, held, .. } = opened;
    let opening = Terms::opening_total(&price, size.estimate, grant.tokens_max, held.total_before);
    let voucher = shared
        .books
        .voucher(channel, held.lane, opening)
        .ok_or_else(|| NotOrdered::Books("a lane's lease is too short".into()))?;
    let terms = Terms {
        request_id: job.request_id,
        attempt,
        provider,
        model: job.model,
        price,
        prompt_hash: job.prompt_hash,
        prompt_tokens_estimate: size.estimate,
        prompt_tokens_max: size.max,
        tokens_max: grant.tokens_max,
        tools: request.tools.is_some(),
        vectors: request.prompt.vectors(),
        channel,
        lane: held.lane,
        lane_total_before: held.total_before,
        promised: voucher.total,
        waits,
    };
    let order = Order {
        request_id: job.request_id,
        attempt,
        provider,
        model: job.model,
        prompt_hash: job.prompt_hash,
        request_hash: request_hash(&request, &job.salt),
        price,
        channel,
        lane: held.lane,
        lane_total_before: held.total_before,
        issued_at: shared.now(),
        timeout_ms: waits.total_ms,
    };
    let order_hash = order.hash();
    let open = ToProvider::Open(Box::new(Open {
        order: Signed::new(order, &config.chain_id, &*config.payer),
        salt: job.salt,
        request,
        voucher: Signed::new(voucher, &config.chain_id, &*config.payer),
    }));
    let frame = frame::encode(&open).map_err(|error| NotOrdered::Books(error.to_string()))?;
    hold.opened = None;
    Ok(Attempt::new(Beginning {
        shared: Arc::clone(shared),
        job: Arc::clone(job),
        opened,
        order: order_hash,
        slot,
        session: Session::new(terms),
        continues,
        race: prepared.race.clone(),
        began: Instant::now(),
        streams,
        outbox: BytesMut::from(&frame[..]),
    }))
}

/// The configured waits, or less of it where more was never needed and somebody else could be asked.
fn waits(shared: &Shared, size: Size, patience: Option<Patience>) -> Waits {
    let timeouts = &shared.config.timeouts;
    let prompt_ms =
        u64::from(size.estimate).saturating_mul(timeouts.first_token_ms_per_1k_prompt) / 1_000;
    let least = |configured: u64, measured: fn(&Patience) -> u64| {
        patience.as_ref().map_or(configured, |patience| measured(patience).min(configured))
    };
    Waits {
        accept_ms: least(timeouts.accept_ms, |patience| patience.accept_ms),
        first_token_ms: least(timeouts.first_token_ms.saturating_add(prompt_ms), |patience| {
            patience.first_token_ms
        }),
        inter_token_ms: least(timeouts.inter_token_ms, |patience| patience.inter_token_ms),
        total_ms: timeouts.total_ms,
        cancel_ms: timeouts.cancel_ms,
    }
}

/// Any number, for spreading requests. Not a secret.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the choice is the same each time, which is no harm.
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
