//! The `GET` paths. Lists come in pages, in the order of their keys.

use std::{fmt::Display, str::FromStr, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, rejection::QueryRejection},
};
use serde::{Deserialize, Serialize};
use store::StoredBlock;
use types::{Address, ChannelId, Height, TxId, genesis::Genesis};
use wire::chain::{
    AccountView, BlockView, ChainStatus, ChannelView, EventPage, GatewayView, OperatorView,
    PAGE_BLOCKS_MAX, PAGE_ENTRIES_MAX, ParamView, ProviderView, StakeView, SupplyView, TxOutcome,
    ValidatorView,
};

use super::{Api, Live, Turn, error::ApiError, proof::operator_id};
use crate::views;

/// Blocks of one page when the client does not say, and their bytes together, one block excepted.
const PAGE_BLOCKS_DEFAULT: u64 = 20;
const PAGE_BLOCK_BYTES_MAX: usize = 1024 * 1024;
const PAGE_EVENTS_DEFAULT: u64 = 100;
const PAGE_EVENTS_MAX: u64 = 1_000;

type Answer<T> = Result<Json<T>, ApiError>;

#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    height: Height,
}

pub(super) async fn health(Live(api): Live) -> Answer<Health> {
    let status = api.replica.status();
    if status.halted {
        return Err(ApiError::halted());
    }
    Ok(Json(Health { status: "ok", height: status.tip.height }))
}

pub(super) async fn genesis(Live(api): Live) -> Answer<Genesis> {
    Ok(Json(api.genesis.clone()))
}

pub(super) async fn status(Live(api): Live) -> Answer<ChainStatus> {
    let replica = api.replica.status();
    Ok(Json(views::status(&*api.state.read().await, &replica)))
}

pub(super) async fn supply(Live(api): Live) -> Answer<SupplyView> {
    Ok(Json(views::supply(&*api.state.read().await)))
}

pub(super) async fn account(Live(api): Live, Path(address): Path<String>) -> Answer<AccountView> {
    let address = parse("address", &address)?;
    Ok(Json(views::account(&*api.state.read().await, address)))
}

pub(super) async fn channel(Live(api): Live, Path(id): Path<String>) -> Answer<ChannelView> {
    let id: ChannelId = parse("id", &id)?;
    let state = api.state.read().await;
    let channel = state.channel(&id).ok_or_else(|| ApiError::not_found(format!("channel {id}")))?;
    Ok(Json(views::channel(&state, id, channel)))
}

/// `?after=KEY&limit=N`, for channels with `party=ADDRESS` before.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    party: Option<String>,
    pub(super) after: Option<String>,
    limit: Option<usize>,
}

impl ListQuery {
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE_ENTRIES_MAX).min(PAGE_ENTRIES_MAX)
    }

    pub(super) fn after<K: FromStr<Err: Display>>(&self) -> Result<Option<K>, ApiError> {
        self.after.as_deref().map(|key| parse("after", key)).transpose()
    }

    pub(super) fn without_party(self) -> Result<ListQuery, ApiError> {
        match self.party {
            Some(_) => Err(ApiError::bad_request("`party`: only channels have one")),
            None => Ok(self),
        }
    }
}

/// One page of a list that is ordered by key.
pub(super) fn page<K: Ord, V, T>(
    entries: impl Iterator<Item = (K, V)>,
    after: Option<K>,
    limit: usize,
    view: impl Fn(K, V) -> T,
) -> Vec<T> {
    let behind = |key: &K| after.as_ref().is_some_and(|after| key <= after);
    entries
        .skip_while(|(key, _)| behind(key))
        .take(limit)
        .map(|(key, value)| view(key, value))
        .collect()
}

pub(super) async fn channels(
    Live(api): Live,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Vec<ChannelView>> {
    let query = checked(query)?;
    let party = query.party.as_deref();
    let party = party.ok_or_else(|| ApiError::bad_request("`party`: give an address"))?;
    let party: Address = parse("party", party)?;
    let after = query.after()?;
    let state = api.state.read().await;
    let view = |id, channel| views::channel(&state, id, channel);
    Ok(Json(page(state.channels_of(party), after, query.limit(), view)))
}

pub(super) async fn providers(
    Live(api): Live,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Vec<ProviderView>> {
    let query = checked(query)?.without_party()?;
    let after = query.after()?;
    let state = api.state.read().await;
    let entries = state.providers().map(|(operator, provider)| (*operator, provider));
    let view = |operator, provider| views::provider(&state, operator, provider);
    Ok(Json(page(entries, after, query.limit(), view)))
}

pub(super) async fn provider(
    Live(api): Live,
    Path(operator): Path<String>,
) -> Answer<ProviderView> {
    let operator: Address = parse("operator", &operator)?;
    let state = api.state.read().await;
    let provider = state
        .provider(&operator)
        .ok_or_else(|| ApiError::not_found(format!("provider {operator}")))?;
    Ok(Json(views::provider(&state, operator, provider)))
}

pub(super) async fn gateways(
    Live(api): Live,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Vec<GatewayView>> {
    let query = checked(query)?.without_party()?;
    let after = query.after()?;
    let state = api.state.read().await;
    let entries = state.gateways().map(|(operator, gateway)| (*operator, gateway));
    Ok(Json(page(entries, after, query.limit(), views::gateway)))
}

pub(super) async fn validators(
    Live(api): Live,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer<Vec<ValidatorView>> {
    let query = checked(query)?.without_party()?;
    let after = query.after()?;
    let state = api.state.read().await;
    let entries = state.validators().map(|(operator, entry)| (*operator, entry));
    let view = |operator, entry| views::validator(&state, operator, entry);
    Ok(Json(page(entries, after, query.limit(), view).into_iter().flatten().collect()))
}

pub(super) async fn operator(
    Live(api): Live,
    Path((role, account)): Path<(String, String)>,
) -> Answer<OperatorView> {
    let id = operator_id(&role, &account)?;
    let state = api.state.read().await;
    let pool = state.operator(&id).ok_or_else(|| ApiError::not_found(format!("operator {id}")))?;
    Ok(Json(views::pool(&state, id, pool)))
}

pub(super) async fn stakes(Live(api): Live, Path(address): Path<String>) -> Answer<Vec<StakeView>> {
    let address = parse("address", &address)?;
    Ok(Json(views::stakes(&*api.state.read().await, address)))
}

pub(super) async fn params(Live(api): Live) -> Answer<Vec<ParamView>> {
    Ok(Json(views::params(&*api.state.read().await)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlocksQuery {
    from: Option<u64>,
    limit: Option<u64>,
}

pub(super) async fn blocks(
    Live(api): Live,
    turn: Turn,
    query: Result<Query<BlocksQuery>, QueryRejection>,
) -> Answer<Vec<BlockView>> {
    let BlocksQuery { from, limit } = checked(query)?;
    let from = Height(from.unwrap_or(1).max(1));
    let limit = limit.unwrap_or(PAGE_BLOCKS_DEFAULT).min(PAGE_BLOCKS_MAX);
    read_store(&turn, api, move |api| {
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        for height in heights(from, limit) {
            let Some(block) = api.store.block(height)? else { break };
            bytes += block_bytes(&block);
            if bytes > PAGE_BLOCK_BYTES_MAX && !blocks.is_empty() {
                break;
            }
            blocks.push(views::block(&block)?);
        }
        Ok(blocks)
    })
    .await
    .map(Json)
}

fn heights(from: Height, limit: u64) -> impl Iterator<Item = Height> {
    (from.0..from.0.saturating_add(limit)).map(Height)
}

fn block_bytes(block: &StoredBlock) -> usize {
    block.txs.iter().map(Vec::len).sum::<usize>() + block.outcomes.len()
}

pub(super) async fn block(
    Live(api): Live,
    turn: Turn,
    Path(height): Path<String>,
) -> Answer<BlockView> {
    let height = Height(parse("height", &height)?);
    read_store(&turn, api, move |api| {
        let block = api.store.block(height)?;
        let block = block.ok_or_else(|| ApiError::not_found(format!("block {height}")))?;
        Ok(views::block(&block)?)
    })
    .await
    .map(Json)
}

pub(super) async fn tx(Live(api): Live, Path(id): Path<String>) -> Answer<TxOutcome> {
    let id: TxId = parse("id", &id)?;
    let found = api.replica.outcome(id).await.map_err(|error| ApiError::of_submission(&error))?;
    let missing = || ApiError::not_found(format!("transaction {id} in a block"));
    Ok(Json(found.ok_or_else(missing)?.outcome))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    from_height: Option<u64>,
    limit: Option<u64>,
}

/// Whole blocks only, so that nothing is missed between two pages.
pub(super) async fn events(
    Live(api): Live,
    turn: Turn,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Answer<EventPage> {
    let EventsQuery { from_height, limit } = checked(query)?;
    let from = Height(from_height.unwrap_or(1).max(1));
    let limit = limit.unwrap_or(PAGE_EVENTS_DEFAULT).min(PAGE_EVENTS_MAX);
    read_store(&turn, api, move |api| {
        let mut page = EventPage { events: Vec::new(), next_height: from };
        for height in heights(from, PAGE_BLOCKS_MAX) {
            let Some(block) = api.store.block(height)? else { break };
            page.events.extend(views::events(&block)?);
            page.next_height = height.next();
            if page.events.len() as u64 >= limit {
                break;
            }
        }
        Ok(page)
    })
    .await
    .map(Json)
}

/// Runs `body` on a thread that may wait for the disk, and holds the place of `turn` until its end.
pub(super) async fn read_store<T: Send + 'static>(
    turn: &Turn,
    api: Arc<Api>,
    body: impl FnOnce(&Api) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    turn.block(move || body(&api)).await?
}

/// A query that has the form it should.
pub(super) fn checked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(ApiError::bad_request(rejection.body_text())),
    }
}

pub(super) fn parse<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error| ApiError::bad_request(format!("`{name}`: {error}")))
}
