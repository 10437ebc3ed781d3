//! The pages of audits. What an address names is parsed before anything is asked or read.

use axum::{
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use types::{Address, audit::CommitmentId};

use super::{App, page};
use crate::{
    page::audits::{AuditsPage, Names, provider, round, round::RoundPage},
    source::{LedgerView, SourceError},
};

fn names(app: &App, ledger: &Result<LedgerView, SourceError>) -> Names {
    Names::of(&app.source.providers(), &app.source.models(), ledger.as_ref().ok())
}

pub(super) async fn audits(State(app): State<App>) -> Response {
    let source = &app.source;
    let (ledger, audits, exclusions) =
        tokio::join!(source.ledger(), source.audits(), source.exclusions());
    let names = names(&app, &ledger);
    let view = AuditsPage { ledger, audits, exclusions, names };
    page(StatusCode::OK, page::audits::page(source.site(), &view))
}

pub(super) async fn of_provider(State(app): State<App>, Path(text): Path<String>) -> Response {
    let site = app.source.site();
    let Ok(address) = text.parse::<Address>() else { return no_provider(&app) };
    let (ledger, audits) = tokio::join!(app.source.ledger(), app.source.audits_of(address));
    let shown = match audits {
        Ok(audits) => provider::page(site, &audits, &ledger, &names(&app, &ledger)),
        Err(error) => provider::failed(site, &error),
    };
    page(StatusCode::OK, shown)
}

fn no_provider(app: &App) -> Response {
    let text = "An account's address begins with watt1; this one is none.";
    page(StatusCode::NOT_FOUND, page::message(app.source.site(), "No provider", text))
}

fn no_round(app: &App, text: &str) -> Response {
    page(StatusCode::NOT_FOUND, page::message(app.source.site(), "No round", text))
}

fn commitment(provider: &str, sequence: &str) -> Option<CommitmentId> {
    Some(CommitmentId { provider: provider.parse().ok()?, sequence: sequence.parse().ok()? })
}

pub(super) async fn of_round(
    State(app): State<App>,
    Path((provider, sequence)): Path<(String, String)>,
) -> Response {
    let Some(id) = commitment(&provider, &sequence) else {
        return no_round(&app, "A round is named by its provider's address and a number.");
    };
    let source = &app.source;
    let (ledger, audits) = tokio::join!(source.ledger(), source.audits_of(id.provider));
    let audits = match audits {
        Ok(audits) => audits,
        Err(error) => return page(StatusCode::OK, provider::failed(source.site(), &error)),
    };
    let Some(view) = RoundPage::of(&audits, id) else {
        let text = "The ledger knows nothing of this round: there was none, or it is too long ago.";
        return no_round(&app, text);
    };
    let names = names(&app, &ledger);
    let has_picture = view.is_over() && source.picture(id).await.is_some();
    page(StatusCode::OK, round::page(source.site(), &view, &names, has_picture))
}

/// `GET /audits/{provider}/{sequence}/picture.svg`, of a round that is over. The headers of every page come with it:
/// also opened by itself, nothing in it runs.
pub(super) async fn picture(
    State(app): State<App>,
    Path((provider, sequence)): Path<(String, String)>,
) -> Response {
    let Some(picture) = drawn(&app, &provider, &sequence).await else {
        return no_round(&app, "There is no picture of this round, or it is not over.");
    };
    let headers = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "no-store")];
    (headers, picture).into_response()
}

async fn drawn(app: &App, provider: &str, sequence: &str) -> Option<String> {
    let id = commitment(provider, sequence)?;
    let audits = app.source.audits_of(id.provider).await;
    // The page that shows it says what is wrong with the ledger.
    let audits = audits.inspect_err(|error| tracing::warn!(%error, "web.picture")).ok()?;
    if !RoundPage::of(&audits, id)?.is_over() {
        return None;
    }
    app.source.picture(id).await
}
