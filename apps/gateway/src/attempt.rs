//! One attempt on the wire: carries out what [`Session`] decides.
//!
//! Polled from the task that writes to the client, so that a token goes from the provider's stream
//! to the client's socket without waking another task. Every poll leaves the state whole: dropping
//! an attempt tells the session that the client has left, and a task of its own finishes the books.

mod delivery;
mod provider;
mod upstream;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, Sleep};
use types::{Address, Nusd, inference::TokenPiece, receipt::Receipt, sign::Signed};
use verify::l0::Finding;
use wire::serve::{Refusal, ToProvider};

use self::delivery::Delivery;
pub(crate) use self::{provider::ProviderLine, upstream::UpstreamLine};
use crate::{
    books::{Bought, Ended, Reserved, Settlement, unsigned},
    demands,
    dispatch::Job,
    keyring::{self, Booked},
    providers::lane_claim,
    replay::Replaying,
    session::{Closing, Effect, Ending, Failure, Input, Session, Terms, acknowledgement},
    shared::{Shared, millis},
    traces::{AttemptSpan, unix_ns},
};

/// Messages taken in one go before other tasks get their turn.
const MESSAGES_PER_POLL: u32 = 256;

/// How far a provider's clock may be from ours. The age of an answer decides whether an audit of it can be demanded.
const CLOCKS_APART_MS_MAX: u64 = 60 * 60 * 1_000;

/// What an attempt gives to whoever waits for the answer.
#[derive(Debug)]
pub(crate) enum Event {
    /// At least one character, and the tokens it was made of.
    Tokens { text: String, pieces: Vec<TokenPiece> },
    /// A call of this tool begins.
    Call { name: String },
    /// More of its arguments; at least one character.
    Arguments { text: String },
    /// All vectors that were asked for: little-endian 32-bit floats. Nobody is given some of them.
    Vectors(Vec<Bytes>),
    /// The books of this attempt are closed. The last event.
    Closed(Box<Closed>),
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) struct Closed {
    pub closing: Closing,
    /// Tokens that the client was given. One whose last character never came whole is none.
    pub given: u32,
    /// Taken from the key's budget.
    pub billed: Nusd,
    /// Why the books could not be closed, if they could not.
    pub unrecorded: Option<String>,
}

/// Two attempts at one answer: the number of the one that has won, as soon as one has.
pub(crate) type Race = Arc<OnceLock<u16>>;

/// A running attempt.
#[derive(Debug)]
pub(crate) struct Attempt {
    provider: Address,
    number: u16,
    /// `None` only while it is dropped.
    inner: Option<Box<Inner>>,
}

struct Inner {
    shared: Arc<Shared>,
    job: Arc<Job>,
    reserved: Reserved,
    line: Line,
    session: Session,
    /// It goes on with what another provider has begun: the client's prompt is paid.
    continues: bool,
    began: Instant,
    accepted_ms: Option<u64>,
    first_token_ms: Option<u64>,
    last_token_ms: u64,
    longest_gap_ms: u64,
    /// Against another attempt, and who has won.
    race: Option<Race>,
    replay: Option<Replaying>,
    timer: Pin<Box<Sleep>>,
    effects: Vec<Effect>,
    delivery: Delivery,
    closed: bool,
    /// What the end still waits for.
    booked: Option<Booked>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Who answers, and how it is heard.
pub(crate) enum Line {
    Provider(Box<ProviderLine>),
    Upstream(Box<UpstreamLine>),
}

/// What an attempt begins with: an order that is not sent yet.
pub(crate) struct Beginning {
    pub shared: Arc<Shared>,
    pub job: Arc<Job>,
    pub reserved: Reserved,
    pub line: Line,
    pub session: Session,
    pub continues: bool,
    pub race: Option<Race>,
    /// If its tokens can be drawn again.
    pub replay: Option<Replaying>,
    pub began: Instant,
}

impl Attempt {
    pub(crate) fn new(beginning: Beginning) -> Attempt {
        let Beginning { shared, job, reserved, line, session, .. } = beginning;
        let Beginning { continues, race, replay, began, .. } = beginning;
        let first_ms = session.deadline_ms().unwrap_or_default();
        let wants_vectors = session.terms().vectors.is_some();
        let inner = Inner {
            shared,
            job,
            reserved,
            line,
            continues,
            began,
            accepted_ms: None,
            first_token_ms: None,
            last_token_ms: 0,
            longest_gap_ms: 0,
            race,
            replay,
            timer: Box::pin(tokio::time::sleep_until(began + Duration::from_millis(first_ms))),
            session,
            effects: Vec::with_capacity(4),
            delivery: Delivery::of(wants_vectors),
            closed: false,
            booked: None,
        };
        let Terms { provider, attempt, .. } = *inner.session.terms();
        Attempt { provider, number: attempt, inner: Some(Box::new(inner)) }
    }

    /// The next event. Not to be polled after `Closed`.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        match &mut self.inner {
            Some(inner) => inner.poll_event(cx),
            None => Poll::Pending,
        }
    }

    /// Whether there is nothing more after the last event, and the task of `cx`, which asked for that, is woken when there is. Spares it
    /// to ask again. `false` where that is not known.
    pub(crate) fn is_waited_for(&mut self, cx: &mut Context<'_>) -> bool {
        self.inner.as_mut().is_some_and(|inner| inner.is_waited_for(cx))
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> Event {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Puts back an event that was looked at.
    pub(crate) fn unread(&mut self, event: Event) {
        if let Some(inner) = &mut self.inner {
            inner.delivery.events.push_front(event);
        }
    }

    /// Who answers.
    pub(crate) fn provider(&self) -> Address {
        self.provider
    }

    /// Which order of the request it is, from 0.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take() else { return };
        if inner.closed && inner.booked.is_none() {
            return;
        }
        if !inner.closed {
            inner.step(Input::ClientGone);
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let tasks = inner.shared.tasks.clone();
                tasks.spawn_on(
                    async move {
                        while !matches!(
                            std::future::poll_fn(|cx| inner.poll_event(cx)).await,
                            Event::Closed(_)
                        ) {}
                    },
                    &runtime,
                );
            }
            // Without a runtime nothing more can arrive: close the books with what did.
            Err(_) if inner.closed => {}
            Err(_) => inner.step(Input::Ended),
        }
    }
}

impl Inner {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        for _ in 0..MESSAGES_PER_POLL {
            if let Some(event) = self.delivery.events.pop_front() {
                if let (Event::Closed(_), Some(booked)) = (&event, &mut self.booked) {
                    if booked.as_mut().poll(cx).is_pending() {
                        self.delivery.events.push_front(event);
                        self.line.flush(cx);
                        return Poll::Pending;
                    }
                    self.booked = None;
                }
                if let (Event::Closed(_), Line::Provider(line)) = (&event, &mut self.line) {
                    line.say_farewell(cx, &self.shared);
                }
                return Poll::Ready(event);
            }
            self.line.flush(cx);
            match self.line.poll_input(cx, &self.shared) {
                Poll::Ready(input) => self.step(input),
                Poll::Pending if self.timer_fired(cx) => self.step(Input::Tick),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_waited_for(&mut self, cx: &mut Context<'_>) -> bool {
        let is_waiting = self.delivery.events.is_empty() && self.line.is_waited_for();
        is_waiting && !self.timer_fired(cx)
    }

    /// The timer is not moved with every token: when it fires early, it is set to where it should be.
    fn timer_fired(&mut self, cx: &mut Context<'_>) -> bool {
        while self.timer.as_mut().poll(cx).is_ready() {
            let Some(deadline_ms) = self.session.deadline_ms() else { return false };
            if deadline_ms <= self.now_ms() {
                return true;
            }
            self.timer.as_mut().reset(self.began + Duration::from_millis(deadline_ms));
        }
        false
    }

    fn now_ms(&self) -> u64 {
        millis(self.began.elapsed())
    }

    fn step(&mut self, input: Input) {
        let now_ms = self.now_ms();
        if matches!(input, Input::Accepted { .. }) {
            self.accepted_ms = Some(now_ms);
        }
        let mut effects = std::mem::take(&mut self.effects);
        self.session.step(now_ms, input, &mut effects);
        // A deadline that moved later waits for the timer; one that moved nearer cannot.
        if let Some(deadline_ms) = self.session.deadline_ms() {
            let deadline = self.began + Duration::from_millis(deadline_ms);
            if deadline < self.timer.deadline() {
                self.timer.as_mut().reset(deadline);
            }
        }
        for effect in effects.drain(..) {
            match effect {
                Effect::Promise { total } => self.promise(total),
                Effect::Cancel => self.line.cancel(),
                Effect::Deliver(pieces) => self.deliver(now_ms, pieces),
                Effect::Close(closing) => self.close(now_ms, *closing),
            }
        }
        self.effects = effects;
    }

    fn promise(&mut self, total: Nusd) {
        let terms = self.session.terms();
        match self.shared.books.voucher(terms.channel, terms.lane, total) {
            Some(voucher) => {
                let Shared { config, .. } = &*self.shared;
                let voucher = Signed::new(voucher, &config.chain_id, &*config.payer);
                self.line.send(&ToProvider::Voucher(voucher));
            }
            // The lane was leased for the most this request can cost.
            None => tracing::error!(%total, lane = %terms.lane, "attempt.voucher_above_lease"),
        }
    }

    fn deliver(&mut self, now_ms: u64, mut pieces: Vec<TokenPiece>) {
        if let Some(replay) = &mut self.replay {
            replay.take(&mut pieces);
        }
        if self.first_token_ms.is_some() {
            self.longest_gap_ms =
                self.longest_gap_ms.max(now_ms.saturating_sub(self.last_token_ms));
        }
        self.first_token_ms.get_or_insert(now_ms);
        self.last_token_ms = now_ms;
        self.delivery.take(pieces);
    }

    /// Closes the books, then tells how it ended. What is told last to the client is told after.
    fn close(&mut self, now_ms: u64, closing: Closing) {
        self.closed = true;
        let finished = matches!(closing.ending, Ending::Finished(_));
        // Half a character at the end of a whole answer is shown as such. At the end of a part, whoever
        // goes on makes it anew.
        if finished {
            self.delivery.finish();
        }
        let given = closing.delivered.saturating_sub(self.delivery.held());
        // An attempt that gave the client nothing is either replaced by another or answered with an
        // error: what its provider is owed is not the client's to pay.
        let answered = finished || self.delivery.delivered || closing.ending == Ending::ClientGone;
        if closing.ending == Ending::ClientGone
            && closing.delivered > 0
            && let Some(race) = &self.race
        {
            // The client left both: one of them is its answer.
            race.get_or_init(|| self.session.terms().attempt);
        }
        let answered = answered && !self.has_lost();
        let price = &self.session.terms().price;
        let billed = match (answered, self.continues) {
            (false, _) => Nusd::ZERO,
            (true, false) => price.charge(closing.prompt_tokens, given),
            (true, true) => price.completion(given),
        };
        let replay = self.replayed(&closing);
        let prompt_tokens = if self.continues { 0 } else { closing.prompt_tokens };
        // Vectors are no tokens.
        let written = if self.wants_vectors() { 0 } else { given };
        let mut is_untrue = false;
        let recorded = if closing.delivered == 0 && closing.report.is_none() {
            let Terms { channel, lane, lane_total_before, .. } = *self.session.terms();
            let lane = (channel, lane, lane_total_before);
            self.shared.books.cancel(&self.job.key, lane, &self.reserved);
            if !matches!(closing.ending, Ending::Refused(_)) {
                self.shared.books.uncertain(channel, lane.1);
            }
            self.reconcile(&closing.ending).map(|untrue| is_untrue = untrue)
        } else {
            let tokens = u64::from(prompt_tokens).saturating_add(written.into());
            let tokens = if answered && given > 0 { tokens } else { 0 };
            self.settle(now_ms, &closing, (billed, tokens), answered, replay)
        };
        let unrecorded = recorded.err().map(|error| {
            tracing::error!(request = %self.job.request_id, %error, "attempt.unrecorded");
            error.to_string()
        });
        if answered && given > 0 {
            self.shared.metrics.delivered(prompt_tokens, written, billed);
        }
        let outcome = self.observe(now_ms, &closing, replay, is_untrue);
        self.trace(now_ms, &closing, outcome, billed);
        self.delivery.events.push_back(Event::Closed(Box::new(Closed {
            closing,
            given,
            billed,
            unrecorded,
        })));
    }

    fn wants_vectors(&self) -> bool {
        self.session.terms().vectors.is_some()
    }

    /// Another attempt was faster: what comes of this one is not the client's.
    fn has_lost(&self) -> bool {
        let winner = self.race.as_ref().and_then(|race| race.get());
        winner.is_some_and(|winner| *winner != self.session.terms().attempt)
    }

    fn settle(
        &mut self,
        now_ms: u64,
        closing: &Closing,
        (billed, tokens): (Nusd, u64),
        answered: bool,
        replay: Finding,
    ) -> Result<(), store::JournalError> {
        let Shared { config, .. } = &*self.shared;
        let ack = acknowledgement(self.session.terms(), closing, self.shared.now());
        let acknowledgement = match (&self.line, &self.shared.fleet) {
            // Nobody is paid by it. Members of a fleet cannot sign for one another.
            (Line::Upstream(_), None) => unsigned(ack, config.payer.public_key()),
            _ => Signed::new(ack, &config.chain_id, &*config.payer),
        };
        let settlement = Settlement {
            receipt: Receipt {
                chain_id: config.chain_id.clone(),
                report: closing.report.clone(),
                acknowledgement: acknowledgement.clone(),
            },
            salt: self.job.salt,
            key: self.job.key,
            billed,
            answered,
            model_name: self.job.model_name.clone(),
            started_at: self.job.started_at,
            duration_ms: now_ms,
            bought: self.line.bought(),
        };
        // One that failed may be gone on with.
        let is_last = answered && !matches!(closing.ending, Ending::Failed(_));
        let ended = Ended { tokens, steady: self.shared.since_start(), is_last };
        let recorded = keyring::settle(&self.shared, &self.reserved, settlement, ended);
        let recorded = recorded.map(|booked| self.booked = booked);
        if let Some(report) = &closing.report {
            demands::consider(&self.shared, report, &acknowledgement, replay);
            self.line.send(&ToProvider::Acknowledge(acknowledgement));
        }
        recorded
    }

    /// A refusal may say that the provider counts more than we do, or is not done with the lane. Whether what it says cannot be.
    fn reconcile(&self, ending: &Ending) -> Result<bool, store::JournalError> {
        let Shared { config, books, .. } = &*self.shared;
        let channel = self.session.terms().channel;
        let state = match ending {
            Ending::Refused(Refusal::LaneDiffers(state)) => state,
            Ending::Refused(Refusal::LaneBusy) => {
                books.rest_lane(channel, self.session.terms().lane);
                return Ok(false);
            }
            _ => return Ok(false),
        };
        if state.lane != self.session.terms().lane {
            return Ok(false);
        }
        let payer = config.payer.public_key();
        match lane_claim(state, channel, payer, &config.chain_id) {
            Some(claim) => books.adopt(channel, &[claim], false),
            None => Ok(false),
        }
    }

    /// Notes what the replay of its tokens says. Returns what has consequences.
    fn replayed(&self, closing: &Closing) -> Finding {
        let Some(replay) = self.replay.as_ref().filter(|_| closing.delivered > 0) else {
            return Finding::Clean;
        };
        let terms = self.session.terms();
        let stated = closing.report.as_ref().map(|report| report.value.completion_tokens);
        let finish = match &closing.ending {
            Ending::Finished(finish) => Some(*finish),
            Ending::Refused(_) | Ending::ClientGone | Ending::Failed(_) => None,
        };
        // Of an answer that broke off the two counts may differ by what was on its way.
        let stated = stated.filter(|_| finish.is_some());
        let Some((counts, finding)) = replay.end(stated, terms.tokens_max, finish) else {
            return Finding::Clean;
        };
        self.shared.metrics.replayed(&counts, finding);
        if finding != Finding::Clean {
            tracing::warn!(
                request = %terms.request_id, provider = %terms.provider, model = %terms.model,
                ?counts, ?finding, "attempt.replay"
            );
        }
        if replay.is_proven() { finding } else { Finding::Clean }
    }

    /// Tells whoever chooses providers what became of it.
    fn observe(
        &self,
        now_ms: u64,
        closing: &Closing,
        replay: Finding,
        is_untrue: bool,
    ) -> market::Outcome {
        use market::Outcome;
        let now = self.shared.now().0;
        let reported = closing.report.as_ref().map(|report| report.value.ended_at.0);
        let misdated =
            reported.is_some_and(|ended_at| ended_at.abs_diff(now) > CLOCKS_APART_MS_MAX);
        let outcome = match &closing.ending {
            _ if replay == Finding::Suspend || misdated => Outcome::Untrue,
            Ending::Finished(_) if self.line.is_whole() => Outcome::ServedWhole,
            Ending::Finished(_) => Outcome::Served {
                prompt_tokens: closing.prompt_tokens,
                first_token_ms: self.first_token_ms.unwrap_or(now_ms),
                total_ms: now_ms,
                delivered: closing.delivered,
                waited: self.waited(now_ms),
            },
            // It counts what it did not sign, or what no voucher is for.
            Ending::Refused(_) if is_untrue => Outcome::Failed,
            Ending::Refused(refusal) => refusal_outcome(refusal),
            Ending::ClientGone => Outcome::Neutral,
            Ending::Failed(_) if closing.delivered == 0 => Outcome::Failed,
            Ending::Failed(_) => Outcome::Cut,
        };
        let problem = match &closing.ending {
            _ if misdated => Some(
                "by its report its clock is more than an hour off; what is dated back cannot be audited".to_owned(),
            ),
            _ if matches!(outcome, Outcome::Untrue) => {
                Some("its tokens are not those that their seed draws".to_owned())
            }
            Ending::Refused(refusal) => Some(format!("refused: {refusal}")),
            Ending::Failed(failure) => Some(failure.to_string()),
            Ending::Finished(_) | Ending::ClientGone => {
                closing.findings.first().map(ToString::to_string)
            }
        };
        let terms = self.session.terms();
        tracing::info!(
            request = %terms.request_id, attempt = terms.attempt, provider = %terms.provider,
            prompt_tokens = closing.prompt_tokens, delivered = closing.delivered,
            charge = %closing.charge, ms = now_ms, problem, "attempt.closed"
        );
        for finding in &closing.findings {
            tracing::warn!(request = %terms.request_id, provider = %terms.provider, %finding, "attempt.finding");
        }
        if let (Outcome::Served { .. } | Outcome::ServedWhole, Some(prefix)) =
            (outcome, self.job.prefix)
        {
            self.shared.directory.warmed(prefix, terms.model, terms.provider);
        }
        let now = self.shared.since_start();
        self.shared.metrics.attempt(outcome);
        let named = (self.job.model_name.as_str(), terms.model);
        if !self.shared.upstreams.observe(&terms.provider, named, now, outcome) {
            self.shared.directory.observe(&terms.provider, terms.model, now, outcome, problem);
        }
        let channel_gone = matches!(
            closing.ending,
            Ending::Refused(Refusal::Channel | Refusal::DepositShort { .. })
        );
        if channel_gone {
            crate::treasury::recheck(&self.shared, terms.provider);
        }
        outcome
    }

    fn trace(&self, now_ms: u64, closing: &Closing, outcome: market::Outcome, billed: Nusd) {
        let (Some(tracer), Some(place)) = (&self.shared.tracer, self.job.place()) else { return };
        let attempt = AttemptSpan {
            terms: self.session.terms(),
            closing,
            outcome,
            billed,
            start_unix_ns: unix_ns(self.job.started_at, self.job.began, self.began),
            accepted_ms: self.accepted_ms,
            first_token_ms: self.first_token_ms,
            total_ms: now_ms,
        };
        tracer.attempt(place, &attempt);
    }

    fn waited(&self, now_ms: u64) -> market::Waited {
        let first_token_ms = self.first_token_ms.unwrap_or(now_ms);
        let accept_ms = self.accepted_ms.unwrap_or(0);
        market::Waited {
            accept_ms,
            first_token_ms: first_token_ms.saturating_sub(accept_ms),
            gap_ms: self.longest_gap_ms,
        }
    }
}

impl Line {
    /// A write error shows on the reading side too, as the end of the stream.
    fn flush(&mut self, cx: &mut Context<'_>) {
        if let Line::Provider(line) = self {
            let _ = line.poll_flush(cx);
        }
    }

    fn poll_input(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Input> {
        match self {
            Line::Provider(line) => line.poll_input(cx, shared),
            Line::Upstream(line) => line.poll_input(cx),
        }
    }

    fn is_waited_for(&self) -> bool {
        match self {
            Line::Provider(_) => false,
            Line::Upstream(line) => line.is_waited_for(),
        }
    }

    /// Promises and acknowledgements are for those who are paid by them.
    fn send(&mut self, message: &ToProvider) {
        if let Line::Provider(line) = self {
            line.send(message);
        }
    }

    fn cancel(&mut self) {
        match self {
            Line::Provider(line) => line.send(&ToProvider::Cancel),
            Line::Upstream(line) => line.cancel(),
        }
    }

    /// Whether its tokens come all at once.
    fn is_whole(&self) -> bool {
        match self {
            Line::Provider(_) => false,
            Line::Upstream(line) => line.is_whole,
        }
    }

    fn bought(&self) -> Option<Bought> {
        match self {
            Line::Provider(_) => None,
            Line::Upstream(line) => Some(line.slot.bought()),
        }
    }
}

/// What a refusal says about the provider.
fn refusal_outcome(refusal: &Refusal) -> market::Outcome {
    use market::Outcome;
    match refusal {
        Refusal::Busy { retry_after_ms } => Outcome::Busy { retry_after_ms: *retry_after_ms },
        Refusal::UnknownModel | Refusal::Engine => Outcome::Failed,
        // Our books or our request, not its engine; or it is going anyway.
        Refusal::Price { .. }
        | Refusal::Channel
        | Refusal::VoucherShort { .. }
        | Refusal::DepositShort { .. }
        | Refusal::LaneDiffers(_)
        | Refusal::LaneBusy
        | Refusal::Duplicate
        | Refusal::Request { .. }
        | Refusal::Order
        | Refusal::Leaving => Outcome::Neutral,
    }
}

/// Why an attempt without an answer failed, for people.
pub(crate) fn explain(ending: &Ending) -> String {
    match ending {
        Ending::Finished(_) => "it finished".into(),
        Ending::Refused(refusal) => format!("it refused: {refusal}"),
        Ending::ClientGone => "the client left".into(),
        Ending::Failed(failure @ Failure::Breach(_)) => failure.to_string(),
        Ending::Failed(failure) => failure.to_string(),
    }
}
