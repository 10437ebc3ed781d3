//! What an auditor asks of an engine: the logits of a given text, and what its vocabulary means.
//!
//! Which of them say anything of a provider is decided elsewhere; an engine only computes.

use std::{
    collections::BTreeSet,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt as _};

use crate::EngineError;

/// Positions that an engine may be ahead of whoever scores. A position of a large vocabulary is a megabyte.
pub const LOGITS_AHEAD_MAX: usize = 4;

/// The logits of one position after another: as many numbers each as the vocabulary has tokens. Dropped before the
/// last one, it stops the engine.
pub struct LogitsStream {
    source: Pin<Box<dyn Stream<Item = Result<Vec<f32>, EngineError>> + Send>>,
    left: usize,
}

impl std::fmt::Debug for LogitsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogitsStream").field("left", &self.left).finish_non_exhaustive()
    }
}

impl LogitsStream {
    /// `count` positions come from `source`, or an error in place of one of them.
    pub(crate) fn new(
        count: usize,
        source: impl Stream<Item = Result<Vec<f32>, EngineError>> + Send + 'static,
    ) -> LogitsStream {
        LogitsStream { source: Box::pin(source), left: count }
    }

    /// The next position; none after the last, or after an error.
    pub async fn recv(&mut self) -> Option<Result<Vec<f32>, EngineError>> {
        self.next().await
    }

    /// Positions that are still to come, if nothing fails.
    pub fn left(&self) -> usize {
        self.left
    }
}

impl Stream for LogitsStream {
    type Item = Result<Vec<f32>, EngineError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(this.source.poll_next_unpin(cx));
        let item = item.unwrap_or_else(|| {
            Err(EngineError::Failed { reason: "it broke off while scoring".to_owned() })
        });
        this.left = if item.is_ok() { this.left.saturating_sub(1) } else { 0 };
        Poll::Ready(Some(item))
    }
}

/// What the ids of a model stand for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vocabulary {
    tokens: Vec<Vec<u8>>,
    ends: BTreeSet<u32>,
}

impl Vocabulary {
    pub(crate) fn new(tokens: Vec<Vec<u8>>, ends: impl IntoIterator<Item = u32>) -> Vocabulary {
        Vocabulary { tokens, ends: ends.into_iter().collect() }
    }

    /// Ids are below this.
    pub fn size(&self) -> usize {
        self.tokens.len()
    }

    /// The bytes that a token delivers, none for a special one. `None` if there is no such token.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.tokens.get(usize::try_from(id).ok()?).map(Vec::as_slice)
    }

    /// Whether an answer ends with this token.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// All tokens that end an answer.
    pub fn ends(&self) -> impl Iterator<Item = u32> + '_ {
        self.ends.iter().copied()
    }
}

/// Whether positions from `from` on can be asked for of so many tokens.
pub(crate) fn check_from(from: usize, tokens: usize) -> Result<usize, EngineError> {
    if (1..=tokens).contains(&from) {
        return Ok(tokens.saturating_sub(from).saturating_add(1));
    }
    let reason = format!("there are no logits after {from} of {tokens} tokens");
    Err(EngineError::BadRequest { reason })
}
