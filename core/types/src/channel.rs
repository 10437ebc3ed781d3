//! Voucher channels (ECONOMICS E5a): one payer, one receiver, a deposit, and per lane a signed
//! running total that only grows.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    amount::Nusd,
    hash::sha256,
    id::{Address, ChainId, ChannelId, Lane, PublicKey},
    sign::Signable,
};

/// What defines a channel; its digest is the channel's id, so a voucher that names the id binds
/// payer, key, receiver, denomination, network and salt.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ChannelTerms {
    /// Whose credits are in it, and who gets back what is not used.
    pub payer: Address,
    /// Signs vouchers. May differ from the account's key, so that a gateway's purse stays cold.
    pub payer_key: PublicKey,
    /// Who redeems: the operator account of a provider.
    pub receiver: Address,
    /// Makes channels of the same two parties differ.
    pub salt: u64,
    /// Time between the payer's wish to withdraw and the withdrawal, in which the receiver may
    /// still redeem. Milliseconds, within the bounds of the parameters.
    pub withdraw_delay_ms: u64,
}

impl ChannelTerms {
    pub fn id(&self, chain_id: &ChainId) -> ChannelId {
        let bytes = borsh::to_vec(&("nusd", chain_id, self)).unwrap_or_default();
        ChannelId(sha256(&[b"peerwatt/channel\0", &bytes]).0)
    }
}

/// A promise to pay `total` on one lane since the channel was opened. A later voucher replaces an
/// earlier one; replaying a smaller one has no effect.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Voucher {
    pub channel: ChannelId,
    pub lane: Lane,
    /// Counts the vouchers of a lane from 1; tells a later from an earlier one of equal total.
    pub sequence: u64,
    /// Cumulative, never less than that of an earlier voucher of the lane.
    pub total: Nusd,
}

impl Signable for Voucher {
    const DOMAIN: &'static str = "voucher/1";
}
