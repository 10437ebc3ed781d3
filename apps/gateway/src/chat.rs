//! The gateway's own way in, for the web page's chat box: the same path as a request over HTTP,
//! paid by a named key, without the key.

use tokio::sync::mpsc;
use types::{Address, Nusd, RequestId, inference::ChatMessage, inference::FinishReason};

use crate::error::RequestFailure;

/// A request for one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatRequest {
    /// Alias or model id.
    pub model: String,
    pub messages: Vec<ChatMessage>,
    pub tokens_max: Option<u32>,
}

/// A part of an answer. The last one is `Done` or `Failed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatEvent {
    Text(String),
    Done(ChatSummary),
    Failed(RequestFailure),
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatSummary {
    pub request_id: RequestId,
    pub provider: Address,
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    pub cost: Nusd,
    pub finish: FinishReason,
    pub duration_ms: u64,
}

/// An answer as it comes. Dropping it stops the provider.
#[derive(Debug)]
pub struct ChatStream {
    pub(crate) events: mpsc::Receiver<ChatEvent>,
}

impl ChatStream {
    /// The next part; `None` after the last.
    pub async fn next(&mut self) -> Option<ChatEvent> {
        self.events.recv().await
    }
}
