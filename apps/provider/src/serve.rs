//! One stream of a gateway: reads its first frame, decides whether to serve, and then drives the
//! [`Session`] with what comes from the peer, the engine, the journal and the clock.

mod run;

use std::time::Duration;

use futures::{Stream, stream};
use keys::Ed25519;
use net::{ReceiveHalf, SendHalf};
use tokio::{
    io::AsyncWriteExt,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use types::{Address, ChannelId, Nusd, PublicKey, inference::InferenceRequest, sign::Signed};
use verify::{delivered::profile_of, profile};
use wire::{
    chain::ChannelView,
    frame::{self, FrameError},
    serve::{
        OPENING_PART_BYTES_MAX, Open, Opening, Order, Refusal, Refused,
        TO_PROVIDER_FRAME_BYTES_MAX, ToGateway, ToProvider,
    },
};

use crate::{
    admission::{self, Desk, Terms},
    books::{Attempt, LaneKey},
    channels::{FRESH_MS, LookupError},
    record::Record,
    session::{self, Session},
    shared::Shared,
};
use run::Running;

/// How long a stream may take to say what it wants.
const FIRST_FRAME_WAIT: Duration = Duration::from_secs(10);
/// How long the peer may not read before it counts as gone.
const WRITE_WAIT: Duration = Duration::from_secs(10);
/// Bytes of every frame after the first: vouchers and an acknowledgement.
const LATER_FRAME_BYTES_MAX: usize = 8 * 1024;
/// A deposit that looks too small is looked up again, this far apart.
const DEPOSIT_APART_MS: u64 = 200;

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payer {
    /// Its node key, which is proven.
    pub(crate) gateway: PublicKey,
    /// Whose gateway it says it is, if it is.
    pub(crate) payer: Option<Address>,
    /// What it says it signs orders with.
    pub(crate) key: PublicKey,
}

impl Payer {
    /// Whether it pays by this channel.
    fn pays_by(&self, view: &ChannelView) -> bool {
        self.payer == Some(view.terms.payer) && view.terms.payer_key == self.key
    }
}

/// The frames of a stream. Dropping a pending `next` loses nothing.
pub(crate) fn frames<T: borsh::BorshDeserialize>(
    receive: ReceiveHalf,
    bytes_max: usize,
) -> impl Stream<Item = Result<T, FrameError>> {
    stream::try_unfold(receive, move |mut receive| async move {
        Ok(frame::read(&mut receive, bytes_max).await?.map(|message| (message, receive)))
    })
}

/// Writes one message, or gives the peer up.
pub(crate) async fn write<T: borsh::BorshSerialize>(
    send: &mut SendHalf,
    message: &T,
) -> Result<(), FrameError> {
    let timed_out =
        |_| FrameError::Io { source: std::io::Error::from(std::io::ErrorKind::TimedOut) };
    tokio::time::timeout(WRITE_WAIT, frame::write(send, message)).await.map_err(timed_out)?
}

/// Serves one stream to its end. `opening` bounds how many unread requests are held at once.
pub(crate) async fn serve(
    shared: &Shared,
    payer: Payer,
    (send, mut receive): (SendHalf, ReceiveHalf),
    opening: &Semaphore,
) {
    let Ok(permit) = opening.acquire().await else { return };
    let first = frame::read(&mut receive, TO_PROVIDER_FRAME_BYTES_MAX);
    match tokio::time::timeout(FIRST_FRAME_WAIT, first).await {
        Ok(Ok(Some(ToProvider::Open(open)))) => {
            let admitted = admit(shared, *open).await;
            drop(permit);
            match admitted {
                Ok(admitted) => {
                    if admitted.disclosing.is_some() {
                        shared.orders.note(admitted.order.hash(), payer.gateway);
                    }
                    admitted.run(shared, send, receive).await
                }
                Err((order, refusal)) => refuse(shared, send, &order, refusal).await,
            }
        }
        Ok(Ok(Some(ToProvider::Sync { channel }))) => sync(shared, payer, send, channel).await,
        Ok(Ok(Some(ToProvider::Disclose { request_id, attempt: number }))) => {
            disclose(shared, payer, send, Attempt { request_id, number }).await
        }
        Ok(Ok(Some(ToProvider::Voucher(_) | ToProvider::Cancel | ToProvider::Acknowledge(_)))) => {
            shared.board.violated("first message")
        }
        Ok(Ok(None) | Err(FrameError::Io { .. })) => {}
        Ok(Err(_)) => shared.board.violated("frame"),
        Err(_) => shared.board.violated("silent stream"),
    }
}

/// Tells a payer what is held of its channel.
async fn sync(shared: &Shared, payer: Payer, mut send: SendHalf, channel: ChannelId) {
    let view = match shared.channels.get(channel, FRESH_MS).await {
        Ok(view) => view,
        Err(error) => return shared.failed(&error),
    };
    // Somebody else's lanes are none of its business.
    let theirs = view.is_some_and(|view| payer.pays_by(&view));
    let lanes =
        if theirs { shared.books.read(|books| books.lane_states(channel)) } else { Vec::new() };
    if write(&mut send, &ToGateway::Lanes(lanes)).await.is_ok() {
        finish(&mut send).await;
    }
}

/// Tells a gateway all that an audit needs of an answer that it ordered.
async fn disclose(shared: &Shared, payer: Payer, mut send: SendHalf, attempt: Attempt) {
    let bytes = match shared.openings.get(attempt) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(error) => return shared.failed(&error),
    };
    // Somebody else's prompts are none of its business.
    let theirs = match Opening::decode(&bytes) {
        Ok(opening) => has_ordered(shared, payer, &opening).await,
        Err(_) => false,
    };
    let bytes = if theirs { bytes } else { Vec::new() };
    let mut rest = &bytes[..];
    loop {
        let (part, after) = rest.split_at(rest.len().min(OPENING_PART_BYTES_MAX));
        rest = after;
        let more = !rest.is_empty();
        if write(&mut send, &ToGateway::Opening { part: part.to_vec(), more }).await.is_err() {
            return;
        }
        if !more {
            return finish(&mut send).await;
        }
    }
}

/// Whether it was this gateway that ordered an answer: it did so itself since we were started, or it is whose channel paid.
async fn has_ordered(shared: &Shared, payer: Payer, opening: &Opening) -> bool {
    let Signed { value: order, signer, .. } = &opening.order;
    // Callers of a gateway may pay by channels of their own, which name its key and not its account.
    if shared.orders.is_of(&order.hash(), payer.gateway) {
        return true;
    }
    match shared.channels.get(order.channel, FRESH_MS).await {
        Ok(view) => {
            view.is_some_and(|view| payer.pays_by(&view) && *signer == view.terms.payer_key)
        }
        Err(error) => {
            shared.failed(&error);
            false
        }
    }
}

async fn refuse(shared: &Shared, mut send: SendHalf, order: &Order, refusal: Refusal) {
    shared.board.refused(&refusal);
    let refused = Refused { order: order.hash(), reason: refusal, at: shared.now() };
    if write(&mut send, &ToGateway::Refused(shared.signed(refused))).await.is_ok() {
        finish(&mut send).await;
    }
}

/// Says that nothing more will come. A peer that is gone does not hear it.
async fn finish(send: &mut SendHalf) {
    if let Err(error) = send.shutdown().await {
        tracing::debug!(%error, "provider.stream is gone");
    }
}

/// An order that was taken, its lane and slot held.
struct Admitted<'a> {
    session: Session,
    lease: Lease<'a>,
    order: Order,
    payer_key: PublicKey,
    request: InferenceRequest,
    engine: engine::SharedEngine,
    opened: store::RecordId,
    disclosing: Option<Disclosing>,
}

/// Of an order whose answer can be audited: what was asked.
struct Disclosing {
    order: Signed<Order>,
    salt: [u8; 16],
    request: InferenceRequest,
}

/// A lane and a slot, held while a request runs.
struct Lease<'a> {
    shared: &'a Shared,
    lane: LaneKey,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.shared.books.update(|books| books.set_busy(self.lane, false));
        self.shared.board.changed();
    }
}

impl<'a> Admitted<'a> {
    async fn run(self, shared: &'a Shared, send: SendHalf, receive: ReceiveHalf) {
        Running::new(shared, self, send).run(receive).await;
    }
}

/// All checks on an `Open`. What passes is in the journal.
async fn admit(shared: &Shared, open: Open) -> Result<Admitted<'_>, (Box<Order>, Refusal)> {
    let order = Box::new(open.order.value.clone());
    try_admit(shared, open).await.map_err(|refusal| (order, refusal))
}

async fn try_admit(shared: &Shared, open: Open) -> Result<Admitted<'_>, Refusal> {
    if shared.leaving.is_cancelled() {
        return Err(Refusal::Leaving);
    }
    let now = shared.now();
    let catalog = shared.catalog();
    let terms = {
        let chain_id = &shared.config.chain_id;
        let desk = Desk { chain_id, operator: shared.operator, verify: &Ed25519, now };
        admission::check_order(&open, &desk, |model| catalog.offer(model))?
    };
    let mut channel = look_up(shared, terms.lane.channel, FRESH_MS).await?;
    let short = |view: Option<&ChannelView>| {
        let check = |books: &_| admission::check_payment(&terms, view, books, shared.operator);
        matches!(shared.books.read(check), Err(Refusal::DepositShort { .. }))
    };
    if short(channel.as_ref()) {
        let renewed = shared.channels.renewed(terms.lane.channel, DEPOSIT_APART_MS).await;
        channel = known(shared, renewed)?;
    }
    let view = channel.as_ref();
    let model = open.order.value.model;
    let engine_version = catalog.offer(model).map(|offer| offer.engine_version.clone());
    let mut held = None;
    let opened = shared.books.record_if(|books| {
        admission::check_payment(&terms, view, books, shared.operator)?;
        let slot = shared.slots.clone().try_acquire_owned().map_err(|_| admission::busy())?;
        let engine = catalog.engine(model, &shared.config.engines).ok_or_else(admission::busy)?;
        let durable = durable_promise(shared, books, terms.lane);
        books.set_busy(terms.lane, true);
        held = Some((slot, engine.clone(), durable));
        Ok(record(&terms, now))
    });
    let lease = |slot| Lease { shared, lane: terms.lane, _slot: slot };
    let (opened, (slot, engine, durable)) = match (opened, held) {
        (Ok(Ok(opened)), Some(held)) => (opened, held),
        (Ok(Err(refusal)), _) => return Err(refusal),
        (Ok(Ok(_)), None) => return Err(admission::busy()),
        (Err(error), held) => {
            drop(held.map(|(slot, ..)| lease(slot)));
            shared.failed(&error);
            // A provider that cannot write down what it is owed takes no orders.
            return Err(Refusal::Leaving);
        }
    };
    let payer_key = open.order.signer;
    let signed_order = open.order;
    let (order, request, salt) = (signed_order.value.clone(), open.request, open.salt);
    let seed = profile::seed(&profile::NO_BEACON, &salt, &shared.operator, &order.request_id);
    let engine_version = engine_version.unwrap_or_default();
    let profile = profile_of(&request, seed, open.discloses, &engine_version);
    let disclosing = profile::is_audited(profile).then(|| Disclosing {
        order: signed_order,
        salt,
        request: request.clone(),
    });
    let opening = session::Opening {
        order: order.clone(),
        operator: shared.operator,
        engine_version,
        profile,
        seed: request.sampling.seed,
        prompt_tokens_estimate: request.prompt_tokens_estimate(),
        prompt_tokens_max: request.prompt_tokens_max(),
        tokens_max: request.tokens_max,
        vectors: request.prompt.vectors(),
        voucher: terms.voucher.value,
        durable,
    };
    let session = Session::open(opening, now);
    shared.board.changed();
    Ok(Admitted {
        session,
        lease: lease(slot),
        order,
        payer_key,
        request,
        engine,
        opened,
        disclosing,
    })
}

fn record(terms: &Terms, at: types::TimeMs) -> Record {
    Record::Opened {
        attempt: terms.attempt,
        at,
        total_before: terms.lane_total_before,
        voucher: terms.voucher.clone(),
    }
}

/// What of a lane's promises would survive a power cut now.
fn durable_promise(shared: &Shared, books: &crate::books::Books, key: LaneKey) -> Nusd {
    let lane = books
        .lane(key)
        .filter(|lane| lane.record.is_none_or(|record| shared.books.is_durable(record)));
    lane.map_or(Nusd::ZERO, |lane| lane.promised())
}

async fn look_up(
    shared: &Shared,
    id: ChannelId,
    age_ms_max: u64,
) -> Result<Option<ChannelView>, Refusal> {
    known(shared, shared.channels.get(id, age_ms_max).await)
}

fn known(
    shared: &Shared,
    looked_up: Result<Option<ChannelView>, LookupError>,
) -> Result<Option<ChannelView>, Refusal> {
    looked_up.map_err(|error| {
        shared.failed(&error);
        Refusal::Channel
    })
}
