//! One request on one thread: the forward passes, and what becomes of each token.

use std::sync::Arc;

use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::sync::CancellationToken;
use types::inference::{
    Alternative, CountMethod, FinishReason, InferenceRequest, Span, TokenPiece,
};

use verify::{logits::CANDIDATES_MAX, projection::Signs};

use super::{
    Loaded,
    compute::Slot,
    sample::{Distribution, Sampler},
};
use crate::{
    EngineEvent, Usage,
    stop::{Step, StopMachine},
};

/// Why a run broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("the computation failed: {reason}")]
    Compute { reason: String },
    #[error("the model computed something that is not a number; its file may be damaged")]
    NotANumber,
    #[error("cancelled")]
    Cancelled,
}

/// The way out for what one request makes: events, or logits.
pub(super) struct Outlet<T> {
    pub(super) items: mpsc::Sender<T>,
    pub(super) cancel: CancellationToken,
    /// The engine is being dropped.
    pub(super) shutdown: CancellationToken,
    /// To wait for a slow consumer without missing that it cancels.
    pub(super) runtime: Handle,
}

impl<T> Outlet<T> {
    pub(super) fn is_over(&self) -> bool {
        self.cancel.is_cancelled() || self.shutdown.is_cancelled() || self.items.is_closed()
    }

    pub(super) fn send(&self, item: T) -> Result<(), RunError> {
        match self.items.try_send(item) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(RunError::Cancelled),
            Err(mpsc::error::TrySendError::Full(item)) => self.runtime.block_on(async {
                tokio::select! {
                    sent = self.items.send(item) => sent.map_err(|_| RunError::Cancelled),
                    () = self.cancel.cancelled() => Err(RunError::Cancelled),
                    () = self.shutdown.cancelled() => Err(RunError::Cancelled),
                }
            }),
        }
    }
}

/// A request that is being answered.
pub(super) struct Run {
    pub(super) loaded: Arc<Loaded>,
    pub(super) prompt: Vec<u32>,
    /// Tokens of the answer that were made elsewhere.
    pub(super) begun: Vec<u32>,
    pub(super) request: InferenceRequest,
    pub(super) outlet: Outlet<EngineEvent>,
    /// Tokens delivered, so that the last event can tell whatever happened before.
    pub(super) delivered: u32,
}

impl Run {
    /// Delivers tokens until the answer ends; the last event.
    pub(super) fn answer(&mut self, slot: &mut Slot<'_>) -> EngineEvent {
        let finish = match self.tokens(slot) {
            Ok(finish) => finish,
            Err(RunError::Cancelled) => FinishReason::Cancelled,
            Err(error) => return EngineEvent::Failed { reason: error.to_string() },
        };
        let usage = Usage {
            prompt_tokens: u32::try_from(self.prompt.len().saturating_add(self.begun.len())).ok(),
            completion_tokens: Some(self.delivered),
            counted: CountMethod::TokenIds,
        };
        EngineEvent::Done { finish, usage }
    }

    fn tokens(&mut self, slot: &mut Slot<'_>) -> Result<FinishReason, RunError> {
        let mut sequence = slot.begin(self.tokens_max())?;
        let mut logits = Vec::new();
        for chunk in self.prompt.chunks(sequence.prompt_batch()) {
            self.check_over()?;
            logits = sequence.read(chunk)?;
        }
        let mut sampler = Sampler::new(&self.request.sampling);
        let projected = self.projected_seed(&sampler);
        let mut signs = None;
        // One by one, as they were made: then the rest is that of an answer without a break, bit by bit.
        for token in &self.begun {
            self.check_over()?;
            logits = sequence.read(&[*token])?;
            sampler.drawn_elsewhere(*token);
        }
        let mut stops = StopMachine::new(&self.request.stop);
        let mut drawn = 0;
        loop {
            self.check_over()?;
            // Of all logits, whatever is drawn from.
            let projection = projected.and_then(|seed| {
                let signs = signs.get_or_insert_with(|| Signs::new(seed, logits.len()));
                signs.project(&logits)
            });
            // Tokens that are no text and no end are never drawn: what is not delivered could not be drawn again by whoever
            // audits the answer.
            for id in &self.loaded.silent {
                if let Some(logit) = logits.get_mut(*id as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
            let token = sampler.draw(&logits);
            if self.loaded.tokenizer.is_end(token) {
                self.deliver(stops.finish())?;
                return Ok(FinishReason::Stop);
            }
            drawn += 1;
            match stops.push(TokenPiece { projection, ..self.piece(token, &logits)? }) {
                Step::Continue(pieces) => self.deliver(pieces)?,
                Step::Stopped(pieces) => {
                    self.deliver(pieces)?;
                    return Ok(FinishReason::Stop);
                }
            }
            if self.request.tokens_max == Some(drawn)
                || sequence.read_tokens() >= self.loaded.context_tokens as usize
            {
                self.deliver(stops.finish())?;
                return Ok(FinishReason::Length);
            }
            logits = sequence.read(&[token])?;
        }
    }

    /// The seed, if the answer can be drawn again by others and all is reported that they need: then they can compare
    /// projections too.
    fn projected_seed(&self, sampler: &Sampler) -> Option<u32> {
        let is_whole = usize::from(self.request.logprobs?) >= CANDIDATES_MAX;
        let seed = self.request.sampling.seed.filter(|_| is_whole && sampler.is_replayable())?;
        u32::try_from(seed).ok()
    }

    /// Tokens that prompt and answer have at most, together.
    fn tokens_max(&self) -> usize {
        let context_tokens = self.loaded.context_tokens as usize;
        let given = self.prompt.len().saturating_add(self.begun.len());
        let drawn = self.request.tokens_max.map_or(context_tokens, |tokens| tokens as usize);
        given.saturating_add(drawn).min(context_tokens)
    }

    fn check_over(&self) -> Result<(), RunError> {
        if self.outlet.is_over() { Err(RunError::Cancelled) } else { Ok(()) }
    }

    fn deliver(&mut self, pieces: Vec<TokenPiece>) -> Result<(), RunError> {
        for piece in pieces {
            self.outlet.send(EngineEvent::Token(piece))?;
            self.delivered = self.delivered.saturating_add(1);
        }
        Ok(())
    }

    fn piece(&self, token: u32, logits: &[f32]) -> Result<TokenPiece, RunError> {
        let distribution = Distribution::of(logits).ok_or(RunError::NotANumber)?;
        let tokenizer = &self.loaded.tokenizer;
        let bytes = tokenizer.delivered(token).to_vec();
        let alternative = |id: u32| Alternative {
            id: Some(id),
            bytes: tokenizer.name(id).to_vec(),
            logprob_micros: distribution.logprob_micros(id),
        };
        let asked = self.request.logprobs;
        let likeliest = distribution.likeliest(usize::from(asked.unwrap_or(0)));
        Ok(TokenPiece {
            span: Span::Text,
            id: Some(token),
            bytes,
            logprob_micros: asked.map(|_| distribution.logprob_micros(token)),
            alternatives: likeliest.into_iter().map(alternative).collect(),
            projection: None,
        })
    }
}

/// The logits after the first `from` tokens, at least one and read as a prompt, and after each further one; `give` takes
/// them or breaks off.
pub(super) fn logits(
    slot: &mut Slot<'_>,
    tokens: &[u32],
    from: usize,
    mut give: impl FnMut(Vec<f32>) -> Result<(), RunError>,
    is_over: impl Fn() -> bool,
) -> Result<(), RunError> {
    let mut sequence = slot.begin(tokens.len())?;
    let mut rest = tokens;
    while !rest.is_empty() {
        if is_over() {
            return Err(RunError::Cancelled);
        }
        let read = sequence.read_tokens();
        // A library that gives all logits of a pass reads the end of the prompt with what follows.
        let batch = match sequence.scored_batch() {
            1 if read < from => sequence.prompt_batch().min(from - read),
            batch => batch,
        };
        let part;
        (part, rest) = rest.split_at_checked(batch).unwrap_or((rest, &[]));
        let wanted = from.saturating_sub(1).saturating_sub(read);
        sequence.read_scored(part, wanted, &mut give)?;
    }
    Ok(())
}

/// The log-probability of each token after those before it. Breaks off when `is_over` says so.
pub(super) fn score(
    slot: &mut Slot<'_>,
    tokens: &[u32],
    is_over: impl Fn() -> bool,
) -> Result<Vec<i32>, RunError> {
    let mut scores = Vec::with_capacity(tokens.len());
    let (read, mut next) = match tokens {
        [] => return Ok(scores),
        [_, next @ ..] => (tokens.get(..next.len()).unwrap_or_default(), next.iter()),
    };
    let score = |logits: Vec<f32>| {
        let distribution = Distribution::of(&logits).ok_or(RunError::NotANumber)?;
        scores.extend(next.next().map(|next| distribution.logprob_micros(*next)));
        Ok(())
    };
    logits(slot, read, 1, score, is_over)?;
    Ok(scores)
}
