//! Whole answers: completions, the list of models.

use bytes::{Bytes, BytesMut};
use types::{
    Address, ModelId, Nusd, RequestId,
    inference::{FinishReason, TokenPiece},
    price::Price,
};

use super::json;

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

/// What every part of an answer repeats.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    pub kind: Kind,
    pub id: RequestId,
    /// Seconds since 1970.
    pub created_s: u64,
    /// The name that the client asked for.
    pub model: &'a str,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
}

/// What the answer cost and where its receipt is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Billing {
    pub request_id: RequestId,
    pub cost: Nusd,
    pub provider: Address,
    pub model: ModelId,
}

impl Billing {
    /// As one JSON object on one line.
    pub fn to_json(&self) -> String {
        let Billing { request_id, cost, provider, model } = self;
        format!(
            r#"{{"request_id":"{request_id}","cost_nusd":"{cost}","provider":"{provider}","model_id":"{model}","receipt":"/v1/receipts/{request_id}"}}"#
        )
    }
}

/// The body of a plain answer. `pieces` are given where log-probabilities were asked for.
pub fn completion(
    head: Head<'_>,
    text: &str,
    pieces: Option<&[TokenPiece]>,
    finish: FinishReason,
    usage: Usage,
) -> Bytes {
    let mut out = BytesMut::with_capacity(384 + text.len() + text.len() / 8);
    begin(&mut out, head, false);
    match head.kind {
        Kind::Chat => {
            json::raw(
                &mut out,
                r#""choices":[{"index":0,"message":{"role":"assistant","content":"#,
            );
            json::string(&mut out, text);
            json::raw(&mut out, r#","refusal":null},"logprobs":"#);
        }
        Kind::Text => {
            json::raw(&mut out, r#""choices":[{"index":0,"text":"#);
            json::string(&mut out, text);
            json::raw(&mut out, r#","logprobs":"#);
        }
    }
    logprobs(&mut out, head.kind, pieces, &mut 0);
    json::raw(&mut out, r#","finish_reason":"#);
    finish_reason(&mut out, finish);
    json::raw(&mut out, r#"}],"usage":"#);
    usage_object(&mut out, usage);
    json::raw(&mut out, "}");
    out.freeze()
}

/// Everything up to `choices`.
pub(super) fn begin(out: &mut BytesMut, head: Head<'_>, chunk: bool) {
    json::raw(out, r#"{"id":""#);
    json::raw(out, head.kind.id_prefix());
    json::raw(out, &head.id.to_string());
    json::raw(out, r#"","object":""#);
    json::raw(
        out,
        match (head.kind, chunk) {
            (Kind::Chat, false) => "chat.completion",
            (Kind::Chat, true) => "chat.completion.chunk",
            (Kind::Text, _) => "text_completion",
        },
    );
    json::raw(out, r#"","created":"#);
    json::integer(out, head.created_s);
    json::raw(out, r#","model":"#);
    json::string(out, head.model);
    json::raw(out, ",");
}

pub(super) fn finish_reason(out: &mut BytesMut, finish: FinishReason) {
    json::raw(
        out,
        match finish {
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
pub(super) fn logprobs(
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

/// OpenAI's own stand-in for a log-probability that is not known.
const LOGPROB_UNKNOWN: &str = "-9999.0";

fn logprob(out: &mut BytesMut, value: Option<i32>) {
    match value {
        Some(value) => json::micros(out, value),
        None => json::raw(out, LOGPROB_UNKNOWN),
    }
}

fn chat_logprobs(out: &mut BytesMut, pieces: &[TokenPiece]) {
    let token = |out: &mut BytesMut, bytes: &[u8], value: Option<i32>| {
        json::raw(out, r#"{"token":"#);
        json::string(out, &String::from_utf8_lossy(bytes));
        json::raw(out, r#","logprob":"#);
        logprob(out, value);
        json::raw(out, r#","bytes":"#);
        json::byte_list(out, bytes);
    };
    json::raw(out, r#"{"content":["#);
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            json::raw(out, ",");
        }
        token(out, &piece.bytes, piece.logprob_micros);
        json::raw(out, r#","top_logprobs":["#);
        for (index, other) in piece.alternatives.iter().enumerate() {
            if index > 0 {
                json::raw(out, ",");
            }
            token(out, &other.bytes, Some(other.logprob_micros));
            json::raw(out, "}");
        }
        json::raw(out, "]}");
    }
    json::raw(out, r#"],"refusal":null}"#);
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
    list(out, "token_logprobs", &mut |out, piece| logprob(out, piece.logprob_micros));
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
    pub logprobs: bool,
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
    json::raw(
        out,
        &format!(
            r#","owned_by":"peerwatt","peerwatt":{{"model_id":"{}","providers":{},"context_tokens":{},"logprobs":{},"price":{{"request_nusd":"{request_nusd}","prompt_nusd_per_mtok":"{prompt_nusd_per_mtok}","completion_nusd_per_mtok":"{completion_nusd_per_mtok}"}}}}}}"#,
            card.model, card.providers, card.context_tokens, card.logprobs,
        ),
    );
}
