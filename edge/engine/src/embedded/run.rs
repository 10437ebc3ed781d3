//! One request on one thread: the forward passes, and what becomes of each token.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::sync::CancellationToken;
use types::inference::{
    Alternative, CountMethod, FinishReason, InferenceRequest, Span, TokenPiece,
};

use super::{
    Loaded,
    gguf::first_line,
    sample::{Distribution, Sampler},
};
use crate::{
    EngineEvent, Usage,
    stop::{Step, StopMachine},
};

/// Prompt tokens per forward pass. Between two passes a cancelled request ends.
const PREFILL_TOKENS: usize = 64;

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

/// A model with the tokens it has read. Its attention cache is its own, the weights are shared.
struct Sequence {
    weights: ModelWeights,
    read: usize,
}

impl Sequence {
    fn new(loaded: &Loaded) -> Sequence {
        // The clone has no cache yet, and frees what it caches with the request.
        Sequence { weights: loaded.weights.clone(), read: 0 }
    }

    /// Reads `tokens`, which are not empty; the logits after the last.
    fn read(&mut self, tokens: &[u32]) -> Result<Vec<f32>, RunError> {
        let logits = Tensor::new(tokens, &Device::Cpu)
            .and_then(|input| input.unsqueeze(0))
            .and_then(|input| self.weights.forward(&input, self.read))
            .and_then(|logits| logits.squeeze(0)?.to_vec1());
        self.read += tokens.len();
        logits.map_err(|error| RunError::Compute { reason: first_line(&error.to_string()) })
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
    pub(super) fn answer(&mut self) -> EngineEvent {
        let finish = match self.tokens() {
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

    fn tokens(&mut self) -> Result<FinishReason, RunError> {
        let mut sequence = Sequence::new(&self.loaded);
        let mut logits = Vec::new();
        for chunk in self.prompt.chunks(PREFILL_TOKENS) {
            self.check_over()?;
            logits = sequence.read(chunk)?;
        }
        let mut sampler = Sampler::new(&self.request.sampling);
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
            match stops.push(self.piece(token, &logits)?) {
                Step::Continue(pieces) => self.deliver(pieces)?,
                Step::Stopped(pieces) => {
                    self.deliver(pieces)?;
                    return Ok(FinishReason::Stop);
                }
            }
            if self.request.tokens_max == Some(drawn)
                || sequence.read >= self.loaded.context_tokens as usize
            {
                self.deliver(stops.finish())?;
                return Ok(FinishReason::Length);
            }
            logits = sequence.read(&[token])?;
        }
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
        })
    }
}

/// The logits after the first `from` tokens, which are read as a prompt, and after each further one; `give` takes them
/// or breaks off.
pub(super) fn logits(
    loaded: &Loaded,
    tokens: &[u32],
    from: usize,
    give: impl Fn(Vec<f32>) -> Result<(), RunError>,
    is_over: impl Fn() -> bool,
) -> Result<(), RunError> {
    let check = || if is_over() { Err(RunError::Cancelled) } else { Ok(()) };
    let mut sequence = Sequence::new(loaded);
    let (prompt, answer) = tokens.split_at_checked(from).unwrap_or((tokens, &[]));
    let mut logits = Vec::new();
    for chunk in prompt.chunks(PREFILL_TOKENS) {
        check()?;
        logits = sequence.read(chunk)?;
    }
    give(logits)?;
    for token in answer {
        check()?;
        give(sequence.read(&[*token])?)?;
    }
    Ok(())
}

/// The log-probability of each token after those before it, read one by one as in an answer.
/// Breaks off when `is_over` says so.
pub(super) fn score(
    loaded: &Loaded,
    tokens: &[u32],
    is_over: impl Fn() -> bool,
) -> Result<Vec<i32>, RunError> {
    let mut sequence = Sequence::new(loaded);
    let mut scores = Vec::with_capacity(tokens.len());
    for pair in tokens.windows(2) {
        let [token, next] = pair else { continue };
        if is_over() {
            return Err(RunError::Cancelled);
        }
        let logits = sequence.read(&[*token])?;
        let distribution = Distribution::of(&logits).ok_or(RunError::NotANumber)?;
        scores.push(distribution.logprob_micros(*next));
    }
    Ok(scores)
}
