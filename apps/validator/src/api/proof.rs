//! Headers with what certifies them, entries with their proofs, and what a transaction would do.

use axum::{Json, body::Bytes, extract::Path, extract::rejection::BytesRejection};
use replica::Application;
use store::StoredBlock;
use types::{
    Hash32, Height,
    hash::to_hex,
    stake::{OperatorId, Role},
    state::StateKey,
};
use wire::chain::{LightBlock, ProvenEntry, StateProof, StateProofs, TxOutcome};

use super::{
    Api, Live, Turn,
    audits::commitment_id,
    error::ApiError,
    read::{parse, read_store},
    submit::body_bytes,
};
use crate::{ledger_app::LedgerApp, record};

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn account(
    live: Live,
    turn: Turn,
    Path(address): Path<String>,
) -> Answer<StateProof> {
    prove(live, turn, StateKey::Account { address: parse("address", &address)? }).await
}

pub(super) async fn channel(live: Live, turn: Turn, Path(id): Path<String>) -> Answer<StateProof> {
    prove(live, turn, StateKey::Channel { id: parse("id", &id)? }).await
}

pub(super) async fn lane(
    live: Live,
    turn: Turn,
    Path((channel, lane)): Path<(String, String)>,
) -> Answer<StateProof> {
    let lane = types::Lane(parse("lane", &lane)?);
    prove(live, turn, StateKey::Lane { channel: parse("id", &channel)?, lane }).await
}

pub(super) async fn provider(
    live: Live,
    turn: Turn,
    Path(operator): Path<String>,
) -> Answer<StateProof> {
    prove(live, turn, StateKey::Provider { operator: parse("operator", &operator)? }).await
}

pub(super) async fn operator(
    live: Live,
    turn: Turn,
    Path((role, account)): Path<(String, String)>,
) -> Answer<StateProof> {
    prove(live, turn, StateKey::Operator { id: operator_id(&role, &account)? }).await
}

/// `validator` or `provider`, and an address, as they stand in a path.
pub(super) fn operator_id(role: &str, account: &str) -> Result<OperatorId, ApiError> {
    let role = match role {
        "validator" => Role::Validator,
        "provider" => Role::Provider,
        _ => return Err(ApiError::bad_request("`role`: use validator or provider")),
    };
    Ok(OperatorId { role, account: parse("account", account)? })
}

pub(super) async fn gateway(
    live: Live,
    turn: Turn,
    Path(operator): Path<String>,
) -> Answer<StateProof> {
    prove(live, turn, StateKey::Gateway { operator: parse("operator", &operator)? }).await
}

pub(super) async fn beacon(live: Live, turn: Turn) -> Answer<StateProof> {
    prove(live, turn, StateKey::Beacon).await
}

pub(super) async fn round(
    live: Live,
    turn: Turn,
    Path((provider, sequence)): Path<(String, String)>,
) -> Answer<StateProof> {
    let commitment = commitment_id(&provider, &sequence)?;
    prove(live, turn, StateKey::Round { commitment }).await
}

pub(super) async fn auditor(
    live: Live,
    turn: Turn,
    Path(operator): Path<String>,
) -> Answer<StateProof> {
    prove(live, turn, StateKey::Auditor { operator: parse("operator", &operator)? }).await
}

pub(super) async fn standing(
    live: Live,
    turn: Turn,
    Path(provider): Path<String>,
) -> Answer<StateProof> {
    prove(live, turn, StateKey::Standing { provider: parse("provider", &provider)? }).await
}

pub(super) async fn model_standing(
    live: Live,
    turn: Turn,
    Path((provider, model)): Path<(String, String)>,
) -> Answer<StateProof> {
    let provider = parse("provider", &provider)?;
    prove(live, turn, StateKey::ModelStanding { provider, model: parse("model", &model)? }).await
}

async fn prove(Live(api): Live, turn: Turn, key: StateKey) -> Answer<StateProof> {
    let (height, chain_id, proven) = {
        let state = api.state.read().await;
        (state.height(), state.chain_id().clone(), entry(&state, key))
    };
    let ProvenEntry { key, value, proof } = proven?;
    // The state that readers see is of a block that is on the disk.
    let LightBlock { header, certificate, validators } =
        read_store(&turn, api, move |api| proving_block(api, height)).await?;
    Ok(Json(StateProof { chain_id, key, value, proof, header, certificate, validators }))
}

/// A channel and its lanes, of which there are at most as many as a voucher can name.
pub(super) async fn lanes(
    Live(api): Live,
    turn: Turn,
    Path(id): Path<String>,
) -> Answer<StateProofs> {
    let id = parse("id", &id)?;
    let (height, chain_id, proven) = {
        let state = api.state.read().await;
        let lanes = state.lanes_of(id).map(|(lane, _)| StateKey::Lane { channel: id, lane });
        let keys = [StateKey::Channel { id }].into_iter().chain(lanes);
        let proven: Result<Vec<_>, ApiError> = keys.map(|key| entry(&state, key)).collect();
        (state.height(), state.chain_id().clone(), proven)
    };
    let entries = proven?;
    let LightBlock { header, certificate, validators } =
        read_store(&turn, api, move |api| proving_block(api, height)).await?;
    Ok(Json(StateProofs { chain_id, entries, header, certificate, validators }))
}

fn entry(state: &ledger::State, key: StateKey) -> Result<ProvenEntry, ApiError> {
    let proven = state.prove(&key);
    let (value, proof) = proven.map_err(|error| ApiError::internal(&error))?;
    Ok(ProvenEntry { key, value: value.map(|bytes| to_hex(&bytes)), proof })
}

fn proving_block(api: &Api, height: Height) -> Result<LightBlock, ApiError> {
    light_block(api, height)?.ok_or_else(|| {
        ApiError::not_found("block yet whose state could be proven; wait for the first")
    })
}

/// The header of a height with what certifies it.
pub(super) async fn light(
    Live(api): Live,
    turn: Turn,
    Path(height): Path<String>,
) -> Answer<LightBlock> {
    let height = Height(parse("height", &height)?);
    read_store(&turn, api, move |api| {
        let missing = || ApiError::not_found(format!("block {height}, or not any more"));
        light_block(api, height)?.ok_or_else(missing)
    })
    .await
    .map(Json)
}

/// That of the newest block.
pub(super) async fn light_latest(Live(api): Live, turn: Turn) -> Answer<LightBlock> {
    read_store(&turn, api, |api| proving_block(api, api.store.height()?)).await.map(Json)
}

fn light_block(api: &Api, height: Height) -> Result<Option<LightBlock>, ApiError> {
    let Some(block) = api.store.block(height)? else { return Ok(None) };
    let StoredBlock { header, certificate, .. } = block;
    let digest = header.validators;
    let validators = api.store.validators(digest)?;
    let validators =
        validators.ok_or_else(|| ApiError::internal(&WithoutValidators { height, digest }))?;
    Ok(Some(LightBlock { header, certificate, validators }))
}

/// The store keeps the validators of every block that it has.
#[derive(Debug, thiserror::Error)]
#[error("the validators {digest} of block {height} are not in the store")]
struct WithoutValidators {
    height: Height,
    digest: Hash32,
}

/// What the transaction would do in the next block. One without a place in a block is refused.
pub(super) async fn simulate(
    Live(api): Live,
    turn: Turn,
    body: Result<Bytes, BytesRejection>,
) -> Answer<TxOutcome> {
    let bytes = body_bytes(body)?;
    let verified = turn.block(move || LedgerApp::verify(&bytes)).await?;
    let tx = verified.map_err(ApiError::malformed)?;
    // The state is as before when the lock is given back; that takes microseconds, or a few
    // milliseconds for the largest redemption.
    let mut state = api.state.write().await;
    let time = api.clock.now().max(state.time());
    let height = state.height().next();
    let result = state.simulate(time, &tx).map_err(|error| ApiError::internal(&error))?;
    drop(state);
    record::outcome(height, result).map(Json).map_err(|error| ApiError::refused(&error))
}
