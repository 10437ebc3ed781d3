//! The headers of x402, version 2, that a caller without an API key and a gateway talk in (`docs/spec/x402.md`): what a
//! request costs, the payment, and what came of it. Each is JSON in base64.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use types::{
    Address, ChainId, Hash32, ModelId, Nusd, PublicKey, RequestId, payment::Payment, price::Price,
    sign::Signed,
};

/// The header of a 402 that says how to pay.
pub const REQUIRED: &str = "payment-required";
/// The header of a request that pays.
pub const SIGNATURE: &str = "payment-signature";
/// The header of an answer that was paid.
pub const RESPONSE: &str = "payment-response";
/// The version that is spoken.
pub const VERSION: u32 = 2;
/// How it is paid: from a channel of the caller's own to the provider.
pub const SCHEME: &str = "peerwatt-channel";
/// What is paid in: nano-USD of credits.
pub const ASSET: &str = "nusd";

/// Bytes of a header that is read.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// The name of a network.
pub fn network(chain_id: &ChainId) -> String {
    format!("peerwatt:{chain_id}")
}

/// How to pay for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequired {
    pub x402_version: u32,
    /// Why it is not answered.
    pub error: String,
    pub resource: Resource,
    /// Whom the caller can pay, who suits the request best first.
    pub accepts: Vec<Requirements>,
}

/// What is paid for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    pub url: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub mime_type: String,
}

/// One way to pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirements {
    pub scheme: String,
    pub network: String,
    pub asset: String,
    /// The most that it may cost. A payment may allow less: the answer is as long as that lasts.
    pub amount: Nusd,
    /// The provider, to whom the channel leads.
    pub pay_to: Address,
    pub max_timeout_seconds: u64,
    pub extra: Extra,
}

/// What of [`Requirements`] is Peerwatt's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extra {
    /// The payer key that the channel must name: the gateway's, which signs its vouchers.
    pub payer_key: PublicKey,
    pub chain_id: ChainId,
    /// The request, as the payment must name it.
    pub request: Hash32,
    pub model: ModelId,
    pub price: Price,
    /// The withdraw delay, in milliseconds, that providers are known to accept.
    pub withdraw_delay_ms: u64,
}

/// What a caller pays with. What x402 repeats of the requirements is not read: the payment says it all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentPayload {
    pub x402_version: u32,
    pub accepted: Accepted,
    pub payload: Signed<Payment>,
}

/// Which way of paying was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub scheme: String,
    pub network: String,
}

/// What came of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentResponse {
    pub success: bool,
    pub payer: Address,
    /// The request, whose receipt names the lane that was charged. No transaction is made for it.
    pub transaction: RequestId,
    pub network: String,
    /// What was charged. A stream's headers are sent before anybody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Nusd>,
}

/// Why a header cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("is longer than {HEADER_BYTES_MAX} bytes")]
    Long,
    #[error("is not base64")]
    Base64,
    #[error("is not what x402 has there: {problem}")]
    Json { problem: String },
}

/// A header's text.
pub fn encode<T: Serialize>(value: &T) -> String {
    // Writing to memory cannot fail; what did would be read by nobody.
    STANDARD.encode(serde_json::to_vec(value).unwrap_or_default())
}

/// What a header says.
pub fn decode<T: DeserializeOwned>(header: &[u8]) -> Result<T, HeaderError> {
    if header.len() > HEADER_BYTES_MAX {
        return Err(HeaderError::Long);
    }
    let bytes = STANDARD.decode(header).map_err(|_| HeaderError::Base64)?;
    serde_json::from_slice(&bytes).map_err(|error| HeaderError::Json { problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the client of x402's own project sends, but for the signature.
    const PAYLOAD: &str = r#"{"x402Version":2,"payload":{"value":{"channel":"c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1","request":"0101010101010101010101010101010101010101010101010101010101010101","nonce":"0202020202020202020202020202020202020202020202020202020202020202","amountMax":"4000","expiresAt":1700000000000},"signer":"b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1","signature":"d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1"},"accepted":{"scheme":"peerwatt-channel","network":"peerwatt:local","asset":"nusd","amount":"9000","payTo":"x","maxTimeoutSeconds":600,"extra":{}},"resource":{"url":"http://x/"}}"#;

    #[test]
    fn a_clients_payload_is_read() {
        let payload: PaymentPayload = decode(STANDARD.encode(PAYLOAD).as_bytes()).unwrap();
        assert_eq!(payload.x402_version, VERSION);
        assert_eq!(payload.accepted.scheme, SCHEME);
        assert_eq!(payload.payload.value.amount_max, Nusd(4_000));
        assert_eq!(decode(encode(&payload).as_bytes()), Ok(payload));
    }

    #[test]
    fn what_is_no_header_of_x402_is_an_error() {
        let read = |header: &[u8]| decode::<PaymentPayload>(header).unwrap_err();
        assert_eq!(read(b"no base64!"), HeaderError::Base64);
        assert_eq!(read(&vec![b'A'; HEADER_BYTES_MAX + 1]), HeaderError::Long);
        assert!(matches!(read(STANDARD.encode("{}").as_bytes()), HeaderError::Json { .. }));
    }
}
