//! Answers to Ollama's clients: one JSON object, or one on each line of a stream.

use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use types::{
    TimeMs,
    inference::{FinishReason, TokenPiece},
    tools::ToolCall,
};

use super::Kind;
use crate::api::{Answer, ApiError, Head, json, logprobs, tools::arguments_object};

/// Writes the lines of one stream.
#[derive(Debug)]
pub struct LineWriter {
    kind: Kind,
    /// `{"model":…,"created_at":…,` of every line.
    begin: Bytes,
    /// Ollama's clients get calls whole.
    call: Option<ToolCall>,
    calls: u64,
}

impl LineWriter {
    pub fn new(kind: Kind, head: Head<'_>) -> LineWriter {
        let mut out = BytesMut::with_capacity(96);
        json::raw(&mut out, r#"{"model":"#);
        json::string(&mut out, head.model);
        json::raw(&mut out, r#","created_at":""#);
        json::raw(&mut out, &timestamp(head.created));
        json::raw(&mut out, r#"","#);
        LineWriter { kind, begin: out.freeze(), call: None, calls: 0 }
    }

    /// A line of text. `pieces` are given where log-probabilities were asked for.
    pub fn text(&mut self, out: &mut BytesMut, text: &str, pieces: Option<&[TokenPiece]>) {
        self.end_call(out);
        self.content(out, text, &[]);
        json::raw(out, r#","done":false"#);
        logprobs_member(out, pieces);
        json::raw(out, "}\n");
    }

    pub fn call(&mut self, out: &mut BytesMut, call: ToolCall) {
        self.end_call(out);
        self.call = Some(call);
    }

    pub fn arguments(&mut self, text: &str) {
        if let Some(call) = &mut self.call {
            call.arguments += text;
        }
    }

    /// A line with the call that is complete.
    fn end_call(&mut self, out: &mut BytesMut) {
        if let Some(call) = self.call.take() {
            self.content(out, "", &[call]);
            self.calls += 1;
            json::raw(out, ",\"done\":false}\n");
        }
    }

    /// The last line, which tells how it went. Durations are in nanoseconds.
    pub fn end(&mut self, out: &mut BytesMut, answer: &Answer<'_>) {
        self.end_call(out);
        self.content(out, answer.text, answer.calls);
        json::raw(out, r#","done":true,"done_reason":"#);
        json::raw(
            out,
            match answer.finish {
                FinishReason::Length => r#""length""#,
                FinishReason::Stop | FinishReason::Cancelled | FinishReason::Failed => r#""stop""#,
            },
        );
        logprobs_member(out, answer.pieces);
        let ns = |ms: u64| ms.saturating_mul(1_000_000);
        let rest_ms = answer.total_ms.saturating_sub(answer.first_token_ms);
        for (name, value) in [
            ("total_duration", ns(answer.total_ms)),
            ("load_duration", 0),
            ("prompt_eval_count", answer.usage.prompt_tokens.into()),
            ("prompt_eval_duration", ns(answer.first_token_ms)),
            ("eval_count", answer.usage.completion_tokens.into()),
            ("eval_duration", ns(rest_ms)),
        ] {
            json::raw(out, ",");
            json::string(out, name);
            json::raw(out, ":");
            json::integer(out, value);
        }
        json::raw(out, r#","peerwatt":"#);
        json::raw(out, &answer.billing.to_json());
        json::raw(out, "}\n");
    }

    /// The last line of a stream that failed.
    pub fn fail(&self, out: &mut BytesMut, failure: &ApiError) {
        out.extend_from_slice(&error(failure));
        json::raw(out, "\n");
    }

    fn content(&self, out: &mut BytesMut, text: &str, calls: &[ToolCall]) {
        out.reserve(self.begin.len() + text.len() + 80);
        out.extend_from_slice(&self.begin);
        match self.kind {
            Kind::Chat => {
                json::raw(out, r#""message":{"role":"assistant","content":"#);
                json::string(out, text);
                self.tool_calls(out, calls);
                json::raw(out, "}");
            }
            Kind::Generate => {
                json::raw(out, r#""response":"#);
                json::string(out, text);
            }
        }
    }

    fn tool_calls(&self, out: &mut BytesMut, calls: &[ToolCall]) {
        for (index, call) in (self.calls..).zip(calls) {
            json::raw(out, if index == self.calls { r#","tool_calls":["# } else { "," });
            json::raw(out, r#"{"id":"#);
            json::string(out, &call.id);
            json::raw(out, r#","function":{"index":"#);
            json::integer(out, index);
            json::raw(out, r#","name":"#);
            json::string(out, &call.name);
            json::raw(out, r#","arguments":"#);
            arguments_object(out, &call.arguments);
            json::raw(out, "}}");
        }
        if !calls.is_empty() {
            json::raw(out, "]");
        }
    }
}

/// The body of a plain answer.
pub fn answer(kind: Kind, head: Head<'_>, answer: &Answer<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(512 + answer.text.len());
    LineWriter::new(kind, head).end(&mut out, answer);
    out.freeze()
}

/// The answer to a request without a prompt, which only wants the model to be there.
pub fn loaded(kind: Kind, head: Head<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(160);
    LineWriter::new(kind, head).content(&mut out, "", &[]);
    json::raw(&mut out, ",\"done\":true,\"done_reason\":\"load\"}\n");
    out.freeze()
}

/// The body of an answer that is an error, and the line of a stream.
pub fn error(error: &ApiError) -> Bytes {
    let mut out = BytesMut::with_capacity(32 + error.message.len());
    json::raw(&mut out, r#"{"error":"#);
    json::string(&mut out, &error.message);
    json::raw(&mut out, "}");
    out.freeze()
}

pub(super) fn timestamp(at: TimeMs) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at.0)).to_string()
}

fn logprobs_member(out: &mut BytesMut, pieces: Option<&[TokenPiece]>) {
    if let Some(pieces) = pieces.filter(|pieces| !pieces.is_empty()) {
        json::raw(out, r#","logprobs":"#);
        logprobs::tokens(out, pieces);
    }
}
