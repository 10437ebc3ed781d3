//! Receipts, for the key that made the request.

use std::sync::Arc;

use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use types::RequestId;

use super::{
    OPENAI, Reply, api_error, authorize_reader,
    errors::{internal, invalid, keys_away},
    json, new_id, refuse,
};
use crate::{error::ReceiptLookupError, keyring, shared::Shared};

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Reply {
    let request_id = new_id();
    let key = match authorize_reader(&shared, &headers).await {
        Ok(key) => key,
        Err(failure) => return refuse(OPENAI, request_id, &api_error(&failure)),
    };
    let param = || Some("id".to_owned());
    let Ok(id) = id.parse::<RequestId>() else {
        let message = "a receipt is asked for by its request id, 32 hexadecimal digits".into();
        return refuse(OPENAI, request_id, &invalid(400, message, param(), None));
    };
    // Reading back one record takes microseconds: the file's end is in memory.
    let stored = keyring::receipt(&shared, id, Some(&[key])).await;
    let text = stored.map(|stored| serde_json::to_vec(&stored));
    match text {
        Ok(Ok(body)) => json(StatusCode::OK, request_id, body.into()),
        Ok(Err(error)) => refuse(OPENAI, request_id, &internal(error.to_string())),
        Err(error @ ReceiptLookupError::Unknown { .. }) => {
            let code = Some("receipt_not_found");
            refuse(OPENAI, request_id, &invalid(404, error.to_string(), param(), code))
        }
        Err(error @ ReceiptLookupError::Database { .. }) => {
            refuse(OPENAI, request_id, &keys_away(error.to_string()))
        }
        Err(error) => {
            tracing::error!(%error, "http.receipt");
            refuse(OPENAI, request_id, &internal(error.to_string()))
        }
    }
}
