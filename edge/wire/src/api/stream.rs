//! Streamed answers, in any dialect. The caller decides when something is written; a writer knows only
//! the form.

use bytes::BytesMut;
use types::{Address, inference::TokenPiece, tools::ToolCall};

use super::{Answer, ApiError, Billing, Dialect, Head, anthropic, ollama, openai, responses};

/// Writes the parts of one streamed answer.
#[derive(Debug)]
pub enum StreamWriter {
    OpenAi(openai::ChunkWriter),
    Responses(Box<responses::EventWriter>),
    Ollama(ollama::LineWriter),
    Anthropic(anthropic::EventWriter),
}

impl StreamWriter {
    pub fn new(dialect: Dialect, head: Head<'_>, include_usage: bool) -> StreamWriter {
        match dialect {
            Dialect::OpenAi(kind) => {
                StreamWriter::OpenAi(openai::ChunkWriter::new(kind, head, include_usage))
            }
            Dialect::Responses => {
                StreamWriter::Responses(Box::new(responses::EventWriter::new(head)))
            }
            Dialect::Ollama(kind) => StreamWriter::Ollama(ollama::LineWriter::new(kind, head)),
            Dialect::Anthropic => StreamWriter::Anthropic(anthropic::EventWriter::new(head)),
        }
    }

    /// What comes before the first text. Written once, when there is something to come after it.
    pub fn begin(&mut self, out: &mut BytesMut) {
        match self {
            StreamWriter::OpenAi(writer) => writer.role(out),
            StreamWriter::Responses(writer) => writer.begin(out),
            StreamWriter::Ollama(_) => {}
            StreamWriter::Anthropic(writer) => writer.begin(out),
        }
    }

    /// More text. `pieces` are given where log-probabilities were asked for.
    pub fn text(&mut self, out: &mut BytesMut, text: &str, pieces: Option<&[TokenPiece]>) {
        match self {
            StreamWriter::OpenAi(writer) => writer.text(out, text, pieces),
            StreamWriter::Responses(writer) => writer.text(out, text),
            StreamWriter::Ollama(writer) => writer.text(out, text, pieces),
            StreamWriter::Anthropic(writer) => writer.text(out, text),
        }
    }

    /// A call begins; so far it has no arguments.
    pub fn call(&mut self, out: &mut BytesMut, call: ToolCall) {
        match self {
            StreamWriter::OpenAi(writer) => writer.call(out, &call),
            StreamWriter::Responses(writer) => writer.call(out, call),
            StreamWriter::Ollama(writer) => writer.call(out, call),
            StreamWriter::Anthropic(writer) => writer.call(out, &call),
        }
    }

    /// More of the arguments of the call that began last.
    pub fn arguments(&mut self, out: &mut BytesMut, text: &str) {
        match self {
            StreamWriter::OpenAi(writer) => writer.arguments(out, text),
            StreamWriter::Responses(writer) => writer.arguments(out, text),
            StreamWriter::Ollama(writer) => writer.arguments(text),
            StreamWriter::Anthropic(writer) => writer.arguments(out, text),
        }
    }

    /// From here on another provider answers, because the one before has failed. A comment, where the
    /// form of the stream has such; the end says it too.
    pub fn continued(&self, out: &mut BytesMut, by: Address) {
        match self {
            StreamWriter::OpenAi(_) | StreamWriter::Responses(_) | StreamWriter::Anthropic(_) => {
                let comment = format!(": peerwatt {{\"continued_by\":\"{by}\"}}\n\n");
                out.extend_from_slice(comment.as_bytes());
            }
            StreamWriter::Ollama(_) => {}
        }
    }

    /// The end of an answer that is complete.
    pub fn end(&mut self, out: &mut BytesMut, answer: &Answer<'_>) {
        match self {
            StreamWriter::OpenAi(writer) => writer.end(out, answer),
            StreamWriter::Responses(writer) => writer.end(out, answer),
            StreamWriter::Ollama(writer) => writer.end(out, answer),
            StreamWriter::Anthropic(writer) => writer.end(out, answer),
        }
    }

    /// The end of one that is not.
    pub fn fail(&mut self, out: &mut BytesMut, error: &ApiError, billing: &Billing) {
        match self {
            StreamWriter::OpenAi(writer) => writer.fail(out, error, billing),
            StreamWriter::Responses(writer) => writer.fail(out, error, billing),
            StreamWriter::Ollama(writer) => writer.fail(out, error),
            StreamWriter::Anthropic(writer) => writer.fail(out, error, billing),
        }
    }
}
