//! The chain API server (`docs/spec/chain-api.md`): reads go to the committed state and the store,
//! submissions to the replica.
//!
//! Everything a client may send or hold is bounded: body, query, answer, time, requests at once.
//! It holds no key and no cookie; a transaction carries its own authority.

mod audits;
mod error;
mod metrics;
mod proof;
mod read;
mod stream;
mod submit;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, FromRequestParts, Request, State},
    http::request::Parts,
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use futures::StreamExt;
use replica::{Clock, Replica};
use store::BlockStore;
use tokio::sync::{OwnedSemaphorePermit, RwLock, Semaphore};
use types::{genesis::Genesis, limits};

use crate::ledger_app::LedgerApp;
use error::ApiError;

/// Questions answered at once. One takes microseconds, or a few milliseconds for a page of blocks.
const QUESTIONS_MAX: usize = 64;
/// Questions that are answered or wait for their turn.
const QUESTIONS_WAITING_MAX: usize = 1_024;
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Transactions that clients wait for at once.
const SUBMISSIONS_MAX: usize = 1_024;
/// Streams of events that are open at once.
const STREAMS_MAX: usize = 256;
/// How long a submission waits for its block. A client waits a little longer.
const SUBMISSION_TIMEOUT: Duration = Duration::from_secs(20);

/// What the API answers from.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) genesis: Genesis,
    pub(crate) state: Arc<RwLock<ledger::State>>,
    pub(crate) store: Arc<BlockStore>,
    pub(crate) replica: Replica<LedgerApp>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What a handler sees of the [`Api`]. Weak, so that no connection keeps the store open once the
/// validator has stopped.
#[derive(Clone, Debug)]
struct Shared {
    api: Weak<Api>,
    questions: Arc<Semaphore>,
    questions_waiting: Arc<Semaphore>,
    submissions: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

/// The place of a request among those that are answered at once. Work that goes on when the client
/// has gone keeps a clone, and the place is free when that has ended.
#[derive(Clone, Debug)]
struct Turn {
    _permits: Arc<[OwnedSemaphorePermit]>,
}

impl Turn {
    fn new(permits: impl Into<Arc<[OwnedSemaphorePermit]>>) -> Turn {
        Turn { _permits: permits.into() }
    }

    /// Runs `work` on a thread that may wait for the disk.
    async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|error| ApiError::internal(&error))
    }
}

impl FromRequestParts<Shared> for Turn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Turn, ApiError> {
        parts.extensions.get().cloned().ok_or_else(ApiError::busy)
    }
}

/// The [`Api`] for the time of one request.
struct Live(Arc<Api>);

impl FromRequestParts<Shared> for Live {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, shared: &Shared) -> Result<Live, ApiError> {
        shared.api.upgrade().map(Live).ok_or_else(ApiError::halted)
    }
}

/// Every path of the API.
pub(crate) fn router(api: &Arc<Api>) -> Router {
    let shared = Shared {
        api: Arc::downgrade(api),
        questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        questions_waiting: Arc::new(Semaphore::new(QUESTIONS_WAITING_MAX)),
        submissions: Arc::new(Semaphore::new(SUBMISSIONS_MAX)),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
    };
    let questions = Router::new()
        .route("/health", get(read::health))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/genesis", get(read::genesis))
        .route("/v1/status", get(read::status))
        .route("/v1/accounts/{address}", get(read::account))
        .route("/v1/channels", get(read::channels))
        .route("/v1/channels/{id}", get(read::channel))
        .route("/v1/providers", get(read::providers))
        .route("/v1/providers/{operator}", get(read::provider))
        .route("/v1/gateways", get(read::gateways))
        .route("/v1/validators", get(read::validators))
        .route("/v1/operators/{role}/{account}", get(read::operator))
        .route("/v1/accounts/{address}/stakes", get(read::stakes))
        .route("/v1/params", get(read::params))
        .route("/v1/proofs/accounts/{address}", get(proof::account))
        .route("/v1/proofs/channels/{id}", get(proof::channel))
        .route("/v1/proofs/channels/{id}/lanes/{lane}", get(proof::lane))
        .route("/v1/proofs/providers/{operator}", get(proof::provider))
        .route("/v1/proofs/operators/{role}/{account}", get(proof::operator))
        .route("/v1/proofs/gateways/{operator}", get(proof::gateway))
        .route("/v1/proofs/channels/{id}/lanes", get(proof::lanes))
        .route("/v1/proofs/beacon", get(proof::beacon))
        .route("/v1/proofs/rounds/{provider}/{sequence}", get(proof::round))
        .route("/v1/proofs/standings/{provider}", get(proof::standing))
        .route("/v1/proofs/standings/{provider}/{model}", get(proof::model_standing))
        .route("/v1/proofs/auditors/{operator}", get(proof::auditor))
        .route("/v1/auditors", get(audits::auditors))
        .route("/v1/auditors/{operator}", get(audits::auditor))
        .route("/v1/rounds/{provider}/{sequence}", get(audits::round))
        .route("/v1/audits", get(audits::audits))
        .route("/v1/audits/{provider}", get(audits::provider))
        .route("/v1/exclusions", get(audits::exclusions))
        .route("/v1/beacons/latest", get(audits::beacon))
        .route("/v1/calibrations", get(audits::calibrations))
        .route("/v1/light/latest", get(proof::light_latest))
        .route("/v1/light/{height}", get(proof::light))
        .route("/v1/simulations", post(proof::simulate))
        .route("/v1/supply", get(read::supply))
        .route("/v1/blocks", get(read::blocks))
        .route("/v1/blocks/{height}", get(read::block))
        .route("/v1/txs/{id}", get(read::tx))
        .route("/v1/events", get(read::events))
        .layer(middleware::from_fn_with_state(shared.clone(), limit_questions));
    let submissions = Router::new()
        .route("/v1/txs", post(submit::submit))
        .layer(middleware::from_fn_with_state(shared.clone(), limit_submissions));
    let streams = Router::new()
        .route("/v1/events/stream", get(stream::follow))
        .layer(middleware::from_fn_with_state(shared.clone(), limit_streams));
    questions
        .merge(submissions)
        .merge(streams)
        .fallback(async || ApiError::unknown_path())
        .method_not_allowed_fallback(async || ApiError::method())
        .layer(DefaultBodyLimit::max(limits::TX_BYTES_MAX))
        .with_state(shared)
}

async fn limit_questions(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let waiting = shared.questions_waiting.try_acquire_owned().map_err(|_| ApiError::busy())?;
    let answer = async {
        let turn = shared.questions.acquire_owned().await.map_err(|_| ApiError::halted())?;
        request.extensions_mut().insert(Turn::new([waiting, turn]));
        Ok(next.run(request).await)
    };
    tokio::time::timeout(QUESTION_TIMEOUT, answer).await.unwrap_or_else(|_| Err(ApiError::busy()))
}

async fn limit_submissions(
    State(shared): State<Shared>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let _permit = shared.submissions.try_acquire().map_err(|_| ApiError::busy())?;
    let answer = tokio::time::timeout(SUBMISSION_TIMEOUT, next.run(request)).await;
    answer.map_err(|_| ApiError::submit_timeout())
}

/// A stream holds its place until its body is dropped.
async fn limit_streams(
    State(shared): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let permit = shared.streams.try_acquire_owned().map_err(|_| ApiError::busy())?;
    let turn = Turn::new([permit]);
    request.extensions_mut().insert(turn.clone());
    let response = next.run(request).await;
    Ok(response.map(|body| {
        let chunks = body.into_data_stream();
        Body::from_stream(chunks.map(move |chunk| {
            let _held = &turn;
            chunk
        }))
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
        sync::Notify,
    };

    use super::*;

    /// Says when it is dropped.
    struct Told(Arc<Notify>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }

    /// Whoever asks and goes at once must not queue work without bound.
    #[tokio::test]
    async fn a_place_is_free_when_the_work_ends_and_not_when_the_client_goes() {
        let places = |count| Arc::new(Semaphore::new(count));
        let shared = Shared {
            api: Weak::new(),
            questions: places(1),
            questions_waiting: places(1),
            submissions: places(1),
            streams: places(1),
        };
        let (questions, waiting) =
            (Arc::clone(&shared.questions), Arc::clone(&shared.questions_waiting));
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let (began, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, goes) = (Arc::clone(&began), Arc::clone(&gone));
        let work = move |turn: Turn| async move {
            let _told = Told(goes);
            turn.block(move || {
                begins.notify_one();
                wait.lock().unwrap().recv().unwrap();
            })
            .await
        };
        let router = Router::new()
            .route("/", get(work))
            .layer(middleware::from_fn_with_state(shared.clone(), limit_questions))
            .with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });

        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        began.notified().await;
        drop(client);
        gone.notified().await;
        assert_eq!((questions.available_permits(), waiting.available_permits()), (0, 0));
        go.send(()).unwrap();
        drop(questions.acquire().await.unwrap());
        drop(waiting.acquire().await.unwrap());
        server.abort();
    }
}
