//! What was used, request by request: for a key its own, for the operator everybody's.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{Query, State},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use tokio::sync::mpsc;
use types::{RequestId, TimeMs};
use wire::api::ApiError;

use super::{
    OPENAI, Reply, admin, api_error, authorize,
    errors::{internal, invalid, keys_away},
    json, new_id, question, refuse,
};
use crate::{
    accounts::KeyId,
    books::member,
    error::{ReceiptLookupError, RequestFailure},
    fleet::{Cursor, Fleet},
    keyring,
    shared::Shared,
    views::UsageView,
};

/// Bytes that are gathered before they are sent.
const CHUNK_BYTES: usize = 64 * 1024;
/// Of most rows.
const ROW_BYTES: usize = 512;
/// Chunks that may wait for a slow client.
const CHUNKS_MAX: usize = 4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Milliseconds since 1970, UTC; of the end of requests.
    #[serde(default)]
    from: u64,
    /// Exclusive.
    to: Option<u64>,
    #[serde(default)]
    format: Format,
    /// The name of one key; for the operator.
    key: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Csv,
}

type Asked = Result<Query<Wanted>, axum::extract::rejection::QueryRejection>;

/// What the key that asks may use and has used.
pub(super) async fn key(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Reply {
    let id = new_id();
    let view = async {
        let key = authorize(&shared, &headers).await?;
        keyring::view(&shared, &key).await.map_err(|_| RequestFailure::KeysAway)
    };
    let view = match view.await {
        Ok(view) => view,
        Err(failure) => return refuse(OPENAI, id, &api_error(&failure)),
    };
    match serde_json::to_vec(&view) {
        Ok(body) => json(StatusCode::OK, id, body.into()),
        Err(error) => refuse(OPENAI, id, &internal(error.to_string())),
    }
}

/// The requests of the key that asks.
pub(super) async fn own(
    State(shared): State<Arc<Shared>>,
    asked: Asked,
    headers: HeaderMap,
) -> Reply {
    let key = authorize(&shared, &headers).await.map_err(|failure| api_error(&failure));
    let wanted = key.and_then(|key| match question(asked)? {
        Wanted { key: Some(_), .. } => {
            let message = "a key sees its own requests; leave `key` out".to_owned();
            Err(invalid(400, message, Some("key".to_owned()), None))
        }
        wanted => Ok((wanted, Some(vec![key]))),
    });
    export(&shared, wanted)
}

/// The requests of all keys, or of the one that is named.
pub(super) async fn all(
    State(shared): State<Arc<Shared>>,
    asked: Asked,
    headers: HeaderMap,
) -> Reply {
    export(&shared, wanted_of_all(&shared, asked, &headers).await)
}

async fn wanted_of_all(
    shared: &Shared,
    asked: Asked,
    headers: &HeaderMap,
) -> Result<(Wanted, Option<Vec<KeyId>>), ApiError> {
    admin::authorize(shared, headers)?;
    let wanted = question(asked)?;
    let Some(name) = wanted.key.as_deref() else { return Ok((wanted, None)) };
    let keys = keyring::all_named(shared, name).await;
    let keys = keys.map_err(|_| keys_away(RequestFailure::KeysAway.to_string()))?;
    if keys.is_empty() {
        let unknown = format!("there is no key named `{name}`");
        return Err(invalid(404, unknown, Some("key".to_owned()), Some("key_not_found")));
    }
    Ok((wanted, Some(keys)))
}

fn export(shared: &Arc<Shared>, wanted: Result<(Wanted, Option<Vec<KeyId>>), ApiError>) -> Reply {
    let (Wanted { from, to, format, .. }, keys) = match wanted {
        Ok(wanted) => wanted,
        Err(error) => return refuse(OPENAI, new_id(), &error),
    };
    let Ok(place) = Arc::clone(&shared.exports).try_acquire_owned() else {
        let message = "too many exports at once; try again shortly".to_owned();
        let error = ApiError {
            retry_after_ms: Some(1_000),
            kind: "rate_limit_error",
            ..invalid(429, message, None, Some("rate_limit_exceeded"))
        };
        return refuse(OPENAI, new_id(), &error);
    };
    let (from, to) = (TimeMs(from), TimeMs(to.unwrap_or(u64::MAX)));
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let task = Arc::clone(shared);
    // Ends with the list, or when nobody reads any more.
    if let Some(fleet) = shared.fleet.clone() {
        shared.tasks.spawn(async move {
            keyring::all_booked(&task).await;
            write_of_fleet(&fleet, Cursor::new(from, to), keys.as_deref(), format, &sender).await;
            drop(place);
        });
    } else {
        let ids = shared.books.ended_between(from, to);
        shared.tasks.spawn_blocking(move || {
            write(&task, &ids, keys.as_deref(), format, &sender);
            drop(place);
        });
    }
    let chunks = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk: std::io::Result<Bytes>| (chunk, receiver))
    });
    let mut reply = json(StatusCode::OK, new_id(), Bytes::new());
    *reply.body_mut() = Body::from_stream(chunks);
    if format == Format::Csv {
        let text = HeaderValue::from_static("text/csv; charset=utf-8");
        reply.headers_mut().insert(header::CONTENT_TYPE, text);
    }
    reply
}

/// Reads the records one by one and sends what was written whenever it is enough.
fn write(
    shared: &Shared,
    ids: &[RequestId],
    keys: Option<&[KeyId]>,
    format: Format,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) {
    let mut lines = Lines::new(format);
    for id in ids {
        let line = match shared.books.usage(*id, keys) {
            Ok(view) => lines.push(&view),
            // Forgotten since the list was made, or of another key.
            Err(ReceiptLookupError::Unknown { .. }) => Ok(()),
            Err(error) => Err(std::io::Error::other(error)),
        };
        let sent = match line {
            Ok(()) if lines.text.len() < CHUNK_BYTES => continue,
            Ok(()) => sender.blocking_send(Ok(lines.take())),
            Err(error) => {
                tracing::error!(%error, "http.usage");
                // The answer is cut, which no client can take for its end.
                let _ = sender.blocking_send(Err(error));
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
    let _ = sender.blocking_send(Ok(lines.finish()));
}

/// The same from the database, page by page.
async fn write_of_fleet(
    fleet: &Fleet,
    mut cursor: Cursor,
    keys: Option<&[KeyId]>,
    format: Format,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) {
    let mut lines = Lines::new(format);
    loop {
        let page = match fleet.usage(&mut cursor, keys).await {
            Ok(page) if page.is_empty() => break,
            Ok(page) => page.iter().try_for_each(|finished| {
                let view = member::usage_of(finished).map_err(std::io::Error::other)?;
                lines.push(&view)
            }),
            Err(error) => Err(std::io::Error::other(error)),
        };
        let sent = match page {
            Ok(()) if lines.text.len() < CHUNK_BYTES => continue,
            Ok(()) => sender.send(Ok(lines.take())).await,
            Err(error) => {
                tracing::error!(%error, "http.usage");
                // The answer is cut, which no client can take for its end.
                let _ = sender.send(Err(error)).await;
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
    let _ = sender.send(Ok(lines.finish())).await;
}

/// Lines in a format, as they are gathered.
struct Lines {
    format: Format,
    text: Vec<u8>,
    is_first: bool,
}

impl Lines {
    fn new(format: Format) -> Lines {
        let text = match format {
            Format::Json => b"{\"data\":[".to_vec(),
            Format::Csv => [&UsageView::COLUMNS.join(","), "\n"].concat().into_bytes(),
        };
        Lines { format, text, is_first: true }
    }

    fn push(&mut self, view: &UsageView) -> std::io::Result<()> {
        match self.format {
            Format::Csv => {
                let mut row = csv::WriterBuilder::new();
                let mut row =
                    row.has_headers(false).buffer_capacity(ROW_BYTES).from_writer(&mut self.text);
                let (key, model) = (as_text(&view.key), as_text(&view.model));
                let view = UsageView { key, model, ..view.clone() };
                row.serialize(view).map_err(std::io::Error::other)?;
                row.flush()
            }
            Format::Json => {
                self.text.extend_from_slice(if self.is_first { b"\n" } else { b",\n" });
                self.is_first = false;
                serde_json::to_writer(&mut self.text, view).map_err(std::io::Error::other)
            }
        }
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.text).into()
    }

    fn finish(mut self) -> Bytes {
        if self.format == Format::Json {
            self.text.extend_from_slice(b"\n]}\n");
        }
        self.take()
    }
}

/// A cell that no spreadsheet takes for a formula: who offers a model chooses its name.
fn as_text(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula { format!("'{cell}") } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_formula() {
        assert_eq!(as_text("=HYPERLINK(\"http://x\")"), "'=HYPERLINK(\"http://x\")");
        assert_eq!((as_text("-1").as_str(), as_text("llama").as_str()), ("'-1", "llama"));
    }
}
