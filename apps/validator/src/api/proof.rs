//! Entries with their proofs, and what a transaction would do.

use axum::{Json, body::Bytes, extract::Path, extract::rejection::BytesRejection};
use replica::Application;
use types::{
    hash::to_hex,
    stake::{OperatorId, Role},
    state::StateKey,
};
use wire::chain::{StateProof, TxOutcome};

use super::{
    Live,
    error::ApiError,
    read::{parse, read_store},
    submit::body_bytes,
};
use crate::{ledger_app::LedgerApp, record};

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn account(live: Live, Path(address): Path<String>) -> Answer<StateProof> {
    prove(live, StateKey::Account { address: parse("address", &address)? }).await
}

pub(super) async fn channel(live: Live, Path(id): Path<String>) -> Answer<StateProof> {
    prove(live, StateKey::Channel { id: parse("id", &id)? }).await
}

pub(super) async fn lane(
    live: Live,
    Path((channel, lane)): Path<(String, String)>,
) -> Answer<StateProof> {
    let lane = types::Lane(parse("lane", &lane)?);
    prove(live, StateKey::Lane { channel: parse("id", &channel)?, lane }).await
}

pub(super) async fn provider(live: Live, Path(operator): Path<String>) -> Answer<StateProof> {
    prove(live, StateKey::Provider { operator: parse("operator", &operator)? }).await
}

pub(super) async fn operator(
    live: Live,
    Path((role, account)): Path<(String, String)>,
) -> Answer<StateProof> {
    prove(live, StateKey::Operator { id: operator_id(&role, &account)? }).await
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

async fn prove(Live(api): Live, key: StateKey) -> Answer<StateProof> {
    let (height, chain_id, proven) = {
        let state = api.state.read().await;
        (state.height(), state.chain_id().clone(), state.prove(&key))
    };
    let (value, proof) = proven.map_err(|error| ApiError::internal(&error))?;
    // The state that readers see is of a block that is on the disk.
    read_store(api, move |api| {
        let block = api.store.block(height)?;
        let block = block.ok_or_else(|| {
            ApiError::not_found("block yet whose state could be proven; wait for the first")
        })?;
        let value = value.map(|bytes| to_hex(&bytes));
        let (header, commit) = (block.header, block.certificate);
        Ok(StateProof { chain_id, key, value, proof, header, commit })
    })
    .await
    .map(Json)
}

/// What the transaction would do in the next block. One without a place in a block is refused.
pub(super) async fn simulate(
    Live(api): Live,
    body: Result<Bytes, BytesRejection>,
) -> Answer<TxOutcome> {
    let bytes = body_bytes(body)?;
    let verified = tokio::task::spawn_blocking(move || LedgerApp::verify(&bytes)).await;
    let verified = verified.map_err(|error| ApiError::internal(&error))?;
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
