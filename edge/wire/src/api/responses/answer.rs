//! A response, or the events that build one. Its items are messages of a single part of text, and calls.

use bytes::{Bytes, BytesMut};
use types::{inference::FinishReason, tools::ToolCall};

use crate::api::{Answer, ApiError, Billing, Head, json, openai::billing_comment};

/// Writes the events of one stream. Each carries its number, and some the whole text so far.
#[derive(Debug)]
pub struct EventWriter {
    id: String,
    created_s: u64,
    model: String,
    number: u64,
    /// Items that have ended, as they are listed at the end.
    items: Vec<Bytes>,
    /// The item that has begun.
    open: Option<Item>,
}

#[derive(Debug)]
enum Item {
    /// A message, and its text so far.
    Message(String),
    Call(ToolCall),
}

impl EventWriter {
    pub fn new(head: Head<'_>) -> EventWriter {
        EventWriter {
            id: head.id.to_string(),
            created_s: head.created.0 / 1_000,
            model: head.model.to_owned(),
            number: 0,
            items: Vec::new(),
            open: None,
        }
    }

    pub fn begin(&mut self, out: &mut BytesMut) {
        for name in ["response.created", "response.in_progress"] {
            self.event(out, name);
            json::raw(out, r#","response":"#);
            self.response(out, None);
            json::raw(out, "}\n\n");
        }
    }

    pub fn text(&mut self, out: &mut BytesMut, text: &str) {
        self.begin_message(out);
        if let Some(Item::Message(whole)) = &mut self.open {
            *whole += text;
        }
        self.part_event(out, "response.output_text.delta");
        json::raw(out, r#","logprobs":[],"delta":"#);
        json::string(out, text);
        json::raw(out, "}\n\n");
    }

    pub fn call(&mut self, out: &mut BytesMut, call: ToolCall) {
        self.end_item(out, "completed");
        self.begin_item(out, Item::Call(call));
    }

    pub fn arguments(&mut self, out: &mut BytesMut, text: &str) {
        if let Some(Item::Call(call)) = &mut self.open {
            call.arguments += text;
            self.item_event(out, "response.function_call_arguments.delta");
            json::raw(out, r#","delta":"#);
            json::string(out, text);
            json::raw(out, "}\n\n");
        }
    }

    pub fn end(&mut self, out: &mut BytesMut, answer: &Answer<'_>) {
        if self.items.is_empty() && self.open.is_none() {
            self.begin_message(out);
        }
        let (status, event) = status(answer.finish);
        self.end_item(out, status);
        billing_comment(out, answer.billing);
        self.event(out, event);
        json::raw(out, r#","response":"#);
        self.response(out, Some(answer));
        json::raw(out, "}\n\n");
    }

    fn begin_message(&mut self, out: &mut BytesMut) {
        if !matches!(self.open, Some(Item::Message(_))) {
            self.end_item(out, "completed");
            self.begin_item(out, Item::Message(String::new()));
            self.part_event(out, "response.content_part.added");
            json::raw(out, r#","part":"#);
            part(out, "");
            json::raw(out, "}\n\n");
        }
    }

    fn begin_item(&mut self, out: &mut BytesMut, item: Item) {
        self.event(out, "response.output_item.added");
        self.output_index(out);
        json::raw(out, r#","item":"#);
        let empty = match &item {
            Item::Message(_) => None,
            Item::Call(call) => Some(call),
        };
        match empty {
            None => self.message(out, "in_progress", None),
            Some(call) => self.function_call(out, "in_progress", call),
        }
        json::raw(out, "}\n\n");
        self.open = Some(item);
    }

    fn end_item(&mut self, out: &mut BytesMut, status: &str) {
        let Some(item) = self.open.take() else { return };
        let done = self.rendered(&item, status);
        match item {
            Item::Message(text) => {
                self.part_event(out, "response.output_text.done");
                json::raw(out, r#","logprobs":[],"text":"#);
                json::string(out, &text);
                json::raw(out, "}\n\n");
                self.part_event(out, "response.content_part.done");
                json::raw(out, r#","part":"#);
                part(out, &text);
                json::raw(out, "}\n\n");
            }
            Item::Call(call) => {
                self.item_event(out, "response.function_call_arguments.done");
                json::raw(out, r#","name":"#);
                json::string(out, &call.name);
                json::raw(out, r#","arguments":"#);
                json::string(out, &call.arguments);
                json::raw(out, "}\n\n");
            }
        }
        self.event(out, "response.output_item.done");
        self.output_index(out);
        json::raw(out, r#","item":"#);
        out.extend_from_slice(&done);
        json::raw(out, "}\n\n");
        self.items.push(done);
    }

    /// The item that comes next, as it is when it has ended.
    fn rendered(&self, item: &Item, status: &str) -> Bytes {
        let mut out = BytesMut::new();
        match item {
            Item::Message(text) => self.message(&mut out, status, Some(text)),
            Item::Call(call) => self.function_call(&mut out, status, call),
        }
        out.freeze()
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

    fn output_index(&self, out: &mut BytesMut) {
        json::raw(out, r#","output_index":"#);
        json::integer(out, u64::try_from(self.items.len()).unwrap_or(u64::MAX));
    }

    /// An event about the item that is open.
    fn item_event(&mut self, out: &mut BytesMut, name: &str) {
        self.event(out, name);
        json::raw(out, r#","item_id":"#);
        self.item_id(out, if name.contains("function_call") { "fc" } else { "msg" });
        self.output_index(out);
    }

    /// An event about its text.
    fn part_event(&mut self, out: &mut BytesMut, name: &str) {
        self.item_event(out, name);
        json::raw(out, r#","content_index":0"#);
    }

    /// Items have ids of their own; that of the first message is the request's.
    fn item_id(&self, out: &mut BytesMut, prefix: &str) {
        json::raw(out, "\"");
        json::raw(out, prefix);
        json::raw(out, "_");
        json::raw(out, &self.id);
        if !self.items.is_empty() {
            json::raw(out, "_");
            json::integer(out, u64::try_from(self.items.len()).unwrap_or(u64::MAX));
        }
        json::raw(out, "\"");
    }

    fn message(&self, out: &mut BytesMut, status: &str, text: Option<&str>) {
        json::raw(out, r#"{"id":"#);
        self.item_id(out, "msg");
        json::raw(out, r#","type":"message","status":"#);
        json::string(out, status);
        json::raw(out, r#","role":"assistant","content":["#);
        if let Some(text) = text {
            part(out, text);
        }
        json::raw(out, "]}");
    }

    fn function_call(&self, out: &mut BytesMut, status: &str, call: &ToolCall) {
        json::raw(out, r#"{"id":"#);
        self.item_id(out, "fc");
        json::raw(out, r#","type":"function_call","status":"#);
        json::string(out, status);
        for (name, value) in
            [("call_id", &call.id), ("name", &call.name), ("arguments", &call.arguments)]
        {
            json::raw(out, ",");
            json::string(out, name);
            json::raw(out, ":");
            json::string(out, value);
        }
        json::raw(out, "}");
    }

    /// The response so far, or as it ended.
    fn response(&self, out: &mut BytesMut, answer: Option<&Answer<'_>>) {
        json::raw(out, r#"{"id":"resp_"#);
        json::raw(out, &self.id);
        json::raw(out, r#"","object":"response","created_at":"#);
        json::integer(out, self.created_s);
        json::raw(out, r#","status":"#);
        let status = answer.map_or("in_progress", |answer| status(answer.finish).0);
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
        for (index, item) in self.items.iter().enumerate() {
            json::raw(out, if index > 0 { "," } else { "" });
            out.extend_from_slice(item);
        }
        json::raw(
            out,
            r#"],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":"#,
        );
        match answer {
            None => json::raw(out, "null"),
            Some(answer) => usage(out, answer),
        }
        json::raw(out, r#","user":null,"metadata":{}}"#);
    }
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
    let mut writer = EventWriter::new(head);
    let (status, _) = status(answer.finish);
    let has_text = !answer.text.is_empty() || answer.calls.is_empty();
    let text = has_text.then(|| Item::Message(answer.text.to_owned()));
    for item in text.into_iter().chain(answer.calls.iter().cloned().map(Item::Call)) {
        let item = writer.rendered(&item, status);
        writer.items.push(item);
    }
    writer.response(&mut out, Some(answer));
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
