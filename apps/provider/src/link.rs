//! The standing connection to one gateway: dialled by us, dialled again when it ends.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt};
use net::{NetError, SendHalf, SharedConnection};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use types::{Address, PublicKey, limits};
use wire::{
    frame::FrameError,
    serve::{
        CONTROL_FRAME_BYTES_MAX, OFFER_INTERVAL_MS, TALLY_INTERVAL_MS, Tally, ToGatewayControl,
        ToProviderControl,
    },
};

use crate::{
    backoff::Backoff,
    serve::{self, Payer, frames},
    shared::Shared,
    status::LinkState,
};

/// How long a gateway may take to answer `Hello`.
const WELCOME_WAIT: Duration = Duration::from_secs(10);
/// Streams served at once on a connection: a request on every lane, and room for questions.
const STREAMS_MAX: usize = limits::LANES_MAX as usize + 32;
/// Streams that may be between their opening and being taken: each may hold a prompt of 4 MiB.
const OPENING_MAX: usize = 16;
/// Tallies that a gateway may tell at once after it could not for a while. More are a flood.
const TALLIES_SAVED_MAX: u64 = 6;
/// Characters of a gateway's reason that are kept.
const REASON_CHARS_MAX: usize = 200;

/// Why a connection is not there.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("gateway {gateway} is not reached")]
    Net { gateway: PublicKey, source: NetError },
    #[error("gateway {gateway} does not answer the greeting")]
    Greeting { gateway: PublicKey, source: FrameError },
    #[error("gateway {gateway} takes too long to answer the greeting")]
    Slow { gateway: PublicKey },
    #[error("gateway {gateway} does not want us: {reason}")]
    Rejected { gateway: PublicKey, reason: String },
    #[error("gateway {gateway} ended the connection")]
    Ended { gateway: PublicKey },
    #[error("gateway {gateway} broke the protocol on the control stream")]
    Broken { gateway: PublicKey },
}

/// What is known of a gateway that is dialled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Listed {
    pub(crate) addrs: Vec<SocketAddr>,
    /// Those whose gateway it is, as the ledger has it.
    pub(crate) operators: BTreeSet<Address>,
    /// We were told to dial it, and believe what it says of itself.
    pub(crate) is_trusted: bool,
}

/// Where a gateway is, and whether we still want it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) gateway: PublicKey,
    listed: Arc<Mutex<Listed>>,
    /// No longer listed: leave it when its requests are done.
    pub(crate) unlisted: CancellationToken,
}

impl Target {
    pub(crate) fn new(gateway: PublicKey, listed: Listed) -> Target {
        Target { gateway, listed: Arc::new(Mutex::new(listed)), unlisted: CancellationToken::new() }
    }

    /// Addresses count from the next dialling on.
    pub(crate) fn set_listed(&self, listed: Listed) {
        *self.lock() = listed;
    }

    pub(crate) fn listed(&self) -> Listed {
        self.lock().clone()
    }

    fn addrs(&self) -> Vec<SocketAddr> {
        self.lock().addrs.clone()
    }

    /// Whether it is this account's gateway: that it says so itself proves nothing.
    fn is_of(&self, payer: &Address) -> bool {
        let listed = self.lock();
        listed.is_trusted || listed.operators.contains(payer)
    }

    fn lock(&self) -> MutexGuard<'_, Listed> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a connection to `target` until we leave or it is unlisted.
pub(crate) async fn run(shared: Arc<Shared>, target: Target) {
    let gateway = target.gateway;
    let mut backoff = Backoff::new();
    loop {
        shared.board.link(gateway, LinkState::Dialling, shared.now());
        if let Err(error) = connect(&shared, &target, &mut backoff).await {
            shared.failed(&error);
        }
        if shared.leaving.is_cancelled() || target.unlisted.is_cancelled() {
            break;
        }
        shared.board.link(gateway, LinkState::Waiting, shared.now());
        tokio::select! {
            biased;
            () = shared.leaving.cancelled() => break,
            () = target.unlisted.cancelled() => break,
            () = tokio::time::sleep(backoff.pause((shared.config.random)())) => {}
        }
    }
    shared.board.link_gone(gateway);
}

/// Connects, greets, serves.
async fn connect(
    shared: &Arc<Shared>,
    target: &Target,
    backoff: &mut Backoff,
) -> Result<(), LinkError> {
    let greeted = tokio::select! {
        biased;
        () = shared.leaving.cancelled() => return Ok(()),
        greeted = greet(shared, target) => greeted?,
    };
    let Greeted { connection, send, control, payer, key } = greeted;
    backoff.reset();
    shared.board.link(target.gateway, LinkState::Connected, shared.now());
    let mut link = Link {
        shared: Arc::clone(shared),
        target: target.clone(),
        connection,
        send,
        control,
        told: Told { since: Instant::now(), tallies: 0 },
        payer,
        key,
        requests: JoinSet::new(),
        opening: Arc::new(Semaphore::new(OPENING_MAX)),
        left: false,
    };
    let ended = link.serve().await;
    // Their streams are gone with the connection, so they end by themselves, and write down what
    // was delivered.
    while link.requests.join_next().await.is_some() {}
    ended
}

type Control = Pin<Box<dyn Stream<Item = Result<ToProviderControl, FrameError>> + Send>>;

/// A gateway that wants us, and what it says of itself.
struct Greeted {
    connection: SharedConnection,
    send: SendHalf,
    control: Control,
    payer: Address,
    key: PublicKey,
}

async fn greet(shared: &Shared, target: &Target) -> Result<Greeted, LinkError> {
    let gateway = target.gateway;
    let failed = |source| LinkError::Net { gateway, source };
    let connection = shared.config.endpoint.dial(gateway, &target.addrs()).await.map_err(failed)?;
    let (mut send, receive) = connection.open().await.map_err(failed)?;
    let greeting = |source| LinkError::Greeting { gateway, source };
    serve::write(&mut send, &shared.hello()).await.map_err(greeting)?;
    let mut control: Control = Box::pin(frames(receive, CONTROL_FRAME_BYTES_MAX));
    let answer = tokio::time::timeout(WELCOME_WAIT, control.next()).await;
    match answer.map_err(|_| LinkError::Slow { gateway })? {
        Some(Ok(ToProviderControl::Welcome { payer, payer_key: key })) => {
            Ok(Greeted { connection, send, control, payer, key })
        }
        Some(Ok(ToProviderControl::Rejected { reason })) => {
            let reason = reason.chars().take(REASON_CHARS_MAX).collect();
            Err(LinkError::Rejected { gateway, reason })
        }
        Some(Ok(ToProviderControl::Tallies(_))) => Err(LinkError::Broken { gateway }),
        Some(Err(source)) => Err(greeting(source)),
        None => Err(LinkError::Ended { gateway }),
    }
}

/// A connection that was welcomed.
struct Link {
    shared: Arc<Shared>,
    target: Target,
    connection: SharedConnection,
    send: SendHalf,
    control: Control,
    told: Told,
    payer: Address,
    key: PublicKey,
    requests: JoinSet<()>,
    opening: Arc<Semaphore>,
    left: bool,
}

/// What happens on a connection.
enum Event {
    Stream(Result<(net::SendHalf, net::ReceiveHalf), NetError>),
    OfferDue,
    RequestEnded,
    Leave,
    Ended,
    /// The gateway said something more on the control stream, or ended it.
    Control(Option<Result<ToProviderControl, FrameError>>),
}

/// What a gateway has told of its choices.
struct Told {
    since: Instant,
    tallies: u64,
}

impl Told {
    /// Whether these are as many, and come as often, as the protocol has it.
    fn takes(&mut self, tallies: &[Tally]) -> bool {
        self.tallies = self.tallies.saturating_add(1);
        let due = self.since.elapsed().as_millis() / u128::from(TALLY_INTERVAL_MS);
        tallies.len() <= limits::OFFER_MODELS_MAX
            && u128::from(self.tallies) <= due.saturating_add(TALLIES_SAVED_MAX.into())
    }
}

impl Link {
    async fn serve(&mut self) -> Result<(), LinkError> {
        let gateway = self.target.gateway;
        let mut offers = tokio::time::interval(Duration::from_millis(OFFER_INTERVAL_MS));
        offers.set_missed_tick_behavior(MissedTickBehavior::Delay);
        offers.reset();
        let (leaving, unlisted) = (self.shared.leaving.clone(), self.target.unlisted.clone());
        while !(self.left && self.requests.is_empty()) {
            let room = self.requests.len() < STREAMS_MAX;
            let event = tokio::select! {
                biased;
                () = self.connection.closed() => Event::Ended,
                message = self.control.next() => Event::Control(message),
                () = leaving.cancelled(), if !self.left => Event::Leave,
                () = unlisted.cancelled(), if !self.left => Event::Leave,
                Some(_) = self.requests.join_next() => Event::RequestEnded,
                _ = offers.tick() => Event::OfferDue,
                stream = self.connection.accept(), if room => Event::Stream(stream),
            };
            match event {
                Event::Ended => return Err(LinkError::Ended { gateway }),
                Event::Control(message) => self.hear(message)?,
                Event::Leave => self.leave().await?,
                Event::RequestEnded => {}
                Event::OfferDue => {
                    let offer = ToGatewayControl::Offer(self.shared.offer());
                    self.tell(&offer).await?;
                }
                Event::Stream(Ok(halves)) => self.take(halves),
                Event::Stream(Err(source)) => return Err(LinkError::Net { gateway, source }),
            }
        }
        self.connection.close("leaving");
        Ok(())
    }

    /// After its welcome a gateway tells tallies and nothing else.
    fn hear(
        &mut self,
        message: Option<Result<ToProviderControl, FrameError>>,
    ) -> Result<(), LinkError> {
        match message {
            Some(Ok(ToProviderControl::Tallies(tallies))) if self.told.takes(&tallies) => {
                let (now, catalog) = (self.shared.now(), self.shared.catalog());
                self.shared.hours.add(now, &tallies, &catalog.offers());
                self.shared.board.changed();
                Ok(())
            }
            _ => {
                self.connection.close("unexpected control message");
                Err(LinkError::Broken { gateway: self.target.gateway })
            }
        }
    }

    fn take(&mut self, halves: (net::SendHalf, net::ReceiveHalf)) {
        let shared = Arc::clone(&self.shared);
        let payer = Payer {
            gateway: self.target.gateway,
            payer: Some(self.payer).filter(|payer| self.target.is_of(payer)),
            key: self.key,
        };
        let opening = Arc::clone(&self.opening);
        self.requests.spawn(async move { serve::serve(&shared, payer, halves, &opening).await });
    }

    async fn leave(&mut self) -> Result<(), LinkError> {
        self.left = true;
        self.shared.board.link(self.target.gateway, LinkState::Leaving, self.shared.now());
        self.tell(&ToGatewayControl::Leaving).await
    }

    async fn tell(&mut self, message: &ToGatewayControl) -> Result<(), LinkError> {
        let gateway = self.target.gateway;
        let told = serve::write(&mut self.send, message).await;
        if told.is_err() {
            // Requests on a connection that takes no control messages would not end well either.
            self.connection.close("control stream is stuck");
        }
        told.map_err(|source| LinkError::Greeting { gateway, source })
    }
}
