//! Vectors, which servers give all at once: asking for them, and handing them on one by one.

use std::sync::{Arc, atomic::AtomicU32};

use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::{
    inference::{CountMethod, FinishReason, Inputs, Span, TokenPiece},
    limits,
    vector::{BadVector, Vectors},
};

use crate::{
    EngineError, EngineEvent, Generation, STREAM_EVENTS_MAX, Usage,
    active::Active,
    remote::{accepted, protocol, read_body, sent},
};

/// Bytes of an answer: numbers as text are up to six times as long as they are.
const ANSWER_BYTES_MAX: usize = 8 * limits::VECTORS_BYTES_MAX;

/// What an engine has made: a vector of each input, in their order.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) pieces: Vec<TokenPiece>,
    pub(crate) prompt_tokens: Option<u32>,
}

/// A vector as it travels.
pub(crate) fn piece(bytes: Vec<u8>) -> TokenPiece {
    TokenPiece { span: Span::Vector, bytes, ..TokenPiece::default() }
}

/// The same of its numbers.
pub(crate) fn piece_of(numbers: &[f32]) -> TokenPiece {
    piece(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
}

/// Sends `request` and waits for all that it asks for. One that is cancelled while it waits gets a stream that
/// says so. How long a model may think is the gateway's decision.
pub(crate) async fn ask<T: DeserializeOwned>(
    url: &str,
    request: RequestBuilder,
    inputs: &Inputs,
    cancel: CancellationToken,
    active: &Arc<AtomicU32>,
    read: impl FnOnce(T) -> Option<Made> + Send,
) -> Result<Generation, EngineError> {
    let active = Active::count(active);
    let asked = async {
        let response = sent(url, request).await?;
        let response = accepted(url, response).await.map_err(of_the_request)?;
        let body = read_body(response.into_body(), ANSWER_BYTES_MAX).await;
        body.ok_or_else(|| protocol(url, "the answer is too long or was cut"))
    };
    let body = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        body = asked => Some(body?),
    };
    let Some(body) = body else {
        let none = Made { pieces: Vec::new(), prompt_tokens: None };
        return Ok(hand_on(none, FinishReason::Cancelled, cancel, active));
    };
    let answer =
        serde_json::from_slice(&body).map_err(|error| protocol(url, &error.to_string()))?;
    drop(body);
    let made = read(answer).ok_or_else(|| protocol(url, "the answer is not a list of vectors"))?;
    let mut vectors = Vectors::of(inputs);
    let taken = made.pieces.iter().try_for_each(|piece| vectors.take(piece));
    match taken.and_then(|()| vectors.whole()) {
        Ok(()) => {}
        Err(BadVector::TooLong) => {
            return Err(EngineError::BadRequest { reason: BadVector::TooLong.to_string() });
        }
        // Ollama makes no longer ones than the model does, whatever is asked for.
        Err(BadVector::Dimensions { dimensions, .. }) if inputs.dimensions.is_some() => {
            let reason = format!("the model makes {dimensions} dimensions at most");
            return Err(EngineError::BadRequest { reason });
        }
        Err(bad) => return Err(protocol(url, &bad.to_string())),
    }
    Ok(hand_on(made, FinishReason::Stop, cancel, active))
}

/// What a server refuses is the client's to change: a text that is too long, a number of dimensions.
fn of_the_request(error: EngineError) -> EngineError {
    match error {
        EngineError::Refused { status: 400 | 413 | 422, message, .. } => {
            EngineError::BadRequest { reason: message }
        }
        // llama-server, of a text that does not fit into one batch.
        EngineError::Refused { status: 500, message, .. } if message.contains("too large") => {
            EngineError::BadRequest { reason: message }
        }
        error => error,
    }
}

/// A stream of what was made.
pub(crate) fn hand_on(
    made: Made,
    finish: FinishReason,
    cancel: CancellationToken,
    active: Active,
) -> Generation {
    let Made { pieces, prompt_tokens } = made;
    let (sender, events) = mpsc::channel(STREAM_EVENTS_MAX);
    // Owned by the stream: it ends when that is dropped, `cancel` fires or all is sent.
    tokio::spawn(async move {
        let _active = active;
        let completion_tokens = u32::try_from(pieces.len()).ok();
        let send_all = async {
            for piece in pieces {
                // The receiver is gone: nobody is left to tell.
                let _ = sender.send(EngineEvent::Token(piece)).await;
            }
        };
        let finish = tokio::select! {
            biased;
            () = cancel.cancelled() => FinishReason::Cancelled,
            () = send_all => finish,
        };
        let usage = Usage { prompt_tokens, completion_tokens, counted: CountMethod::Chunks };
        let _ = sender.send(EngineEvent::Done { finish, usage }).await;
    });
    Generation { prompt_tokens, events: events.into() }
}
