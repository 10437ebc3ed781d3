//! What the tests of this crate share: a server that replays responses, and one way to run a request.

#![expect(
    dead_code,
    unreachable_pub,
    reason = "every test file compiles this module and uses some of it"
)]

pub mod python;
pub mod stub;

use engine::{Engine, EngineEvent};
use tokio_util::sync::CancellationToken;
use types::{
    ModelId,
    inference::{
        Begun, ChatMessage, FinishReason, InferenceRequest, Prompt, Role, Sampling, Span,
        TokenPiece,
    },
    tools::{Tool, ToolChoice, Tools},
};

/// A chat of one message, greedy, 16 tokens at most.
pub fn chat(content: &str) -> InferenceRequest {
    let message = ChatMessage::text(Role::User, content.to_owned());
    InferenceRequest {
        sampling: Sampling { temperature_micros: Some(0), ..Sampling::default() },
        tokens_max: Some(16),
        ..InferenceRequest::of(Prompt::Chat(vec![message]))
    }
}

/// The same request, with an answer that was begun elsewhere.
pub fn begun(text: &str, request: InferenceRequest) -> InferenceRequest {
    InferenceRequest { begun: Some(Begun { text: text.to_owned(), ids: Vec::new() }), ..request }
}

/// The same request, with a tool.
pub fn tools(request: InferenceRequest) -> InferenceRequest {
    let tool = Tool {
        name: "weather".to_owned(),
        description: Some("Tells it.".to_owned()),
        parameters: Some(r#"{"type":"object"}"#.to_owned()),
        strict: false,
    };
    let tools = Tools { list: vec![tool], choice: ToolChoice::Auto, parallel: true };
    InferenceRequest { tools: Some(tools), ..request }
}

/// The same for a prompt as it stands.
pub fn text(prompt: &str) -> InferenceRequest {
    InferenceRequest { prompt: Prompt::Text(prompt.to_owned()), ..chat("") }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub pieces: Vec<TokenPiece>,
    pub last: EngineEvent,
}

impl Answer {
    pub fn text(&self) -> String {
        let bytes = self.pieces.iter().flat_map(|piece| piece.bytes.clone()).collect();
        String::from_utf8(bytes).unwrap()
    }

    pub fn ids(&self) -> Vec<Option<u32>> {
        self.pieces.iter().map(|piece| piece.id).collect()
    }

    pub fn finish(&self) -> FinishReason {
        match &self.last {
            EngineEvent::Done { finish, .. } => *finish,
            other => panic!("{other:?}"),
        }
    }

    /// The text, and how it ended.
    pub fn summary(&self) -> String {
        let last = match &self.last {
            EngineEvent::Done { finish, usage } => format!(
                "{finish:?}, prompt {:?}, completion {:?}, {:?}",
                usage.prompt_tokens, usage.completion_tokens, usage.counted
            ),
            EngineEvent::Failed { reason } => format!("failed: {reason}"),
            EngineEvent::Token(_) => unreachable!("a token is not the last event"),
        };
        let piece = |piece: &TokenPiece| {
            let text = String::from_utf8_lossy(&piece.bytes);
            match piece.span {
                Span::Text => text.into_owned(),
                Span::CallName => format!("call {text}"),
                Span::CallArguments => format!("with {text}"),
                Span::Vector => {
                    let numbers = piece.bytes.as_chunks().0.iter().copied();
                    format!("vector {:?}", numbers.map(f32::from_le_bytes).collect::<Vec<_>>())
                }
            }
        };
        let pieces: Vec<String> = self.pieces.iter().map(piece).collect();
        format!("{pieces:?} {last}")
    }
}

/// Runs a request to its end, which must be the only one.
pub async fn run(engine: &dyn Engine, model: ModelId, request: InferenceRequest) -> Answer {
    let cancel = CancellationToken::new();
    let mut generation = engine.generate(model, request, cancel).await.unwrap();
    let mut pieces = Vec::new();
    while let Some(event) = generation.events.recv().await {
        match event {
            EngineEvent::Token(piece) => {
                assert!(!piece.bytes.is_empty(), "an empty piece is no token");
                pieces.push(piece);
            }
            last => {
                assert_eq!(generation.events.recv().await, None, "nothing after the end");
                return Answer { pieces, last };
            }
        }
    }
    panic!("the stream has no end");
}
