//! Streamed answers: server-sent events, rendered from parts that are made once per request.

use bytes::{Bytes, BytesMut};
use types::{
    inference::{FinishReason, TokenPiece},
    tools::ToolCall,
};

use super::answer::{
    Kind, begin, call_members, error, finish_reason, logprobs_member, usage_object,
};
use crate::api::{Answer, ApiError, Billing, Head, Usage, json};

/// Writes the events of one stream. The caller decides when; this knows only the form.
#[derive(Debug)]
pub struct ChunkWriter {
    kind: Kind,
    include_usage: bool,
    /// `data: {…,"choices":[{"index":0,` of every chunk.
    before_choice: Bytes,
    /// `data: {…,` of the usage chunk.
    before_usage: Bytes,
    /// Where the next piece begins in the text, in characters.
    offset: usize,
    /// Calls that have begun.
    calls: u64,
}

impl ChunkWriter {
    /// `include_usage` says whether the client asked for a usage chunk: the others then carry a null.
    pub fn new(kind: Kind, head: Head<'_>, include_usage: bool) -> ChunkWriter {
        let mut out = BytesMut::with_capacity(224);
        json::raw(&mut out, "data: ");
        begin(&mut out, kind, head, true);
        let before_usage = Bytes::copy_from_slice(&out);
        if include_usage {
            json::raw(&mut out, r#""usage":null,"#);
        }
        json::raw(&mut out, r#""choices":[{"index":0,"#);
        let before_choice = out.freeze();
        ChunkWriter { kind, include_usage, before_choice, before_usage, offset: 0, calls: 0 }
    }

    /// The first chunk of a chat, which names the role. Nothing for a completion.
    pub fn role(&self, out: &mut BytesMut) {
        if self.kind == Kind::Chat {
            out.extend_from_slice(&self.before_choice);
            json::raw(
                out,
                r#""delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#,
            );
            json::raw(out, "\n\n");
        }
    }

    /// A chunk of text. `pieces` are given where log-probabilities were asked for.
    pub fn text(&mut self, out: &mut BytesMut, text: &str, pieces: Option<&[TokenPiece]>) {
        out.reserve(self.before_choice.len() + text.len() + 80);
        out.extend_from_slice(&self.before_choice);
        json::raw(
            out,
            match self.kind {
                Kind::Chat => r#""delta":{"content":""#,
                Kind::Text => r#""text":""#,
            },
        );
        json::escaped(out, text);
        json::raw(
            out,
            match self.kind {
                Kind::Chat => r#""},"logprobs":"#,
                Kind::Text => r#"","logprobs":"#,
            },
        );
        logprobs_member(out, self.kind, pieces, &mut self.offset);
        json::raw(out, ",\"finish_reason\":null}]}\n\n");
    }

    /// A call begins.
    pub fn call(&mut self, out: &mut BytesMut, call: &ToolCall) {
        self.calls += 1;
        self.call_delta(out, |out| {
            json::raw(out, ",");
            call_members(out, call);
        });
    }

    /// More of the arguments of the call that began last.
    pub fn arguments(&self, out: &mut BytesMut, text: &str) {
        self.call_delta(out, |out| {
            json::raw(out, r#","function":{"arguments":"#);
            json::string(out, text);
            json::raw(out, "}");
        });
    }

    fn call_delta(&self, out: &mut BytesMut, members: impl FnOnce(&mut BytesMut)) {
        out.extend_from_slice(&self.before_choice);
        json::raw(out, r#""delta":{"tool_calls":[{"index":"#);
        json::integer(out, self.calls.saturating_sub(1));
        members(out);
        json::raw(out, "}]},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    }

    /// The end of a stream that succeeded: the last chunk with a choice, perhaps the usage, the cost.
    pub fn end(&self, out: &mut BytesMut, answer: &Answer<'_>) {
        self.finish(out, answer.finish);
        if self.include_usage {
            self.usage(out, answer.usage, answer.billing);
        }
        billing_comment(out, answer.billing);
        json::raw(out, "data: [DONE]\n\n");
    }

    /// The end of a stream that did not.
    pub fn fail(&self, out: &mut BytesMut, failure: &ApiError, billing: &Billing) {
        billing_comment(out, billing);
        json::raw(out, "data: ");
        out.extend_from_slice(&error(failure));
        json::raw(out, "\n\n");
    }

    fn finish(&self, out: &mut BytesMut, finish: FinishReason) {
        out.extend_from_slice(&self.before_choice);
        json::raw(
            out,
            match self.kind {
                Kind::Chat => r#""delta":{},"logprobs":null,"finish_reason":"#,
                Kind::Text => r#""text":"","logprobs":null,"finish_reason":"#,
            },
        );
        finish_reason(out, finish, self.calls > 0);
        json::raw(out, "}]}\n\n");
    }

    fn usage(&self, out: &mut BytesMut, usage: Usage, billing: &Billing) {
        out.extend_from_slice(&self.before_usage);
        json::raw(out, r#""choices":[],"usage":"#);
        usage_object(out, usage);
        json::raw(out, r#","peerwatt":"#);
        json::raw(out, &billing.to_json());
        json::raw(out, "}\n\n");
    }
}

/// The cost as a comment, which every client skips and every person reads.
pub(in crate::api) fn billing_comment(out: &mut BytesMut, billing: &Billing) {
    json::raw(out, ": peerwatt ");
    json::raw(out, &billing.to_json());
    json::raw(out, "\n\n");
}
