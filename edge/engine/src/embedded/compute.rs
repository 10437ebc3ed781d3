//! What computes the logits of a loaded model: candle, or llama.cpp where it is built in.
//!
//! Either shares the weights among all slots and gives each request an attention cache of its own. They differ in what one
//! pass gives: candle keeps the logits of the last token alone, so a text that is to be scored is read token by token,
//! as answers are made; llama.cpp keeps them all.

use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;

use super::{gguf::first_line, run::RunError};
#[cfg(feature = "llama")]
use crate::llama;

/// Prompt tokens per pass of candle. Between two passes a cancelled request ends.
const PREFILL_TOKENS: usize = 64;

/// The weights of a model.
#[derive(Debug)]
pub(super) enum Weights {
    Candle(Box<ModelWeights>),
    #[cfg(feature = "llama")]
    Llama(std::sync::Arc<llama::Model>),
}

impl Weights {
    /// What a slot keeps from one request to the next.
    pub(super) fn slot(&self) -> Slot<'_> {
        match self {
            Weights::Candle(weights) => Slot::Candle(weights),
            #[cfg(feature = "llama")]
            Weights::Llama(model) => Slot::Llama(model.slot()),
        }
    }
}

/// One slot's way to compute.
pub(super) enum Slot<'w> {
    Candle(&'w ModelWeights),
    #[cfg(feature = "llama")]
    Llama(llama::Slot<'w>),
}

impl Slot<'_> {
    /// A text that will have at most `tokens_max` tokens, nothing of which is read yet.
    pub(super) fn begin(&mut self, tokens_max: usize) -> Result<Sequence<'_>, RunError> {
        let text: Box<dyn Text + '_> = match self {
            Slot::Candle(weights) => {
                // It needs no room in advance. The clone has no cache yet, and frees what it caches with the request.
                let _ = tokens_max;
                Box::new((*weights).clone())
            }
            #[cfg(feature = "llama")]
            Slot::Llama(slot) => Box::new(slot.begin(tokens_max).map_err(failed)?),
        };
        Ok(Sequence { text, read: 0 })
    }
}

/// Takes logits, or breaks off.
type Give<'g> = &'g mut dyn FnMut(Vec<f32>) -> Result<(), RunError>;

/// A text as a library reads it.
trait Text {
    /// Tokens of a prompt that one pass reads at most.
    fn prompt_batch(&self) -> usize;

    /// Tokens that one pass reads at most if the logits after each are wanted.
    fn scored_batch(&self) -> usize;

    /// Reads tokens after the first `read`, and gives the logits after `tokens[from]` and each later one.
    fn read(
        &mut self,
        read: usize,
        tokens: &[u32],
        from: usize,
        give: Give,
    ) -> Result<(), RunError>;
}

/// A model with the tokens that it has read.
pub(super) struct Sequence<'s> {
    text: Box<dyn Text + 's>,
    read: usize,
}

impl Sequence<'_> {
    /// Tokens that it has read.
    pub(super) fn read_tokens(&self) -> usize {
        self.read
    }

    /// Tokens of a prompt that one pass reads at most.
    pub(super) fn prompt_batch(&self) -> usize {
        self.text.prompt_batch()
    }

    /// Tokens that one pass reads at most if the logits after each are wanted.
    pub(super) fn scored_batch(&self) -> usize {
        self.text.scored_batch()
    }

    /// Reads `tokens`, which are not empty and fit a batch; the logits after the last.
    pub(super) fn read(&mut self, tokens: &[u32]) -> Result<Vec<f32>, RunError> {
        let mut last = Vec::new();
        self.read_scored(tokens, tokens.len().saturating_sub(1), |logits| {
            last = logits;
            Ok(())
        })?;
        Ok(last)
    }

    /// The same with the logits after `tokens[from]` and each later one; none, if `from` is behind the last.
    pub(super) fn read_scored(
        &mut self,
        tokens: &[u32],
        from: usize,
        mut give: impl FnMut(Vec<f32>) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        self.text.read(self.read, tokens, from, &mut give)?;
        self.read = self.read.saturating_add(tokens.len());
        Ok(())
    }
}

impl Text for ModelWeights {
    fn prompt_batch(&self) -> usize {
        PREFILL_TOKENS
    }

    fn scored_batch(&self) -> usize {
        1
    }

    fn read(
        &mut self,
        read: usize,
        tokens: &[u32],
        from: usize,
        give: Give,
    ) -> Result<(), RunError> {
        let logits = Tensor::new(tokens, &Device::Cpu)
            .and_then(|input| input.unsqueeze(0))
            .and_then(|input| self.forward(&input, read))
            .and_then(|logits| logits.squeeze(0)?.to_vec1());
        let logits =
            logits.map_err(|error| RunError::Compute { reason: first_line(&error.to_string()) })?;
        if from < tokens.len() { give(logits) } else { Ok(()) }
    }
}

#[cfg(feature = "llama")]
impl Text for llama::Text<'_, '_> {
    fn prompt_batch(&self) -> usize {
        self.prompt_tokens()
    }

    fn scored_batch(&self) -> usize {
        self.batch_tokens()
    }

    fn read(
        &mut self,
        read: usize,
        tokens: &[u32],
        from: usize,
        give: Give,
    ) -> Result<(), RunError> {
        llama::Text::read(self, read, tokens, from).map_err(failed)?;
        (from..tokens.len()).try_for_each(|at| give(self.logits(at).map_err(failed)?))
    }
}

#[cfg(feature = "llama")]
fn failed(error: llama::ComputeError) -> RunError {
    RunError::Compute { reason: error.to_string() }
}
