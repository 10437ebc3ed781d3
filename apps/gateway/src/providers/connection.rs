//! One provider's connection: introduction, offers, agreement on lanes, farewell.

use std::{sync::Arc, time::Duration};

use net::{ReceiveHalf, SendHalf, SharedConnection};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use types::{Address, ChainId, ChannelId, PublicKey, offer::Offer, sign::Signed};
use wire::{
    frame,
    serve::{
        CONTROL_FRAME_BYTES_MAX, LaneState, OFFER_INTERVAL_MS, TALLY_INTERVAL_MS,
        TO_GATEWAY_FRAME_BYTES_MAX, ToGateway, ToGatewayControl, ToProvider, ToProviderControl,
    },
};

use super::directory::{Introduced, silence_ends};
use crate::{lanes::LaneClaim, shared::Shared, treasury};

/// For a new connection to introduce itself, and for an answer about lanes.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// For a provider to take a control message.
const CONTROL_WRITE: Duration = Duration::from_secs(10);
/// Between two tries to open a channel to a provider that stays connected.
const CHANNEL_RETRY: Duration = Duration::from_secs(5);
/// Control messages in one offer interval. An honest provider sends an offer when its load changes;
/// more than this is a flood.
const CONTROL_MESSAGES_MAX: u32 = 200;

/// Why a provider is not taken, in words for its operator.
#[derive(Debug, thiserror::Error)]
enum NotAdmitted {
    #[error("no introduction came in time")]
    Silent,
    #[error("the first message must be an introduction")]
    Protocol,
    #[error("this gateway serves the network {ours}, the provider is of {theirs}")]
    OtherNetwork { ours: ChainId, theirs: ChainId },
    #[error("the offer is not signed by its operator for this network")]
    Signature,
    #[error("the offer names another node key than this connection's")]
    NodeKey,
    #[error("the offer is not acceptable: {0}")]
    Offer(#[from] types::offer::OfferError),
    #[error(
        "the operator {operator} is not registered as a provider; register it on the ledger first"
    )]
    NotRegistered { operator: Address },
    #[error("the ledger names another node key for {operator}; register this one")]
    OtherNode { operator: Address },
    #[error("the operator {operator} is leaving the network")]
    LeavingNetwork { operator: Address },
    #[error("this gateway cannot read the ledger at the moment; try again")]
    Ledger,
}

/// Takes the connections of providers until told to stop.
pub(crate) async fn accept_providers(shared: Arc<Shared>) {
    loop {
        let connection = tokio::select! {
            connection = shared.config.endpoint.accept() => connection,
            () = shared.stop.cancelled() => None,
        };
        let Some(connection) = connection else { return };
        if !shared.directory.enter() {
            connection.close("this gateway has as many providers as it takes");
            continue;
        }
        let task_shared = Arc::clone(&shared);
        shared.tasks.spawn(async move {
            tokio::select! {
                () = serve(&task_shared, &connection) => {}
                () = connection.closed() => {}
                () = task_shared.stop.cancelled() => {}
            }
            connection.close("good bye");
            task_shared.directory.leave();
        });
    }
}

/// Forgets a provider when its connection's task ends, however it ends.
struct Presence {
    shared: Arc<Shared>,
    provider: Address,
    node_key: PublicKey,
    session: u64,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.shared.directory.remove(&self.provider, self.session);
        self.shared.freed.notify_waiters();
        tracing::info!(provider = %self.provider, "provider.gone");
    }
}

async fn serve(shared: &Arc<Shared>, connection: &SharedConnection) {
    let introduced = timeout(INTRODUCTION, introduce(shared, connection)).await;
    let (introduced, receive, send) = match introduced {
        Ok(Some(introduced)) => introduced,
        Ok(None) => return,
        Err(_) => {
            tracing::debug!(peer = %connection.peer(), reason = %NotAdmitted::Silent, "provider.rejected");
            return;
        }
    };
    let provider = introduced.offer.operator;
    tracing::info!(%provider, models = introduced.offer.models.len(), "provider.connected");
    let session = shared.directory.insert(introduced);
    let node_key = connection.peer();
    let presence = Presence { shared: Arc::clone(shared), provider, node_key, session };
    // A task of its own: a provider that reads slowly keeps nobody from hearing its offers.
    let telling = tokio::spawn(tell_tallies(Arc::clone(shared), provider, session, send));
    let telling = AbortOnDropHandle::new(telling);
    tokio::select! {
        () = follow_offers(&presence, receive) => {}
        () = prepare_payment(&presence, connection) => {}
        _ = telling => {}
    }
}

/// Tells the provider why it was passed over, whenever it was looked at since, until it reads no more.
async fn tell_tallies(shared: Arc<Shared>, provider: Address, session: u64, mut send: SendHalf) {
    loop {
        tokio::time::sleep(Duration::from_millis(TALLY_INTERVAL_MS)).await;
        let tallies = shared.directory.take_tallies(&provider, session);
        if tallies.is_empty() {
            continue;
        }
        let message = ToProviderControl::Tallies(tallies);
        let told = timeout(CONTROL_WRITE, frame::write(&mut send, &message)).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::info!(%provider, "provider.reads_nothing");
            return;
        }
    }
}

/// Reads the introduction and answers it. `None`: rejected, and told so.
async fn introduce(
    shared: &Arc<Shared>,
    connection: &SharedConnection,
) -> Option<(Introduced, ReceiveHalf, SendHalf)> {
    let (mut send, mut receive) = connection.accept().await.ok()?;
    let first = frame::read(&mut receive, CONTROL_FRAME_BYTES_MAX).await.ok()??;
    let (answer, introduced) = match admit(shared, connection, first).await {
        Ok(introduced) => {
            let payer_key = shared.config.payer.public_key();
            let welcome = ToProviderControl::Welcome { payer: shared.operator, payer_key };
            (welcome, Some(introduced))
        }
        Err(error) => {
            tracing::info!(peer = %connection.peer(), reason = %error, "provider.rejected");
            (ToProviderControl::Rejected { reason: error.to_string() }, None)
        }
    };
    frame::write(&mut send, &answer).await.ok()?;
    match introduced {
        Some(introduced) => Some((introduced, receive, send)),
        None => {
            // Until the provider has read the reason and hangs up, or the time is over.
            send.shutdown().await.ok()?;
            connection.closed().await;
            None
        }
    }
}

async fn admit(
    shared: &Arc<Shared>,
    connection: &SharedConnection,
    first: ToGatewayControl,
) -> Result<Introduced, NotAdmitted> {
    let ToGatewayControl::Hello { chain_id, offer } = first else {
        return Err(NotAdmitted::Protocol);
    };
    let ours = &shared.config.chain_id;
    if chain_id != *ours {
        return Err(NotAdmitted::OtherNetwork { ours: ours.clone(), theirs: chain_id });
    }
    let operator_key = offer.signer;
    let offer = check_offer(ours, connection.peer(), operator_key, offer)?;
    let operator = offer.operator;
    let entry = shared.config.chain.provider(operator).await.map_err(|error| {
        tracing::warn!(%error, "provider.ledger");
        NotAdmitted::Ledger
    })?;
    let entry = entry.ok_or(NotAdmitted::NotRegistered { operator })?;
    if entry.node_key != connection.peer() {
        return Err(NotAdmitted::OtherNode { operator });
    }
    if entry.leaving {
        return Err(NotAdmitted::LeavingNetwork { operator });
    }
    Ok(Introduced {
        connection: Arc::clone(connection),
        operator_key,
        moniker: entry.moniker,
        region: entry.region,
        offer,
        at: shared.now(),
    })
}

fn check_offer(
    chain_id: &ChainId,
    node_key: PublicKey,
    operator_key: PublicKey,
    offer: Signed<Offer>,
) -> Result<Offer, NotAdmitted> {
    let offer = offer.verify(chain_id, &keys::Ed25519).map_err(|_| NotAdmitted::Signature)?;
    let by_operator = offer.signer() == operator_key
        && Address::of_key(&offer.signer()) == offer.value().operator;
    if !by_operator {
        return Err(NotAdmitted::Signature);
    }
    if offer.value().node_key != node_key {
        return Err(NotAdmitted::NodeKey);
    }
    offer.value().check()?;
    Ok(offer.into_signed().value)
}

/// Reads offers until the provider is silent for too long, floods, or hangs up.
async fn follow_offers(presence: &Presence, mut receive: ReceiveHalf) {
    let Presence { shared, provider, node_key, session } = presence;
    let (mut window_began, mut in_window) = (Instant::now(), 0_u32);
    let interval = Duration::from_millis(OFFER_INTERVAL_MS);
    loop {
        let next = frame::read(&mut receive, CONTROL_FRAME_BYTES_MAX);
        let message = match tokio::time::timeout_at(silence_ends(Instant::now()), next).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                tracing::info!(%provider, %error, "provider.control_failed");
                return;
            }
            Err(_) => {
                tracing::info!(%provider, "provider.silent");
                return;
            }
        };
        if window_began.elapsed() > interval {
            (window_began, in_window) = (Instant::now(), 0);
        }
        in_window += 1;
        if in_window > CONTROL_MESSAGES_MAX {
            tracing::warn!(%provider, "provider.floods");
            return;
        }
        match message {
            ToGatewayControl::Offer(offer) => {
                let Some(key) = Some(offer.signer).filter(|key| Address::of_key(key) == *provider)
                else {
                    return;
                };
                match check_offer(&shared.config.chain_id, *node_key, key, offer) {
                    Ok(offer) => {
                        shared.directory.update(*session, offer, shared.now());
                        shared.freed.notify_waiters();
                    }
                    Err(error) => {
                        tracing::info!(%provider, %error, "provider.bad_offer");
                        return;
                    }
                }
            }
            ToGatewayControl::Leaving => {
                shared.directory.set_leaving(provider, *session);
                shared.freed.notify_waiters();
            }
            ToGatewayControl::Hello { .. } => return,
        }
    }
}

/// Sees to it that there is a channel, agrees on its lanes, then lets requests through.
/// Does not return while the provider is there.
async fn prepare_payment(presence: &Presence, connection: &SharedConnection) {
    let Presence { shared, provider, session, .. } = presence;
    let channel = loop {
        match treasury::ensure_channel(shared, *provider).await {
            Ok(channel) => break channel,
            Err(reason) => {
                tracing::warn!(%provider, %reason, "provider.no_channel");
                tokio::time::sleep(CHANNEL_RETRY).await;
            }
        }
    };
    match timeout(INTRODUCTION, sync_lanes(shared, connection, channel)).await {
        Ok(Ok(())) => {}
        // Each lane that differs will then be found out by a refusal.
        Ok(Err(error)) => tracing::warn!(%provider, %error, "provider.sync_failed"),
        Err(_) => tracing::warn!(%provider, "provider.sync_timed_out"),
    }
    shared.directory.set_ready(provider, *session);
    shared.freed.notify_waiters();
    std::future::pending::<()>().await;
}

/// Why lanes could not be agreed on.
#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error("no stream")]
    Stream(#[from] net::NetError),
    #[error("the exchange failed")]
    Frame(#[from] frame::FrameError),
    #[error("the provider did not answer the question")]
    NoAnswer,
    #[error("the answer cannot be recorded")]
    Journal(#[from] store::JournalError),
}

async fn sync_lanes(
    shared: &Arc<Shared>,
    connection: &SharedConnection,
    channel: ChannelId,
) -> Result<(), SyncError> {
    let (mut send, mut receive) = connection.open().await?;
    frame::write(&mut send, &ToProvider::Sync { channel }).await?;
    let Some(ToGateway::Lanes(states)) =
        frame::read(&mut receive, TO_GATEWAY_FRAME_BYTES_MAX).await?
    else {
        return Err(SyncError::NoAnswer);
    };
    // The answer is here; how the stream ends does not matter.
    let _ = send.shutdown().await;
    let payer = shared.config.payer.public_key();
    let claims: Vec<LaneClaim> = states
        .iter()
        .filter_map(|state| lane_claim(state, channel, payer, &shared.config.chain_id))
        .collect();
    shared.books.adopt(channel, &claims, true)?;
    Ok(())
}

/// What a provider says of a lane, as far as our own signature backs it.
pub(crate) fn lane_claim(
    state: &LaneState,
    channel: ChannelId,
    payer: PublicKey,
    chain_id: &ChainId,
) -> Option<LaneClaim> {
    let voucher = match &state.voucher {
        None => None,
        Some(signed) => {
            let verified = signed.clone().verify(chain_id, &keys::Ed25519).ok()?;
            let voucher = *verified.value();
            let ours = verified.signer() == payer
                && voucher.channel == channel
                && voucher.lane == state.lane;
            Some(ours.then_some(voucher)?)
        }
    };
    Some(LaneClaim { lane: state.lane, charged: state.charged, voucher })
}
