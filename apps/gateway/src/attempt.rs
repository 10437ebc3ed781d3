//! One attempt on the wire: carries out what [`Session`] decides.
//!
//! Polled from the task that writes to the client, so that a token goes from the provider's stream
//! to the client's socket without waking another task. Every poll leaves the state whole: dropping
//! an attempt tells the session that the client has left, and a task of its own finishes the books.

use std::{
    collections::VecDeque,
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use net::{ReceiveHalf, SendHalf};
use tokio::{
    io::AsyncWrite,
    time::{Instant, Sleep},
};
use tokio_util::io::poll_read_buf;
use types::{
    Address, Hash32, Nusd,
    inference::{Span, TokenPiece},
    receipt::Receipt,
    sign::{Signable, Signed},
};
use wire::{
    frame,
    serve::{Refusal, TO_GATEWAY_FRAME_BYTES_MAX, ToGateway, ToProvider},
};

use crate::{
    books::{Ended, Opened, Settlement},
    dispatch::Job,
    keyring::{self, Booked},
    providers::{Slot, lane_claim},
    session::{Breach, Closing, Effect, Ending, Failure, Input, Session, Terms, acknowledgement},
    shared::{Shared, millis},
    text::TextAssembler,
    traces::{AttemptSpan, unix_ns},
};

/// Room for reading: a few hundred tokens. Grows for larger frames.
const INBOX_BYTES: usize = 4 * 1024;
/// Messages taken in one go before other tasks get their turn.
const MESSAGES_PER_POLL: u32 = 256;
/// For the last frames to leave after the books are closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// What an attempt gives to whoever waits for the answer.
#[derive(Debug)]
pub(crate) enum Event {
    /// At least one character, and the tokens it was made of.
    Tokens { text: String, pieces: Vec<TokenPiece> },
    /// A call of this tool begins.
    Call { name: String },
    /// More of its arguments; at least one character.
    Arguments { text: String },
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
    opened: Opened,
    order: Hash32,
    slot: Slot,
    session: Session,
    /// It goes on with what another provider has begun: the client's prompt is paid.
    continues: bool,
    began: Instant,
    accepted_ms: u64,
    first_token_ms: Option<u64>,
    last_token_ms: u64,
    longest_gap_ms: u64,
    /// Against another attempt, and who has won.
    race: Option<Race>,
    send: SendHalf,
    outbox: BytesMut,
    receive: ReceiveHalf,
    inbox: BytesMut,
    timer: Pin<Box<Sleep>>,
    effects: Vec<Effect>,
    events: VecDeque<Event>,
    text: TextAssembler,
    /// What the last piece belonged to.
    span: Span,
    /// Some belonged to a call.
    calls: bool,
    /// Tokens whose last character is not complete.
    held: Vec<TokenPiece>,
    /// Something was given to the client.
    delivered: bool,
    closed: bool,
    /// What the end still waits for.
    booked: Option<Booked>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("session", &self.session).finish_non_exhaustive()
    }
}

/// What an attempt begins with: an order that is written into `outbox` but not sent.
pub(crate) struct Beginning {
    pub shared: Arc<Shared>,
    pub job: Arc<Job>,
    pub opened: Opened,
    pub order: Hash32,
    pub slot: Slot,
    pub session: Session,
    pub continues: bool,
    pub race: Option<Race>,
    pub began: Instant,
    pub streams: (SendHalf, ReceiveHalf),
    pub outbox: BytesMut,
}

impl Attempt {
    pub(crate) fn new(beginning: Beginning) -> Attempt {
        let Beginning { shared, job, opened, order, slot, session, .. } = beginning;
        let Beginning { continues, race, began, streams, outbox, .. } = beginning;
        let first_ms = session.deadline_ms().unwrap_or_default();
        let inner = Inner {
            shared,
            job,
            opened,
            order,
            slot,
            continues,
            began,
            accepted_ms: 0,
            first_token_ms: None,
            last_token_ms: 0,
            longest_gap_ms: 0,
            race,
            send: streams.0,
            outbox,
            receive: streams.1,
            inbox: BytesMut::with_capacity(INBOX_BYTES),
            timer: Box::pin(tokio::time::sleep_until(began + Duration::from_millis(first_ms))),
            session,
            effects: Vec::with_capacity(4),
            events: VecDeque::with_capacity(4),
            text: TextAssembler::default(),
            span: Span::Text,
            calls: false,
            held: Vec::new(),
            delivered: false,
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

    /// The next event.
    pub(crate) async fn event(&mut self) -> Event {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Puts back an event that was looked at.
    pub(crate) fn unread(&mut self, event: Event) {
        if let Some(inner) = &mut self.inner {
            inner.events.push_front(event);
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
            if let Some(event) = self.events.pop_front() {
                if let (Event::Closed(_), Some(booked)) = (&event, &mut self.booked) {
                    if booked.as_mut().poll(cx).is_pending() {
                        self.events.push_front(event);
                        let _ = self.poll_flush(cx);
                        return Poll::Pending;
                    }
                    self.booked = None;
                }
                if matches!(event, Event::Closed(_)) {
                    self.say_farewell(cx);
                }
                return Poll::Ready(event);
            }
            // A write error shows on the reading side too, as the end of the stream.
            let _ = self.poll_flush(cx);
            match frame::take::<ToGateway>(&mut self.inbox, TO_GATEWAY_FRAME_BYTES_MAX) {
                Ok(Some(message)) => {
                    let input = self.check(message);
                    self.step(input);
                    continue;
                }
                Err(error) => {
                    self.step(Input::Breach(Breach::Frame(error.to_string())));
                    continue;
                }
                Ok(None) => self.inbox.reserve(INBOX_BYTES / 4),
            }
            match poll_read_buf(Pin::new(&mut self.receive), cx, &mut self.inbox) {
                Poll::Ready(Ok(0) | Err(_)) => self.step(Input::Ended),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending if self.timer_fired(cx) => self.step(Input::Tick),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
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

    /// From what a peer sent to what the session may believe.
    fn check(&self, message: ToGateway) -> Input {
        match message {
            ToGateway::Delta { pieces, prompt_tokens } => Input::Delta { pieces, prompt_tokens },
            ToGateway::Accepted(signed) if self.is_own(&signed, signed.value.order) => {
                Input::Accepted { prompt_tokens: signed.value.prompt_tokens }
            }
            ToGateway::Refused(signed) if self.is_own(&signed, signed.value.order) => {
                Input::Refused(signed.value.reason)
            }
            ToGateway::Accepted(_) | ToGateway::Refused(_) => Input::Breach(Breach::Signature),
            ToGateway::Final(report) => {
                let own = self.slot.is_operator_key(&report.signer);
                match report.verify(&self.shared.config.chain_id, self.slot.operator_key()) {
                    Ok(report) if own => Input::Final(Box::new(report)),
                    Ok(_) | Err(_) => Input::Breach(Breach::Signature),
                }
            }
            ToGateway::Lanes(_) => Input::Breach(Breach::OutOfOrder),
        }
    }

    fn is_own<T: Signable + Clone>(&self, signed: &Signed<T>, order: Hash32) -> bool {
        order == self.order
            && self.slot.is_operator_key(&signed.signer)
            && signed.clone().verify(&self.shared.config.chain_id, self.slot.operator_key()).is_ok()
    }

    fn step(&mut self, input: Input) {
        let now_ms = self.now_ms();
        if matches!(input, Input::Accepted { .. }) {
            self.accepted_ms = now_ms;
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
                Effect::Cancel => self.send(&ToProvider::Cancel),
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
                self.send(&ToProvider::Voucher(voucher));
            }
            // The lane was leased for the most this request can cost.
            None => tracing::error!(%total, lane = %terms.lane, "attempt.voucher_above_lease"),
        }
    }

    fn send(&mut self, message: &ToProvider) {
        match frame::encode(message) {
            Ok(bytes) => self.outbox.extend_from_slice(&bytes),
            Err(error) => tracing::error!(%error, "attempt.encode"),
        }
    }

    fn deliver(&mut self, now_ms: u64, pieces: Vec<TokenPiece>) {
        if self.first_token_ms.is_some() {
            self.longest_gap_ms =
                self.longest_gap_ms.max(now_ms.saturating_sub(self.last_token_ms));
        }
        self.first_token_ms.get_or_insert(now_ms);
        self.last_token_ms = now_ms;
        if self.calls || pieces.iter().any(|piece| piece.span != Span::Text) {
            return self.deliver_calls(pieces);
        }
        self.deliver_text(pieces);
    }

    /// What may be a part of a call, in order.
    fn deliver_calls(&mut self, pieces: Vec<TokenPiece>) {
        self.calls = true;
        for piece in pieces {
            if piece.span != self.span {
                // Half a character at the end of a text or of arguments will not become one.
                self.finish_text();
                self.span = piece.span;
            }
            match piece.span {
                Span::Text => self.deliver_text(vec![piece]),
                Span::CallName => {
                    let name = String::from_utf8_lossy(&piece.bytes).into_owned();
                    self.delivered = true;
                    self.events.push_back(Event::Call { name });
                }
                Span::CallArguments => {
                    let mut text = String::new();
                    self.text.push(&piece.bytes, &mut text);
                    self.arguments(text);
                }
            }
        }
    }

    fn arguments(&mut self, more: String) {
        if more.is_empty() {
            return;
        }
        match self.events.back_mut() {
            Some(Event::Arguments { text }) => *text += &more,
            _ => self.events.push_back(Event::Arguments { text: more }),
        }
    }

    /// Shows half a character as such.
    fn finish_text(&mut self) {
        let mut rest = String::new();
        self.text.finish(&mut rest);
        match self.span {
            Span::CallName => {}
            Span::CallArguments => self.arguments(rest),
            Span::Text if rest.is_empty() => {}
            Span::Text => {
                self.delivered = true;
                let pieces = std::mem::take(&mut self.held);
                self.events.push_back(Event::Tokens { text: rest, pieces });
            }
        }
    }

    fn deliver_text(&mut self, mut pieces: Vec<TokenPiece>) {
        let mut text = String::new();
        for piece in &pieces {
            self.text.push(&piece.bytes, &mut text);
        }
        if text.is_empty() {
            self.held.append(&mut pieces);
            return;
        }
        if !self.held.is_empty() {
            self.held.append(&mut pieces);
            pieces = std::mem::take(&mut self.held);
        }
        // Tokens that lie wholly in an unfinished character wait for its end.
        let (mut waiting, mut given) = (self.text.unfinished(), pieces.len());
        while let Some(last) = pieces[..given].last().filter(|last| last.bytes.len() <= waiting) {
            waiting -= last.bytes.len();
            given -= 1;
        }
        self.held = pieces.split_off(given);
        self.delivered = true;
        self.events.push_back(Event::Tokens { text, pieces });
    }

    /// Closes the books, then tells how it ended. What is told last to the client is told after.
    fn close(&mut self, now_ms: u64, closing: Closing) {
        self.closed = true;
        let finished = matches!(closing.ending, Ending::Finished(_));
        // Half a character at the end of a whole answer is shown as such. At the end of a part, whoever
        // goes on makes it anew.
        if finished {
            self.finish_text();
        }
        let held = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        let given = closing.delivered.saturating_sub(held);
        // An attempt that gave the client nothing is either replaced by another or answered with an
        // error: what its provider is owed is not the client's to pay.
        let answered = finished || self.delivered || closing.ending == Ending::ClientGone;
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
        let prompt_tokens = if self.continues { 0 } else { closing.prompt_tokens };
        let recorded = if closing.delivered == 0 && closing.report.is_none() {
            let channel = self.session.terms().channel;
            self.shared.books.cancel(&self.job.key, channel, &self.opened);
            self.reconcile(&closing.ending)
        } else {
            let tokens = u64::from(prompt_tokens).saturating_add(given.into());
            let tokens = if answered && given > 0 { tokens } else { 0 };
            self.settle(now_ms, &closing, (billed, tokens), answered)
        };
        let unrecorded = recorded.err().map(|error| {
            tracing::error!(request = %self.job.request_id, %error, "attempt.unrecorded");
            error.to_string()
        });
        if answered && given > 0 {
            self.shared.metrics.delivered(prompt_tokens, given, billed);
        }
        let outcome = self.observe(now_ms, &closing);
        self.trace(now_ms, &closing, outcome, billed);
        self.events.push_back(Event::Closed(Box::new(Closed {
            closing,
            given,
            billed,
            unrecorded,
        })));
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
    ) -> Result<(), store::JournalError> {
        let Shared { config, .. } = &*self.shared;
        let ack = acknowledgement(self.session.terms(), closing, self.shared.now());
        let acknowledgement = Signed::new(ack, &config.chain_id, &*config.payer);
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
        };
        // One that failed may be gone on with.
        let is_last = answered && !matches!(closing.ending, Ending::Failed(_));
        let ended = Ended { tokens, steady: self.shared.since_start(), is_last };
        let recorded = keyring::settle(&self.shared, &self.opened, settlement, ended);
        let recorded = recorded.map(|booked| self.booked = booked);
        if closing.report.is_some() {
            self.send(&ToProvider::Acknowledge(acknowledgement));
        }
        recorded
    }

    /// A refusal may say that the provider counts more than we do, or is not done with the lane.
    fn reconcile(&self, ending: &Ending) -> Result<(), store::JournalError> {
        let Shared { config, books, .. } = &*self.shared;
        let channel = self.session.terms().channel;
        let state = match ending {
            Ending::Refused(Refusal::LaneDiffers(state)) => state,
            Ending::Refused(Refusal::LaneBusy) => {
                books.rest_lane(channel, self.session.terms().lane);
                return Ok(());
            }
            _ => return Ok(()),
        };
        if state.lane != self.session.terms().lane {
            return Ok(());
        }
        let payer = config.payer.public_key();
        match lane_claim(state, channel, payer, &config.chain_id) {
            Some(claim) => books.adopt(channel, &[claim], false),
            None => Ok(()),
        }
    }

    fn observe(&self, now_ms: u64, closing: &Closing) -> market::Outcome {
        use market::Outcome;
        let outcome = match &closing.ending {
            Ending::Finished(_) => Outcome::Served {
                prompt_tokens: closing.prompt_tokens,
                first_token_ms: self.first_token_ms.unwrap_or(now_ms),
                total_ms: now_ms,
                delivered: closing.delivered,
                waited: self.waited(now_ms),
            },
            Ending::Refused(refusal) => refusal_outcome(refusal),
            Ending::ClientGone => Outcome::Neutral,
            Ending::Failed(_) if closing.delivered == 0 => Outcome::Failed,
            Ending::Failed(_) => Outcome::Cut,
        };
        let problem = match &closing.ending {
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
        if let (Outcome::Served { .. }, Some(prefix)) = (outcome, self.job.prefix) {
            self.shared.directory.warmed(prefix, terms.model, terms.provider);
        }
        let now = self.shared.since_start();
        self.shared.metrics.attempt(outcome);
        self.shared.directory.observe(&terms.provider, terms.model, now, outcome, problem);
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
        let has_begun = self.accepted_ms > 0 || self.first_token_ms.is_some();
        let attempt = AttemptSpan {
            terms: self.session.terms(),
            closing,
            outcome,
            billed,
            start_unix_ns: unix_ns(self.job.started_at, self.job.began, self.began),
            accepted_ms: has_begun.then_some(self.accepted_ms),
            first_token_ms: self.first_token_ms,
            total_ms: now_ms,
        };
        tracer.attempt(place, &attempt);
    }

    fn waited(&self, now_ms: u64) -> market::Waited {
        let first_token_ms = self.first_token_ms.unwrap_or(now_ms);
        market::Waited {
            accept_ms: self.accepted_ms,
            first_token_ms: first_token_ms.saturating_sub(self.accepted_ms),
            gap_ms: self.longest_gap_ms,
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.outbox.is_empty() {
            match Pin::new(&mut self.send).poll_write(cx, &self.outbox) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
                }
                Poll::Ready(Ok(written)) => self.outbox.advance(written),
                Poll::Ready(Err(error)) => {
                    self.outbox.clear();
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is left and ends the stream; in the background if the provider is slow to take it.
    fn say_farewell(&mut self, cx: &mut Context<'_>) {
        let flushed = self.poll_flush(cx).is_ready();
        if flushed && Pin::new(&mut self.send).poll_shutdown(cx).is_ready() {
            return;
        }
        let mut send = std::mem::replace(&mut self.send, Box::new(tokio::io::sink()));
        let mut outbox = std::mem::take(&mut self.outbox);
        self.shared.tasks.spawn(async move {
            use tokio::io::AsyncWriteExt;
            let farewell = async {
                send.write_all_buf(&mut outbox).await?;
                send.shutdown().await
            };
            // Whether or not the last words are heard, the books are closed.
            let _ = tokio::time::timeout(FAREWELL, pin!(farewell)).await;
        });
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
