//! From whom to ask to an attempt that is on its way: money is held, the order is written.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use market::Patience;
use tokio::time::{Instant, timeout};
use types::{
    ChannelId, Lane, Nusd, inference::InferenceRequest, limits::COMPLETION_TOKENS_MAX, sign::Signed,
};
use verify::{
    delivered::profile_of,
    profile::{self, NO_NAME},
};
use wire::{
    frame,
    serve::{Open, Order, ToProvider, request_hash},
};

use super::{
    Job, Size,
    search::{Found, Search, Way},
};
use crate::{
    attempt::{Attempt, Beginning, Line, ProviderLine, Race, UpstreamLine},
    books::{Opened, Reserved},
    error::RequestFailure,
    lanes::{Ask, Grant},
    providers::{Chosen, Slot},
    replay::{Plan, Replaying},
    session::{Session, Terms, Waits},
    shared::Shared,
    treasury,
    upstreams::Called,
};

/// The longest answer that a service is asked for as a whole. A client that leaves before the end of one pays nothing,
/// because nobody knows how far it had come.
const WHOLE_TOKENS_MAX: u32 = 1_024;
/// One answer in so many is streamed whoever waits for it, so that its pace is known.
const MEASURED_SHARE: u8 = 16;

/// What an order says, whoever gets it.
struct Draft {
    terms: Terms,
    context_tokens: u32,
    race: Option<Race>,
    replay: Option<Replaying>,
    /// See [`Found::is_measured`].
    is_measured: bool,
    /// See [`Patience::token_us`].
    token_us: Option<u64>,
}

impl Search<'_> {
    /// Orders of who was found. `None`: look for somebody else.
    pub(super) async fn order(
        &mut self,
        found: Found,
        request: &InferenceRequest,
        race: Option<Race>,
    ) -> Result<Option<Attempt>, RequestFailure> {
        let Found { way, provider, price, context_tokens, patience, is_measured, .. } = found;
        let (shared, job, size) = (self.shared, self.job, Size::of(request));
        let ask = Ask {
            price,
            prompt_tokens_max: size.max,
            tokens_max: request.tokens_max,
            context_tokens,
            budget_left: job.own.as_ref().map_or(Ask::ALL, |own| own.amount_max),
        };
        let terms = Terms {
            request_id: job.request_id,
            attempt: 0,
            provider,
            model: job.model,
            price,
            prompt_hash: job.prompt_hash,
            prompt_tokens_estimate: size.estimate,
            prompt_tokens_max: size.max,
            tokens_max: 0,
            tools: request.tools.is_some(),
            vectors: request.prompt.vectors(),
            profile: NO_NAME,
            bought: false,
            channel: ChannelId([0; 32]),
            lane: Lane(0),
            lane_total_before: Nusd::ZERO,
            promised: Nusd::ZERO,
            waits: waits(shared, size, patience),
        };
        let token_us = patience.map(|patience| patience.token_us);
        let draft = Draft { terms, context_tokens, race, replay: None, is_measured, token_us };
        match way {
            Way::Provider(chosen, slot) => self.pay(&ask, draft, chosen, slot, request).await,
            Way::Upstream(called) => self.buy(&ask, draft, called, request).await,
        }
    }

    /// Orders of a provider, who is paid in its channel.
    async fn pay(
        &mut self,
        ask: &Ask,
        mut draft: Draft,
        chosen: Chosen,
        slot: Slot,
        request: &InferenceRequest,
    ) -> Result<Option<Attempt>, RequestFailure> {
        let (shared, job, provider) = (self.shared, self.job, chosen.provider);
        let own = job.own.as_ref().map(|own| own.channel);
        let Some(channel) = own.or_else(|| shared.books.channel_of(&provider)) else {
            self.exclude(provider, "its channel has just closed".into());
            return Ok(None);
        };
        let payer = (&job.key, job.request_id);
        let hold = match shared.books.open_request(payer, channel, ask, shared.now()) {
            Ok(opened) => Hold { shared, job, channel, opened: Some(opened) },
            Err(problem) => {
                self.not_opened(provider, ask, problem).await?;
                return Ok(None);
            }
        };
        let Opened { reserved, held, room, .. } = hold.opened();
        if own.is_none() && room < treasury::room_min(shared) {
            treasury::top_up(shared, provider, treasury::room_min(shared));
        }
        let mut ordered = bounded(request, &reserved.grant, draft.context_tokens);
        let (salt, id) = (&job.salt, &job.request_id);
        let derived = profile::seed(&profile::NO_BEACON, salt, &provider, id);
        let discloses = job.needs.discloses;
        let seed = match discloses {
            true => derived,
            false => profile::undisclosed_seed(salt, &provider, id),
        };
        let offer = shared.directory.offer_of(&provider, job.model);
        let plan = offer.as_ref().and_then(|offer| Plan::of(request, offer, seed, discloses));
        if let Some(plan) = &plan {
            plan.apply(&mut ordered);
        }
        let profile = offer.map_or(NO_NAME, |offer| {
            profile_of(&ordered, derived, discloses, &offer.engine_version)
        });
        draft.replay = plan.as_ref().map(Replaying::begin);
        let size = Size::of(request);
        let tokens_max = reserved.grant.tokens_max;
        let before = held.total_before;
        draft.terms = Terms {
            attempt: self.next_order(),
            tokens_max,
            profile,
            channel,
            lane: held.lane,
            lane_total_before: before,
            promised: Terms::opening_total(&ask.price, size.estimate, tokens_max, before),
            ..draft.terms
        };
        match order_from(hold, draft, &*chosen.connection, slot, ordered).await {
            Ok(attempt) => Ok(Some(attempt)),
            Err(NotOrdered::Provider(reason)) => {
                self.failed(provider, reason);
                Ok(None)
            }
            Err(NotOrdered::Books(reason)) => Err(RequestFailure::Books { reason }),
        }
    }

    /// Calls a service outside the network, which the gateway's operator pays.
    async fn buy(
        &mut self,
        ask: &Ask,
        draft: Draft,
        called: Called,
        request: &InferenceRequest,
    ) -> Result<Option<Attempt>, RequestFailure> {
        let (shared, job) = (self.shared, self.job);
        let payer = (&job.key, job.request_id);
        let reserved = match shared.books.reserve(payer, ask, shared.now()) {
            Ok(reserved) => reserved,
            Err(problem) => {
                self.not_opened(draft.terms.provider, ask, problem).await?;
                return Ok(None);
            }
        };
        let Reserved { grant, .. } = reserved;
        let ordered = bounded(request, &grant, draft.context_tokens);
        // A second one that is asked because the first is late must show when it begins.
        let is_whole = job.needs.whole
            && draft.race.is_none()
            && draft.is_measured
            && !job.salt[0].is_multiple_of(MEASURED_SHARE)
            && grant.tokens_max <= WHOLE_TOKENS_MAX
            && called.engine.answers_whole(&ordered);
        let waits = match is_whole {
            true => whole_waits(draft.terms.waits, draft.token_us, grant.tokens_max),
            false => draft.terms.waits,
        };
        let terms = Terms {
            attempt: self.next_order(),
            tokens_max: grant.tokens_max,
            bought: true,
            promised: Nusd(u128::MAX),
            // A service may say nothing before it has a first token.
            waits: Waits { accept_ms: waits.first_token_ms, ..waits },
            ..draft.terms
        };
        let line = UpstreamLine::call(called, ordered, is_whole);
        Ok(Some(Attempt::new(Beginning {
            shared: Arc::clone(shared),
            job: Arc::clone(job),
            reserved,
            line: Line::Upstream(Box::new(line)),
            session: Session::new(terms),
            continues: request.begun.is_some(),
            race: draft.race,
            replay: None,
            began: Instant::now(),
        })))
    }
}

/// An answer that money bounds is asked for with that bound, so that it ends with `length`. One that only the
/// context bounds is left open: some engines refuse a bound that does not fit beside the prompt.
fn bounded(request: &InferenceRequest, grant: &Grant, context_tokens: u32) -> InferenceRequest {
    let context_tokens = context_tokens.clamp(1, COMPLETION_TOKENS_MAX);
    let is_open = request.tokens_max.is_none() && grant.tokens_max == context_tokens;
    let bound = grant.tokens_max.max(1);
    InferenceRequest { tokens_max: (!is_open).then_some(bound), ..request.clone() }
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
            let lane = (self.channel, opened.held.lane, opened.held.total_before);
            self.shared.books.cancel(&self.job.key, lane, &opened.reserved);
        }
    }
}

enum NotOrdered {
    Provider(String),
    Books(String),
}

/// Opens a stream and makes the order. Nothing is signed before the lane's lease is durable.
async fn order_from(
    mut hold: Hold<'_>,
    draft: Draft,
    connection: &dyn net::Connection,
    slot: Slot,
    request: InferenceRequest,
) -> Result<Attempt, NotOrdered> {
    let continues = request.begun.is_some();
    let (shared, job, opened) = (hold.shared, hold.job, hold.opened());
    let Draft { mut terms, race, replay, .. } = draft;
    let config = &shared.config;
    let books = |error: store::JournalError| NotOrdered::Books(error.to_string());
    if let Some(lease) = opened.lease {
        shared.books.sync(lease).await.map_err(books)?;
    }
    let streams = timeout(Duration::from_millis(terms.waits.accept_ms), connection.open())
        .await
        .map_err(|_| NotOrdered::Provider("no stream to it could be opened in time".into()))?
        .map_err(|error| NotOrdered::Provider(error.to_string()))?;
    let voucher = shared
        .books
        .voucher(terms.channel, terms.lane, terms.promised)
        .ok_or_else(|| NotOrdered::Books("a lane's lease is too short".into()))?;
    terms.promised = voucher.total;
    let order = Order {
        request_id: terms.request_id,
        attempt: terms.attempt,
        provider: terms.provider,
        model: terms.model,
        prompt_hash: terms.prompt_hash,
        request_hash: request_hash(&request, &job.salt),
        price: terms.price,
        channel: terms.channel,
        lane: terms.lane,
        lane_total_before: terms.lane_total_before,
        issued_at: shared.now(),
        timeout_ms: terms.waits.total_ms,
    };
    let order_hash = order.hash();
    let open = ToProvider::Open(Box::new(Open {
        order: Signed::new(order, &config.chain_id, &*config.payer),
        salt: job.salt,
        request,
        discloses: job.needs.discloses,
        voucher: Signed::new(voucher, &config.chain_id, &*config.payer),
    }));
    let frame = frame::encode(&open).map_err(|error| NotOrdered::Books(error.to_string()))?;
    hold.opened = None;
    let line = ProviderLine::new(slot, streams, order_hash, BytesMut::from(&frame[..]));
    Ok(Attempt::new(Beginning {
        shared: Arc::clone(shared),
        job: Arc::clone(job),
        reserved: opened.reserved,
        line: Line::Provider(Box::new(line)),
        session: Session::new(terms),
        continues,
        race,
        replay,
        began: Instant::now(),
    }))
}

/// The waits for an answer whose tokens come all at once: all those that there would have been in a row.
fn whole_waits(waits: Waits, token_us: Option<u64>, tokens_max: u32) -> Waits {
    let least_us = waits.inter_token_ms.saturating_mul(1_000);
    let token_us = token_us.map_or(least_us, |token_us| token_us.min(least_us));
    let tokens_ms = token_us.saturating_mul(tokens_max.into()) / 1_000;
    let begun_ms = waits.first_token_ms.saturating_add(waits.inter_token_ms);
    let total_ms = begun_ms.saturating_add(tokens_ms).min(waits.total_ms);
    Waits { first_token_ms: total_ms, total_ms, ..waits }
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
