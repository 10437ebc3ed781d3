//! Tells the ledger that we are here, once in every heartbeat period in which nothing else does:
//! registering, redeeming and being paid count as well. Whether one is due is decided purely.

use std::time::Duration;

use types::{TimeMs, Watt, params::Params, tx::Action};
use wire::chain::{Chain, ChainError, ProviderView, SendError, TxSender};

/// Bytes of the transaction, rounded up.
const TX_BYTES: u64 = 256;
/// The account keeps the fees of as many heartbeats as the ledger keeps periods, so that being seen
/// never takes what a redemption or an update of the registration costs.
const RESERVE_HEARTBEATS: u128 = 64;
/// How often we look within a period, so that a validator that is away for a while costs none.
const LOOKS_PER_PERIOD: u64 = 4;
/// Bounds of the time between two looks.
const LOOK_MS_MIN: u64 = 60_000;
const LOOK_MS_MAX: u64 = 15 * 60_000;

/// Why no heartbeat was sent; the next look tries again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeartbeatError {
    #[error("cannot read whether a heartbeat is due")]
    Read { source: ChainError },
    #[error("cannot send a heartbeat")]
    Send { source: SendError },
}

/// What is known of heartbeats between two looks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heartbeat {
    /// The period in which we last sent one, by our clock: if that is ahead of the ledger's, it still
    /// gets one a period.
    sent_in: Option<u64>,
}

/// The period for which a heartbeat is due.
fn due(
    entry: Option<&ProviderView>,
    params: &Params,
    balance: Watt,
    now: TimeMs,
    sent_in: Option<u64>,
) -> Option<u64> {
    let entry = entry.filter(|entry| !entry.leaving)?;
    let period = now.0.checked_div(params.providers.heartbeat_ms)?;
    let is_known = period <= entry.seen_period || Some(period) <= sent_in;
    let per_byte = Watt(params.fees.byte.0.saturating_mul(u128::from(TX_BYTES)));
    let fee = params.fees.tx.saturating_add(per_byte);
    let is_affordable = balance.0 >= fee.0.saturating_mul(RESERVE_HEARTBEATS);
    (!is_known && is_affordable).then_some(period)
}

impl Heartbeat {
    /// Sends a heartbeat if one is due. Returns how long to wait before the next look.
    pub(crate) async fn look(
        &mut self,
        chain: &dyn Chain,
        sender: &TxSender,
        now: TimeMs,
    ) -> Result<Duration, HeartbeatError> {
        let read = |source| HeartbeatError::Read { source };
        let operator = sender.address();
        let params = chain.status().await.map_err(read)?.params;
        let entry = chain.provider(operator).await.map_err(read)?;
        let balance = chain.account(operator).await.map_err(read)?.watt;
        if let Some(period) = due(entry.as_ref(), &params, balance, now, self.sent_in) {
            self.sent_in = Some(period);
            let sent = sender.send(Action::Heartbeat).await;
            let sent = sent.map_err(|source| HeartbeatError::Send { source })?;
            tracing::debug!(period, fee = %sent.fee, tx = %sent.id, "provider.heartbeat");
        }
        let period_ms = params.providers.heartbeat_ms;
        let look_ms = (period_ms / LOOKS_PER_PERIOD).clamp(LOOK_MS_MIN, LOOK_MS_MAX);
        Ok(Duration::from_millis(look_ms))
    }

    /// How long to wait after a look that failed.
    pub(crate) const RETRY: Duration = Duration::from_millis(LOOK_MS_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::register::tests::{entry, profile};

    #[test]
    fn a_heartbeat_is_due_once_a_period_for_those_who_can_pay() {
        let params = Params::standard();
        let hour_ms = params.providers.heartbeat_ms;
        // 64 fees of 0.001 WATT and 256 bytes of 0.000001 WATT each.
        let enough = Watt::from_decimal("0.080384").unwrap();
        let short = Watt(enough.0 - 1);
        let listed =
            |leaving| Some(ProviderView { seen_period: 7, leaving, ..entry(profile(&[1])) });
        let check = |entry: Option<ProviderView>, balance, now, sent_in, expected| {
            assert_eq!(due(entry.as_ref(), &params, balance, TimeMs(now), sent_in), expected);
        };
        check(listed(false), enough, 8 * hour_ms, None, Some(8));
        check(listed(false), enough, 8 * hour_ms - 1, None, None);
        check(listed(false), enough, 7 * hour_ms, None, None);
        check(listed(false), enough, 8 * hour_ms, Some(8), None);
        check(listed(false), enough, 9 * hour_ms, Some(8), Some(9));
        check(listed(false), short, 8 * hour_ms, None, None);
        check(listed(true), enough, 8 * hour_ms, None, None);
        check(None, enough, 8 * hour_ms, None, None);
    }
}
