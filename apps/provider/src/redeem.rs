//! Turns what was charged into claims on the chain: what to claim is decided purely, one
//! transaction per channel is sent. Claims are cumulative, so doing it twice claims nothing twice.

use types::{
    ChannelId, Nusd, Rounding, TimeMs, TxId, Watt,
    limits::VOUCHERS_PER_REDEEM_MAX,
    tx::{Action, VoucherClaim},
};
use wire::chain::{ChainError, ChainStatus, ChannelView, SendError, TxSender};

use crate::{admission::claimed, books::Books, channels::LookupError};

/// Bytes of a claim in a transaction, and of the transaction around it; rounded up.
const CLAIM_BYTES: u64 = 192;
const TX_BYTES: u64 = 256;

/// How badly a redemption is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Urgency {
    /// Only channels whose payer withdraws.
    Closing,
    /// Everything that is worth its fee.
    All,
}

/// Why vouchers could not be redeemed; they stay claimable.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    #[error("cannot read what is claimed already")]
    Read { source: ChainError },
    #[error("cannot read what is claimed of a channel already")]
    Channel(#[from] LookupError),
    #[error("cannot redeem {value} nano-USD from channel {channel}")]
    Send { channel: ChannelId, value: Nusd, source: SendError },
}

/// What is claimed from one channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Batch {
    pub(crate) channel: ChannelId,
    /// The sum of what the claims add to what was claimed before.
    pub(crate) value: Nusd,
    pub(crate) claims: Vec<VoucherClaim>,
}

/// What a redemption brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Redeemed {
    pub(crate) value: Nusd,
    pub(crate) tx: TxId,
}

/// What there is to claim from `channel`.
pub(crate) fn batch(books: &Books, channel: &ChannelView) -> Option<Batch> {
    if !channel.open {
        return None;
    }
    let (mut value, mut claims) = (Nusd::ZERO, Vec::new());
    for (key, lane) in books.lanes().filter(|(key, _)| key.channel == channel.id) {
        let Some(voucher) = &lane.voucher else { continue };
        let total = lane.charged.min(voucher.value.total);
        let due = total.saturating_sub(claimed(channel, key.lane));
        if !due.is_zero() && claims.len() < VOUCHERS_PER_REDEEM_MAX {
            value = value.saturating_add(due);
            claims.push(VoucherClaim { voucher: voucher.clone(), total });
        }
    }
    (!claims.is_empty()).then_some(Batch { channel: channel.id, value, claims })
}

/// What was claimed and is held back until the audit window is over: income on its way.
pub(crate) fn held_back(channels: &[ChannelView]) -> Nusd {
    channels.iter().map(ChannelView::pending).sum()
}

/// What all channels together would bring.
pub(crate) fn unredeemed(books: &Books, channels: &[ChannelView]) -> Nusd {
    channels.iter().filter_map(|channel| batch(books, channel)).map(|batch| batch.value).sum()
}

/// The batches to send now.
pub(crate) fn plan(
    books: &Books,
    channels: &[ChannelView],
    status: &ChainStatus,
    urgency: Urgency,
) -> Vec<Batch> {
    let wanted = |channel: &&ChannelView| match urgency {
        Urgency::All => true,
        Urgency::Closing => channel.withdraw_at.is_some(),
    };
    channels
        .iter()
        .filter(wanted)
        .filter_map(|channel| {
            let batch = batch(books, channel)?;
            // The last chance is taken even if the fee is more: the fee may fall due later.
            let pays = channel.withdraw_at.is_some() || is_worth_its_fee(&batch, status);
            pays.then_some(batch)
        })
        .collect()
}

/// Whether our share of the batch is more than the fee of its transaction.
fn is_worth_its_fee(batch: &Batch, status: &ChainStatus) -> bool {
    let claims = u64::try_from(batch.claims.len()).unwrap_or(u64::MAX);
    let bytes = claims.saturating_mul(CLAIM_BYTES).saturating_add(TX_BYTES);
    let per_byte = Watt(status.params.fees.byte.0.saturating_mul(u128::from(bytes)));
    let fee = status.params.fees.tx.saturating_add(per_byte);
    let gross = Watt::worth(batch.value, status.nusd_per_watt, Rounding::Down);
    gross.is_some_and(|gross| status.params.split.distribute(gross).provider > fee)
}

/// Sends a batch.
pub(crate) async fn send(
    sender: &TxSender,
    batch: Batch,
    at: TimeMs,
) -> Result<Redeemed, RedeemError> {
    let Batch { channel, value, claims } = batch;
    let lanes = claims.len();
    let applied = sender.send(Action::RedeemVouchers { claims }).await;
    let applied = applied.map_err(|source| RedeemError::Send { channel, value, source })?;
    let (tx, fee) = (applied.id, applied.fee);
    tracing::info!(%channel, lanes, value_nusd = %value, fee = %fee, %tx, at = at.0, "provider.redeemed");
    Ok(Redeemed { value, tx })
}
