//! Errors in the form that OpenAI's clients parse.

use bytes::{Bytes, BytesMut};

use super::json;

/// An answer that is not 2xx, or the error event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub status: u16,
    pub message: String,
    /// OpenAI's `type`, e.g. `invalid_request_error`.
    pub kind: &'static str,
    /// The field at fault, as a path such as `messages[2].content`.
    pub param: Option<String>,
    pub code: Option<&'static str>,
    /// For the `Retry-After` header.
    pub retry_after_ms: Option<u64>,
}

impl ApiError {
    /// `{"error": {message, type, param, code}}`.
    pub fn body(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(160 + self.message.len());
        json::raw(&mut out, r#"{"error":{"message":"#);
        json::string(&mut out, &self.message);
        json::raw(&mut out, r#","type":"#);
        json::string(&mut out, self.kind);
        json::raw(&mut out, r#","param":"#);
        nullable(&mut out, self.param.as_deref());
        json::raw(&mut out, r#","code":"#);
        nullable(&mut out, self.code);
        json::raw(&mut out, "}}");
        out.freeze()
    }
}

fn nullable(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => json::string(out, text),
        None => json::raw(out, "null"),
    }
}

/// A request body that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadRequest {
    pub param: Option<String>,
    pub message: String,
}
