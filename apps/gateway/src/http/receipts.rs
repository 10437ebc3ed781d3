//! Receipts, for the key that made the request.

use std::sync::Arc;

use axum::extract::{Path, State};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use types::RequestId;
use wire::api::ApiError;

use super::{
    OPENAI, Reply, api_error, authorize_reader,
    errors::{internal, invalid, keys_away},
    json, new_id, refuse,
};
use crate::{
    error::ReceiptLookupError,
    keyring,
    providers::{DisclosureError, disclose},
    shared::Shared,
    views::StoredReceipt,
};

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Reply {
    let request_id = new_id();
    let stored = match find(&shared, &id, &headers).await {
        Ok(stored) => stored,
        Err(problem) => return refuse(OPENAI, request_id, &problem),
    };
    match serde_json::to_vec(&stored) {
        Ok(body) => json(StatusCode::OK, request_id, body.into()),
        Err(error) => refuse(OPENAI, request_id, &internal(error.to_string())),
    }
}

/// What an audit needs beside the receipt, in its canonical form: the provider keeps it, and is asked for it.
pub(super) async fn opening(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Reply {
    let request_id = new_id();
    let stored = match find(&shared, &id, &headers).await {
        Ok(stored) => stored,
        Err(problem) => return refuse(OPENAI, request_id, &problem),
    };
    let problem = match disclose(&shared, &stored).await {
        Ok(opening) => {
            let mut reply = json(StatusCode::OK, request_id, opening.encode().into());
            let bytes = HeaderValue::from_static("application/octet-stream");
            reply.headers_mut().insert(header::CONTENT_TYPE, bytes);
            return reply;
        }
        Err(problem) => problem,
    };
    let (status, code) = match &problem {
        DisclosureError::Bought | DisclosureError::NotKept { .. } => (404, "opening_not_found"),
        DisclosureError::Away { .. } => (503, "provider_away"),
        DisclosureError::Failed { .. } | DisclosureError::Other { .. } => (502, "provider_failed"),
    };
    let source = std::error::Error::source(&problem);
    let source = source.map(|source| format!(": {source}")).unwrap_or_default();
    let message = format!("{problem}{source}");
    refuse(OPENAI, request_id, &invalid(status, message, None, Some(code)))
}

/// The receipt with this id, if the caller may see it.
async fn find(shared: &Shared, id: &str, headers: &HeaderMap) -> Result<StoredReceipt, ApiError> {
    let key = authorize_reader(shared, headers).await.map_err(|failure| api_error(&failure))?;
    let param = || Some("id".to_owned());
    let Ok(id) = id.parse::<RequestId>() else {
        let message = "a receipt is asked for by its request id, 32 hexadecimal digits".into();
        return Err(invalid(400, message, param(), None));
    };
    // Reading back one record takes microseconds: the file's end is in memory.
    keyring::receipt(shared, id, Some(&[key])).await.map_err(|error| match error {
        ReceiptLookupError::Unknown { .. } => {
            invalid(404, error.to_string(), param(), Some("receipt_not_found"))
        }
        ReceiptLookupError::Database { .. } => keys_away(error.to_string()),
        error => {
            tracing::error!(%error, "http.receipt");
            internal(error.to_string())
        }
    })
}
