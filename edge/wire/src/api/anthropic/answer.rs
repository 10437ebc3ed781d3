//! Answers to Anthropic's clients: a message, or the events that build one.

use bytes::{Bytes, BytesMut};
use types::{inference::FinishReason, tools::ToolCall};

use crate::api::{
    Answer, ApiError, Billing, Head, json, openai::billing_comment, tools::arguments_object,
};

/// Writes the events of one stream.
#[derive(Debug)]
pub struct EventWriter {
    /// Up to the usage of the message that begins.
    begin: Bytes,
    /// Blocks that have begun.
    blocks: u64,
    /// What the last of them is, unless it has ended.
    open: Option<Block>,
    has_calls: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Block {
    Text,
    Call,
}

impl EventWriter {
    pub fn new(head: Head<'_>) -> EventWriter {
        let mut out = BytesMut::with_capacity(256);
        json::raw(&mut out, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
        begin_message(&mut out, head);
        json::raw(&mut out, r#""content":[],"stop_reason":null,"stop_sequence":null,"#);
        EventWriter { begin: out.freeze(), blocks: 0, open: None, has_calls: false }
    }

    /// The message begins. How long the prompt is, the end tells.
    pub fn begin(&self, out: &mut BytesMut) {
        out.extend_from_slice(&self.begin);
        json::raw(out, "\"usage\":{\"input_tokens\":0,\"output_tokens\":0}}}\n\n");
    }

    pub fn text(&mut self, out: &mut BytesMut, text: &str) {
        out.reserve(text.len() + 140);
        self.text_block(out);
        self.delta(out, r#"{"type":"text_delta","text":"#, text);
    }

    pub fn call(&mut self, out: &mut BytesMut, call: &ToolCall) {
        self.end_block(out);
        self.has_calls = true;
        self.begin_block(out, Block::Call, |out| {
            json::raw(out, r#"{"type":"tool_use","id":"#);
            json::string(out, &call.id);
            json::raw(out, r#","name":"#);
            json::string(out, &call.name);
            json::raw(out, r#","input":{}}"#);
        });
    }

    pub fn arguments(&mut self, out: &mut BytesMut, text: &str) {
        self.delta(out, r#"{"type":"input_json_delta","partial_json":"#, text);
    }

    pub fn end(&mut self, out: &mut BytesMut, answer: &Answer<'_>) {
        if self.blocks == 0 {
            self.text_block(out);
        }
        self.end_block(out);
        json::raw(
            out,
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":",
        );
        json::string(out, stop_reason(answer.finish, self.has_calls));
        json::raw(out, r#","stop_sequence":null},"usage":"#);
        usage(out, answer);
        json::raw(out, "}\n\n");
        billing_comment(out, answer.billing);
        json::raw(out, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    fn text_block(&mut self, out: &mut BytesMut) {
        if self.open != Some(Block::Text) {
            self.end_block(out);
            self.begin_block(out, Block::Text, |out| {
                json::raw(out, r#"{"type":"text","text":""}"#);
            });
        }
    }

    fn begin_block(
        &mut self,
        out: &mut BytesMut,
        block: Block,
        content: impl FnOnce(&mut BytesMut),
    ) {
        self.blocks += 1;
        self.open = Some(block);
        self.event(out, "content_block_start");
        json::raw(out, r#","content_block":"#);
        content(out);
        json::raw(out, "}\n\n");
    }

    fn end_block(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            self.event(out, "content_block_stop");
            json::raw(out, "}\n\n");
        }
    }

    /// A delta of the block that is open, of which `begin` is all but its text.
    fn delta(&self, out: &mut BytesMut, begin: &str, text: &str) {
        self.event(out, "content_block_delta");
        json::raw(out, r#","delta":"#);
        json::raw(out, begin);
        json::string(out, text);
        json::raw(out, "}}\n\n");
    }

    /// An event about the last block, up to its own fields.
    fn event(&self, out: &mut BytesMut, name: &str) {
        json::raw(out, "event: ");
        json::raw(out, name);
        json::raw(out, "\ndata: {\"type\":\"");
        json::raw(out, name);
        json::raw(out, "\",\"index\":");
        json::integer(out, self.blocks.saturating_sub(1));
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
    json::raw(&mut out, r#""content":["#);
    let mut blocks = 0;
    if !answer.text.is_empty() || answer.calls.is_empty() {
        blocks += 1;
        json::raw(&mut out, r#"{"type":"text","text":"#);
        json::string(&mut out, answer.text);
        json::raw(&mut out, "}");
    }
    for call in answer.calls {
        json::raw(&mut out, if blocks > 0 { "," } else { "" });
        blocks += 1;
        json::raw(&mut out, r#"{"type":"tool_use","id":"#);
        json::string(&mut out, &call.id);
        json::raw(&mut out, r#","name":"#);
        json::string(&mut out, &call.name);
        json::raw(&mut out, r#","input":"#);
        arguments_object(&mut out, &call.arguments);
        json::raw(&mut out, "}");
    }
    json::raw(&mut out, r#"],"stop_reason":"#);
    json::string(&mut out, stop_reason(answer.finish, !answer.calls.is_empty()));
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
fn stop_reason(finish: FinishReason, has_calls: bool) -> &'static str {
    match finish {
        FinishReason::Length => "max_tokens",
        FinishReason::Stop if has_calls => "tool_use",
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
