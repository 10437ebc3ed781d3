//! Asking a provider for the opening of an answer that it gave: what was asked and all that it reported. What comes is
//! checked against the receipt, so that whoever audits with it audits that answer.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, time::timeout};
use types::Address;
use wire::{
    frame,
    serve::{
        OPENING_BYTES_MAX, Opening, OpeningError, TO_GATEWAY_FRAME_BYTES_MAX, ToGateway, ToProvider,
    },
};

use crate::{shared::Shared, views::StoredReceipt};

/// For all of it: the longest is read from a disk and sent in a second or two.
const WAIT: Duration = Duration::from_secs(30);

/// Why there is no opening.
#[derive(Debug, thiserror::Error)]
pub enum DisclosureError {
    #[error("its provider {provider} is not connected to this gateway now; ask again later")]
    Away { provider: Address },
    #[error("its provider {provider} did not send it: {reason}")]
    Failed { provider: Address, reason: String },
    #[error(
        "its provider {provider} keeps none: the answer is in no profile that can be audited, or too old"
    )]
    NotKept { provider: Address },
    #[error("what its provider {provider} sent is not of this receipt")]
    Other { provider: Address, source: OpeningError },
    #[error("a service outside the network answered, and nobody can audit it")]
    Bought,
}

/// The opening of an answer, checked. The receipt was verified when it was made.
pub(crate) async fn disclose(
    shared: &Shared,
    stored: &StoredReceipt,
) -> Result<Opening, DisclosureError> {
    if stored.bought.is_some() {
        return Err(DisclosureError::Bought);
    }
    let receipt = &stored.receipt;
    let ack = &receipt.acknowledgement.value;
    let provider = ack.provider;
    let connection = shared.directory.connection(&provider);
    let connection = connection.ok_or(DisclosureError::Away { provider })?;
    let question = ToProvider::Disclose { request_id: ack.request_id, attempt: ack.attempt };
    let failed = |reason: String| DisclosureError::Failed { provider, reason };
    let bytes = timeout(WAIT, ask(&*connection, &question)).await;
    let bytes = bytes.map_err(|_| failed("it took too long".to_owned()))?.map_err(failed)?;
    if bytes.is_empty() {
        return Err(DisclosureError::NotKept { provider });
    }
    let other = |source| DisclosureError::Other { provider, source };
    let opening = Opening::decode(&bytes).map_err(other)?;
    opening.check(receipt, &keys::Ed25519).map_err(other)?;
    Ok(opening)
}

async fn ask(connection: &dyn net::Connection, question: &ToProvider) -> Result<Vec<u8>, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let (mut send, mut receive) = connection.open().await.map_err(|error| text(&error))?;
    frame::write(&mut send, question).await.map_err(|error| text(&error))?;
    let mut bytes = Vec::new();
    loop {
        let answer = frame::read(&mut receive, TO_GATEWAY_FRAME_BYTES_MAX).await;
        let Some(ToGateway::Opening { part, more }) = answer.map_err(|error| text(&error))? else {
            return Err("it answered something else".to_owned());
        };
        bytes.extend(part);
        if bytes.len() > OPENING_BYTES_MAX {
            return Err("it sent too much".to_owned());
        }
        if !more {
            // The answer is here; how the stream ends does not matter.
            let _ = send.shutdown().await;
            return Ok(bytes);
        }
    }
}
