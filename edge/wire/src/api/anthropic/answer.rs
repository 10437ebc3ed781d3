//! Answers to Anthropic's clients: a message, or the events that build one.

use bytes::{Bytes, BytesMut};
use types::inference::FinishReason;

use crate::api::{Answer, ApiError, Billing, Head, json, openai::billing_comment};

/// Writes the events of one stream.
#[derive(Debug)]
pub struct EventWriter {
    /// Up to the usage of the message that begins.
    begin: Bytes,
}

impl EventWriter {
    pub fn new(head: Head<'_>) -> EventWriter {
        let mut out = BytesMut::with_capacity(256);
        json::raw(&mut out, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
        begin_message(&mut out, head);
        json::raw(&mut out, r#""content":[],"stop_reason":null,"stop_sequence":null,"#);
        EventWriter { begin: out.freeze() }
    }

    /// The message and its only block begin. How long the prompt is, the end tells.
    pub fn begin(&self, out: &mut BytesMut) {
        out.extend_from_slice(&self.begin);
        json::raw(out, "\"usage\":{\"input_tokens\":0,\"output_tokens\":0}}}\n\n");
        json::raw(
            out,
            "event: content_block_start\n\
             data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        );
    }

    pub fn text(&self, out: &mut BytesMut, text: &str) {
        out.reserve(text.len() + 140);
        json::raw(
            out,
            "event: content_block_delta\n\
             data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":",
        );
        json::string(out, text);
        json::raw(out, "}}\n\n");
    }

    pub fn end(&self, out: &mut BytesMut, answer: &Answer<'_>) {
        json::raw(
            out,
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
             event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":",
        );
        json::string(out, stop_reason(answer.finish));
        json::raw(out, r#","stop_sequence":null},"usage":"#);
        usage(out, answer);
        json::raw(out, "}\n\n");
        billing_comment(out, answer.billing);
        json::raw(out, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    pub fn fail(&self, out: &mut BytesMut, failure: &ApiError, billing: &Billing) {
        billing_comment(out, billing);
        json::raw(out, "event: error\ndata: ");
        out.extend_from_slice(&error(failure));
        json::raw(out, "\n\n");
    }
}

/// The body of a plain answer.
pub fn message(head: Head<'_>, answer: &Answer<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(320 + answer.text.len());
    begin_message(&mut out, head);
    json::raw(&mut out, r#""content":[{"type":"text","text":"#);
    json::string(&mut out, answer.text);
    json::raw(&mut out, r#"}],"stop_reason":"#);
    json::string(&mut out, stop_reason(answer.finish));
    json::raw(&mut out, r#","stop_sequence":null,"usage":"#);
    usage(&mut out, answer);
    json::raw(&mut out, "}");
    out.freeze()
}

fn begin_message(out: &mut BytesMut, head: Head<'_>) {
    json::raw(out, r#"{"id":"msg_"#);
    json::raw(out, &head.id.to_string());
    json::raw(out, r#"","type":"message","role":"assistant","model":"#);
    json::string(out, head.model);
    json::raw(out, ",");
}

/// Engines do not tell a stop sequence from the model's own end, so neither does this.
fn stop_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Length => "max_tokens",
        // The others are never the end of an answer that succeeded.
        FinishReason::Stop | FinishReason::Cancelled | FinishReason::Failed => "end_turn",
    }
}

fn usage(out: &mut BytesMut, answer: &Answer<'_>) {
    json::raw(out, r#"{"input_tokens":"#);
    json::integer(out, answer.usage.prompt_tokens.into());
    json::raw(out, r#","output_tokens":"#);
    json::integer(out, answer.usage.completion_tokens.into());
    json::raw(out, "}");
}

/// The body of an answer that is an error, and of the event: `{"type": "error", "error": {type, message}}`.
pub fn error(error: &ApiError) -> Bytes {
    let kind = match error.status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let mut out = BytesMut::with_capacity(96 + error.message.len());
    json::raw(&mut out, r#"{"type":"error","error":{"type":"#);
    json::string(&mut out, kind);
    json::raw(&mut out, r#","message":"#);
    json::string(&mut out, &error.message);
    json::raw(&mut out, "}}");
    out.freeze()
}
