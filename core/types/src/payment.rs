//! A payment for one request by a caller without an API key (`docs/spec/x402.md`): which of its channels pays, for which
//! request, how much at most, and until when.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    amount::Nusd,
    hash::{Hash32, sha256},
    id::{ChannelId, RequestId, TimeMs},
    sign::{Signable, Signed},
};

/// Signed by the key of the channel's payer account. The vouchers of the request are signed by the channel's payer key,
/// which is the gateway's: this says what it may sign them for.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Payment {
    pub channel: ChannelId,
    /// The request that is paid, see [`Payment::request_hash`].
    pub request: Hash32,
    /// Random: makes two payments for equal requests differ.
    pub nonce: Hash32,
    /// No more than this is charged.
    pub amount_max: Nusd,
    /// From then on it begins nothing.
    pub expires_at: TimeMs,
}

impl Signable for Payment {
    const DOMAIN: &'static str = "payment/1";
}

impl Payment {
    /// What a payment names a request by: the path it is sent to, and its body, byte by byte.
    pub fn request_hash(path: &str, body: &[u8]) -> Hash32 {
        sha256(&[path.as_bytes(), b"\0", body])
    }
}

impl Signed<Payment> {
    /// The id of the request that is paid with this: each payment has one of its own, so that none is used twice.
    pub fn request_id(&self) -> RequestId {
        let bytes = borsh::to_vec(&(&self.value, &self.signer)).unwrap_or_default();
        let digest = sha256(&[b"peerwatt/payment/id\0", &bytes]).0;
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(digest) {
            *to = from;
        }
        RequestId(id)
    }
}
