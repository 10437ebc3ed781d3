//! One attempt of one request, as the payer sees it: what is promised, what arrived, what is owed.
//!
//! A pure machine: messages, the passing of time and the client's leaving go in, effects come out.
//! Time is milliseconds since the session began. Signatures were checked before; the effects are
//! carried out in order by [`crate::attempt`].
//!
//! Invariants (tests: `session/tests.rs`):
//! 1. What is owed is `price.charge(prompt, delivered)`; nothing delivered is nothing owed.
//! 2. What is owed is never above what was promised.
//! 3. What is promised is never further ahead of what is owed than the prompt and one window, or
//!    than what the lane had been promised before.
//! 4. A session closes exactly once, and says nothing after it.

#[cfg(test)]
mod tests;

use types::{
    Address, ChannelId, Hash32, Lane, ModelId, Nusd, RequestId, TimeMs,
    hash::{StreamHash, merkle_root},
    inference::{Alternative, CountMethod, FinishReason, Span, TokenPiece},
    limits,
    price::{Price, WINDOW_TOKENS},
    receipt::{Acknowledgement, ServiceReport, report_hash},
    sign::{Signed, Verified},
    vector::{BadVector, Vectors},
};
use verify::{delivered::Delivered, profile};
use wire::serve::Refusal;

/// Bytes of one answer in text: 64 for each of the most tokens there can be. It may have to be held as a whole.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Cover is extended when fewer tokens than this are left of it: half a window, so that a voucher
/// has the time of the other half to arrive.
const COVER_TOKENS_MIN: u32 = WINDOW_TOKENS / 2;

/// Ordinary text has fewer bytes per token than this with every tokenizer in use.
pub(crate) const BYTES_PER_TOKEN_MAX: usize = 8;

/// What was agreed when the order was signed.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub request_id: RequestId,
    pub attempt: u16,
    pub provider: Address,
    pub model: ModelId,
    pub price: Price,
    pub prompt_hash: Hash32,
    pub prompt_tokens_estimate: u32,
    pub prompt_tokens_max: u32,
    /// The longest answer that was asked for, that the model's context has room for, and that is
    /// paid for: whichever is least.
    pub tokens_max: u32,
    /// Whether there is anything to call.
    pub tools: bool,
    /// Of a service outside the network, which is not paid in a channel: nothing is promised, and what it counts
    /// is taken where it is possible.
    pub bought: bool,
    /// What the answer must be, if it is vectors.
    pub vectors: Option<Vectors>,
    /// The profile that the report will name, and with it the form of the transcript.
    pub profile: &'static str,
    pub channel: ChannelId,
    pub lane: Lane,
    pub lane_total_before: Nusd,
    /// The total of the voucher sent with the order.
    pub promised: Nusd,
    pub waits: Waits,
}

impl Terms {
    /// The total that the first voucher must reach: the estimated prompt and the first window.
    pub(crate) fn opening_total(
        price: &Price,
        prompt_tokens_estimate: u32,
        tokens_max: u32,
        lane_total_before: Nusd,
    ) -> Nusd {
        let tokens = WINDOW_TOKENS.min(tokens_max);
        lane_total_before.saturating_add(price.charge(prompt_tokens_estimate, tokens))
    }
}

/// How long the session waits, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waits {
    pub accept_ms: u64,
    pub first_token_ms: u64,
    pub inter_token_ms: u64,
    pub total_ms: u64,
    pub cancel_ms: u64,
}

/// The longest answer for which `price` asks no more than `amount`.
pub(crate) fn affordable_tokens(price: &Price, prompt_tokens: u32, amount: Nusd) -> u32 {
    let Some(metered) = amount.checked_sub(price.request_nusd) else { return 0 };
    let prompt = u128::from(prompt_tokens).saturating_mul(price.prompt_nusd_per_mtok.0);
    let Some(left) = metered.0.saturating_mul(1_000_000).checked_sub(prompt) else { return 0 };
    match left.checked_div(price.completion_nusd_per_mtok.0) {
        Some(tokens) => u32::try_from(tokens).unwrap_or(u32::MAX),
        None => u32::MAX,
    }
}

/// What happens to a session.
#[derive(Debug)]
pub(crate) enum Input {
    Accepted {
        prompt_tokens: Option<u32>,
    },
    Refused(Refusal),
    Delta {
        pieces: Vec<TokenPiece>,
        prompt_tokens: Option<u32>,
    },
    /// Signed by the provider's operator key.
    Final(Box<Verified<ServiceReport>>),
    /// The last word of a service that signs nothing. What it counted is believed as far as it is possible.
    Done {
        finish: FinishReason,
        prompt_tokens: Option<u32>,
        completion_tokens: Option<u32>,
    },
    /// The provider sent what the protocol does not allow.
    Breach(Breach),
    /// The stream ended or was cut.
    Ended,
    /// Time has passed.
    Tick,
    /// Nobody waits for the answer any more.
    ClientGone,
}

/// What the shell must do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Sign a voucher up to this total and send it.
    Promise {
        total: Nusd,
    },
    Cancel,
    /// Pass on to the client.
    Deliver(Vec<TokenPiece>),
    /// Settle. The last effect.
    Close(Box<Closing>),
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    pub ending: Ending,
    pub prompt_tokens: u32,
    pub delivered: u32,
    /// What is owed for it.
    pub charge: Nusd,
    pub response_hash: Hash32,
    pub transcript_root: Hash32,
    pub counted: CountMethod,
    pub report: Option<Signed<ServiceReport>>,
    pub findings: Vec<Finding>,
}

/// Why an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With `Stop` or `Length`.
    Finished(FinishReason),
    Refused(Refusal),
    ClientGone,
    Failed(Failure),
}

/// What a provider failed to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("it did not take the order in time")]
    NotAccepted,
    #[error("no first token came in time")]
    NoFirstToken,
    #[error("it stalled")]
    Stalled,
    #[error("the answer took too long")]
    TookTooLong,
    #[error("its connection ended")]
    Died,
    #[error("its engine failed")]
    Engine,
    #[error("it stopped before the end without being asked")]
    StoppedEarly,
    #[error("it broke the protocol: {0}")]
    Breach(#[from] Breach),
}

/// What a provider may not send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    #[error("a message that does not belong there")]
    OutOfOrder,
    #[error("a token of {bytes} bytes")]
    PieceBytes { bytes: usize },
    #[error(
        "more log-probability alternatives than were asked for, or longer ones than tokens are"
    )]
    Alternatives,
    #[error("a call that was not asked for, or a part of none")]
    Call,
    #[error(transparent)]
    Vectors(#[from] BadVector),
    #[error("more tokens than were ordered")]
    TooManyTokens,
    #[error("an answer of more than {ANSWER_BYTES_MAX} bytes")]
    TooManyBytes,
    #[error("tokens beyond what its voucher covers")]
    BeyondCover,
    #[error("{claimed} prompt tokens, where at most {most} are possible")]
    PromptTokens { claimed: u32, most: u32 },
    #[error("a signature that is not its own")]
    Signature,
    #[error("a report about something else: {field}")]
    OtherReport { field: &'static str },
    #[error("{0}")]
    Frame(String),
}

/// Where the provider's report differs from what arrived. Both parties keep it on their records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Finding {
    #[error("the provider counts {reported} tokens, {delivered} arrived")]
    Count { reported: u32, delivered: u32 },
    #[error("the provider's digest of the answer is another")]
    Response,
    #[error("the provider's transcript is another")]
    Transcript,
    #[error("the provider names another profile than the order has, `{ordered}`")]
    Profile { ordered: &'static str },
    #[error("the provider charges up to {reported}, {due} is due")]
    Total { reported: Nusd, due: Nusd },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Streaming,
    /// The client has left; waiting for the provider's report.
    Cancelling,
    Closed,
}

/// See the module.
pub(crate) struct Session {
    terms: Terms,
    phase: Phase,
    prompt_tokens: Option<u32>,
    delivered: u32,
    /// The total of the best voucher that was sent.
    promised: Nusd,
    /// Tokens that `promised` pays for at the prompt's size as known now.
    covered: u32,
    response: StreamHash,
    bytes: usize,
    /// `None` for what was bought: nobody signs for it, so there is no other side to compare with.
    transcript: Option<Delivered>,
    counted: CountMethod,
    /// Calls of tools that have begun.
    calls: usize,
    /// Of vectors, those that have come.
    vectors: Option<Vectors>,
    /// When the current wait ends.
    deadline_ms: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("terms", &self.terms)
            .field("phase", &self.phase)
            .field("delivered", &self.delivered)
            .field("promised", &self.promised)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(terms: Terms) -> Session {
        let mut session = Session {
            phase: Phase::Opening,
            prompt_tokens: None,
            delivered: 0,
            promised: terms.promised,
            covered: 0,
            response: StreamHash::default(),
            bytes: 0,
            transcript: (!terms.bought).then(|| Delivered::of(terms.profile)),
            counted: CountMethod::TokenIds,
            calls: 0,
            vectors: terms.vectors,
            deadline_ms: terms.waits.accept_ms,
            terms,
        };
        session.covered = session.covered_tokens();
        session
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// When `Tick` is due, in milliseconds since the beginning. `None` once closed.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        (self.phase != Phase::Closed).then_some(self.deadline_ms)
    }

    /// Takes one input and appends what follows from it to `effects`.
    pub(crate) fn step(&mut self, now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Closed {
            return;
        }
        match input {
            Input::Accepted { prompt_tokens } => self.accepted(now_ms, prompt_tokens, effects),
            Input::Refused(refusal) => match (self.phase, self.delivered) {
                (Phase::Opening, _) => self.close(Ending::Refused(refusal), None, effects),
                // Its engine took longer to find that the request is wrong.
                (Phase::Streaming, 0) if matches!(refusal, Refusal::Request { .. }) => {
                    self.close(Ending::Refused(refusal), None, effects);
                }
                (Phase::Cancelling, 0) => self.close(Ending::ClientGone, None, effects),
                _ => self.breach(Breach::OutOfOrder, effects),
            },
            Input::Delta { pieces, prompt_tokens } => {
                self.delta(now_ms, pieces, prompt_tokens, effects);
            }
            Input::Final(report) => self.finish(*report, effects),
            Input::Done { finish, prompt_tokens, completion_tokens } => {
                self.done(finish, prompt_tokens, completion_tokens, effects);
            }
            Input::Breach(breach) => self.breach(breach, effects),
            Input::Ended if self.phase == Phase::Cancelling => {
                self.close(Ending::ClientGone, None, effects);
            }
            Input::Ended => self.close(Ending::Failed(Failure::Died), None, effects),
            Input::Tick => self.tick(now_ms, effects),
            Input::ClientGone => {
                if self.phase != Phase::Cancelling {
                    self.phase = Phase::Cancelling;
                    self.deadline_ms = now_ms.saturating_add(self.terms.waits.cancel_ms);
                    effects.push(Effect::Cancel);
                }
            }
        }
    }

    fn accepted(&mut self, now_ms: u64, prompt: Option<u32>, effects: &mut Vec<Effect>) {
        if let Err(breach) = self.learn_prompt(prompt) {
            return self.breach(breach, effects);
        }
        match self.phase {
            Phase::Opening => {
                self.phase = Phase::Streaming;
                self.wait(now_ms, self.terms.waits.first_token_ms);
                self.extend_cover(effects);
            }
            Phase::Cancelling => {}
            Phase::Streaming | Phase::Closed => self.breach(Breach::OutOfOrder, effects),
        }
    }

    fn delta(
        &mut self,
        now_ms: u64,
        pieces: Vec<TokenPiece>,
        prompt_tokens: Option<u32>,
        effects: &mut Vec<Effect>,
    ) {
        if self.phase == Phase::Opening {
            return self.breach(Breach::OutOfOrder, effects);
        }
        // Tokens and the prompt's size may come in one message: then the tokens were made under the
        // cover as it was before the size was known.
        let covered_before = self.covered;
        if let Err(breach) = self.learn_prompt(prompt_tokens) {
            return self.breach(breach, effects);
        }
        let count = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
        let delivered = self.delivered.saturating_add(count);
        match self.check(&pieces, delivered, covered_before.max(self.covered)) {
            Ok(vectors) => self.vectors = vectors,
            Err(breach) => return self.breach(breach, effects),
        }
        for piece in &pieces {
            self.calls += usize::from(piece.span == Span::CallName);
            self.response.update(&piece.bytes);
            self.bytes = self.bytes.saturating_add(piece.bytes.len());
            if let Some(transcript) = &mut self.transcript {
                transcript.push(piece);
            }
            if piece.id.is_none() {
                self.counted = CountMethod::Chunks;
            }
        }
        self.delivered = delivered;
        self.extend_cover(effects);
        if !pieces.is_empty() {
            if self.phase == Phase::Streaming {
                self.wait(now_ms, self.terms.waits.inter_token_ms);
            }
            effects.push(Effect::Deliver(pieces));
        }
    }

    /// Whether these pieces may come now, and what of vectors has come with them.
    fn check(
        &self,
        pieces: &[TokenPiece],
        delivered: u32,
        covered: u32,
    ) -> Result<Option<Vectors>, Breach> {
        if delivered > self.terms.tokens_max {
            return Err(Breach::TooManyTokens);
        }
        if delivered > covered {
            return Err(Breach::BeyondCover);
        }
        let mut vectors = self.vectors;
        match &mut vectors {
            Some(vectors) => pieces.iter().try_for_each(|piece| vectors.take(piece))?,
            None => self.check_tokens(pieces)?,
        }
        Ok(vectors)
    }

    fn check_tokens(&self, pieces: &[TokenPiece]) -> Result<(), Breach> {
        let mut calls = self.calls;
        let mut all = self.bytes;
        for piece in pieces {
            let bytes = piece.bytes.len();
            all = all.saturating_add(bytes);
            if all > ANSWER_BYTES_MAX {
                return Err(Breach::TooManyBytes);
            }
            if bytes == 0 || bytes > limits::TOKEN_BYTES_MAX {
                return Err(Breach::PieceBytes { bytes });
            }
            calls += usize::from(piece.span == Span::CallName);
            let fits = match piece.span {
                Span::Text => true,
                Span::CallName => {
                    let is_short = bytes <= limits::TOOL_NAME_BYTES_MAX;
                    self.terms.tools && is_short && calls <= limits::TOOL_CALLS_MAX
                }
                Span::CallArguments => calls > 0,
                Span::Vector => return Err(BadVector::Span.into()),
            };
            if !fits {
                return Err(Breach::Call);
            }
            let is_long = |it: &Alternative| it.bytes.len() > limits::TOKEN_BYTES_MAX;
            if piece.alternatives.len() > usize::from(limits::TOP_LOGPROBS_MAX)
                || piece.alternatives.iter().any(is_long)
            {
                return Err(Breach::Alternatives);
            }
        }
        Ok(())
    }

    fn finish(&mut self, report: Verified<ServiceReport>, effects: &mut Vec<Effect>) {
        let stated = report.value();
        if let Some(field) = self.other_report(stated) {
            return self.breach(Breach::OtherReport { field }, effects);
        }
        if let Err(breach) = self.learn_prompt(Some(stated.prompt_tokens)) {
            return self.breach(breach, effects);
        }
        // The report may be the first to tell the prompt's size.
        self.extend_cover(effects);
        let ending = match (self.phase, stated.finish) {
            (Phase::Cancelling, _) => Ending::ClientGone,
            (Phase::Opening, FinishReason::Stop | FinishReason::Length) => {
                return self.breach(Breach::OutOfOrder, effects);
            }
            (_, finish @ (FinishReason::Stop | FinishReason::Length)) => Ending::Finished(finish),
            (_, FinishReason::Cancelled) => Ending::Failed(Failure::StoppedEarly),
            (_, FinishReason::Failed) => Ending::Failed(Failure::Engine),
        };
        let ending = match (ending, self.vectors.map(|vectors| vectors.whole())) {
            (Ending::Finished(_), Some(Err(short))) => Ending::Failed(Breach::from(short).into()),
            (ending, _) => ending,
        };
        self.close(ending, Some(report.into_signed()), effects);
    }

    /// The end of an answer that nobody signs for.
    fn done(
        &mut self,
        finish: FinishReason,
        prompt_tokens: Option<u32>,
        completion_tokens: Option<u32>,
        effects: &mut Vec<Effect>,
    ) {
        // A service counts what it puts around a prompt too. More than we reserved for is our loss.
        let prompt_tokens = prompt_tokens.map(|told| told.min(self.terms.prompt_tokens_max));
        if let Err(breach) = self.learn_prompt(prompt_tokens) {
            return self.breach(breach, effects);
        }
        if let Some(told) = completion_tokens.filter(|_| self.counted == CountMethod::Chunks) {
            // A token that was delivered has at least a byte; what a model only thought is not delivered.
            let told = usize::try_from(told).unwrap_or(usize::MAX).min(self.bytes);
            self.count_at_least(told);
            self.counted = CountMethod::Told;
        }
        let ending = match (self.phase, finish) {
            (Phase::Cancelling, _) => Ending::ClientGone,
            (_, finish @ (FinishReason::Stop | FinishReason::Length)) => Ending::Finished(finish),
            (_, FinishReason::Cancelled) => Ending::Failed(Failure::StoppedEarly),
            (_, FinishReason::Failed) => Ending::Failed(Failure::Engine),
        };
        self.close(ending, None, effects);
    }

    /// Within what was asked for, and paid.
    fn count_at_least(&mut self, tokens: usize) {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX).min(self.terms.tokens_max);
        self.delivered = self.delivered.max(tokens);
    }

    /// The first field in which a report is not about this attempt.
    fn other_report(&self, report: &ServiceReport) -> Option<&'static str> {
        let terms = &self.terms;
        let same = [
            ("request id", report.request_id == terms.request_id),
            ("attempt", report.attempt == terms.attempt),
            ("provider", report.provider == terms.provider),
            ("model", report.model == terms.model),
            ("prompt digest", report.prompt_hash == terms.prompt_hash),
            ("price", report.price == terms.price),
            ("channel", report.channel == terms.channel),
            ("lane", report.lane == terms.lane),
            ("total before", report.lane_total_before == terms.lane_total_before),
        ];
        same.iter().find(|(_, equal)| !equal).map(|&(field, _)| field)
    }

    fn tick(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if now_ms < self.deadline_ms {
            return;
        }
        let failure = match self.phase {
            Phase::Cancelling => return self.close(Ending::ClientGone, None, effects),
            Phase::Closed => return,
            _ if now_ms >= self.terms.waits.total_ms => Failure::TookTooLong,
            Phase::Opening => Failure::NotAccepted,
            Phase::Streaming if self.delivered == 0 => Failure::NoFirstToken,
            Phase::Streaming => Failure::Stalled,
        };
        effects.push(Effect::Cancel);
        self.close(Ending::Failed(failure), None, effects);
    }

    fn breach(&mut self, breach: Breach, effects: &mut Vec<Effect>) {
        effects.push(Effect::Cancel);
        let ending = match self.phase {
            Phase::Cancelling => Ending::ClientGone,
            Phase::Opening | Phase::Streaming | Phase::Closed => {
                Ending::Failed(Failure::Breach(breach))
            }
        };
        self.close(ending, None, effects);
    }

    fn close(
        &mut self,
        ending: Ending,
        report: Option<Signed<ServiceReport>>,
        effects: &mut Vec<Effect>,
    ) {
        if self.terms.bought && self.terms.vectors.is_none() && self.counted == CountMethod::Chunks
        {
            // Some services put a sentence into a chunk, and who leaves before the end is not told the count.
            self.count_at_least(self.bytes / BYTES_PER_TOKEN_MAX);
        }
        let charge = self.charge(self.delivered);
        let owed = self.terms.lane_total_before.saturating_add(charge);
        if owed > self.promised {
            // A breach came with a larger prompt than the one that is covered.
            self.promised = owed;
            effects.push(Effect::Promise { total: owed });
        }
        self.phase = Phase::Closed;
        let mut closing = Closing {
            ending,
            prompt_tokens: self.prompt(),
            delivered: self.delivered,
            charge,
            response_hash: self.response.finish(),
            transcript_root: match &self.transcript {
                Some(transcript) => transcript.root(),
                None => merkle_root(&[]),
            },
            counted: self.counted,
            report,
            findings: Vec::new(),
        };
        closing.findings = self.findings(&closing);
        effects.push(Effect::Close(Box::new(closing)));
    }

    fn findings(&self, closing: &Closing) -> Vec<Finding> {
        let Some(report) = closing.report.as_ref().map(|report| &report.value) else {
            return Vec::new();
        };
        let due = self.terms.lane_total_before.saturating_add(closing.charge);
        let (delivered, profile) = (closing.delivered, self.terms.profile);
        let (reported, total) = (report.completion_tokens, report.lane_total);
        [
            (reported != delivered).then_some(Finding::Count { reported, delivered }),
            (report.response_hash != closing.response_hash).then_some(Finding::Response),
            (report.transcript_root != closing.transcript_root).then_some(Finding::Transcript),
            (!names(report, profile)).then_some(Finding::Profile { ordered: profile }),
            (total != due).then_some(Finding::Total { reported: total, due }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Takes the provider's word for the prompt's size, within what is possible.
    fn learn_prompt(&mut self, told: Option<u32>) -> Result<(), Breach> {
        let Some(claimed) = told else { return Ok(()) };
        let most = self.terms.prompt_tokens_max;
        if claimed > most {
            return Err(Breach::PromptTokens { claimed, most });
        }
        if self.prompt_tokens != Some(claimed) {
            self.prompt_tokens = Some(claimed);
            self.covered = self.covered_tokens();
        }
        Ok(())
    }

    /// Promises more when the cover runs low; while cancelling, only what has arrived.
    fn extend_cover(&mut self, effects: &mut Vec<Effect>) {
        let (low, ahead) = match self.phase {
            Phase::Opening | Phase::Streaming => (COVER_TOKENS_MIN, WINDOW_TOKENS),
            Phase::Cancelling | Phase::Closed => (0, 0),
        };
        let bounded =
            |tokens: u32| self.delivered.saturating_add(tokens).min(self.terms.tokens_max);
        if self.covered >= bounded(low) {
            return;
        }
        let total = self.terms.lane_total_before.saturating_add(self.charge(bounded(ahead)));
        if total > self.promised {
            self.promised = total;
            self.covered = self.covered_tokens();
            effects.push(Effect::Promise { total });
        }
    }

    fn covered_tokens(&self) -> u32 {
        let amount = self.promised.saturating_sub(self.terms.lane_total_before);
        affordable_tokens(&self.terms.price, self.prompt(), amount)
    }

    fn prompt(&self) -> u32 {
        self.prompt_tokens.unwrap_or(self.terms.prompt_tokens_estimate)
    }

    fn charge(&self, delivered: u32) -> Nusd {
        self.terms.price.charge(self.prompt(), delivered)
    }

    fn wait(&mut self, now_ms: u64, ms: u64) {
        self.deadline_ms = now_ms.saturating_add(ms).min(self.terms.waits.total_ms);
    }
}

/// Whether a report names the profile of its order, or says of an answer that can only be compared that it cannot be after all.
fn names(report: &ServiceReport, ordered: &str) -> bool {
    report.profile == ordered || (ordered == profile::L1_NAME && report.profile == profile::NO_NAME)
}

/// The payer's statement about a closed attempt.
pub(crate) fn acknowledgement(
    terms: &Terms,
    closing: &Closing,
    ended_at: TimeMs,
) -> Acknowledgement {
    let finish = match (&closing.report, &closing.ending) {
        (Some(report), _) => report.value.finish,
        (None, Ending::Finished(finish)) => *finish,
        (None, Ending::ClientGone) => FinishReason::Cancelled,
        (None, Ending::Refused(_) | Ending::Failed(_)) => FinishReason::Failed,
    };
    Acknowledgement {
        request_id: terms.request_id,
        attempt: terms.attempt,
        provider: terms.provider,
        model: terms.model,
        prompt_hash: terms.prompt_hash,
        response_hash: closing.response_hash,
        transcript_root: closing.transcript_root,
        prompt_tokens: closing.prompt_tokens,
        delivered_tokens: closing.delivered,
        counted: closing.counted,
        price: terms.price,
        channel: terms.channel,
        lane: terms.lane,
        lane_total_before: terms.lane_total_before,
        lane_total: terms.lane_total_before.saturating_add(closing.charge),
        report_hash: closing.report.as_ref().map(report_hash),
        finish,
        ended_at,
    }
}
