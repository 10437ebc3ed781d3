//! Performs what a session wants and tells it what happened.

use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    time::Duration,
};

use engine::{EngineError, EngineEvent, Events, Generation, STREAM_EVENTS_MAX};
use futures::StreamExt;
use keys::Ed25519;
use net::{ReceiveHalf, SendHalf};
use store::RecordId;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use types::{
    PublicKey, TimeMs,
    channel::Voucher,
    receipt::{Acknowledgement, Receipt, ServiceReport},
    sign::Signed,
};
use verify::profile;
use wire::{
    chain::ChannelView,
    frame::FrameError,
    serve::{Accepted, Opening, Order, Refusal, Refused, ToGateway, ToProvider},
};

use super::{
    Admitted, DEPOSIT_APART_MS, Disclosing, LATER_FRAME_BYTES_MAX, Lease, finish, frames, write,
};
use crate::{
    admission,
    books::{Attempt, LaneKey},
    channels::{FRESH_MS, LookupError},
    journal::BooksError,
    record::Record,
    session::{Effect, Failure, Input, Mark, Outcome, Session},
    shared::Shared,
};

/// From this long before a payer may take its deposit back, its vouchers are not trusted any more.
const CLOSING_MARGIN_MS: u64 = 60_000;

type Starting = Pin<Box<dyn Future<Output = Result<Generation, EngineError>> + Send>>;
type Syncing<'a> = Pin<Box<dyn Future<Output = (Mark, Result<(), BooksError>)> + Send + 'a>>;

/// A request being served.
pub(super) struct Running<'a> {
    shared: &'a Shared,
    session: Session,
    /// Given back before the report is sent, so that the lane is free when the payer hears of it.
    lease: Option<Lease<'a>>,
    order: Order,
    payer_key: PublicKey,
    send: SendHalf,
    starting: Option<Starting>,
    events: Option<Events>,
    cancel: CancellationToken,
    _stop_with_us: DropGuard,
    /// Records that are perhaps not durable yet, oldest first.
    records: VecDeque<(Mark, RecordId)>,
    syncing: Option<Syncing<'a>>,
    report: Option<Signed<ServiceReport>>,
    disclosing: Option<Disclosing>,
    cut_told: bool,
    /// Nothing more will be read: the end of a stream is told once.
    peer_ended: bool,
    opened_at: (TimeMs, Instant),
}

impl<'a> Running<'a> {
    pub(super) fn new(shared: &'a Shared, admitted: Admitted<'a>, send: SendHalf) -> Running<'a> {
        let Admitted { session, lease, order, payer_key, request, engine, opened, disclosing } =
            admitted;
        let cancel = CancellationToken::new();
        let (model, engine_cancel) = (order.model, cancel.clone());
        Running {
            shared,
            session,
            lease: Some(lease),
            order,
            payer_key,
            send,
            starting: Some(Box::pin(async move {
                engine.generate(model, request, engine_cancel).await
            })),
            events: None,
            _stop_with_us: cancel.clone().drop_guard(),
            cancel,
            records: VecDeque::from([(Mark::OPENED, opened)]),
            syncing: None,
            report: None,
            disclosing,
            cut_told: false,
            peer_ended: false,
            opened_at: (shared.now(), Instant::now()),
        }
    }

    /// The time on the session's own scale, which no change of the system's clock bends.
    fn now(&self) -> TimeMs {
        let (opened_at, instant) = self.opened_at;
        opened_at.plus_ms(u64::try_from(instant.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) async fn run(mut self, receive: ReceiveHalf) {
        let mut from_peer = pin!(frames::<ToProvider>(receive, LATER_FRAME_BYTES_MAX));
        while !self.session.is_over() {
            if let Some(mark) = self.newly_durable() {
                self.step(Input::Durable(mark)).await;
                continue;
            }
            let wants_engine = self.session.wants_engine();
            let deadline = self.deadline();
            let mut events = Vec::new();
            let cut = self.shared.cut.cancelled();
            let input = tokio::select! {
                // Vouchers before tokens: cover first, then what it covers.
                biased;
                frame = from_peer.next(), if !self.peer_ended => Next::Frame(Box::new(frame)),
                () = cut, if !self.cut_told => Next::Input(Input::Cut),
                (mark, synced) = maybe(&mut self.syncing) => Next::Synced(mark, synced),
                started = maybe(&mut self.starting) => Next::Started(started),
                count = receive_events(&mut self.events, &mut events), if wants_engine =>
                    Next::Input(if count == 0 { Input::EngineGone } else { Input::Engine(events) }),
                () = sleep_until(deadline) => Next::Input(Input::Tick),
            };
            let input = self.input(input).await;
            self.step(input).await;
        }
    }

    async fn input(&mut self, next: Next) -> Input {
        match next {
            Next::Input(input) => {
                self.cut_told |= matches!(input, Input::Cut);
                input
            }
            Next::Frame(frame) => self.frame(*frame).await,
            Next::Synced(mark, synced) => {
                self.syncing = None;
                match synced {
                    Ok(()) => Input::Durable(mark),
                    Err(error) => Input::Failed(self.journal_broken(&error)),
                }
            }
            Next::Started(started) => {
                self.starting = None;
                match started {
                    Ok(Generation { prompt_tokens, events }) => {
                        self.events = Some(events);
                        Input::Started { prompt_tokens }
                    }
                    Err(error) => {
                        self.shared.failed(&error);
                        Input::NotStarted { refusal: refusal_of(&error) }
                    }
                }
            }
        }
    }

    /// The latest of the records that have become durable since.
    fn newly_durable(&mut self) -> Option<Mark> {
        let mut newest = None;
        while let Some(&(mark, id)) = self.records.front()
            && self.shared.books.is_durable(id)
        {
            newest = Some(mark);
            self.records.pop_front();
        }
        newest
    }

    fn deadline(&self) -> Option<Instant> {
        let ms = self.session.deadline()?.ms_since(self.now());
        Some(Instant::now() + Duration::from_millis(ms))
    }

    async fn frame(&mut self, frame: Option<Result<ToProvider, FrameError>>) -> Input {
        self.peer_ended = !matches!(frame, Some(Ok(_)));
        let what = match frame {
            None | Some(Err(FrameError::Io { .. })) => return Input::Gone,
            Some(Ok(ToProvider::Cancel)) => return Input::Cancel,
            Some(Ok(ToProvider::Voucher(voucher))) => match self.verified(voucher) {
                Some(voucher) => {
                    let affordable = self.is_affordable(&voucher.value).await;
                    return Input::Voucher { voucher, affordable };
                }
                None => "voucher",
            },
            Some(Ok(ToProvider::Acknowledge(ack))) => match self.answers_our_report(ack) {
                Some(ack) => return Input::Acknowledged(Box::new(ack)),
                None => "acknowledgement",
            },
            Some(Ok(
                ToProvider::Open(_) | ToProvider::Sync { .. } | ToProvider::Disclose { .. },
            )) => "later message",
            Some(Err(_)) => "frame",
        };
        self.shared.board.violated(what);
        Input::Violation
    }

    /// The voucher, if the channel's payer key signed it.
    fn verified(&self, voucher: Signed<Voucher>) -> Option<Signed<Voucher>> {
        let chain_id = &self.shared.config.chain_id;
        let known = voucher.signer == self.payer_key;
        known.then(|| voucher.verify(chain_id, &Ed25519).ok())?.map(|voucher| voucher.into_signed())
    }

    /// Whether the deposit holds the voucher; a top-up that we have not seen is looked for.
    async fn is_affordable(&mut self, voucher: &Voucher) -> bool {
        let (shared, channel) = (self.shared, self.order.channel);
        let known = shared.channels.get(channel, FRESH_MS).await;
        if self.is_held(known, voucher) {
            return true;
        }
        let renewed = shared.channels.renewed(channel, DEPOSIT_APART_MS).await;
        self.is_held(renewed, voucher)
    }

    fn is_held(
        &self,
        looked_up: Result<Option<ChannelView>, LookupError>,
        voucher: &Voucher,
    ) -> bool {
        match looked_up {
            Ok(view) => view.is_some_and(|view| self.holds(&view, voucher)),
            Err(error) => {
                self.shared.failed(&error);
                false
            }
        }
    }

    fn holds(&self, view: &ChannelView, voucher: &Voucher) -> bool {
        let closing =
            view.withdraw_at.is_some_and(|at| self.shared.now().plus_ms(CLOSING_MARGIN_MS) >= at);
        let check = |books: &_| {
            admission::check_deposit(view, books, LaneKey::of(voucher), voucher.total).is_ok()
        };
        view.open && !closing && self.shared.books.read(check)
    }

    /// The acknowledgement, if it is of our report and signed by the payer.
    fn answers_our_report(
        &self,
        acknowledgement: Signed<Acknowledgement>,
    ) -> Option<Signed<Acknowledgement>> {
        let report = self.report.clone().filter(|_| self.session.is_reported())?;
        let chain_id = self.shared.config.chain_id.clone();
        let receipt = Receipt { chain_id, report: Some(report), acknowledgement };
        let fits =
            receipt.acknowledgement.signer == self.payer_key && receipt.verify(&Ed25519).is_ok();
        if fits && !receipt.agrees() {
            self.shared.board.violated("counts differ");
        }
        fits.then_some(receipt.acknowledgement)
    }

    /// Takes an input and performs what follows, in order. The first failure replaces the rest.
    async fn step(&mut self, input: Input) {
        let mut effects = VecDeque::from(self.session.step(self.now(), input));
        while let Some(effect) = effects.pop_front() {
            if let Err(failure) = self.perform(effect).await {
                effects = self.session.step(self.now(), Input::Failed(failure)).into();
            }
        }
    }

    async fn perform(&mut self, effect: Effect) -> Result<(), Failure> {
        match effect {
            Effect::Persist { mark, record } => {
                let id = self.record(*record)?;
                self.records.push_back((mark, id));
            }
            Effect::Sync(mark) => self.sync(mark),
            Effect::Accept { prompt_tokens } => {
                let accepted =
                    Accepted { order: self.order.hash(), prompt_tokens, at: self.shared.now() };
                let message = ToGateway::Accepted(self.shared.signed(accepted));
                write(&mut self.send, &message).await.map_err(|_| Failure::Send)?;
            }
            Effect::Refuse(reason) => {
                self.shared.board.refused(&reason);
                let refused = Refused { order: self.order.hash(), reason, at: self.shared.now() };
                let message = ToGateway::Refused(self.shared.signed(refused));
                if write(&mut self.send, &message).await.is_ok() {
                    finish(&mut self.send).await;
                }
            }
            Effect::Delta { pieces, prompt_tokens } => {
                let message = ToGateway::Delta { pieces, prompt_tokens };
                write(&mut self.send, &message).await.map_err(|_| Failure::Delta)?;
            }
            Effect::StopEngine => {
                self.cancel.cancel();
                self.starting = None;
                self.events = None;
            }
            Effect::Report { report, tell } => self.tell_report(*report, tell).await?,
            Effect::Violated(what) => self.shared.board.violated(what),
            Effect::Done(outcome) => self.count(outcome),
        }
        Ok(())
    }

    fn record(&self, record: Record) -> Result<RecordId, Failure> {
        self.shared.books.record(record).map_err(|error| self.journal_broken(&error))
    }

    fn journal_broken(&self, error: &BooksError) -> Failure {
        self.shared.failed(error);
        Failure::Journal
    }

    fn sync(&mut self, mark: Mark) {
        let record = self.records.iter().find(|(known, _)| *known == mark);
        // Not there any more: it became durable meanwhile, which the next round tells.
        if let Some(&(mark, id)) = record {
            let shared = self.shared;
            self.syncing = Some(Box::pin(async move { (mark, shared.books.sync(id).await) }));
        }
    }

    async fn tell_report(&mut self, mut report: ServiceReport, tell: bool) -> Result<(), Failure> {
        let charged = report.lane_total.saturating_sub(report.lane_total_before);
        let tokens = u64::from(report.completion_tokens);
        tracing::info!(
            request = %report.request_id, attempt = report.attempt, model = %report.model,
            tokens, charged_nusd = %charged, finish = ?report.finish, "provider.request ended"
        );
        if !self.keep_opening(&report) {
            // What the report names may be demanded, and who cannot open it then loses stake.
            profile::NO_NAME.clone_into(&mut report.profile);
        }
        let report = self.shared.signed(report);
        self.record(Record::Ended { report: report.clone() })?;
        self.lease = None;
        self.shared.charged(charged);
        self.shared.board.update(|counts| {
            counts.served += u64::from(tokens > 0);
            counts.tokens_delivered += tokens;
        });
        self.report = Some(report.clone());
        if tell {
            let message = ToGateway::Final(Box::new(report));
            write(&mut self.send, &message).await.map_err(|_| Failure::Send)?;
            finish(&mut self.send).await;
        }
        Ok(())
    }

    /// Keeps what an auditor may ask for. Returns whether the answer can be opened, if it may be asked for.
    fn keep_opening(&mut self, report: &ServiceReport) -> bool {
        let Some((text, leaves)) =
            self.session.disclosed().filter(|(_, leaves)| !leaves.is_empty())
        else {
            return true;
        };
        let Some(Disclosing { order, salt, request }) = self.disclosing.take() else {
            return false;
        };
        let opening = Opening { order, salt, request, text, leaves };
        let attempt = Attempt { request_id: report.request_id, number: report.attempt };
        let kept = self.shared.openings.keep(attempt, report.ended_at, &opening);
        if let Err(error) = &kept {
            self.shared.failed(error);
        }
        kept.is_ok()
    }

    fn count(&self, outcome: Outcome) {
        match outcome {
            Outcome::Refused | Outcome::Acknowledged | Outcome::JournalBroken => {
                self.shared.board.changed();
            }
            Outcome::Unacknowledged => {
                self.shared.board.update(|counts| counts.unacknowledged += 1);
            }
        }
    }
}

/// What came first.
enum Next {
    Input(Input),
    Frame(Box<Option<Result<ToProvider, FrameError>>>),
    Synced(Mark, Result<(), BooksError>),
    Started(Result<Generation, EngineError>),
}

/// Completes with `future`, never without one.
async fn maybe<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// All events that are ready, at least one; 0 at the end of the stream.
async fn receive_events(events: &mut Option<Events>, into: &mut Vec<EngineEvent>) -> usize {
    match events {
        Some(events) => events.recv_many(into, STREAM_EVENTS_MAX).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What a gateway is told when the engine does not begin.
fn refusal_of(error: &EngineError) -> Refusal {
    let request =
        |field: &str, problem: String| Refusal::Request { field: field.to_owned(), problem };
    match error {
        EngineError::Busy { .. } => admission::busy(),
        EngineError::UnknownModel { .. } | EngineError::Unlisted { .. } => Refusal::UnknownModel,
        EngineError::ContextFull { .. } => request("prompt", error.to_string()),
        EngineError::BadRequest { reason } => request("request", reason.clone()),
        EngineError::Unsupported { .. } | EngineError::Lacking { .. } => {
            request("request", error.to_string())
        }
        EngineError::Unreachable { .. }
        | EngineError::Refused { .. }
        | EngineError::Protocol { .. }
        | EngineError::Model { .. }
        | EngineError::Failed { .. } => Refusal::Engine,
    }
}
