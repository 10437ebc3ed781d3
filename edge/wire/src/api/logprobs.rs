//! Tokens with their log-probabilities, which OpenAI's chats and Ollama write alike.

use bytes::BytesMut;
use types::inference::TokenPiece;

use super::json;

/// OpenAI's own stand-in for a log-probability that is not known.
const UNKNOWN: &str = "-9999.0";

/// Appends a log-probability.
pub(super) fn value(out: &mut BytesMut, logprob_micros: Option<i32>) {
    match logprob_micros {
        Some(value) => json::micros(out, value),
        None => json::raw(out, UNKNOWN),
    }
}

/// Appends a list of tokens, each with its alternatives.
pub(super) fn tokens(out: &mut BytesMut, pieces: &[TokenPiece]) {
    json::raw(out, "[");
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
    json::raw(out, "]");
}

/// Up to the alternatives.
fn token(out: &mut BytesMut, bytes: &[u8], logprob_micros: Option<i32>) {
    json::raw(out, r#"{"token":"#);
    json::string(out, &String::from_utf8_lossy(bytes));
    json::raw(out, r#","logprob":"#);
    value(out, logprob_micros);
    json::raw(out, r#","bytes":"#);
    json::byte_list(out, bytes);
}
