//! One request as a step machine: what arrives goes in, what is to be done comes out. Pure, so that
//! every billing rule is a test without a socket.
//!
//! Invariants (`docs/spec/serving.md`):
//! - a token is delivered only if the lane total that includes it is promised by the best voucher
//!   received, and is at most one window above what is durably promised;
//! - what is charged is the price of what was delivered, nothing for nothing;
//! - whatever ends a request, what was delivered until then is charged and reported;
//! - the report is signed only after the attempt's guard is durable.
//!
//! Effects are performed in order. If performing one fails, the rest are dropped and the failure is
//! the next input.

mod cover;
#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
mod transcript;

use std::collections::VecDeque;

use engine::EngineEvent;
use types::{
    Address, Nusd, TimeMs,
    channel::Voucher,
    inference::{FinishReason, Span, TokenPiece},
    limits,
    price::WINDOW_TOKENS,
    receipt::{Acknowledgement, ServiceReport},
    sign::Signed,
    vector::Vectors,
};
use verify::profile;
use wire::serve::{Order, Refusal};

use crate::record::Record;
use cover::{Cover, Short, Unfit};
use transcript::{Point, Transcript};

/// How long an engine may think before `Accepted` is sent without its word.
const ACCEPT_WAIT_MS: u64 = 100;
/// How long a stream waits for the next voucher before it ends with what was delivered.
pub(crate) const COVER_WAIT_MS: u64 = 5_000;
/// How long an engine that has made all that was ordered may take to tell the prompt's length: most tell it last.
const LAST_WORD_WAIT_MS: u64 = 500;
/// How long a provider waits for the acknowledgement of its report.
pub(crate) const ACKNOWLEDGE_WAIT_MS: u64 = 10_000;
/// What was charged is written down when it is this many tokens ahead of what is written.
const PROGRESS_TOKENS: u32 = WINDOW_TOKENS / 2;
/// Vouchers taken beyond one per delivered token: each costs a signature check and a record.
const VOUCHERS_SPARE: u32 = 16;
/// Bytes of tokens in one `Delta`, well below the frame's limit.
const DELTA_BYTES_MAX: usize = 64 * 1024;

/// Number of a record of this session, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Mark(pub(crate) u32);

impl Mark {
    /// The record that opens the request: guard and first voucher.
    pub(crate) const OPENED: Mark = Mark(0);
}

/// Performing an effect failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// The `Delta` could not be sent.
    Delta,
    /// Another message could not.
    Send,
    /// The journal takes no more.
    Journal,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// Time has passed.
    Tick,
    /// The engine has begun.
    Started {
        prompt_tokens: Option<u32>,
    },
    /// The engine will not begin.
    NotStarted {
        refusal: Refusal,
    },
    /// What the engine has ready, in order.
    Engine(Vec<EngineEvent>),
    /// The engine's stream ended without a last word.
    EngineGone,
    /// A voucher that the channel's payer key signed. `affordable`: the deposit holds it.
    Voucher {
        voucher: Signed<Voucher>,
        affordable: bool,
    },
    Cancel,
    /// A statement that belongs to our report and is signed by the channel's payer key.
    Acknowledged(Box<Signed<Acknowledgement>>),
    /// The peer broke the protocol; nothing more it says counts.
    Violation,
    /// The peer left.
    Gone,
    /// An effect of the last step was not performed, nor was any after it.
    Failed(Failure),
    /// Everything up to this record is durable.
    Durable(Mark),
    /// We are shutting down and cannot wait longer.
    Cut,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// Append to the journal before anything after it is done.
    Persist {
        mark: Mark,
        record: Box<Record>,
    },
    /// Say when this record is durable.
    Sync(Mark),
    Accept {
        prompt_tokens: Option<u32>,
    },
    Refuse(Refusal),
    Delta {
        pieces: Vec<TokenPiece>,
        prompt_tokens: Option<u32>,
    },
    StopEngine,
    /// Sign, append as the end of the request, free the lane and the slot; then, if `tell`, send.
    Report {
        report: Box<ServiceReport>,
        tell: bool,
    },
    /// Count what the peer did.
    Violated(&'static str),
    /// Nothing will come any more.
    Done(Outcome),
}

/// How a request ended for us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Refused,
    Acknowledged,
    /// The payer left or stayed silent; our own report is kept.
    Unacknowledged,
    JournalBroken,
}

/// What a session is opened with; all of it was checked.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) order: Order,
    pub(crate) operator: Address,
    pub(crate) engine_version: String,
    /// How tokens are drawn, by name.
    pub(crate) profile: &'static str,
    pub(crate) seed: Option<u64>,
    pub(crate) prompt_tokens_estimate: u32,
    pub(crate) prompt_tokens_max: u32,
    pub(crate) tokens_max: Option<u32>,
    /// What the answer must be, if it is vectors.
    pub(crate) vectors: Option<Vectors>,
    pub(crate) voucher: Voucher,
    /// Promised on the lane by vouchers that are durable.
    pub(crate) durable: Nusd,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The engine was asked; nothing was told to the peer.
    Starting {
        accept_at: TimeMs,
    },
    /// Accepted; tokens flow.
    Open,
    /// All that will be delivered is; the report waits for the guard to be durable.
    Closing {
        finish: FinishReason,
    },
    /// The report is out.
    Reported {
        until: TimeMs,
    },
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum EngineState {
    Asked,
    Running,
    /// It has made all that was ordered, and may yet tell the prompt's length.
    LastWord {
        until: TimeMs,
    },
    Ended(FinishReason),
}

/// One request.
#[derive(Debug)]
pub(crate) struct Session {
    opening: Opening,
    started_at: TimeMs,
    phase: Phase,
    engine: EngineState,
    cover: Cover,
    /// Made and not delivered. Not empty means: kept back.
    queue: VecDeque<TokenPiece>,
    transcript: Transcript,
    before_delta: Option<Point>,
    /// Tokens that the engine says it made, without one that ended the answer.
    engine_made: Option<u32>,
    /// The prompt's length as the engine told it, and whether the peer knows.
    prompt_told: Option<u32>,
    prompt_news: bool,
    /// The prompt's length with which the last delivered token was covered.
    prompt_paid: u32,
    /// Delivered tokens whose charge is in the journal.
    progress: u32,
    marks: u32,
    guard_durable: bool,
    /// Since when a voucher is missing.
    short_since: Option<TimeMs>,
    sync_asked: Option<Mark>,
    vouchers: u32,
    peer_gone: bool,
    /// Something deliverable was left for the next step, so that a step sends one `Delta`.
    more: bool,
}

impl Session {
    /// A session whose `Opened` record is in the journal as [`Mark::OPENED`]; the engine is being asked.
    pub(crate) fn open(opening: Opening, now: TimeMs) -> Session {
        let window = opening.order.price.window();
        Session {
            started_at: now,
            phase: Phase::Starting { accept_at: now.plus_ms(ACCEPT_WAIT_MS) },
            engine: EngineState::Asked,
            cover: Cover::new(opening.voucher, Mark::OPENED, opening.durable, window),
            queue: VecDeque::new(),
            transcript: Transcript::of(opening.profile),
            before_delta: None,
            engine_made: None,
            prompt_told: None,
            prompt_news: false,
            prompt_paid: opening.prompt_tokens_estimate,
            progress: 0,
            marks: 1,
            guard_durable: false,
            short_since: None,
            sync_asked: None,
            vouchers: 0,
            peer_gone: false,
            more: false,
            opening,
        }
    }

    /// Whether the engine's next events are wanted: not while tokens are kept back.
    pub(crate) fn wants_engine(&self) -> bool {
        let speaks = matches!(self.engine, EngineState::Running | EngineState::LastWord { .. });
        self.phase == Phase::Open && speaks && self.queue.is_empty()
    }

    /// Whether an acknowledgement is what comes next.
    pub(crate) fn is_reported(&self) -> bool {
        matches!(self.phase, Phase::Reported { .. })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    pub(crate) fn delivered(&self) -> u32 {
        self.transcript.delivered()
    }

    /// What an auditor may ask for of what was delivered: its bytes and the leaves. `None`: the answer is in no profile.
    pub(crate) fn disclosed(&self) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
        (self.profile() != profile::NO_NAME).then(|| self.transcript.disclosed())?
    }

    /// The profile that the report names. None if the answer can only be compared, and the engine has made more than was
    /// delivered: servers that cut white space off a chat's JSON do so without a word, and whoever ran the model over the rest
    /// would accuse us.
    fn profile(&self) -> &'static str {
        let is_compared = self.opening.profile == profile::L1_NAME;
        let is_whole = self.engine_made.is_none_or(|made| made <= self.delivered());
        if is_compared && !is_whole { profile::NO_NAME } else { self.opening.profile }
    }

    /// When the next [`Input::Tick`] is due.
    pub(crate) fn deadline(&self) -> Option<TimeMs> {
        let times_out = self.started_at.plus_ms(self.opening.order.timeout_ms);
        match self.phase {
            Phase::Starting { accept_at } => Some(accept_at.min(times_out)),
            Phase::Open if self.more => Some(TimeMs(0)),
            Phase::Open => {
                let short = self.short_since.map(|since| since.plus_ms(COVER_WAIT_MS));
                let last_word = match self.engine {
                    EngineState::LastWord { until } => Some(until),
                    EngineState::Asked | EngineState::Running | EngineState::Ended(_) => None,
                };
                [Some(times_out), short, last_word].into_iter().flatten().min()
            }
            Phase::Reported { until } => Some(until),
            Phase::Closing { .. } | Phase::Over => None,
        }
    }

    /// Takes one input.
    pub(crate) fn step(&mut self, now: TimeMs, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.phase != Phase::Over {
            self.take(now, input, &mut effects);
            self.proceed(now, &mut effects);
        }
        effects
    }

    fn take(&mut self, now: TimeMs, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Tick => self.tick(now, effects),
            Input::Started { prompt_tokens } => self.start(prompt_tokens, effects),
            Input::NotStarted { refusal } => self.not_started(refusal, effects),
            Input::Engine(events) => self.engine_events(now, events, effects),
            Input::EngineGone => self.engine_ended(FinishReason::Failed),
            Input::Voucher { voucher, affordable } => self.voucher(voucher, affordable, effects),
            Input::Cancel => self.close(FinishReason::Cancelled, effects),
            Input::Acknowledged(acknowledgement) => self.acknowledged(*acknowledgement, effects),
            Input::Violation => self.violation(effects),
            Input::Gone | Input::Failed(Failure::Send) => self.gone(effects),
            Input::Failed(Failure::Delta) => self.delta_failed(effects),
            Input::Durable(mark) => {
                self.cover.durable(mark);
                self.guard_durable = true;
                self.sync_asked = self.sync_asked.filter(|asked| *asked > mark);
            }
            Input::Cut => match self.phase {
                Phase::Starting { .. } => self.refuse(Refusal::Leaving, effects),
                _ => self.close(FinishReason::Failed, effects),
            },
            Input::Failed(Failure::Journal) => {
                self.stop_engine(FinishReason::Cancelled, effects);
                self.over(Outcome::JournalBroken, effects);
            }
        }
    }

    fn tick(&mut self, now: TimeMs, effects: &mut Vec<Effect>) {
        if let Phase::Reported { until } = self.phase {
            if now >= until {
                self.over(Outcome::Unacknowledged, effects);
            }
            return;
        }
        if matches!(self.phase, Phase::Starting { accept_at } if now >= accept_at) {
            self.accept(None, effects);
        }
        if matches!(self.engine, EngineState::LastWord { until } if now >= until) {
            self.stop_engine(self.finish_of_all(), effects);
        }
        if now >= self.started_at.plus_ms(self.opening.order.timeout_ms) {
            self.close(FinishReason::Failed, effects);
        } else if self.short_since.is_some_and(|since| now >= since.plus_ms(COVER_WAIT_MS)) {
            // The payer stopped paying; that the engine made more is our loss, and below a window.
            let finish = match self.engine {
                EngineState::Ended(finish) if self.queue.is_empty() => finish,
                _ => FinishReason::Cancelled,
            };
            self.close(finish, effects);
        }
    }

    fn accept(&mut self, prompt_tokens: Option<u32>, effects: &mut Vec<Effect>) {
        self.phase = Phase::Open;
        effects.push(Effect::Accept { prompt_tokens });
    }

    fn start(&mut self, prompt_tokens: Option<u32>, effects: &mut Vec<Effect>) {
        if self.engine == EngineState::Asked {
            self.engine = EngineState::Running;
        }
        self.note_prompt(prompt_tokens);
        if matches!(self.phase, Phase::Starting { .. }) {
            self.prompt_news = false;
            self.accept(self.prompt_told, effects);
        }
    }

    fn not_started(&mut self, refusal: Refusal, effects: &mut Vec<Effect>) {
        self.engine = EngineState::Ended(FinishReason::Failed);
        // An engine that reads for longer than the peer was kept waiting may still find that the request is wrong.
        let is_asked_wrong = matches!(refusal, Refusal::Request { .. }) && self.delivered() == 0;
        match self.phase {
            Phase::Starting { .. } => self.refuse(refusal, effects),
            Phase::Open if is_asked_wrong => self.refuse(refusal, effects),
            Phase::Open | Phase::Closing { .. } | Phase::Reported { .. } | Phase::Over => {}
        }
    }

    fn refuse(&mut self, refusal: Refusal, effects: &mut Vec<Effect>) {
        self.stop_engine(FinishReason::Cancelled, effects);
        effects.push(Effect::Refuse(refusal));
        self.over(Outcome::Refused, effects);
    }

    fn engine_events(&mut self, now: TimeMs, events: Vec<EngineEvent>, effects: &mut Vec<Effect>) {
        for event in events {
            // After its end nothing of an engine counts, whatever it still says.
            if self.phase != Phase::Open {
                return;
            }
            match (self.engine, &event) {
                (EngineState::Running, _) => {}
                // More than was ordered.
                (EngineState::LastWord { .. }, EngineEvent::Token(_)) => {
                    return self.stop_engine(FinishReason::Length, effects);
                }
                (EngineState::LastWord { .. }, _) => {}
                (EngineState::Asked | EngineState::Ended(_), _) => return,
            }
            match event {
                EngineEvent::Token(piece) => self.token(now, piece, effects),
                EngineEvent::Done { finish, usage } => {
                    self.note_prompt(usage.prompt_tokens);
                    let last = u32::from(finish == FinishReason::Stop);
                    self.engine_made = usage.completion_tokens.map(|it| it.saturating_sub(last));
                    self.engine_ended(finish);
                }
                EngineEvent::Failed { reason: _ } => self.engine_ended(FinishReason::Failed),
            }
        }
    }

    fn token(&mut self, now: TimeMs, mut piece: TokenPiece, effects: &mut Vec<Effect>) {
        let fits = match &mut self.opening.vectors {
            Some(vectors) => vectors.take(&piece).is_ok(),
            None if piece.bytes.is_empty() => return,
            None => piece.span != Span::Vector && piece.bytes.len() <= limits::TOKEN_BYTES_MAX,
        };
        if !fits {
            return self.stop_engine(FinishReason::Failed, effects);
        }
        piece.alternatives.truncate(usize::from(limits::TOP_LOGPROBS_MAX));
        piece.alternatives.retain(|other| other.bytes.len() <= limits::TOKEN_BYTES_MAX);
        self.queue.push_back(piece);
        let made = self.delivered().saturating_add(u32::try_from(self.queue.len()).unwrap_or(0));
        let tokens_max = self.opening.tokens_max.unwrap_or(limits::COMPLETION_TOKENS_MAX);
        if made >= tokens_max && self.prompt_told.is_some() {
            self.stop_engine(self.finish_of_all(), effects);
        } else if made >= tokens_max {
            self.engine = EngineState::LastWord { until: now.plus_ms(LAST_WORD_WAIT_MS) };
        }
    }

    /// How an answer ends of which all that was ordered is made: vectors are whole then.
    fn finish_of_all(&self) -> FinishReason {
        if self.opening.vectors.is_some() { FinishReason::Stop } else { FinishReason::Length }
    }

    fn engine_ended(&mut self, finish: FinishReason) {
        let is_short = self.opening.vectors.is_some_and(|vectors| vectors.whole().is_err());
        let finish = match finish {
            FinishReason::Stop | FinishReason::Length if is_short => FinishReason::Failed,
            finish => finish,
        };
        self.engine = match (self.engine, finish) {
            (EngineState::Ended(finish), _) => EngineState::Ended(finish),
            // All that was ordered is made.
            (EngineState::LastWord { .. }, FinishReason::Failed | FinishReason::Cancelled) => {
                EngineState::Ended(self.finish_of_all())
            }
            (_, finish) => EngineState::Ended(finish),
        };
    }

    fn voucher(&mut self, voucher: Signed<Voucher>, affordable: bool, effects: &mut Vec<Effect>) {
        self.vouchers = self.vouchers.saturating_add(1);
        if self.vouchers > self.delivered().saturating_add(VOUCHERS_SPARE) {
            effects.push(Effect::Violated("voucher flood"));
            return self.violation(effects);
        }
        if !matches!(self.phase, Phase::Starting { .. } | Phase::Open) {
            return;
        }
        match self.cover.check(&voucher.value) {
            Err(Unfit::Known) => {}
            Err(Unfit::Broken) => {
                effects.push(Effect::Violated("voucher order"));
                self.violation(effects);
            }
            // A promise beyond the deposit is worth nothing; without another the cover runs out.
            Ok(()) if !affordable => {}
            Ok(()) => {
                let value = voucher.value;
                let mark = self.persist(Record::Voucher { voucher }, effects);
                self.cover.raise(value, mark);
            }
        }
    }

    fn persist(&mut self, record: Record, effects: &mut Vec<Effect>) -> Mark {
        let mark = Mark(self.marks);
        self.marks = self.marks.saturating_add(1);
        effects.push(Effect::Persist { mark, record: Box::new(record) });
        mark
    }

    fn acknowledged(
        &mut self,
        acknowledgement: Signed<Acknowledgement>,
        effects: &mut Vec<Effect>,
    ) {
        if self.is_reported() {
            self.persist(Record::Acknowledged { acknowledgement }, effects);
            self.over(Outcome::Acknowledged, effects);
        }
    }

    fn violation(&mut self, effects: &mut Vec<Effect>) {
        if self.is_reported() {
            self.over(Outcome::Unacknowledged, effects);
        } else {
            self.close(FinishReason::Cancelled, effects);
        }
    }

    fn gone(&mut self, effects: &mut Vec<Effect>) {
        self.peer_gone = true;
        if self.is_reported() {
            self.over(Outcome::Unacknowledged, effects);
        } else {
            self.close(FinishReason::Cancelled, effects);
        }
    }

    /// What the failed `Delta` held was not delivered. A report of the same step was not made.
    fn delta_failed(&mut self, effects: &mut Vec<Effect>) {
        if let Some(point) = self.before_delta.take() {
            self.transcript.go_back(point);
        }
        self.peer_gone = true;
        self.queue.clear();
        self.stop_engine(FinishReason::Cancelled, effects);
        self.phase = Phase::Closing { finish: FinishReason::Cancelled };
    }

    /// Ends the engine for `finish`, unless it has ended by itself.
    fn stop_engine(&mut self, finish: FinishReason, effects: &mut Vec<Effect>) {
        if !matches!(self.engine, EngineState::Ended(_)) {
            self.engine = EngineState::Ended(finish);
            effects.push(Effect::StopEngine);
        }
    }

    /// Ends the stream with what was delivered; what was made and kept back is dropped.
    fn close(&mut self, finish: FinishReason, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Starting { .. }) && !self.peer_gone {
            self.accept(None, effects);
        }
        if matches!(self.phase, Phase::Starting { .. } | Phase::Open) {
            self.queue.clear();
            self.stop_engine(FinishReason::Cancelled, effects);
            self.phase = Phase::Closing { finish };
        }
    }

    fn over(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        self.phase = Phase::Over;
        effects.push(Effect::Done(outcome));
    }

    /// The engine's word on the prompt, at most what may be billed for it.
    fn note_prompt(&mut self, prompt_tokens: Option<u32>) {
        let told = prompt_tokens.map(|tokens| tokens.min(self.opening.prompt_tokens_max));
        if told.is_some() && told != self.prompt_told {
            self.prompt_told = told;
            self.prompt_news = true;
        }
    }

    fn prompt_tokens(&self) -> u32 {
        self.prompt_told.unwrap_or(self.opening.prompt_tokens_estimate)
    }

    /// The lane total after `delivered` tokens and a prompt of `prompt_tokens`.
    fn total(&self, prompt_tokens: u32, delivered: u32) -> Nusd {
        let order = &self.opening.order;
        order.lane_total_before.saturating_add(order.price.charge(prompt_tokens, delivered))
    }

    /// What follows from the state, whatever the input was.
    fn proceed(&mut self, now: TimeMs, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Open {
            let short = self.deliver(effects);
            self.note_short(now, short, effects);
            if let EngineState::Ended(finish) = self.engine
                && self.queue.is_empty()
                && short.is_none()
            {
                self.phase = Phase::Closing { finish };
            }
        }
        if let Phase::Closing { finish } = self.phase {
            self.report(now, finish, effects);
        }
    }

    /// Sends what is covered as one `Delta`. Returns what the rest, or the prompt, lacks.
    fn deliver(&mut self, effects: &mut Vec<Effect>) -> Option<Short> {
        let prompt_tokens = self.prompt_tokens();
        let point = self.transcript.point();
        let (mut pieces, mut bytes, mut short) = (Vec::new(), 0, None);
        self.more = false;
        while let Some(piece) = self.queue.front() {
            bytes += size(piece);
            if bytes > DELTA_BYTES_MAX && !pieces.is_empty() {
                self.more = true;
                break;
            }
            let next = self.total(prompt_tokens, self.delivered().saturating_add(1));
            if let Err(lacking) = self.cover.allows(next) {
                short = Some(lacking);
                break;
            }
            self.prompt_paid = prompt_tokens;
            if let Some(piece) = self.queue.pop_front() {
                self.transcript.push(&piece);
                pieces.push(piece);
            }
        }
        if self.queue.is_empty() && matches!(self.engine, EngineState::Ended(_)) {
            // The engine's last word may have raised the prompt's price above the cover.
            let total = self.total(prompt_tokens, self.delivered());
            short = self.cover.allows(total).err().filter(|short| *short == Short::Promised);
        }
        if !pieces.is_empty() || self.prompt_news {
            let told = self.prompt_told.filter(|_| std::mem::take(&mut self.prompt_news));
            self.before_delta = Some(point);
            effects.push(Effect::Delta { pieces, prompt_tokens: told });
            self.write_progress(effects);
        }
        short
    }

    /// After the `Delta`, so that a crash between the two charges less and not more.
    fn write_progress(&mut self, effects: &mut Vec<Effect>) {
        let delivered = self.delivered();
        if delivered.saturating_sub(self.progress) >= PROGRESS_TOKENS {
            self.progress = delivered;
            let charged = self.total(self.prompt_paid, delivered);
            let (channel, lane) = (self.opening.order.channel, self.opening.order.lane);
            self.persist(Record::Progress { channel, lane, charged }, effects);
        }
    }

    fn note_short(&mut self, now: TimeMs, short: Option<Short>, effects: &mut Vec<Effect>) {
        match short {
            None => self.short_since = None,
            Some(Short::Promised) => self.short_since = self.short_since.or(Some(now)),
            Some(Short::Durable(mark)) => {
                self.short_since = None;
                self.sync(mark, effects);
            }
        }
    }

    /// Asks once for each record.
    fn sync(&mut self, mark: Mark, effects: &mut Vec<Effect>) {
        if self.sync_asked.is_none_or(|asked| asked < mark) {
            self.sync_asked = Some(mark);
            effects.push(Effect::Sync(mark));
        }
    }

    fn report(&mut self, now: TimeMs, finish: FinishReason, effects: &mut Vec<Effect>) {
        if !self.guard_durable {
            return self.sync(Mark::OPENED, effects);
        }
        let tell = !self.peer_gone;
        let report = Box::new(self.statement(now, finish));
        effects.push(Effect::Report { report, tell });
        if tell {
            self.phase = Phase::Reported { until: now.plus_ms(ACKNOWLEDGE_WAIT_MS) };
        } else {
            self.over(Outcome::Unacknowledged, effects);
        }
    }

    fn statement(&self, now: TimeMs, finish: FinishReason) -> ServiceReport {
        let Opening { order, operator, engine_version, seed, .. } = &self.opening;
        let (delivered, told) = (self.delivered(), self.prompt_tokens());
        // A prompt that the payer was told too late, and did not cover, is billed as it was covered.
        let covered = self.total(told, delivered) <= self.cover.promised();
        let prompt_tokens = if covered { told } else { self.prompt_paid };
        ServiceReport {
            request_id: order.request_id,
            attempt: order.attempt,
            provider: *operator,
            model: order.model,
            engine_version: engine_version.clone(),
            profile: self.profile().to_owned(),
            seed: *seed,
            prompt_hash: order.prompt_hash,
            response_hash: self.transcript.response_hash(),
            transcript_root: self.transcript.root(),
            prompt_tokens,
            completion_tokens: delivered,
            counted: self.transcript.counted(),
            price: order.price,
            channel: order.channel,
            lane: order.lane,
            lane_total_before: order.lane_total_before,
            lane_total: self.total(prompt_tokens, delivered),
            finish,
            started_at: self.started_at,
            ended_at: now,
        }
    }
}

/// Bytes of a piece in a frame, roughly and not below.
fn size(piece: &TokenPiece) -> usize {
    let alternatives = piece.alternatives.iter().map(|other| 16 + other.bytes.len());
    32 + piece.bytes.len() + alternatives.sum::<usize>()
}
