//! Whether an order is taken: every check on an `Open`, in the order of `docs/spec/serving.md`.
//! Pure. What it refuses has had no effect.

use types::{
    Address, ChainId, Lane, Nusd, TimeMs,
    ability::Abilities,
    channel::Voucher,
    limits,
    offer::ModelOffer,
    price::WINDOW_TOKENS,
    sign::{Signed, VerifySignature},
};
use wire::{
    chain::ChannelView,
    serve::{Open, Refusal, request_hash},
};

use crate::books::{Attempt, Books, LaneKey};

/// An order is refused if it was issued longer ago, or further in the future, than this.
/// Attempts are remembered for twice as long, so that none can be served twice.
pub const ORDER_AGE_MS_MAX: u64 = 10 * 60 * 1_000;
/// The longest time that an order may give.
pub const TIMEOUT_MS_MAX: u64 = 60 * 60 * 1_000;
/// Attempts that are remembered at once; 200 a second for as long as each is.
const GUARDS_MAX: usize = 262_144;
/// Told with `Busy`.
const RETRY_AFTER_MS: u64 = 1_000;

/// Who checks.
pub(crate) struct Desk<'a> {
    pub(crate) chain_id: &'a ChainId,
    pub(crate) operator: Address,
    pub(crate) verify: &'a dyn VerifySignature,
    pub(crate) now: TimeMs,
}

/// What an order says about money, known to be signed by whoever signed the order.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) attempt: Attempt,
    pub(crate) lane: LaneKey,
    pub(crate) voucher: Signed<Voucher>,
    /// What the voucher must promise: what was charged, the estimated prompt, the first window.
    pub(crate) needed: Nusd,
    pub(crate) lane_total_before: Nusd,
    order_signer: types::PublicKey,
}

pub(crate) fn busy() -> Refusal {
    Refusal::Busy { retry_after_ms: RETRY_AFTER_MS }
}

fn request_field(field: &str, problem: impl Into<String>) -> Refusal {
    Refusal::Request { field: field.to_owned(), problem: problem.into() }
}

/// The checks that need nothing but the message and our own offer: limits, signatures, digests,
/// model and price. `offers` finds a model.
pub(crate) fn check_order<'a>(
    open: &Open,
    desk: &Desk<'_>,
    offer: impl FnOnce(types::ModelId) -> Option<&'a ModelOffer>,
) -> Result<Terms, Refusal> {
    let order = &open.order.value;
    open.request.check().map_err(|error| request_field(error.field, error.problem))?;
    if !(1..=TIMEOUT_MS_MAX).contains(&order.timeout_ms) {
        return Err(request_field("timeout_ms", format!("1 to {TIMEOUT_MS_MAX}")));
    }
    if order.lane.0 >= limits::LANES_MAX {
        return Err(request_field("lane", format!("below {}", limits::LANES_MAX)));
    }
    let age_ms = desk.now.ms_since(order.issued_at).max(order.issued_at.ms_since(desk.now));
    if age_ms > ORDER_AGE_MS_MAX {
        return Err(request_field("issued_at", "the clocks of the two sides differ too much"));
    }
    check_signed(open, desk)?;
    let offer = offer(order.model).ok_or(Refusal::UnknownModel)?;
    let asked = Abilities::needed(&open.request).price(offer.price);
    if !asked.within(&order.price) {
        return Err(Refusal::Price { asked });
    }
    let first = open.request.tokens_max.unwrap_or(WINDOW_TOKENS).min(WINDOW_TOKENS);
    let cost = order.price.charge(open.request.prompt_tokens_estimate(), first);
    let lane_total_before = order.lane_total_before;
    Ok(Terms {
        attempt: Attempt { request_id: order.request_id, number: order.attempt },
        lane: LaneKey { channel: order.channel, lane: order.lane },
        voucher: open.voucher.clone(),
        needed: lane_total_before.checked_add(cost).ok_or(Refusal::Order)?,
        lane_total_before,
        order_signer: open.order.signer,
    })
}

/// Signatures, and that order, request and voucher are about one thing. That the signer is the
/// channel's payer key is checked when the channel is known.
fn check_signed(open: &Open, desk: &Desk<'_>) -> Result<(), Refusal> {
    let (order, voucher) = (&open.order.value, &open.voucher.value);
    let same = order.provider == desk.operator
        && order.request_hash == request_hash(&open.request, &open.salt)
        && order.prompt_hash == open.request.prompt.hash(&open.salt)
        && voucher.channel == order.channel
        && voucher.lane == order.lane
        && open.voucher.signer == open.order.signer;
    if !same {
        return Err(Refusal::Order);
    }
    let signed = open.order.clone().verify(desk.chain_id, desk.verify).is_ok()
        && open.voucher.clone().verify(desk.chain_id, desk.verify).is_ok();
    if signed { Ok(()) } else { Err(Refusal::Order) }
}

/// The checks against the channel on the chain and our books.
pub(crate) fn check_payment(
    terms: &Terms,
    channel: Option<&ChannelView>,
    books: &Books,
    operator: Address,
) -> Result<(), Refusal> {
    let channel = channel.ok_or(Refusal::Channel)?;
    let usable = channel.open && channel.withdraw_at.is_none();
    if channel.terms.receiver != operator || !usable {
        return Err(Refusal::Channel);
    }
    if terms.order_signer != channel.terms.payer_key {
        return Err(Refusal::Order);
    }
    let lane = books.lane(terms.lane);
    if lane.is_some_and(|lane| lane.busy) {
        return Err(Refusal::LaneBusy);
    }
    if books.was_served(terms.attempt) {
        return Err(Refusal::Duplicate);
    }
    if books.guards_count() >= GUARDS_MAX {
        return Err(busy());
    }
    check_lane(terms, channel, books)?;
    let voucher = &terms.voucher.value;
    if voucher.total < terms.needed {
        return Err(Refusal::VoucherShort { covered: voucher.total, needed: terms.needed });
    }
    check_deposit(channel, books, terms.lane, voucher.total)
}

/// The payer must not have fallen behind what we can prove.
fn check_lane(terms: &Terms, channel: &ChannelView, books: &Books) -> Result<(), Refusal> {
    let differs = || Err(Refusal::LaneDiffers(books.lane_state(terms.lane)));
    if terms.lane_total_before < claimed(channel, terms.lane.lane) {
        return differs();
    }
    let Some(lane) = books.lane(terms.lane) else { return Ok(()) };
    if terms.lane_total_before < lane.charged {
        return differs();
    }
    let Some(kept) = &lane.voucher else { return Ok(()) };
    let (new, kept) = (&terms.voucher.value, &kept.value);
    let later = new.sequence > kept.sequence && new.total >= kept.total;
    if later || new == kept { Ok(()) } else { differs() }
}

/// Whether the channel's deposit holds what is promised on all lanes, with `total` on `key`.
pub(crate) fn check_deposit(
    channel: &ChannelView,
    books: &Books,
    key: LaneKey,
    total: Nusd,
) -> Result<(), Refusal> {
    let (deposit, promised) = (channel.funds(), books.promised_with(channel, key, total));
    if promised > deposit { Err(Refusal::DepositShort { deposit, promised }) } else { Ok(()) }
}

/// What the chain has seen claimed on a lane.
pub(crate) fn claimed(channel: &ChannelView, lane: Lane) -> Nusd {
    let view = channel.lanes.iter().find(|view| view.lane == lane);
    view.map_or(Nusd::ZERO, |view| view.claimed)
}
