//! The ledger's values as the chain API shows them.

use ledger::{Gateway, Module, State, ValidatorEntry};
use replica::Status;
use store::StoredBlock;
use types::{
    Address, ChannelId, ModelId,
    params::{AuditMode, BOUNDS, CreditPolicy},
    stake::OperatorId,
    state::{Account, Channel, Operator, Provider},
    tx::SignedTx,
};
use wire::chain::{
    AccountView, BlockView, BudgetView, ChainStatus, ChannelView, EventView, GatewayView, LaneView,
    OperatorView, OracleView, ParamView, ProviderView, StakeView, SupplyView, TxResult, TxView,
    UnbondingView, ValidatorView,
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
        oracle: OracleView {
            average: state.average_price(state.time()),
            counted_at: state.oracle().counted_at,
            period: state.period(state.time()),
        },
        breaker: state.breaker().name().to_owned(),
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
    let Channel {
        terms,
        deposit,
        claimed,
        settled,
        refunded,
        returned,
        opened_at,
        withdraw_at,
        open,
    } = channel.clone();
    let lanes = state.lanes_of(id).map(|(lane, claimed)| LaneView { lane, claimed }).collect();
    ChannelView {
        id,
        terms,
        deposit,
        claimed,
        settled,
        refunded,
        returned,
        lanes,
        opened_at,
        withdraw_at,
        open,
    }
}

pub(crate) fn provider(state: &State, operator: Address, provider: &Provider) -> ProviderView {
    let pool = state.operator(&OperatorId::provider(operator));
    let bond = state.bond_of(&operator);
    let profile = provider.profile.clone();
    let period = state.heartbeat_period(state.time());
    ProviderView {
        operator,
        node_key: provider.node_key,
        moniker: profile.moniker,
        region: profile.region,
        class: profile.class,
        models: profile.models,
        price_max: profile.price_max,
        bond,
        bond_required: state.bond_required(provider.pending),
        delegated: pool.map_or(bond, |pool| pool.tokens).saturating_sub(bond),
        earned: provider.earned,
        pending: provider.pending,
        registered_at: provider.registered_at,
        probation_until: provider.registered_at.plus_ms(state.params().providers.probation_ms),
        leaving: provider.is_leaving(),
        jailed: pool.is_some_and(Operator::is_jailed),
        heartbeats: provider.heartbeats.count(period),
        seen_period: provider.heartbeats.period,
        channels_open: provider.channels_open,
    }
}

pub(crate) fn gateway(operator: Address, gateway: &Gateway) -> GatewayView {
    let Gateway { node_key, moniker, addrs, registered_at: _ } = gateway.clone();
    GatewayView { operator, node_key, moniker, addrs }
}

pub(crate) fn validator(
    state: &State,
    operator: Address,
    entry: &ValidatorEntry,
) -> Option<ValidatorView> {
    let ValidatorEntry { consensus_key, moniker, registered_at: _, seated: _ } = entry.clone();
    let id = OperatorId::validator(operator);
    let seat = state.active_validators().find(|(key, _)| **key == consensus_key);
    let window = state.signings().find(|(key, _)| **key == consensus_key);
    Some(ValidatorView {
        operator,
        consensus_key,
        moniker,
        power: seat.map(|(_, seat)| seat.power),
        missed: window.map_or(0, |(_, window)| window.missed),
        pool: pool(state, id, state.operator(&id)?),
    })
}

pub(crate) fn pool(state: &State, id: OperatorId, operator: &Operator) -> OperatorView {
    OperatorView {
        id,
        tokens: operator.tokens,
        shares: operator.shares,
        own: state.stake_of(&id.account, &id),
        commission: operator.commission,
        commission_due: operator.commission_due,
        jailed_until: operator.jailed_until,
        tombstoned: operator.tombstoned,
    }
}

/// Everything that `delegator` has staked or has on its way back.
pub(crate) fn stakes(state: &State, delegator: Address) -> Vec<StakeView> {
    let staked = state.stakes_of(delegator).map(|(id, _)| id);
    let mut operators: Vec<OperatorId> = staked.chain(state.unbonding_from(delegator)).collect();
    operators.sort_unstable();
    operators.dedup();
    let view = |operator: OperatorId| {
        let entries = state.unbondings_of(&delegator, &operator).iter();
        StakeView {
            operator,
            stake: state.stake_of(&delegator, &operator),
            rewards: state.rewards_of(&delegator, &operator),
            unbonding: entries
                .map(|entry| UnbondingView { balance: entry.balance, matures_at: entry.matures_at })
                .collect(),
        }
    };
    operators.into_iter().map(view).collect()
}

pub(crate) fn supply(state: &State) -> SupplyView {
    let supply = state.supply();
    let held = |module| state.module_balance(module);
    let budgets = state.vesting().map(|(bucket, vesting)| BudgetView {
        bucket: *bucket,
        total: vesting.total,
        vested: vesting.vested(state.time()),
        claimed: vesting.claimed,
        beneficiary: vesting.beneficiary,
    });
    SupplyView {
        watt_total: supply.total,
        watt_genesis: supply.genesis,
        watt_minted: supply.minted.total(),
        watt_burned: supply.burned.total(),
        watt_max: state.params().supply.max,
        watt_vault: held(Module::Vault),
        watt_treasury: held(Module::Treasury),
        watt_stakers: held(Module::Stakers).saturating_add(held(Module::Rewards)),
        watt_bonded: held(Module::Bonded).saturating_add(held(Module::NotBonded)),
        watt_insurance: held(Module::Insurance),
        budgets: budgets.collect(),
        credits_outstanding: supply.credits_outstanding,
        credits_pending: state.pending_credits(),
        credits_issued: supply.credits_issued,
        credits_settled: supply.credits_settled,
        credits_refunded: supply.credits_refunded,
        claims_refunded: supply.claims_refunded,
        nusd_per_watt: state.price(),
    }
}

/// Every parameter, those that are not numbers first.
pub(crate) fn params(state: &State) -> Vec<ParamView> {
    let params = state.params();
    let policy = match params.credits.policy {
        CreditPolicy::Split => "split",
        CreditPolicy::Emission => "emission",
        CreditPolicy::Vault => "vault",
    };
    let mode = match params.audits.mode {
        AuditMode::Off => "off",
        AuditMode::Shadow => "shadow",
        AuditMode::Enforced => "enforced",
    };
    let enforced: Vec<String> = params.audits.enforced.iter().map(ModelId::to_string).collect();
    let named = |name: &str, value: String, unit: &str, min: &str, max: &str| ParamView {
        name: name.to_owned(),
        value,
        unit: unit.to_owned(),
        min: min.to_owned(),
        max: max.to_owned(),
    };
    let mut all = vec![
        named("credits.policy", policy.to_owned(), "policy", "", ""),
        named("audits.mode", mode.to_owned(), "mode", "", ""),
        named("audits.enforced", enforced.join(" "), "models", "", ""),
        named("credits.refunds", params.credits.refunds.to_string(), "switch", "false", "true"),
    ];
    let shares = params.split.shares();
    for (name, share) in [
        ("split.provider", shares.provider),
        ("split.stakers", shares.stakers),
        ("split.burn", shares.burn),
        ("split.treasury", shares.treasury),
    ] {
        all.push(named(name, share.get().to_string(), "ppm", "0", "1000000"));
    }
    all.extend(BOUNDS.iter().map(|bounds| ParamView {
        name: bounds.name.to_owned(),
        value: bounds.value(params).to_string(),
        unit: bounds.unit.to_owned(),
        min: bounds.min.to_string(),
        max: bounds.max.to_string(),
    }));
    all
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
