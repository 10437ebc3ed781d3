//! Answers that are not 200: a status, a stable code and a sentence.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use replica::{Full, Refusal, SubmitError};
use wire::chain::{ErrorBody, code};

use crate::views::ViewError;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, code, message: message.into() }
    }

    /// `message` names the part of the request and what belongs there.
    pub(super) fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code::BAD_REQUEST, message)
    }

    pub(super) fn too_long(bytes_max: usize) -> ApiError {
        let message = format!("a transaction has at most {bytes_max} bytes; ask for less at once");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, code::TOO_LONG, message)
    }

    pub(super) fn not_found(what: impl std::fmt::Display) -> ApiError {
        let message = format!("there is no {what}");
        ApiError::new(StatusCode::NOT_FOUND, code::NOT_FOUND, message)
    }

    /// Not `not_found`: a client must not take a path that this server lacks for a missing entry.
    pub(super) fn unknown_path() -> ApiError {
        let message = "this path is not part of the chain API, version 1";
        ApiError::new(StatusCode::NOT_FOUND, "request.path", message)
    }

    pub(super) fn method() -> ApiError {
        let message = "use GET, or POST for /v1/txs and /v1/simulations";
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "request.method", message)
    }

    pub(super) fn busy() -> ApiError {
        let message = "too many requests at once; try again in a second";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code::BUSY, message)
    }

    pub(super) fn submit_timeout() -> ApiError {
        let message = "the transaction is not in a block yet; submit the same bytes again to wait on, or look it up by its id";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code::SUBMIT_TIMEOUT, message)
    }

    pub(super) fn halted() -> ApiError {
        ApiError::of_submission(&SubmitError::Halted)
    }

    /// A failure on this side. What it was stands in the log, not in the answer.
    pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> ApiError {
        tracing::error!(error, "a request could not be answered");
        let message = "the validator could not answer; see its log";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, code::INTERNAL, message)
    }

    /// Bytes that are no transaction, or one with a bad signature.
    pub(super) fn malformed(refusal: Refusal) -> ApiError {
        ApiError::of_submission(&SubmitError::Malformed { source: refusal })
    }

    /// A transaction that has no place in a block.
    pub(super) fn refused(refusal: &Refusal) -> ApiError {
        ApiError::of_submission(&SubmitError::Refused { source: refusal.clone() })
    }

    pub(super) fn of_submission(error: &SubmitError) -> ApiError {
        let message = error.to_string();
        let (status, code) = match error {
            SubmitError::Malformed { source } | SubmitError::Refused { source } => {
                (refusal_status(source, error), source.code)
            }
            SubmitError::NotTaken { reason } => match reason {
                Full::Pool => (StatusCode::SERVICE_UNAVAILABLE, code::MEMPOOL_FULL),
                Full::Sender => (StatusCode::TOO_MANY_REQUESTS, code::MEMPOOL_SENDER_FULL),
                Full::Waiters => (StatusCode::TOO_MANY_REQUESTS, code::BUSY),
                Full::Gap => (StatusCode::CONFLICT, code::NONCE_TOO_HIGH),
                Full::NonceTaken { .. } | Full::Replaced | Full::OutOfTurn => {
                    (StatusCode::CONFLICT, code::NONCE_TAKEN)
                }
                Full::Evicted => (StatusCode::SERVICE_UNAVAILABLE, code::MEMPOOL_FULL),
                Full::Expired => (StatusCode::CONFLICT, code::TX_EXPIRED),
            },
            SubmitError::Halted => (StatusCode::SERVICE_UNAVAILABLE, code::HALTED),
            SubmitError::Store { source } => return ApiError::internal(source),
        };
        ApiError::new(status, code, message)
    }
}

fn refusal_status(refusal: &Refusal, error: &SubmitError) -> StatusCode {
    match error {
        _ if refusal.code == code::TOO_LONG => StatusCode::PAYLOAD_TOO_LARGE,
        SubmitError::Malformed { .. } => StatusCode::BAD_REQUEST,
        SubmitError::Refused { .. }
        | SubmitError::NotTaken { .. }
        | SubmitError::Halted
        | SubmitError::Store { .. } => StatusCode::CONFLICT,
    }
}

impl From<store::StoreError> for ApiError {
    fn from(error: store::StoreError) -> ApiError {
        ApiError::internal(&error)
    }
}

impl From<ViewError> for ApiError {
    fn from(error: ViewError) -> ApiError {
        ApiError::internal(&error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody { code: self.code.to_owned(), message: self.message };
        (self.status, Json(body)).into_response()
    }
}
