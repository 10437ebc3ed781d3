//! How failures look to a client, before they are written in its dialect.

use wire::api::ApiError;

use crate::error::{PaymentProblem, RequestFailure};

/// A request that is wrong.
pub(super) fn invalid(
    status: u16,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
) -> ApiError {
    let kind = "invalid_request_error";
    ApiError { status, message, kind, param, code, retry_after_ms: None }
}

/// Something that is wrong here.
pub(super) fn internal(message: String) -> ApiError {
    let (kind, code) = ("server_error", Some("internal_error"));
    ApiError { status: 500, message, kind, param: None, code, retry_after_ms: None }
}

/// The keys of the fleet cannot be asked for now.
pub(super) fn keys_away(message: String) -> ApiError {
    let (kind, code) = ("server_error", Some("keys_unavailable"));
    ApiError { status: 503, message, kind, param: None, code, retry_after_ms: Some(2_000) }
}

/// How a failure looks to a client.
pub(crate) fn api_error(failure: &RequestFailure) -> ApiError {
    let message = failure.to_string();
    let model = Some("model".to_owned());
    let error = |status, kind, code| ApiError {
        status,
        message: message.clone(),
        kind,
        param: None,
        code: Some(code),
        retry_after_ms: None,
    };
    match failure {
        RequestFailure::Invalid { param, .. } => invalid(400, message.clone(), param.clone(), None),
        RequestFailure::BadKey | RequestFailure::NoKey => {
            error(401, "invalid_request_error", "invalid_api_key")
        }
        RequestFailure::ExpiredKey => error(401, "invalid_request_error", "expired_api_key"),
        RequestFailure::ModelNotAllowed { .. } => {
            ApiError { param: model, ..error(403, "permission_error", "model_not_allowed") }
        }
        RequestFailure::UnknownModel { .. } => {
            ApiError { param: model, ..error(404, "invalid_request_error", "model_not_found") }
        }
        RequestFailure::TooLong { .. } => {
            error(400, "invalid_request_error", "context_length_exceeded")
        }
        RequestFailure::Budget { .. } => error(402, "insufficient_quota", "insufficient_quota"),
        RequestFailure::Payment { problem } => {
            let code = match problem {
                PaymentProblem::None => "payment_required",
                PaymentProblem::Invalid(_) => "payment_invalid",
                PaymentProblem::Short { .. } => "payment_too_small",
                PaymentProblem::Channel { .. } => "channel_too_small",
            };
            error(402, "invalid_request_error", code)
        }
        RequestFailure::TooMany { .. } => ApiError {
            retry_after_ms: Some(1_000),
            ..error(429, "rate_limit_error", "rate_limit_exceeded")
        },
        RequestFailure::Rate { retry_after_ms, .. } => ApiError {
            retry_after_ms: Some(*retry_after_ms),
            ..error(429, "rate_limit_error", "rate_limit_exceeded")
        },
        RequestFailure::Busy { retry_after_ms, .. } => ApiError {
            retry_after_ms: Some(*retry_after_ms),
            ..error(429, "rate_limit_error", "providers_busy")
        },
        RequestFailure::NoProvider { retry_after_ms, .. } => ApiError {
            retry_after_ms: Some(*retry_after_ms),
            param: model,
            ..error(503, "server_error", "no_provider")
        },
        RequestFailure::Upstream { .. } => error(502, "server_error", "provider_failed"),
        RequestFailure::Books { .. } => error(500, "server_error", "books_failed"),
        RequestFailure::KeysAway => keys_away(message),
        RequestFailure::ChainAway { .. } => ApiError {
            retry_after_ms: Some(2_000),
            ..error(503, "server_error", "ledger_unavailable")
        },
        RequestFailure::Closing => {
            ApiError { retry_after_ms: Some(5_000), ..error(503, "server_error", "shutting_down") }
        }
    }
}
