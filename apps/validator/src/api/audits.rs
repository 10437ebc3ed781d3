//! What is kept of audits: rounds, standings, exclusions, auditors, the beacon, calibrations.

use std::str::FromStr;

use axum::{
    Json,
    extract::{Path, Query, rejection::QueryRejection},
};
use types::{
    Address, ModelId, TimeMs,
    audit::{Backend, Beacon, CommitmentId, ModelStanding},
    state::AuditorEntry,
};
use wire::chain::{
    AuditorView, AuditsView, CalibrationView, CommitmentView, ExclusionView, ModelAuditsView,
    ProviderAuditsView, RoundView,
};

use super::{
    Live,
    error::ApiError,
    read::{ListQuery, checked, page, parse},
};

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn audits(
    Live(api): Live,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<AuditsView> {
    let query = checked(query)?.without_party()?;
    let (after, limit) = (query.after::<CommitmentId>()?, query.limit());
    let state = api.state.read().await;
    let open = state.rounds_after(after).take(limit);
    let open = open.map(|(id, round)| RoundView::of(*id, round)).collect();
    let closed = state.closed_rounds().take(limit).cloned().collect();
    Ok(Json(AuditsView { open, closed }))
}

pub(super) async fn provider(
    Live(api): Live,
    Path(provider): Path<String>,
) -> Answer<ProviderAuditsView> {
    let provider: Address = parse("provider", &provider)?;
    Ok(Json(of_provider(&*api.state.read().await, provider)))
}

fn of_provider(state: &ledger::State, provider: Address) -> ProviderAuditsView {
    let standing = state.standing(&provider);
    let waiting = state.commitments_of(provider).map(|(id, it)| CommitmentView {
        commitment: *id,
        receipts: it.receipts,
        height: it.height,
        made_at: it.made_at,
        period: it.period,
        is_appeal: it.appeal.is_some(),
        demanded_by: it.demand.as_ref().map(|demand| demand.payer),
    });
    let open = state.own_rounds(provider).map(|(id, round)| RoundView::of(*id, round));
    let closed = state.closed_rounds().filter(|round| round.commitment.provider == provider);
    let models = state.model_standings_of(provider).map(|(model, standing)| {
        let ModelStanding { evidence, quality, suspended, delisted_until } = standing.clone();
        let enforced = state.params().audits.is_enforced(&model);
        ModelAuditsView { model, enforced, quality, suspended, delisted_until, evidence }
    });
    ProviderAuditsView {
        provider,
        standing,
        reputation: standing.reputation(),
        share: state.audit_share(&provider, state.time()),
        waiting: waiting.collect(),
        open: open.collect(),
        closed: closed.cloned().collect(),
        models: models.collect(),
    }
}

/// `LEFT/RIGHT`, as the lists whose keys have two parts are ordered.
fn pair<L: FromStr, R: FromStr>(after: Option<String>) -> Result<Option<(L, R)>, ApiError> {
    let Some(text) = after else { return Ok(None) };
    let bad = || ApiError::bad_request("`after`: use the key of the last entry");
    let (left, right) = text.split_once('/').ok_or_else(bad)?;
    let (left, right) = (left.parse().map_err(|_| bad())?, right.parse().map_err(|_| bad())?);
    Ok(Some((left, right)))
}

pub(super) async fn exclusions(
    Live(api): Live,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Vec<ExclusionView>> {
    let query = checked(query)?.without_party()?;
    let limit = query.limit();
    let after: Option<(Address, ModelId)> = pair(query.after)?;
    let state = api.state.read().await;
    let excluded = state.exclusions(state.time());
    let view = |(provider, model), (suspended, delisted_until): (bool, Option<TimeMs>)| {
        ExclusionView { provider, model, suspended, delisted_until }
    };
    Ok(Json(page(excluded, after, limit, view)))
}

pub(super) async fn round(
    Live(api): Live,
    Path((provider, sequence)): Path<(String, String)>,
) -> Answer<RoundView> {
    let id = commitment_id(&provider, &sequence)?;
    let state = api.state.read().await;
    let round = state.round(&id).ok_or_else(|| ApiError::not_found(format!("open round {id}")))?;
    Ok(Json(RoundView::of(id, round)))
}

/// A provider and a sequence, as they stand in a path.
pub(super) fn commitment_id(provider: &str, sequence: &str) -> Result<CommitmentId, ApiError> {
    let provider = parse("provider", provider)?;
    Ok(CommitmentId { provider, sequence: parse("sequence", sequence)? })
}

pub(super) async fn auditors(
    Live(api): Live,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Vec<AuditorView>> {
    let query = checked(query)?.without_party()?;
    let after = query.after()?;
    let state = api.state.read().await;
    let entries = state.auditors().map(|(operator, entry)| (*operator, entry));
    let view = |operator, entry: &AuditorEntry| with_record(&state, operator, entry);
    Ok(Json(page(entries, after, query.limit(), view)))
}

pub(super) async fn auditor(Live(api): Live, Path(operator): Path<String>) -> Answer<AuditorView> {
    let operator: Address = parse("operator", &operator)?;
    let state = api.state.read().await;
    let missing = || ApiError::not_found(format!("auditor {operator}"));
    let entry = state.auditor(&operator).ok_or_else(missing)?;
    Ok(Json(with_record(&state, operator, entry)))
}

fn with_record(state: &ledger::State, operator: Address, entry: &AuditorEntry) -> AuditorView {
    let record = Some(state.verifier_record(&operator));
    AuditorView { record, ..AuditorView::of(operator, entry.clone()) }
}

pub(super) async fn beacon(Live(api): Live) -> Answer<Beacon> {
    Ok(Json(*api.state.read().await.beacon()))
}

pub(super) async fn calibrations(
    Live(api): Live,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Vec<CalibrationView>> {
    let query = checked(query)?.without_party()?;
    let limit = query.limit();
    // In text, backends have another order than in the ledger: pages are cut by the text.
    let after = query.after;
    let state = api.state.read().await;
    let means = state.calibrations_in_force();
    let view = |((model, backend), means): ((ModelId, Backend), types::audit::Calibration)| {
        let types::audit::Calibration { l1, l2, projections, tokens } = means;
        CalibrationView { model, backend, l1, l2, projections, tokens }
    };
    let mut views: Vec<CalibrationView> = means.into_iter().map(view).collect();
    views.sort_by_cached_key(CalibrationView::key);
    let entries = views.into_iter().map(|view| (view.key(), view));
    Ok(Json(page(entries, after, limit, |_, view| view)))
}
