//! The addresses of the page and what answers there.

mod audits;

use std::{convert::Infallible, sync::Arc};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{
        Html, IntoResponse, Response,
        sse::{KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures::StreamExt;
use gateway::{ChatEvent, ReceiptLookupError, RequestFailure};
use maud::Markup;
use types::RequestId;

use crate::{
    assets, chat,
    guard::{self, Host, HostPolicy, Refusal},
    page::{
        self,
        chat::{Access, ChatView},
        ledger::BLOCKS_SHOWN,
        overview::{Overview, REQUESTS_SHOWN},
    },
    source::Source,
};

/// Requests on `/requests`.
const REQUESTS_LISTED: usize = 200;
/// Bytes of a chat: about a hundred pages. The page itself cuts its messages shorter.
const CHAT_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone)]
struct App {
    source: Arc<dyn Source>,
    policy: Arc<HostPolicy>,
}

/// The pages, for merging with the gateway's API. Every route here, and every path that no route
/// has, is behind the check of the host.
pub fn router(source: Arc<dyn Source>, policy: HostPolicy) -> Router {
    let policy = Arc::new(policy);
    let guarded = middleware::from_fn_with_state(Arc::clone(&policy), guard::guard);
    Router::new()
        .route("/", get(overview))
        .route("/chat", get(chat_page))
        .route("/models", get(models))
        .route("/requests", get(requests))
        .route("/requests/{id}", get(receipt))
        .route("/audits", get(audits::audits))
        .route("/audits/{provider}", get(audits::of_provider))
        .route("/audits/{provider}/{sequence}", get(audits::of_round))
        .route("/audits/{provider}/{sequence}/picture.svg", get(audits::picture))
        .route("/ledger", get(ledger))
        .route("/ui/chat", post(send).layer(DefaultBodyLimit::max(CHAT_BYTES_MAX)))
        .route("/assets/{name}", get(assets::serve))
        .fallback(not_found)
        .layer(guarded)
        .with_state(App { source, policy })
}

/// Pages are never kept: they show balances.
fn page(status: StatusCode, page: Markup) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Html(page.into_string())).into_response()
}

async fn overview(
    State(app): State<App>,
    Extension(host): Extension<Host>,
    headers: HeaderMap,
) -> Response {
    let source = &app.source;
    let (ledger, balances, audits) =
        tokio::join!(source.ledger(), source.balances(), source.audits());
    let view = Overview {
        account: source.account(),
        providers: source.providers(),
        requests: source.requests(REQUESTS_SHOWN),
        ledger,
        balances,
        audits,
        chat: chat_view(&app, &host, &headers).await,
    };
    page(StatusCode::OK, page::overview::page(source.site(), &view))
}

async fn chat_view(app: &App, host: &Host, headers: &HeaderMap) -> ChatView {
    let open = app.policy.chat_allowed(host, headers);
    ChatView {
        access: if open { Access::Open } else { Access::NotHere },
        models: app.source.models(),
        playground: app.source.playground().await,
    }
}

async fn chat_page(
    State(app): State<App>,
    Extension(host): Extension<Host>,
    headers: HeaderMap,
) -> Response {
    let view = chat_view(&app, &host, &headers).await;
    page(StatusCode::OK, page::chat::page(app.source.site(), &view))
}

async fn models(State(app): State<App>) -> Response {
    let source = &app.source;
    page(StatusCode::OK, page::models::page(source.site(), &source.models(), &source.providers()))
}

async fn requests(State(app): State<App>) -> Response {
    let ledger = app.source.ledger().await;
    let requests = app.source.requests(REQUESTS_LISTED);
    page(StatusCode::OK, page::requests::page(app.source.site(), &requests, &ledger))
}

async fn receipt(State(app): State<App>, Path(id): Path<String>) -> Response {
    let site = app.source.site();
    let missing = |text: &str| page(StatusCode::NOT_FOUND, page::message(site, "No receipt", text));
    let Ok(id) = id.parse::<RequestId>() else {
        return missing(
            "A request id is 32 hexadecimal digits; this address holds something else.",
        );
    };
    match app.source.receipt(id) {
        Ok(stored) => {
            let ledger = app.source.ledger().await;
            page(StatusCode::OK, page::receipt::page(site, &stored, &ledger))
        }
        Err(error @ ReceiptLookupError::Unknown { .. }) => missing(&error.to_string()),
        Err(
            error @ (ReceiptLookupError::Journal { .. }
            | ReceiptLookupError::Damaged { .. }
            | ReceiptLookupError::OtherPayer { .. }
            | ReceiptLookupError::Database { .. }),
        ) => {
            tracing::error!(%id, %error, "receipt not shown");
            let shown = page::message(site, "The receipt cannot be shown", &error.to_string());
            page(StatusCode::INTERNAL_SERVER_ERROR, shown)
        }
    }
}

async fn ledger(State(app): State<App>) -> Response {
    let (ledger, blocks) = tokio::join!(app.source.ledger(), app.source.blocks(BLOCKS_SHOWN));
    page(StatusCode::OK, page::ledger::page(app.source.site(), &ledger, &blocks))
}

/// `POST /ui/chat`: the one route that spends.
async fn send(
    State(app): State<App>,
    Extension(host): Extension<Host>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    // Before the body is read: a refused page costs nothing but its headers.
    if let Err(refusal) = app.policy.check_spending(&host, &headers) {
        return refused(refusal);
    }
    let body = match Bytes::from_request(request, &()).await {
        Ok(body) => body,
        Err(rejection) => return rejection.into_response(),
    };
    let request = match chat::parse(&body) {
        Ok(request) => request,
        Err(failure) => return failed(&failure),
    };
    match app.source.chat(request).await {
        Ok(answer) => {
            let lines = answer.map(|event: ChatEvent| Ok::<_, Infallible>(chat::event(&event)));
            Sse::new(lines).keep_alive(KeepAlive::default()).into_response()
        }
        Err(failure) => failed(&failure),
    }
}

fn refused(refusal: Refusal) -> Response {
    tracing::warn!(reason = ?refusal, "chat request refused");
    refusal.into_response()
}

fn failed(failure: &RequestFailure) -> Response {
    (chat::status(failure), Json(chat::failure(failure))).into_response()
}

/// Any path without a route. Below `/v1/`, and `/api/` where Ollama's clients look, the caller is a
/// program.
async fn not_found(State(app): State<App>, request: Request) -> Response {
    let path = request.uri().path();
    if ["/v1/", "/api/", "/admin/"].iter().any(|api| path.starts_with(api)) || path == "/v1" {
        let error = serde_json::json!({ "error": {
            "message": "there is no such endpoint here",
            "type": "invalid_request_error",
            "param": null,
            "code": "not_found",
        }});
        return (StatusCode::NOT_FOUND, Json(error)).into_response();
    }
    let text = "There is nothing at this address.";
    page(StatusCode::NOT_FOUND, page::message(app.source.site(), "Not found", text))
}
