//! A gateway as tests need it: honest by default, and able to say anything.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt, stream};
use keys::{Ed25519, SecretKey};
use net::{ReceiveHalf, SendHalf, SharedConnection, SharedEndpoint};
use tokio::io::AsyncWriteExt;
use types::{
    Address, ChannelId, Lane, ModelId, Nusd, PublicKey, RequestId, TimeMs,
    channel::{ChannelTerms, Voucher},
    hash::{StreamHash, merkle_root},
    inference::{CountMethod, InferenceRequest, Prompt, Sampling, TokenPiece},
    offer::Offer,
    price::{Price, WINDOW_TOKENS},
    receipt::{Acknowledgement, Receipt, ServiceReport, report_hash},
    sign::{Sign, Signed},
};
use wire::{
    frame,
    serve::{
        CONTROL_FRAME_BYTES_MAX, LaneState, Open, Order, Refusal, TO_GATEWAY_FRAME_BYTES_MAX,
        ToGateway, ToGatewayControl, ToProvider, ToProviderControl, request_hash,
    },
};

use crate::chain::{TestChain, chain_id};

pub(crate) const PRICE: Price = Price {
    request_nusd: Nusd(7),
    prompt_nusd_per_mtok: Nusd(1_000_000),
    completion_nusd_per_mtok: Nusd(1_000_000_000),
};
pub(crate) const DEPOSIT: Nusd = Nusd::whole(1_000);

/// The time at which every order is issued; the providers' clocks stand there too.
pub(crate) const NOW: TimeMs = TimeMs(1_700_000_000_000);

/// A gateway with a channel to one provider.
pub(crate) struct TestGateway {
    pub(crate) endpoint: SharedEndpoint,
    pub(crate) payer: Arc<SecretKey>,
    pub(crate) channel: ChannelId,
    pub(crate) provider: Address,
}

impl TestGateway {
    /// Listed on the chain, with a channel to `provider`.
    pub(crate) fn start(
        chain: &TestChain,
        endpoint: SharedEndpoint,
        seed: u8,
        provider: Address,
    ) -> TestGateway {
        let payer = Arc::new(SecretKey::from_seed([seed; 32]));
        chain.list_gateway(payer.address(), endpoint.node_key(), &endpoint.addrs());
        let terms = ChannelTerms {
            payer: payer.address(),
            payer_key: payer.public_key(),
            receiver: provider,
            salt: u64::from(seed),
            withdraw_delay_ms: 15 * 60_000,
        };
        let channel = chain.open_channel(terms, DEPOSIT);
        TestGateway { endpoint, payer, channel, provider }
    }

    /// Waits for the provider to dial, and welcomes it.
    pub(crate) async fn welcome(&self) -> TestLink {
        self.welcome_as(&self.payer).await
    }

    /// The same, and says that it is the gateway of this payer.
    pub(crate) async fn welcome_as(&self, payer: &SecretKey) -> TestLink {
        let connection = self.endpoint.accept().await.unwrap();
        let (mut send, receive) = connection.accept().await.unwrap();
        let mut control = Control::new(receive);
        let hello = control.next().await.unwrap();
        let ToGatewayControl::Hello { chain_id: told, offer } = hello else {
            panic!("the first message is {hello:?}")
        };
        assert_eq!(told, chain_id());
        let offer = offer.verify(&chain_id(), &Ed25519).unwrap().value().clone();
        offer.check().unwrap();
        assert_eq!(offer.node_key, connection.peer());
        let (payer, payer_key) = (payer.address(), payer.public_key());
        frame::write(&mut send, &ToProviderControl::Welcome { payer, payer_key }).await.unwrap();
        TestLink { connection, control, send, offer }
    }

    pub(crate) fn voucher(&self, lane: Lane, sequence: u64, total: Nusd) -> Signed<Voucher> {
        let voucher = Voucher { channel: self.channel, lane, sequence, total };
        Signed::new(voucher, &chain_id(), &*self.payer)
    }

    /// A request to `model` on a fresh lane.
    pub(crate) fn ask(&self, number: u8, model: ModelId) -> Ask {
        let prompt = Prompt::Text("tell me a story".to_owned());
        Ask {
            request: InferenceRequest {
                prompt,
                sampling: Sampling::default(),
                tokens_max: None,
                stop: Vec::new(),
                logprobs: None,
                begun: None,
                form: None,
                tools: None,
            },
            order: Order {
                request_id: RequestId([number; 16]),
                attempt: 0,
                provider: self.provider,
                model,
                prompt_hash: types::Hash32::default(),
                request_hash: types::Hash32::default(),
                price: PRICE,
                channel: self.channel,
                lane: Lane(u32::from(number)),
                lane_total_before: Nusd::ZERO,
                issued_at: NOW,
                timeout_ms: 60_000,
            },
            sequence: 1,
            cover_tokens: WINDOW_TOKENS,
        }
    }

    /// The message for `ask`, digests filled in and signed.
    pub(crate) fn open(&self, ask: &Ask) -> Open {
        let salt = [9; 16];
        let mut order = ask.order.clone();
        order.prompt_hash = ask.request.prompt.hash(&salt);
        order.request_hash = request_hash(&ask.request, &salt);
        let voucher = self.voucher(order.lane, ask.sequence, ask.cover());
        let order = Signed::new(order, &chain_id(), &*self.payer);
        Open { order, salt, request: ask.request.clone(), discloses: true, voucher }
    }

    /// Sends `ask` and waits for nothing.
    pub(crate) async fn send(&self, link: &TestLink, ask: &Ask) -> Exchange {
        Exchange::open(link, &ToProvider::Open(Box::new(self.open(ask)))).await
    }

    /// The refusal that `ask` meets.
    pub(crate) async fn refusal(&self, link: &TestLink, ask: &Ask) -> Refusal {
        match self.send(link, ask).await.next().await {
            Some(ToGateway::Refused(refused)) => {
                let refused = refused.verify(&chain_id(), &Ed25519).unwrap();
                assert_eq!(Address::of_key(&refused.signer()), self.provider);
                refused.value().reason.clone()
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Plays the whole request as an honest gateway does.
    pub(crate) async fn serve(&self, link: &TestLink, ask: &Ask) -> Served {
        let mut exchange = self.send(link, ask).await;
        let mut served = Served::new(ask);
        loop {
            match exchange.next().await.expect("the provider ended the stream") {
                ToGateway::Accepted(accepted) => {
                    let accepted = accepted.verify(&chain_id(), &Ed25519).unwrap();
                    served.note_prompt(accepted.value().prompt_tokens);
                }
                ToGateway::Delta { pieces, prompt_tokens } => {
                    served.note_prompt(prompt_tokens);
                    served.pieces.extend(pieces);
                }
                ToGateway::Final(report) => {
                    let ack = served.acknowledge(&report, &self.payer);
                    exchange.say(&ToProvider::Acknowledge(ack.clone())).await;
                    exchange.send.shutdown().await.unwrap();
                    let (chain_id, report) = (chain_id(), Some(*report));
                    served.receipt = Some(Receipt { chain_id, report, acknowledgement: ack });
                    return served;
                }
                other => panic!("unexpected: {other:?}"),
            }
            if let Some(total) = served.next_cover(ask) {
                served.sequence += 1;
                let voucher = self.voucher(ask.order.lane, served.sequence, total);
                exchange.say(&ToProvider::Voucher(voucher)).await;
            }
        }
    }

    /// What the provider holds of our channel.
    pub(crate) async fn lanes(&self, link: &TestLink) -> Vec<LaneState> {
        let mut exchange = Exchange::open(link, &ToProvider::Sync { channel: self.channel }).await;
        match exchange.next().await {
            Some(ToGateway::Lanes(lanes)) => lanes,
            other => panic!("unexpected: {other:?}"),
        }
    }
}

/// The provider's connection, as the gateway has it.
pub(crate) struct TestLink {
    pub(crate) connection: SharedConnection,
    pub(crate) control: Control,
    send: SendHalf,
    pub(crate) offer: Offer,
}

impl TestLink {
    /// Says something on the control stream.
    pub(crate) async fn say(&mut self, message: &ToProviderControl) {
        frame::write(&mut self.send, message).await.unwrap();
    }

    pub(crate) fn model(&self, alias: &str) -> ModelId {
        self.offer.models.iter().find(|model| model.alias == alias).unwrap().model
    }
}

/// The provider's side of the control stream.
pub(crate) struct Control(ReceiveHalf);

impl Control {
    pub(crate) fn new(receive: ReceiveHalf) -> Control {
        Control(receive)
    }

    pub(crate) async fn next(&mut self) -> Option<ToGatewayControl> {
        frame::read(&mut self.0, CONTROL_FRAME_BYTES_MAX).await.ok().flatten()
    }
}

/// What is asked for, and what is paid ahead.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) request: InferenceRequest,
    pub(crate) order: Order,
    pub(crate) sequence: u64,
    pub(crate) cover_tokens: u32,
}

impl Ask {
    pub(crate) fn cover(&self) -> Nusd {
        let estimate = self.request.prompt_tokens_estimate();
        let cost = self.order.price.charge(estimate, self.cover_tokens);
        self.order.lane_total_before.saturating_add(cost)
    }
}

type Frames = Pin<Box<dyn Stream<Item = ToGateway> + Send>>;

/// One request stream.
pub(crate) struct Exchange {
    pub(crate) send: SendHalf,
    frames: Frames,
}

impl Exchange {
    pub(crate) async fn open(link: &TestLink, first: &ToProvider) -> Exchange {
        Exchange::raw(link, &frame::encode(first).unwrap()).await
    }

    /// A stream that begins with any bytes.
    pub(crate) async fn raw(link: &TestLink, bytes: &[u8]) -> Exchange {
        let (mut send, receive) = link.connection.open().await.unwrap();
        send.write_all(bytes).await.unwrap();
        let frames = stream::unfold(receive, |mut receive| async move {
            let message = frame::read(&mut receive, TO_GATEWAY_FRAME_BYTES_MAX).await;
            message.ok().flatten().map(|message| (message, receive))
        });
        Exchange { send, frames: Box::pin(frames) }
    }

    /// `None` once the provider has ended or dropped the stream.
    pub(crate) async fn next(&mut self) -> Option<ToGateway> {
        self.frames.next().await
    }

    pub(crate) async fn say(&mut self, message: &ToProvider) {
        frame::write(&mut self.send, message).await.unwrap();
    }

    /// Reads until `count` tokens have arrived.
    pub(crate) async fn tokens(&mut self, count: usize) {
        let mut arrived = 0;
        while arrived < count {
            match self.next().await.expect("the provider ended the stream") {
                ToGateway::Accepted(_) => {}
                ToGateway::Delta { pieces, .. } => arrived += pieces.len(),
                other => panic!("unexpected: {other:?}"),
            }
        }
        assert_eq!(arrived, count);
    }

    /// Reads on to the report.
    pub(crate) async fn report(&mut self) -> ServiceReport {
        loop {
            match self.next().await.expect("the provider ended the stream") {
                ToGateway::Accepted(_) | ToGateway::Delta { .. } => {}
                ToGateway::Final(report) => {
                    return report.verify(&chain_id(), &Ed25519).unwrap().value().clone();
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
    }
}

/// A request as the gateway counts it.
pub(crate) struct Served {
    pub(crate) pieces: Vec<TokenPiece>,
    pub(crate) receipt: Option<Receipt>,
    pub(crate) sequence: u64,
    prompt_tokens: u32,
    promised: Nusd,
}

impl Served {
    fn new(ask: &Ask) -> Served {
        Served {
            pieces: Vec::new(),
            receipt: None,
            sequence: ask.sequence,
            prompt_tokens: ask.request.prompt_tokens_estimate(),
            promised: ask.cover(),
        }
    }

    fn note_prompt(&mut self, prompt_tokens: Option<u32>) {
        self.prompt_tokens = prompt_tokens.unwrap_or(self.prompt_tokens);
    }

    fn delivered(&self) -> u32 {
        u32::try_from(self.pieces.len()).unwrap()
    }

    /// The total of the voucher that is due, if less than half a window is ahead.
    fn next_cover(&mut self, ask: &Ask) -> Option<Nusd> {
        let Order { price, lane_total_before, .. } = ask.order;
        let total = |ahead: u32| {
            let cost = price.charge(self.prompt_tokens, self.delivered() + ahead);
            lane_total_before.saturating_add(cost)
        };
        let due = total(WINDOW_TOKENS / 2) > self.promised;
        let next = total(WINDOW_TOKENS);
        due.then(|| {
            self.promised = self.promised.max(next);
            self.promised
        })
    }

    fn acknowledge(
        &self,
        report: &Signed<ServiceReport>,
        payer: &SecretKey,
    ) -> Signed<Acknowledgement> {
        let signed = report;
        let report = signed.clone().verify(&chain_id(), &Ed25519).unwrap().value().clone();
        let mut response = StreamHash::default();
        self.pieces.iter().for_each(|piece| response.update(&piece.bytes));
        let leaves: Vec<_> = self.pieces.iter().map(TokenPiece::transcript_leaf).collect();
        let ids = self.pieces.iter().all(|piece| piece.id.is_some());
        let cost = report.price.charge(report.prompt_tokens, self.delivered());
        let acknowledgement = Acknowledgement {
            request_id: report.request_id,
            attempt: report.attempt,
            provider: report.provider,
            model: report.model,
            prompt_hash: report.prompt_hash,
            response_hash: response.finish(),
            transcript_root: merkle_root(&leaves),
            prompt_tokens: report.prompt_tokens,
            delivered_tokens: self.delivered(),
            counted: if ids { CountMethod::TokenIds } else { CountMethod::Chunks },
            price: report.price,
            channel: report.channel,
            lane: report.lane,
            lane_total_before: report.lane_total_before,
            lane_total: report.lane_total_before.saturating_add(cost),
            report_hash: Some(report_hash(signed)),
            finish: report.finish,
            ended_at: report.ended_at,
        };
        Signed::new(acknowledgement, &chain_id(), payer)
    }

    pub(crate) fn cost(&self) -> Nusd {
        self.receipt.as_ref().unwrap().cost()
    }
}

/// The public half of the node key of a memory endpoint.
pub(crate) fn node_key(seed: u8) -> PublicKey {
    PublicKey([seed; 32])
}
