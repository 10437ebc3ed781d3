//! What the chat box sends and receives: one JSON request, a stream of JSON events.

use axum::{body::Bytes, http::StatusCode, response::sse::Event};
use gateway::{ChatEvent, ChatRequest, ChatSummary, RequestFailure};
use serde::{Deserialize, Serialize};
use types::{
    inference::{ChatMessage, FinishReason, Role},
    limits,
};

use crate::show;

/// The longest answer of the chat box, so that one question cannot empty its budget.
const ANSWER_TOKENS_MAX: u32 = 1_024;

/// Body of `POST /ui/chat`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChatBody {
    model: String,
    messages: Vec<Said>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    role: Role,
    content: String,
}

/// A request from its body, or what is wrong with it.
pub(crate) fn parse(body: &Bytes) -> Result<ChatRequest, RequestFailure> {
    let invalid = |param: Option<&str>, problem: String| RequestFailure::Invalid {
        param: param.map(str::to_owned),
        problem,
    };
    let ChatBody { model, messages } = serde_json::from_slice(body)
        .map_err(|error| invalid(None, format!("this is not a chat: {error}")))?;
    if model.is_empty() || model.len() > limits::NAME_BYTES_MAX {
        return Err(invalid(Some("model"), "choose a model of the list".to_owned()));
    }
    if messages.is_empty() || messages.len() > limits::CHAT_MESSAGES_MAX {
        let problem = format!("1 to {} messages", limits::CHAT_MESSAGES_MAX);
        return Err(invalid(Some("messages"), problem));
    }
    let messages = messages
        .into_iter()
        .map(|Said { role, content }| ChatMessage::text(role, content))
        .collect();
    Ok(ChatRequest { model, messages, tokens_max: Some(ANSWER_TOKENS_MAX) })
}

/// One event of an answer, with everything written as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
enum Line<'a> {
    Text {
        text: &'a str,
    },
    Done {
        request_id: String,
        provider: String,
        cost: String,
        tokens: String,
        speed: Option<String>,
        /// Said when the answer did not end by itself.
        note: Option<&'static str>,
    },
    Failed {
        message: String,
    },
}

pub(crate) fn event(event: &ChatEvent) -> Event {
    let line = match event {
        ChatEvent::Text(text) => Line::Text { text },
        ChatEvent::Done(summary) => done(summary),
        ChatEvent::Failed(failure) => Line::Failed { message: failure.to_string() },
    };
    // Plain strings always serialise; were it not so, the page would show a stream that broke off.
    Event::default().json_data(line).unwrap_or_default()
}

fn done(summary: &ChatSummary) -> Line<'static> {
    let prompt = show::count(summary.prompt_tokens);
    let completion = show::count(summary.completion_tokens);
    Line::Done {
        request_id: summary.request_id.to_string(),
        provider: summary.provider.to_string(),
        cost: show::usd_text(summary.cost),
        tokens: format!("{prompt} → {completion} tokens"),
        speed: show::speed(summary.completion_tokens, summary.duration_ms),
        note: match summary.finish {
            FinishReason::Stop => None,
            FinishReason::Length => Some("cut at the longest answer or the end of the context"),
            FinishReason::Cancelled => Some("stopped"),
            FinishReason::Failed => Some("the engine failed on the way"),
        },
    }
}

/// Body of an answer that did not begin.
#[derive(Serialize)]
pub(crate) struct Failure {
    message: String,
}

pub(crate) fn failure(failure: &RequestFailure) -> Failure {
    Failure { message: failure.to_string() }
}

pub(crate) fn status(failure: &RequestFailure) -> StatusCode {
    match failure {
        RequestFailure::Invalid { .. } | RequestFailure::TooLong { .. } => StatusCode::BAD_REQUEST,
        RequestFailure::BadKey | RequestFailure::ExpiredKey | RequestFailure::NoKey => {
            StatusCode::UNAUTHORIZED
        }
        RequestFailure::ModelNotAllowed { .. } => StatusCode::FORBIDDEN,
        RequestFailure::UnknownModel { .. } => StatusCode::NOT_FOUND,
        RequestFailure::Budget { .. } | RequestFailure::Payment { .. } => {
            StatusCode::PAYMENT_REQUIRED
        }
        RequestFailure::TooMany { .. } | RequestFailure::Rate { .. } => {
            StatusCode::TOO_MANY_REQUESTS
        }
        RequestFailure::Busy { .. }
        | RequestFailure::NoProvider { .. }
        | RequestFailure::Books { .. }
        | RequestFailure::KeysAway
        | RequestFailure::ChainAway { .. }
        | RequestFailure::Closing => StatusCode::SERVICE_UNAVAILABLE,
        RequestFailure::Upstream { .. } => StatusCode::BAD_GATEWAY,
    }
}
