//! Whole answers: completions, the list of models, errors.

use bytes::{Bytes, BytesMut};
use types::{
    ModelId,
    ability::Abilities,
    inference::{FinishReason, TokenPiece},
    price::Price,
    tools::ToolCall,
};

use crate::api::{Answer, ApiError, Head, Usage, json, logprobs};

/// Which endpoint an answer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Chat,
    Text,
}

impl Kind {
    pub(super) fn id_prefix(self) -> &'static str {
        match self {
            Kind::Chat => "chatcmpl-",
            Kind::Text => "cmpl-",
        }
    }
}

/// The body of a plain answer.
pub fn completion(kind: Kind, head: Head<'_>, answer: &Answer<'_>) -> Bytes {
    let Answer { text, pieces, calls, finish, usage, .. } = *answer;
    let mut out = BytesMut::with_capacity(384 + text.len() + text.len() / 8);
    begin(&mut out, kind, head, false);
    match kind {
        Kind::Chat => {
            json::raw(
                &mut out,
                r#""choices":[{"index":0,"message":{"role":"assistant","content":"#,
            );
            match text.is_empty() && !calls.is_empty() {
                true => json::raw(&mut out, "null"),
                false => json::string(&mut out, text),
            }
            json::raw(&mut out, r#","refusal":null"#);
            tool_calls(&mut out, calls);
            json::raw(&mut out, r#"},"logprobs":"#);
        }
        Kind::Text => {
            json::raw(&mut out, r#""choices":[{"index":0,"text":"#);
            json::string(&mut out, text);
            json::raw(&mut out, r#","logprobs":"#);
        }
    }
    logprobs_member(&mut out, kind, pieces, &mut 0);
    json::raw(&mut out, r#","finish_reason":"#);
    finish_reason(&mut out, finish, !calls.is_empty());
    json::raw(&mut out, r#"}],"usage":"#);
    usage_object(&mut out, usage);
    json::raw(&mut out, "}");
    out.freeze()
}

/// Everything up to `choices`.
pub(super) fn begin(out: &mut BytesMut, kind: Kind, head: Head<'_>, chunk: bool) {
    json::raw(out, r#"{"id":""#);
    json::raw(out, kind.id_prefix());
    json::raw(out, &head.id.to_string());
    json::raw(out, r#"","object":""#);
    json::raw(
        out,
        match (kind, chunk) {
            (Kind::Chat, false) => "chat.completion",
            (Kind::Chat, true) => "chat.completion.chunk",
            (Kind::Text, _) => "text_completion",
        },
    );
    json::raw(out, r#"","created":"#);
    json::integer(out, head.created.0 / 1_000);
    json::raw(out, r#","model":"#);
    json::string(out, head.model);
    json::raw(out, ",");
}

fn tool_calls(out: &mut BytesMut, calls: &[ToolCall]) {
    for (index, call) in calls.iter().enumerate() {
        json::raw(out, if index == 0 { r#","tool_calls":["# } else { "," });
        json::raw(out, "{");
        call_members(out, call);
        json::raw(out, "}");
    }
    if !calls.is_empty() {
        json::raw(out, "]");
    }
}

/// `id`, `type` and `function` of a call.
pub(super) fn call_members(out: &mut BytesMut, call: &ToolCall) {
    json::raw(out, r#""id":"#);
    json::string(out, &call.id);
    json::raw(out, r#","type":"function","function":{"name":"#);
    json::string(out, &call.name);
    json::raw(out, r#","arguments":"#);
    json::string(out, &call.arguments);
    json::raw(out, "}");
}

pub(super) fn finish_reason(out: &mut BytesMut, finish: FinishReason, has_calls: bool) {
    json::raw(
        out,
        match finish {
            FinishReason::Stop if has_calls => r#""tool_calls""#,
            FinishReason::Stop => r#""stop""#,
            FinishReason::Length => r#""length""#,
            // Never the end of an answer that succeeded; an error stands in its place.
            FinishReason::Cancelled | FinishReason::Failed => r#""error""#,
        },
    );
}

pub(super) fn usage_object(out: &mut BytesMut, usage: Usage) {
    json::raw(out, r#"{"prompt_tokens":"#);
    json::integer(out, usage.prompt_tokens.into());
    json::raw(out, r#","completion_tokens":"#);
    json::integer(out, usage.completion_tokens.into());
    json::raw(out, r#","total_tokens":"#);
    json::integer(out, u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens));
    json::raw(out, "}");
}

/// The `logprobs` member. `offset` is where the first piece begins in the text of a completion, in
/// characters, and is moved past the last one.
pub(super) fn logprobs_member(
    out: &mut BytesMut,
    kind: Kind,
    pieces: Option<&[TokenPiece]>,
    offset: &mut usize,
) {
    match (pieces, kind) {
        (None, _) => json::raw(out, "null"),
        (Some(pieces), Kind::Chat) => chat_logprobs(out, pieces),
        (Some(pieces), Kind::Text) => text_logprobs(out, pieces, offset),
    }
}

fn chat_logprobs(out: &mut BytesMut, pieces: &[TokenPiece]) {
    json::raw(out, r#"{"content":"#);
    logprobs::tokens(out, pieces);
    json::raw(out, r#","refusal":null}"#);
}

fn text_logprobs(out: &mut BytesMut, pieces: &[TokenPiece], offset: &mut usize) {
    let list =
        |out: &mut BytesMut, name: &str, each: &mut dyn FnMut(&mut BytesMut, &TokenPiece)| {
            json::string(out, name);
            json::raw(out, ":[");
            for (index, piece) in pieces.iter().enumerate() {
                if index > 0 {
                    json::raw(out, ",");
                }
                each(out, piece);
            }
            json::raw(out, "]");
        };
    json::raw(out, "{");
    list(out, "tokens", &mut |out, piece| {
        json::string(out, &String::from_utf8_lossy(&piece.bytes));
    });
    json::raw(out, ",");
    list(out, "token_logprobs", &mut |out, piece| logprobs::value(out, piece.logprob_micros));
    json::raw(out, ",");
    list(out, "top_logprobs", &mut |out, piece| {
        json::raw(out, "{");
        for (index, other) in piece.alternatives.iter().enumerate() {
            if index > 0 {
                json::raw(out, ",");
            }
            json::string(out, &String::from_utf8_lossy(&other.bytes));
            json::raw(out, ":");
            json::micros(out, other.logprob_micros);
        }
        json::raw(out, "}");
    });
    json::raw(out, ",");
    list(out, "text_offset", &mut |out, piece| {
        json::integer(out, u64::try_from(*offset).unwrap_or(u64::MAX));
        *offset += String::from_utf8_lossy(&piece.bytes).chars().count();
    });
    json::raw(out, "}");
}

/// A model as `GET /v1/models` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    /// Alias, or the model id where the alias means another model.
    pub id: String,
    pub model: ModelId,
    pub created_s: u64,
    pub providers: u32,
    pub context_tokens: u32,
    pub price: Price,
    pub abilities: Abilities,
    /// All providers sell another service's answers on.
    pub resold: bool,
}

/// The body of `GET /v1/models`.
pub fn models(cards: &[ModelCard]) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + 320 * cards.len());
    json::raw(&mut out, r#"{"object":"list","data":["#);
    for (index, card) in cards.iter().enumerate() {
        if index > 0 {
            json::raw(&mut out, ",");
        }
        model_object(&mut out, card);
    }
    json::raw(&mut out, "]}");
    out.freeze()
}

/// The body of `GET /v1/models/{id}`.
pub fn model(card: &ModelCard) -> Bytes {
    let mut out = BytesMut::with_capacity(320);
    model_object(&mut out, card);
    out.freeze()
}

fn model_object(out: &mut BytesMut, card: &ModelCard) {
    json::raw(out, r#"{"id":"#);
    json::string(out, &card.id);
    json::raw(out, r#","object":"model","created":"#);
    json::integer(out, card.created_s);
    let Price { request_nusd, prompt_nusd_per_mtok, completion_nusd_per_mtok } = card.price;
    let Abilities { completions, embeddings, logprobs, json, tools, samplers } = card.abilities;
    let (embeddings, tools) = (embeddings.as_str(), tools.as_str());
    json::raw(
        out,
        &format!(
            r#","owned_by":"peerwatt","peerwatt":{{"model_id":"{}","providers":{},"context_tokens":{},"completions":{completions},"embeddings":"{embeddings}","logprobs":{logprobs},"json":{json},"tools":"{tools}","samplers":{samplers},"resold":{},"price":{{"request_nusd":"{request_nusd}","prompt_nusd_per_mtok":"{prompt_nusd_per_mtok}","completion_nusd_per_mtok":"{completion_nusd_per_mtok}"}}}}}}"#,
            card.model, card.providers, card.context_tokens, card.resold,
        ),
    );
}

/// The body of an answer that is an error: `{"error": {message, type, param, code}}`.
pub fn error(error: &ApiError) -> Bytes {
    let mut out = BytesMut::with_capacity(160 + error.message.len());
    json::raw(&mut out, r#"{"error":{"message":"#);
    json::string(&mut out, &error.message);
    json::raw(&mut out, r#","type":"#);
    json::string(&mut out, error.kind);
    json::raw(&mut out, r#","param":"#);
    json::nullable(&mut out, error.param.as_deref());
    json::raw(&mut out, r#","code":"#);
    json::nullable(&mut out, error.code);
    json::raw(&mut out, "}}");
    out.freeze()
}
