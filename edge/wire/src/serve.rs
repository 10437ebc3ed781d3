//! The serving protocol between gateway and provider, version 3 (`docs/spec/serving.md`).
//!
//! A provider dials a gateway, so that it needs no open port. The first stream, opened by the
//! provider, is the control stream: [`ToGatewayControl`] one way, [`ToProviderControl`] the other.
//! After that the gateway opens one stream per request: [`ToProvider`] one way, [`ToGateway`] the other.
//!
//! ```text
//! gateway                                   provider
//!   Open {order, request, voucher}  ────►
//!                                   ◄────   Accepted  or  Refused
//!                                   ◄────   Delta …
//!   Voucher (next window)           ────►
//!                                   ◄────   Delta …
//!                                   ◄────   Final (signed report)
//!   Acknowledge (signed)            ────►
//! ```

mod opening;
mod tally;

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Address, ChainId, ChannelId, Hash32, Lane, ModelId, Nusd, PublicKey, RequestId, TimeMs,
    channel::Voucher,
    hash::{blake3_of, sha256_of},
    inference::{InferenceRequest, TokenPiece},
    limits,
    offer::Offer,
    price::Price,
    receipt::{Acknowledgement, ServiceReport},
    sign::{Signable, Signed},
};

pub use opening::{OPENING_BYTES_MAX, Opening, OpeningError};
pub use tally::{PassedFor, Tally};

/// Names the protocol and its version when a connection is made.
pub const ALPN: &[u8] = b"peerwatt/serve/5";
/// Bytes of a control frame: an offer of 64 models with their names.
pub const CONTROL_FRAME_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a frame from gateway to provider: a prompt.
pub const TO_PROVIDER_FRAME_BYTES_MAX: usize = limits::FRAME_BYTES_MAX;
/// Bytes of a frame from provider to gateway: a batch of tokens with alternatives.
pub const TO_GATEWAY_FRAME_BYTES_MAX: usize = 256 * 1024;
/// Bytes of an opening in one frame.
pub const OPENING_PART_BYTES_MAX: usize = 128 * 1024;
/// A provider repeats its offer this often; a gateway forgets one that is three times as old.
pub const OFFER_INTERVAL_MS: u64 = 10_000;
/// A gateway tells how often it passed a provider over at most this often.
pub const TALLY_INTERVAL_MS: u64 = 10_000;

/// Provider to gateway on the control stream.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum ToGatewayControl {
    /// The first message.
    Hello { chain_id: ChainId, offer: Signed<Offer> },
    /// Models, prices, load; also the heartbeat.
    Offer(Signed<Offer>),
    /// No new requests, please; the running ones will finish.
    Leaving,
}

/// Gateway to provider on the control stream.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum ToProviderControl {
    /// The answer to `Hello`: who pays here.
    Welcome { payer: Address, payer_key: PublicKey },
    /// The answer to a `Hello` that cannot be served, and why, for people.
    Rejected { reason: String },
    /// What became of looks at this provider since the last such message, one per model, at most
    /// [`limits::OFFER_MODELS_MAX`]. Nothing is paid by it, so nobody signs it.
    Tallies(Vec<Tally>),
}

/// Gateway to provider on a request stream.
#[expect(clippy::large_enum_variant, reason = "a message lives as long as one frame")]
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum ToProvider {
    /// The first message of a request.
    Open(Box<Open>),
    /// Covers the next window. Never waited for while there is cover.
    Voucher(Signed<Voucher>),
    /// Stop generating; what was delivered is paid. Answered by `Final`.
    Cancel,
    /// The answer to `Final`; the last message.
    Acknowledge(Signed<Acknowledgement>),
    /// The first and only message of another kind of stream: what do you hold of this channel?
    /// Answered by `Lanes`.
    Sync { channel: ChannelId },
    /// The same for the opening of an answer that was paid by this gateway: its parts are `Opening`.
    Disclose { request_id: RequestId, attempt: u16 },
}

/// Provider to gateway on a request stream.
#[expect(clippy::large_enum_variant, reason = "a message lives as long as one frame")]
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum ToGateway {
    /// Signed before the first token is made. Refusing and accepting without finishing are
    /// different facts.
    Accepted(Signed<Accepted>),
    Refused(Signed<Refused>),
    /// Tokens, and the prompt's length as soon as the engine tells it.
    Delta {
        pieces: Vec<TokenPiece>,
        prompt_tokens: Option<u32>,
    },
    /// The end, also after `Cancel` or a failure of the engine.
    Final(Box<Signed<ServiceReport>>),
    /// The answer to `Sync`.
    Lanes(Vec<LaneState>),
    /// The answer to `Disclose`: the next at most [`OPENING_PART_BYTES_MAX`] bytes of an [`Opening`]. No bytes and no more:
    /// none is held.
    Opening {
        part: Vec<u8>,
        more: bool,
    },
}

/// Everything a provider needs to begin.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Open {
    pub order: Signed<Order>,
    /// Salts the digests of the order.
    pub salt: [u8; 16],
    pub request: InferenceRequest,
    /// Whether the client lets the answer be kept and disclosed to auditors: with it both sides know what profile the report
    /// names (`verify::delivered::profile_of`).
    pub discloses: bool,
    /// Covers the estimated prompt and the first window.
    pub voucher: Signed<Voucher>,
}

/// The payer's order, compact enough to keep as evidence. Signed by the channel's payer key.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Order {
    pub request_id: RequestId,
    pub attempt: u16,
    pub provider: Address,
    pub model: ModelId,
    /// `request.prompt.hash(salt)`.
    pub prompt_hash: Hash32,
    /// [`request_hash`] of the whole request.
    pub request_hash: Hash32,
    /// The price the payer accepts: that of the provider's offer.
    pub price: Price,
    pub channel: ChannelId,
    pub lane: Lane,
    /// Charged on the lane so far, as the payer counts.
    pub lane_total_before: Nusd,
    pub issued_at: TimeMs,
    /// The provider gives up this long after it accepted.
    pub timeout_ms: u64,
}

impl Signable for Order {
    const DOMAIN: &'static str = "order/1";
}

impl Order {
    /// The digest by which `Accepted` and `Refused` name an order.
    pub fn hash(&self) -> Hash32 {
        sha256_of(&[b"peerwatt/order\0"], self)
    }
}

/// The salted digest of a request that an order binds.
pub fn request_hash(request: &InferenceRequest, salt: &[u8; 16]) -> Hash32 {
    blake3_of(&[&b"peerwatt/request\0"[..], salt], request)
}

/// The provider takes the order. Signed by the operator key.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Accepted {
    pub order: Hash32,
    /// Known at this point only where the provider tokenizes itself.
    pub prompt_tokens: Option<u32>,
    pub at: TimeMs,
}

impl Signable for Accepted {
    const DOMAIN: &'static str = "accepted/1";
}

/// The provider does not take the order. Signed by the operator key.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Refused {
    pub order: Hash32,
    pub reason: Refusal,
    pub at: TimeMs,
}

impl Signable for Refused {
    const DOMAIN: &'static str = "refused/1";
}

/// Why an order is not taken.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, thiserror::Error)]
pub enum Refusal {
    #[error("all slots are in use")]
    Busy { retry_after_ms: u64 },
    #[error("the model is not offered")]
    UnknownModel,
    #[error("the price asked for has changed")]
    Price { asked: Price },
    #[error("the channel is unknown, closing, or not to this provider")]
    Channel,
    #[error("the voucher covers {covered}, the prompt and the first window need {needed} nano-USD")]
    VoucherShort { covered: Nusd, needed: Nusd },
    #[error("the channel holds {deposit} nano-USD and {promised} are promised already")]
    DepositShort { deposit: Nusd, promised: Nusd },
    #[error("the lane's total differs; the last signed state is attached")]
    LaneDiffers(LaneState),
    #[error("the lane is in use by another request")]
    LaneBusy,
    #[error("this attempt of this request was served already")]
    Duplicate,
    #[error("{field}: {problem}")]
    Request { field: String, problem: String },
    #[error(
        "the order or its voucher is not signed by the channel's payer key, or does not match its request"
    )]
    Order,
    #[error("the engine does not answer")]
    Engine,
    #[error("the provider is leaving")]
    Leaving,
}

/// What a provider holds of one lane.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct LaneState {
    pub lane: Lane,
    /// Charged so far, as the provider counts.
    pub charged: Nusd,
    /// The largest voucher.
    pub voucher: Option<Signed<Voucher>>,
}
