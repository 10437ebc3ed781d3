//! Answers of vectors, written one after the other: all of them as text are several times as long as they are.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Encoding, Endpoint};
use crate::api::{Billing, Head, json};

/// All that is said around the vectors.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub encoding: Encoding,
    pub prompt_tokens: u32,
    pub billing: &'a Billing,
    pub total_ms: u64,
}

/// The body of an answer, in parts.
#[derive(Debug)]
pub struct Body {
    endpoint: Endpoint,
    encoding: Encoding,
    vectors: std::iter::Enumerate<std::vec::IntoIter<Bytes>>,
    begin: Option<Bytes>,
    end: Option<Bytes>,
}

impl Body {
    /// Of vectors of little-endian 32-bit floats.
    pub fn new(
        endpoint: Endpoint,
        head: Head<'_>,
        answer: &Answer<'_>,
        vectors: Vec<Bytes>,
    ) -> Body {
        Body {
            endpoint,
            encoding: answer.encoding,
            vectors: vectors.into_iter().enumerate(),
            begin: Some(begin(endpoint, head)),
            end: Some(end(endpoint, head, answer)),
        }
    }
}

impl Iterator for Body {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(begin) = self.begin.take() {
            return Some(begin);
        }
        let Some((index, vector)) = self.vectors.next() else { return self.end.take() };
        let mut out = BytesMut::with_capacity(64 + 3 * vector.len());
        if index > 0 {
            json::raw(&mut out, ",");
        }
        match self.endpoint {
            Endpoint::OpenAi => {
                json::raw(&mut out, r#"{"object":"embedding","index":"#);
                json::integer(&mut out, u64::try_from(index).unwrap_or(u64::MAX));
                json::raw(&mut out, r#","embedding":"#);
                numbers(&mut out, self.encoding, &vector);
                json::raw(&mut out, "}");
            }
            Endpoint::Ollama | Endpoint::OllamaSingle => {
                numbers(&mut out, self.encoding, &vector);
            }
        }
        Some(out.freeze())
    }
}

fn begin(endpoint: Endpoint, head: Head<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    match endpoint {
        Endpoint::OpenAi => json::raw(&mut out, r#"{"object":"list","data":["#),
        Endpoint::Ollama => {
            json::raw(&mut out, r#"{"model":"#);
            json::string(&mut out, head.model);
            json::raw(&mut out, r#","embeddings":["#);
        }
        // It has one vector, and no list of them.
        Endpoint::OllamaSingle => json::raw(&mut out, r#"{"embedding":"#),
    }
    out.freeze()
}

fn end(endpoint: Endpoint, head: Head<'_>, answer: &Answer<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    let tokens = u64::from(answer.prompt_tokens);
    match endpoint {
        Endpoint::OpenAi => {
            json::raw(&mut out, r#"],"model":"#);
            json::string(&mut out, head.model);
            json::raw(&mut out, r#","usage":{"prompt_tokens":"#);
            json::integer(&mut out, tokens);
            json::raw(&mut out, r#","total_tokens":"#);
            json::integer(&mut out, tokens);
            json::raw(&mut out, "}}");
        }
        Endpoint::Ollama => {
            json::raw(&mut out, r#"],"total_duration":"#);
            json::integer(&mut out, answer.total_ms.saturating_mul(1_000_000));
            json::raw(&mut out, r#","load_duration":0,"prompt_eval_count":"#);
            json::integer(&mut out, tokens);
            peerwatt(&mut out, answer.billing);
        }
        Endpoint::OllamaSingle => peerwatt(&mut out, answer.billing),
    }
    out.freeze()
}

fn peerwatt(out: &mut BytesMut, billing: &Billing) {
    json::raw(out, r#","peerwatt":"#);
    json::raw(out, &billing.to_json());
    json::raw(out, "}");
}

fn numbers(out: &mut BytesMut, encoding: Encoding, vector: &[u8]) {
    match encoding {
        Encoding::Float => {
            out.put_u8(b'[');
            for (index, number) in vector.as_chunks::<4>().0.iter().enumerate() {
                if index > 0 {
                    out.put_u8(b',');
                }
                // The shortest decimal that is this number and no other. It grows as needed and cannot fail.
                let _ = write!(out, "{:?}", f32::from_le_bytes(*number));
            }
            out.put_u8(b']');
        }
        Encoding::Base64 => {
            out.put_u8(b'"');
            json::raw(out, &STANDARD.encode(vector));
            out.put_u8(b'"');
        }
    }
}

/// The answer to a request without a text, which only wants the model to be there.
pub fn loaded(endpoint: Endpoint, head: Head<'_>) -> Bytes {
    let mut out = BytesMut::with_capacity(128);
    match endpoint {
        Endpoint::OllamaSingle => json::raw(&mut out, r#"{"embedding":[]}"#),
        Endpoint::OpenAi | Endpoint::Ollama => {
            json::raw(&mut out, r#"{"model":"#);
            json::string(&mut out, head.model);
            json::raw(&mut out, r#","embeddings":[]}"#);
        }
    }
    out.freeze()
}
