//! What proven entries mean as views.

use borsh::BorshDeserialize;
use types::{
    Address, ChannelId, Nusd, Watt,
    audit::{CommitmentId, Round},
    genesis::Genesis,
    limits::{self, LANES_MAX},
    state::{Account, AuditorEntry, Channel, Gateway, Operator, Provider, StateKey},
};

use super::Unproven;
use crate::chain::{
    AccountView, AuditorView, ChannelView, GatewayView, KnownEntry, LaneView, ProviderView,
    RoundView,
};

/// Bytes of one entry; the largest is a round whose 16 verifiers revealed evidence about 64 responses each.
const ENTRY_BYTES_MAX: usize = 64 * 1024;

fn decode<T: BorshDeserialize>(what: &'static str, bytes: &[u8]) -> Result<T, Unproven> {
    limits::decode(bytes, ENTRY_BYTES_MAX).map_err(|_| Unproven::Unreadable { what })
}

pub(super) fn account(address: Address, entry: Option<&[u8]>) -> Result<AccountView, Unproven> {
    let account = entry.map(|bytes| decode("account", bytes)).transpose()?;
    let Account { watt, credits, nonce, fee_debt } = account.unwrap_or_default();
    Ok(AccountView { address, watt, credits, nonce, fee_debt })
}

/// Before the first block.
pub(super) fn genesis_account(genesis: &Genesis, address: Address) -> AccountView {
    let of = genesis.accounts.iter().filter(|account| account.address == address);
    let watt: Watt = of.map(|account| account.balance).sum();
    let Account { credits, nonce, fee_debt, .. } = Account::default();
    AccountView { address, watt, credits, nonce, fee_debt }
}

/// A channel's own entry first, then those of its lanes: of all that have claimed something, because
/// they add up to what was claimed from the channel.
pub(super) fn channel(
    id: ChannelId,
    entries: Vec<KnownEntry>,
) -> Result<Option<ChannelView>, Unproven> {
    let mut entries = entries.into_iter();
    let asked = StateKey::Channel { id };
    let bytes = match entries.next() {
        Some((key, value)) if key == asked => value,
        Some((given, _)) => return Err(Unproven::OtherEntry { asked, given }),
        None => return Err(Unproven::Lanes { id }),
    };
    let Some(bytes) = bytes else { return Ok(None) };
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
    } = decode("channel", &bytes)?;
    let mut lanes: Vec<LaneView> = Vec::new();
    for (key, value) in entries.take(LANES_MAX as usize) {
        let (StateKey::Lane { channel, lane }, Some(bytes)) = (key, value) else {
            return Err(Unproven::Lanes { id });
        };
        let is_next = lanes.last().is_none_or(|last| last.lane < lane);
        if channel != id || !is_next {
            return Err(Unproven::Lanes { id });
        }
        lanes.push(LaneView { lane, claimed: decode("lane", &bytes)? });
    }
    let sum: Nusd = lanes.iter().map(|lane| lane.claimed).sum();
    if sum != claimed {
        return Err(Unproven::Lanes { id });
    }
    Ok(Some(ChannelView {
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
    }))
}

/// `view` with all that the entries say in its place. What it has besides follows from parameters, the
/// price and single delegations, and is as the node says.
pub(super) fn provider(
    view: ProviderView,
    entry: &[u8],
    pool: Option<&[u8]>,
) -> Result<ProviderView, Unproven> {
    let entry: Provider = decode("provider", entry)?;
    let pool: Option<Operator> = pool.map(|bytes| decode("pool", bytes)).transpose()?;
    let leaving = entry.is_leaving();
    let (profile, tokens) = (entry.profile, pool.as_ref().map(|pool| pool.tokens));
    let bond = tokens.map_or(view.bond, |tokens| view.bond.min(tokens));
    Ok(ProviderView {
        node_key: entry.node_key,
        moniker: profile.moniker,
        region: profile.region,
        class: profile.class,
        models: profile.models,
        price_max: profile.price_max,
        bond,
        delegated: tokens.map_or(view.delegated, |tokens| tokens.saturating_sub(bond)),
        earned: entry.earned,
        pending: entry.pending,
        registered_at: entry.registered_at,
        leaving,
        jailed: pool.is_some_and(|pool| pool.is_jailed()),
        seen_period: entry.heartbeats.period,
        channels_open: entry.channels_open,
        ..view
    })
}

pub(super) fn gateway(operator: Address, entry: &[u8]) -> Result<GatewayView, Unproven> {
    let Gateway { node_key, moniker, addrs, registered_at: _ } = decode("gateway", entry)?;
    Ok(GatewayView { operator, node_key, moniker, addrs })
}

pub(super) fn auditor(operator: Address, entry: &[u8]) -> Result<AuditorView, Unproven> {
    let entry: AuditorEntry = decode("auditor", entry)?;
    Ok(AuditorView::of(operator, entry))
}

pub(super) fn round(commitment: CommitmentId, entry: &[u8]) -> Result<RoundView, Unproven> {
    let round: Round = decode("round", entry)?;
    Ok(RoundView::of(commitment, &round))
}
