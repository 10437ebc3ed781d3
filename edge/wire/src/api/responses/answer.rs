//! A response, or the events that build one. Its single item is a message with a single part of text.

use bytes::{Bytes, BytesMut};
use types::inference::FinishReason;

use crate::api::{Answer, ApiError, Billing, Head, json, openai::billing_comment};

/// Writes the events of one stream. Each carries its number, and some the whole text so far.
#[derive(Debug)]
pub struct EventWriter {
    id: String,
    created_s: u64,
    model: String,
    number: u64,
    text: String,
}

impl EventWriter {
    pub fn new(head: Head<'_>) -> EventWriter {
        EventWriter {
            id: head.id.to_string(),
            created_s: head.created.0 / 1_000,
            model: head.model.to_owned(),
            number: 0,
            text: String::new(),
        }
    }

    pub fn begin(&mut self, out: &mut BytesMut) {
        for name in ["response.created", "response.in_progress"] {
            self.event(out, name);
            json::raw(out, r#","response":"#);
            self.response(out, &Status::InProgress);
            json::raw(out, "}\n\n");
        }
        self.event(out, "response.output_item.added");
        json::raw(out, r#","output_index":0,"item":"#);
        self.item(out, "in_progress", None);
        json::raw(out, "}\n\n");
        self.part_event(out, "response.content_part.added");
        json::raw(out, r#","part":"#);
        part(out, "");
        json::raw(out, "}\n\n");
    }

    pub fn text(&mut self, out: &mut BytesMut, text: &str) {
        self.text += text;
        self.part_event(out, "response.output_text.delta");
        json::raw(out, r#","logprobs":[],"delta":"#);
        json::string(out, text);
        json::raw(out, "}\n\n");
    }

    pub fn end(&mut self, out: &mut BytesMut, answer: &Answer<'_>) {
        self.part_event(out, "response.output_text.done");
        json::raw(out, r#","logprobs":[],"text":"#);
        json::string(out, &self.text);
        json::raw(out, "}\n\n");
        self.part_event(out, "response.content_part.done");
        json::raw(out, r#","part":"#);
        part(out, &self.text);
        json::raw(out, "}\n\n");
        let (status, event) = status(answer.finish);
        self.event(out, "response.output_item.done");
        json::raw(out, r#","output_index":0,"item":"#);
        self.item(out, status, Some(&self.text));
        json::raw(out, "}\n\n");
        billing_comment(out, answer.billing);
        self.event(out, event);
        json::raw(out, r#","response":"#);
        self.response(out, &Status::Ended(answer, &self.text));
        json::raw(out, "}\n\n");
    }

    pub fn fail(&mut self, out: &mut BytesMut, failure: &ApiError, billing: &Billing) {
        billing_comment(out, billing);
        self.event(out, "error");
        json::raw(out, r#","code":"#);
        json::string(out, failure.code.unwrap_or(failure.kind));
        json::raw(out, r#","message":"#);
        json::string(out, &failure.message);
        json::raw(out, r#","param":"#);
        json::nullable(out, failure.param.as_deref());
        json::raw(out, "}\n\n");
    }

    /// `event: …`, and the data up to its own fields.
    fn event(&mut self, out: &mut BytesMut, name: &str) {
        json::raw(out, "event: ");
        json::raw(out, name);
        json::raw(out, "\ndata: {\"type\":\"");
        json::raw(out, name);
        json::raw(out, "\",\"sequence_number\":");
        json::integer(out, self.number);
        self.number += 1;
    }

    fn part_event(&mut self, out: &mut BytesMut, name: &str) {
        self.event(out, name);
        json::raw(out, r#","item_id":"msg_"#);
        json::raw(out, &self.id);
        json::raw(out, r#"","output_index":0,"content_index":0"#);
    }

    fn item(&self, out: &mut BytesMut, status: &str, text: Option<&str>) {
        json::raw(out, r#"{"id":"msg_"#);
        json::raw(out, &self.id);
        json::raw(out, r#"","type":"message","status":"#);
        json::string(out, status);
        json::raw(out, r#","role":"assistant","content":["#);
        if let Some(text) = text {
            part(out, text);
        }
        json::raw(out, "]}");
    }

    fn response(&self, out: &mut BytesMut, at: &Status<'_>) {
        json::raw(out, r#"{"id":"resp_"#);
        json::raw(out, &self.id);
        json::raw(out, r#"","object":"response","created_at":"#);
        json::integer(out, self.created_s);
        json::raw(out, r#","status":"#);
        let answer = match at {
            Status::InProgress => None,
            Status::Ended(answer, text) => Some((*answer, *text)),
        };
        let status = answer.map_or("in_progress", |(answer, _)| status(answer.finish).0);
        json::string(out, status);
        json::raw(out, r#","error":null,"incomplete_details":"#);
        json::raw(
            out,
            match status {
                "incomplete" => r#"{"reason":"max_output_tokens"}"#,
                _ => "null",
            },
        );
        json::raw(out, r#","instructions":null,"max_output_tokens":null,"model":"#);
        json::string(out, &self.model);
        json::raw(out, r#","output":["#);
        if let Some((_, text)) = answer {
            self.item(out, status, Some(text));
        }
        json::raw(
            out,
            r#"],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":"#,
        );
        match answer {
            None => json::raw(out, "null"),
            Some((answer, _)) => usage(out, answer),
        }
        json::raw(out, r#","user":null,"metadata":{}}"#);
    }
}

/// How far a response is.
enum Status<'a> {
    InProgress,
    Ended(&'a Answer<'a>, &'a str),
}

/// The status of a response that ended so, and the event that says it.
fn status(finish: FinishReason) -> (&'static str, &'static str) {
    match finish {
        FinishReason::Length => ("incomplete", "response.incomplete"),
        // The others are never the end of an answer that succeeded.
        FinishReason::Stop | FinishReason::Cancelled | FinishReason::Failed => {
            ("completed", "response.completed")
        }
    }
}

/// The body of a plain answer.
pub fn response(head: Head<'_>, answer: &Answer<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(1_024 + answer.text.len());
    EventWriter::new(head).response(&mut out, &Status::Ended(answer, answer.text));
    out.freeze()
}

fn part(out: &mut BytesMut, text: &str) {
    json::raw(out, r#"{"type":"output_text","text":"#);
    json::string(out, text);
    json::raw(out, r#","annotations":[],"logprobs":[]}"#);
}

fn usage(out: &mut BytesMut, answer: &Answer<'_>) {
    let (input, output) = (answer.usage.prompt_tokens, answer.usage.completion_tokens);
    json::raw(out, r#"{"input_tokens":"#);
    json::integer(out, input.into());
    json::raw(out, r#","input_tokens_details":{"cached_tokens":0},"output_tokens":"#);
    json::integer(out, output.into());
    json::raw(out, r#","output_tokens_details":{"reasoning_tokens":0},"total_tokens":"#);
    json::integer(out, u64::from(input) + u64::from(output));
    json::raw(out, "}");
}
