//! `POST /v1/txs`: canonical bytes in, what became of the transaction out.

use axum::{
    Json,
    body::Bytes,
    extract::rejection::{BytesRejection, FailedToBufferBody},
};
use types::limits::TX_BYTES_MAX;
use wire::chain::TxOutcome;

use super::{Live, error::ApiError};

/// Waits until the transaction is in a durable block or refused. The same bytes again are answered
/// with what became of them.
pub(super) async fn submit(
    Live(api): Live,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<TxOutcome>, ApiError> {
    let bytes = body_bytes(body)?;
    match api.replica.submit(bytes.into()).await {
        Ok(included) => Ok(Json(included.outcome)),
        Err(error) => Err(ApiError::of_submission(&error)),
    }
}

/// A body that came whole and is no longer than a transaction may be.
pub(super) fn body_bytes(body: Result<Bytes, BytesRejection>) -> Result<Bytes, ApiError> {
    body.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            ApiError::too_long(TX_BYTES_MAX)
        }
        _ => ApiError::bad_request("the body ended before its length"),
    })
}
