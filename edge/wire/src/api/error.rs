//! Why there is no answer. Each dialect has its own form for it.

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

/// A request body that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadRequest {
    pub param: Option<String>,
    pub message: String,
}

impl BadRequest {
    /// Names the field and says what is wrong with it.
    pub(super) fn field(param: &str, problem: impl std::fmt::Display) -> BadRequest {
        BadRequest { param: Some(param.to_owned()), message: format!("{param}: {problem}") }
    }
}
