//! The ledger's values as the chain API shows them.

use ledger::{Account, Channel, Gateway, Module, Provider, State};
use replica::Status;
use store::StoredBlock;
use types::{Address, ChannelId, tx::SignedTx};
use wire::chain::{
    AccountView, BlockView, ChainStatus, ChannelView, EventView, GatewayView, LaneView,
    ProviderView, SupplyView, TxResult, TxView,
};

use crate::record::Record;

pub(crate) fn status(state: &State, status: &Status) -> ChainStatus {
    ChainStatus {
        chain_id: state.chain_id().clone(),
        genesis_hash: state.genesis_hash(),
        height: state.height(),
        time: state.time(),
        app_hash: state.app_hash(),
        nusd_per_watt: state.price(),
        params: state.params().clone(),
        mempool_txs: status.mempool_txs,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

pub(crate) fn account(state: &State, address: Address) -> AccountView {
    let Account { watt, credits, nonce, fee_debt } = state.account(&address);
    AccountView { address, watt, credits, nonce, fee_debt }
}

pub(crate) fn channel(state: &State, id: ChannelId, channel: &Channel) -> ChannelView {
    let Channel { terms, deposit, claimed, returned: _, withdraw_at, open } = channel.clone();
    let lanes = state.lanes_of(id).map(|(lane, claimed)| LaneView { lane, claimed }).collect();
    ChannelView { id, terms, deposit, claimed, lanes, withdraw_at, open }
}

pub(crate) fn provider(state: &State, operator: Address, provider: &Provider) -> ProviderView {
    ProviderView {
        operator,
        node_key: provider.node_key,
        moniker: provider.moniker.clone(),
        bond: provider.bond,
        bond_required: state.bond_required(),
        earned: provider.earned,
        registered_at: provider.registered_at,
        leaving: provider.is_leaving(),
    }
}

pub(crate) fn gateway(operator: Address, gateway: &Gateway) -> GatewayView {
    let Gateway { node_key, moniker, addrs, registered_at: _ } = gateway.clone();
    GatewayView { operator, node_key, moniker, addrs }
}

pub(crate) fn supply(state: &State) -> SupplyView {
    let supply = state.supply();
    let held = |module| state.module_balance(module);
    SupplyView {
        watt_total: supply.total,
        watt_genesis: supply.genesis,
        watt_minted: supply.minted.total(),
        watt_burned: supply.burned.total(),
        watt_max: state.params().supply_max,
        watt_vault: held(Module::Vault),
        watt_treasury: held(Module::Treasury),
        // What is to be divided and what may be withdrawn.
        watt_stakers: held(Module::Stakers).saturating_add(held(Module::Rewards)),
        watt_bonded: held(Module::Bonds),
        credits_outstanding: supply.credits_outstanding,
        credits_issued: supply.credits_issued,
        credits_settled: supply.credits_settled,
        nusd_per_watt: state.price(),
    }
}

/// Why a stored block cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error("what block {height} did cannot be read")]
    Record { height: types::Height, source: serde_json::Error },
    #[error("a transaction of block {height} cannot be read")]
    Tx { height: types::Height, source: types::limits::DecodeError },
}

pub(crate) fn block(block: &StoredBlock) -> Result<BlockView, ViewError> {
    let height = block.header.height;
    let Record { results, events } = record(block)?;
    let txs = block.txs.iter().zip(results).map(|(bytes, outcome)| {
        let SignedTx(tx) =
            SignedTx::decode(bytes).map_err(|source| ViewError::Tx { height, source })?;
        Ok(TxView { outcome, sender: Address::of_key(&tx.signer), tx })
    });
    Ok(BlockView {
        hash: block.header.hash(),
        header: block.header.clone(),
        txs: txs.collect::<Result<_, ViewError>>()?,
        events,
    })
}

/// Everything that happened in a block, in order.
pub(crate) fn events(block: &StoredBlock) -> Result<Vec<EventView>, ViewError> {
    let (height, time) = (block.header.height, block.header.time);
    let Record { results, events } = record(block)?;
    let view = |tx, event| EventView { height, time, tx, event };
    let mut all = Vec::new();
    for outcome in results {
        match outcome.result {
            TxResult::Applied { events } => {
                all.extend(events.into_iter().map(|event| view(Some(outcome.id), event)));
            }
            TxResult::Failed { .. } => {}
        }
    }
    all.extend(events.into_iter().map(|event| view(None, event)));
    Ok(all)
}

fn record(block: &StoredBlock) -> Result<Record, ViewError> {
    Record::decode(&block.outcomes)
        .map_err(|source| ViewError::Record { height: block.header.height, source })
}
