//! A provider whose model names are behaviours. It keeps its own books, so that tests can compare
//! what it may claim with what the gateway says it owes.

mod draws;
mod embed;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use keys::SecretKey;
use net::{Endpoint, ReceiveHalf, SendHalf, SharedConnection, SharedEndpoint};
use tokio::io::AsyncWriteExt;
use types::{
    ChainId, Lane, ModelId, Nusd, PublicKey, RequestId, TimeMs,
    ability::{Abilities, ToolAbility},
    channel::Voucher,
    inference::{Alternative, CountMethod, FinishReason, Span, TokenPiece},
    offer::{EngineKind, ModelOffer, Offer},
    price::Price,
    receipt::{Acknowledgement, ServiceReport},
    sha256,
    sign::Signed,
};
use wire::{
    frame,
    serve::{
        Accepted, CONTROL_FRAME_BYTES_MAX, LaneState, OFFER_INTERVAL_MS, Open, Refusal, Refused,
        TO_PROVIDER_FRAME_BYTES_MAX, ToGateway, ToGatewayControl, ToProvider, ToProviderControl,
    },
};

pub(super) const PRICE: Price = Price {
    request_nusd: Nusd(10),
    prompt_nusd_per_mtok: Nusd(50_000_000),
    completion_nusd_per_mtok: Nusd(100_000_000),
};
pub(super) const CONTEXT_TOKENS: u32 = 4_096;
/// The prompt has this many tokens, whatever it is.
pub(super) const PROMPT_TOKENS: u32 = 9;
/// A behaviour that begins so is a long answer, with the fault that follows.
pub(super) const LONG: &str = "long";
pub(super) const LONG_TOKENS: usize = 48;
pub(super) const ANSWER: [&str; 5] = ["Once", " upon", " a", " ti", "me."];

/// The id under which a behaviour is offered.
pub(super) fn model(alias: &str) -> ModelId {
    ModelId(sha256(&[alias.as_bytes()]).0)
}

/// All, unless the behaviour is a plain one.
fn abilities(alias: &str) -> Abilities {
    if alias.starts_with("plain") {
        return Abilities::default();
    }
    if alias.starts_with(embed::EMBED) {
        return embed::abilities(alias);
    }
    let tools = ToolAbility::Forced;
    Abilities { logprobs: true, json: true, tools, samplers: true, ..Abilities::default() }
}

/// What a double has seen and holds.
#[derive(Default)]
pub(super) struct Seen {
    pub orders: Vec<(RequestId, u16)>,
    pub lanes: BTreeMap<Lane, LaneState>,
    /// Lanes it says it is not done with.
    pub busy_lanes: Vec<Lane>,
    /// Tokens it has sent, over all requests.
    pub sent: u32,
    pub cancels: u32,
    pub acknowledged: Vec<Signed<Acknowledgement>>,
    /// Questions about its lanes.
    pub syncs: u32,
    /// Requests that it runs now.
    pub active: u32,
    /// How long it sleeps before the first token.
    pub sleep: std::time::Duration,
}

/// A connected double.
pub(super) struct Double {
    pub key: Arc<SecretKey>,
    pub node_key: PublicKey,
    pub connection: SharedConnection,
    pub welcome: ToProviderControl,
    seen: Arc<Mutex<Seen>>,
    /// Told after every change of `seen`.
    changed: Arc<tokio::sync::Notify>,
    control: Arc<tokio::sync::Mutex<(SendHalf, ReceiveHalf)>>,
    heartbeat: tokio::task::JoinHandle<()>,
    chain_id: ChainId,
    aliases: Vec<String>,
}

/// Repeats the offer until the connection ends.
async fn beat(
    key: Arc<SecretKey>,
    node_key: PublicKey,
    chain_id: ChainId,
    aliases: Vec<String>,
    control: Arc<tokio::sync::Mutex<(SendHalf, ReceiveHalf)>>,
) {
    for sequence in 2.. {
        tokio::time::sleep(std::time::Duration::from_millis(OFFER_INTERVAL_MS)).await;
        let offer = Double::offer(&key, node_key, &aliases, sequence);
        let offer = ToGatewayControl::Offer(Signed::new(offer, &chain_id, &*key));
        if frame::write(&mut control.lock().await.0, &offer).await.is_err() {
            return;
        }
    }
}

impl Double {
    pub(super) fn offer(
        key: &SecretKey,
        node_key: PublicKey,
        aliases: &[String],
        sequence: u64,
    ) -> Offer {
        let models = aliases
            .iter()
            .map(|alias| alias.split('=').next().unwrap_or_default())
            .map(|alias| ModelOffer {
                model: model(alias),
                alias: alias.to_owned(),
                price: PRICE,
                context_tokens: CONTEXT_TOKENS,
                engine: draws::engine(alias),
                engine_version: draws::engine_version(alias).into(),
                abilities: abilities(alias),
            })
            .collect();
        Offer {
            operator: key.address(),
            node_key,
            models,
            slots: 4,
            active: 0,
            sequence,
            issued_at: TimeMs(0),
        }
    }

    /// Connects and introduces itself. `seen` is what it remembers.
    pub(super) async fn connect(
        endpoint: SharedEndpoint,
        gateway: PublicKey,
        chain_id: &ChainId,
        key: Arc<SecretKey>,
        aliases: &[&str],
        seen: Arc<Mutex<Seen>>,
    ) -> Double {
        let aliases: Vec<String> = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        let node_key = endpoint.node_key();
        let offer = Double::offer(&key, node_key, &aliases, 1);
        let hello = ToGatewayControl::Hello {
            chain_id: chain_id.clone(),
            offer: Signed::new(offer, chain_id, &*key),
        };
        let (connection, welcome, control) = introduce(&*endpoint, gateway, &hello).await;
        let changed = Arc::new(tokio::sync::Notify::new());
        let control = Arc::new(tokio::sync::Mutex::new(control));
        let heartbeat = tokio::spawn(beat(
            Arc::clone(&key),
            node_key,
            chain_id.clone(),
            aliases.clone(),
            Arc::clone(&control),
        ));
        let double = Double {
            heartbeat,
            key,
            node_key,
            connection,
            welcome,
            seen,
            changed,
            control,
            chain_id: chain_id.clone(),
            aliases,
        };
        tokio::spawn(double.worker().serve());
        double
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn memory(&self) -> Arc<Mutex<Seen>> {
        Arc::clone(&self.seen)
    }

    /// Waits until what was seen fits; an hour of paused time at most.
    pub(super) async fn until(&self, fits: impl Fn(&Seen) -> bool) {
        let hour = std::time::Duration::from_secs(3_600);
        tokio::time::timeout(hour, self.seen_until(fits)).await.expect("it never came to that");
    }

    async fn seen_until(&self, fits: impl Fn(&Seen) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if fits(&self.seen()) {
                return;
            }
            changed.await;
        }
    }

    /// Repeats its offer no more.
    pub(super) fn fall_silent(&self) {
        self.heartbeat.abort();
    }

    /// Sends another control message.
    pub(super) async fn say(&self, message: &ToGatewayControl) {
        frame::write(&mut self.control.lock().await.0, message).await.unwrap();
    }

    /// The next message on the control stream, if one comes while no offer need be repeated.
    pub(super) async fn told(&self) -> Option<ToProviderControl> {
        let mut control = self.control.lock().await;
        let next = frame::read(&mut control.1, CONTROL_FRAME_BYTES_MAX);
        let wait = std::time::Duration::from_millis(OFFER_INTERVAL_MS + OFFER_INTERVAL_MS / 2);
        tokio::time::timeout(wait, next).await.ok()?.unwrap()
    }

    pub(super) fn signed_offer(&self, sequence: u64, aliases: &[&str]) -> ToGatewayControl {
        let aliases: Vec<String> = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        let offer = Double::offer(&self.key, self.node_key, &aliases, sequence);
        ToGatewayControl::Offer(Signed::new(offer, &self.chain_id, &*self.key))
    }

    fn worker(&self) -> Worker {
        Worker {
            key: Arc::clone(&self.key),
            connection: Arc::clone(&self.connection),
            seen: Arc::clone(&self.seen),
            changed: Arc::clone(&self.changed),
            chain_id: self.chain_id.clone(),
            aliases: self.aliases.clone(),
        }
    }
}

/// Dials, sends `first` on a control stream and reads the answer.
pub(super) async fn introduce(
    endpoint: &dyn Endpoint,
    gateway: PublicKey,
    first: &ToGatewayControl,
) -> (SharedConnection, ToProviderControl, (SendHalf, ReceiveHalf)) {
    let connection = endpoint.dial(gateway, &[]).await.unwrap();
    let (mut send, mut receive) = connection.open().await.unwrap();
    frame::write(&mut send, first).await.unwrap();
    let answer = frame::read(&mut receive, CONTROL_FRAME_BYTES_MAX).await.unwrap().unwrap();
    (connection, answer, (send, receive))
}

#[derive(Clone)]
struct Worker {
    key: Arc<SecretKey>,
    connection: SharedConnection,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<tokio::sync::Notify>,
    chain_id: ChainId,
    aliases: Vec<String>,
}

impl Worker {
    fn change<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let result = change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
        result
    }

    async fn serve(self) {
        while let Ok((send, receive)) = self.connection.accept().await {
            let worker = self.clone();
            tokio::spawn(async move { worker.stream(send, receive).await });
        }
    }

    async fn stream(self, mut send: SendHalf, mut receive: ReceiveHalf) -> Option<()> {
        match frame::read(&mut receive, TO_PROVIDER_FRAME_BYTES_MAX).await.ok()?? {
            ToProvider::Open(open) => {
                self.change(|seen| seen.active += 1);
                let request = Request { worker: self.clone(), open: *open, send, sent: Vec::new() };
                request.run(receive).await;
                self.change(|seen| seen.active -= 1);
            }
            ToProvider::Sync { .. } => {
                let lanes = self.change(|seen| {
                    seen.syncs += 1;
                    seen.lanes.values().cloned().collect()
                });
                frame::write(&mut send, &ToGateway::Lanes(lanes)).await.ok()?;
                send.shutdown().await.ok()?;
            }
            other => panic!("a stream began with {other:?}"),
        }
        Some(())
    }
}

/// One request at the double.
struct Request {
    worker: Worker,
    open: Open,
    send: SendHalf,
    sent: Vec<TokenPiece>,
}

impl Request {
    fn sign<T: types::sign::Signable>(&self, value: T) -> Signed<T> {
        Signed::new(value, &self.worker.chain_id, &*self.worker.key)
    }

    async fn write(&mut self, message: &ToGateway) {
        // The gateway may have hung up, which is what some tests are about.
        let _ = frame::write(&mut self.send, message).await;
    }

    async fn accept(&mut self) {
        let order = self.open.order.value.hash();
        let accepted = Accepted { order, prompt_tokens: None, at: TimeMs(0) };
        let message = ToGateway::Accepted(self.sign(accepted));
        self.write(&message).await;
        let sleep = self.worker.change(|seen| seen.sleep);
        if !sleep.is_zero() {
            tokio::time::sleep(sleep).await;
        }
    }

    async fn refuse(&mut self, reason: Refusal) {
        let order = self.open.order.value.hash();
        let message = ToGateway::Refused(self.sign(Refused { order, reason, at: TimeMs(0) }));
        self.write(&message).await;
        let _ = self.send.shutdown().await;
    }

    async fn tokens(&mut self, texts: &[&[u8]]) {
        let pieces = texts.iter().map(|bytes| piece(bytes, &self.open)).collect();
        self.pieces(pieces).await;
    }

    /// Tokens that belong to something.
    async fn spans(&mut self, texts: &[(Span, &[u8])]) {
        let piece =
            |(span, bytes): &(Span, &[u8])| TokenPiece { span: *span, ..piece(bytes, &self.open) };
        let pieces = texts.iter().map(piece).collect();
        self.pieces(pieces).await;
    }

    async fn pieces(&mut self, pieces: Vec<TokenPiece>) {
        let count = u32::try_from(pieces.len()).unwrap();
        self.sent.extend(pieces.clone());
        let delivered = u32::try_from(self.sent.len()).unwrap();
        let order = &self.open.order.value;
        let total =
            Nusd(order.lane_total_before.0 + self.price().charge(PROMPT_TOKENS, delivered).0);
        let lane = order.lane;
        self.worker.change(|seen| {
            seen.sent += count;
            if let Some(state) = seen.lanes.get_mut(&lane) {
                state.charged = total;
                let best = state.voucher.as_ref().map_or(Nusd::ZERO, |voucher| voucher.value.total);
                assert!(total <= best, "the gateway has promised what is delivered");
            }
        });
        let delta = ToGateway::Delta { pieces, prompt_tokens: Some(PROMPT_TOKENS) };
        self.write(&delta).await;
    }

    fn report(&self, finish: FinishReason) -> ServiceReport {
        let order = &self.open.order.value;
        let delivered = u32::try_from(self.sent.len()).unwrap();
        let bytes: Vec<u8> = self.sent.iter().flat_map(|piece| piece.bytes.clone()).collect();
        let aliases = self.worker.aliases.iter().map(|alias| alias.split('=').next().unwrap_or(""));
        let alias = aliases.into_iter().find(|alias| model(alias) == order.model);
        let version = draws::engine_version(alias.unwrap_or_default());
        let seed = verify::profile::seed(
            &verify::profile::NO_BEACON,
            &self.open.salt,
            &order.provider,
            &order.request_id,
        );
        let profile =
            verify::delivered::profile_of(&self.open.request, seed, self.open.discloses, version);
        let mut transcript = verify::delivered::Delivered::of(profile);
        self.sent.iter().for_each(|piece| transcript.push(piece));
        let charge = self.price().charge(PROMPT_TOKENS, delivered);
        ServiceReport {
            request_id: order.request_id,
            attempt: order.attempt,
            provider: order.provider,
            model: order.model,
            engine_version: version.into(),
            profile: profile.into(),
            seed: self.open.request.sampling.seed,
            prompt_hash: order.prompt_hash,
            response_hash: sha256(&[&bytes]),
            transcript_root: transcript.root(),
            prompt_tokens: PROMPT_TOKENS,
            completion_tokens: delivered,
            counted: CountMethod::TokenIds,
            price: order.price,
            channel: order.channel,
            lane: order.lane,
            lane_total_before: order.lane_total_before,
            lane_total: Nusd(order.lane_total_before.0 + charge.0),
            finish,
            started_at: TimeMs(0),
            ended_at: if alias == Some("misdated") { TimeMs(0) } else { order.issued_at },
        }
    }

    async fn finish(&mut self, finish: FinishReason) {
        let report = self.sign(self.report(finish));
        self.write(&ToGateway::Final(Box::new(report))).await;
    }

    /// Takes the order into the books. A lane that is behind ours is refused as a provider does.
    fn take(&self) -> Option<Refusal> {
        let order = &self.open.order.value;
        let voucher = self.open.voucher.clone();
        let lane = order.lane;
        self.worker.change(|seen| {
            assert!(!seen.orders.contains(&(order.request_id, order.attempt)), "ordered twice");
            seen.orders.push((order.request_id, order.attempt));
            let fresh = LaneState { lane, charged: Nusd::ZERO, voucher: None };
            let state = seen.lanes.entry(lane).or_insert(fresh);
            if order.lane_total_before < state.charged {
                return Some(Refusal::LaneDiffers(state.clone()));
            }
            if seen.busy_lanes.contains(&lane) {
                return Some(Refusal::LaneBusy);
            }
            state.charged = order.lane_total_before;
            keep_best(state, voucher);
            None
        })
    }

    fn behaviour(&self) -> String {
        let wanted = self.open.order.value.model;
        let named =
            self.worker.aliases.iter().map(|text| text.split_once('=').unwrap_or((text, text)));
        named.filter(|(alias, _)| model(alias) == wanted).map(|(_, name)| name).collect()
    }

    async fn run(mut self, receive: ReceiveHalf) {
        let open = &self.open;
        assert_eq!(open.request.prompt.hash(&open.salt), open.order.value.prompt_hash);
        assert_eq!(
            wire::serve::request_hash(&open.request, &open.salt),
            open.order.value.request_hash
        );
        if let Some(refusal) = self.take() {
            return self.refuse(refusal).await;
        }
        let (worker, lane) = (self.worker.clone(), self.open.order.value.lane);
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let reader = tokio::spawn(listen(worker, lane, receive, told));
        self.behave(&mut heard).await;
        // The gateway ends the stream when it is done.
        let _ = reader.await;
    }

    async fn behave(&mut self, heard: &mut tokio::sync::mpsc::UnboundedReceiver<Heard>) {
        let answer = self.rest(ANSWER.map(str::as_bytes));
        let begun = self.open.request.begun.is_some();
        if let Some(fault) = self.behaviour().strip_prefix(LONG) {
            return self.long(fault, heard).await;
        }
        if let Some(fault) = self.behaviour().strip_prefix(embed::EMBED) {
            return self.embed(fault, heard).await;
        }
        if let Some(fault) = self.behaviour().strip_prefix(draws::DRAWS) {
            return self.draw(fault).await;
        }
        match self.behaviour().as_str() {
            "cannot-go-on" if begun => {
                let (field, problem) = ("request".into(), "not with this engine".into());
                self.refuse(Refusal::Request { field, problem }).await;
            }
            "dies-after-half-of-a-second-character" => {
                self.accept().await;
                self.tokens(&[b"gr", &[0xc3]]).await;
                let _ = self.send.shutdown().await;
            }
            "calls" | "dies-in-a-call" | "calls-unasked" => {
                self.accept().await;
                self.tokens(&[b"Let me", b" see."]).await;
                self.spans(&[
                    (Span::CallName, b"weather"),
                    (Span::CallArguments, b"{\"city\":\"R"),
                    (Span::CallArguments, b"\xc3"),
                ])
                .await;
                if self.behaviour() == "dies-in-a-call" {
                    let _ = self.send.shutdown().await;
                    return;
                }
                self.spans(&[
                    (Span::CallArguments, b"\xb6m\"}"),
                    (Span::CallName, b"time"),
                    (Span::CallArguments, b"{}"),
                ])
                .await;
                self.finish(FinishReason::Stop).await;
            }
            "vector-in-a-chat" => {
                self.accept().await;
                self.spans(&[(Span::Vector, &[0; 4])]).await;
                self.finish(FinishReason::Stop).await;
            }
            "arguments-of-nothing" => {
                self.accept().await;
                self.spans(&[(Span::CallArguments, b"{}")]).await;
                self.finish(FinishReason::Stop).await;
            }
            "refuses" => self.refuse(Refusal::Engine).await,
            "busy" => self.refuse(Refusal::Busy { retry_after_ms: 60_000 }).await,
            "bad-request" => {
                let (field, problem) = ("stop".into(), "not with this engine".into());
                self.refuse(Refusal::Request { field, problem }).await;
            }
            "dies-at-once" => self.connection_dies(),
            "dies-before-the-first-token" => {
                self.accept().await;
                let _ = self.send.shutdown().await;
            }
            "dies-after-half-a-character" => {
                self.accept().await;
                self.tokens(&[&[0xf0, 0x9f]]).await;
                let _ = self.send.shutdown().await;
            }
            "dies-after-3-tokens" => {
                self.accept().await;
                self.tokens(&answer[..3.min(answer.len())]).await;
                let _ = self.send.shutdown().await;
            }
            "makes-one-token" => {
                self.accept().await;
                self.tokens(&answer[..1]).await;
                let _ = self.send.shutdown().await;
            }
            "stalls" => {
                self.accept().await;
                self.tokens(&answer[..2.min(answer.len())]).await;
                while heard.recv().await.is_some() {}
            }
            "stalls-before-the-first-token" => {
                self.accept().await;
                while heard.recv().await.is_some() {}
            }
            "fails" => {
                self.accept().await;
                self.tokens(&answer[..2.min(answer.len())]).await;
                self.finish(FinishReason::Failed).await;
            }
            "says-nothing" => {
                self.accept().await;
                self.finish(FinishReason::Stop).await;
            }
            "lies" => {
                self.accept().await;
                self.tokens(&answer).await;
                let mut report = self.report(FinishReason::Stop);
                report.completion_tokens = 60;
                report.lane_total = Nusd(report.lane_total_before.0 + 6_460);
                let report = self.sign(report);
                self.write(&ToGateway::Final(Box::new(report))).await;
            }
            "forges" => {
                self.accept().await;
                self.tokens(&answer).await;
                let stranger = SecretKey::from_seed([99; 32]);
                let report = self.report(FinishReason::Stop);
                let report = Signed::new(report, &self.worker.chain_id, &stranger);
                self.write(&ToGateway::Final(Box::new(report))).await;
            }
            "huge" => {
                self.accept().await;
                self.tokens(&answer[..1.min(answer.len())]).await;
                let _ = self.send.write_all(&u32::MAX.to_le_bytes()).await;
            }
            "ends-twice" => {
                self.accept().await;
                self.tokens(&answer).await;
                self.finish(FinishReason::Stop).await;
                self.finish(FinishReason::Stop).await;
            }
            "endless" => {
                self.accept().await;
                self.endless(heard).await;
            }
            "waits" => {
                self.accept().await;
                self.tokens(&answer[..3.min(answer.len())]).await;
                while let Some(heard) = heard.recv().await {
                    if matches!(heard, Heard::Cancel) {
                        self.finish(FinishReason::Cancelled).await;
                    }
                }
            }
            "pieces" => {
                self.accept().await;
                let pieces: [&[u8]; 6] =
                    [b"gr", &[0xc3], &[0xbc], &[0xc3, 0x9f], b"e \xf0\x9f", b"\x98\x80"];
                for text in self.rest(pieces) {
                    self.tokens(&[text]).await;
                }
                self.finish(FinishReason::Length).await;
            }
            _ => {
                self.accept().await;
                for text in answer {
                    self.tokens(&[text]).await;
                }
                self.finish(FinishReason::Stop).await;
            }
        }
    }

    /// What is left of an answer behind what was begun elsewhere; nothing if that was another answer.
    fn rest<'a, const N: usize>(&self, answer: [&'a [u8]; N]) -> Vec<&'a [u8]> {
        let begun = self.open.request.begun.clone().unwrap_or_default();
        let mut text = begun.text.as_bytes();
        let mut rest = answer.to_vec();
        while !text.is_empty() {
            let Some(left) = text.strip_prefix(rest.remove(0)) else { return Vec::new() };
            text = left;
        }
        assert_eq!(begun.ids.len(), answer.len() - rest.len(), "with the ids of its tokens");
        rest
    }

    /// A long answer, a token each 20 ms, as far as the fault lets it.
    async fn long(&mut self, fault: &str, heard: &mut tokio::sync::mpsc::UnboundedReceiver<Heard>) {
        use std::time::Duration;
        if fault == "-refuses" {
            return self.refuse(Refusal::Engine).await;
        }
        self.accept().await;
        let answer: [String; LONG_TOKENS] = std::array::from_fn(|index| format!(" t{index}"));
        let answer = self.rest(answer.each_ref().map(|text| text.as_bytes()));
        let pace = Duration::from_millis(if fault == "-slow" { 400 } else { 20 });
        for (sent, text) in answer.into_iter().enumerate() {
            match (fault, sent) {
                ("-dies", 10) => {
                    let _ = self.send.shutdown().await;
                    return;
                }
                ("-stalls", 7) => {
                    while heard.recv().await.is_some() {}
                    return;
                }
                ("-garbage", 5) => {
                    let _ = self.send.write_all(&[9, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8]).await;
                    return;
                }
                // A frame that never ends, a byte each second.
                ("-loris", 3) => {
                    for byte in [200, 0, 0, 0].into_iter().chain([0; 190]) {
                        let written = self.send.write_all(&[byte]).await;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        if written.is_err() {
                            return;
                        }
                    }
                }
                _ => {}
            }
            tokio::time::sleep(pace).await;
            if let Ok(Heard::Cancel) = heard.try_recv() {
                return self.finish(FinishReason::Cancelled).await;
            }
            self.tokens(&[text]).await;
        }
        let mut report = self.report(FinishReason::Stop);
        match fault {
            "-lies" => report.completion_tokens += 30,
            "-other-model" => report.model = model("another"),
            _ => {}
        }
        let report = self.sign(report);
        self.write(&ToGateway::Final(Box::new(report))).await;
    }

    /// Generates as far as vouchers go, until it is told to stop or has made 1 000 tokens.
    async fn endless(&mut self, heard: &mut tokio::sync::mpsc::UnboundedReceiver<Heard>) {
        let most = self.open.request.tokens_max.unwrap_or(1_000);
        let order = &self.open.order.value;
        let (before, lane) = (order.lane_total_before, order.lane);
        let mut finish = FinishReason::Length;
        while u32::try_from(self.sent.len()).unwrap() < most {
            let next = u32::try_from(self.sent.len()).unwrap() + 1;
            let needed = Nusd(before.0 + PRICE.charge(PROMPT_TOKENS, next).0);
            let covered = |seen: &mut Seen| {
                let voucher = seen.lanes[&lane].voucher.as_ref();
                voucher.is_some_and(|voucher| voucher.value.total >= needed)
            };
            if self.worker.change(covered) {
                self.tokens(&[b"x"]).await;
                if !matches!(heard.try_recv(), Ok(Heard::Cancel)) {
                    continue;
                }
                finish = FinishReason::Cancelled;
                break;
            }
            match heard.recv().await {
                Some(Heard::Voucher) => {}
                Some(Heard::Cancel) | None => {
                    finish = FinishReason::Cancelled;
                    break;
                }
            }
        }
        self.finish(finish).await;
    }

    fn connection_dies(&self) {
        self.worker.connection.close("gone");
    }
}

enum Heard {
    Voucher,
    Cancel,
}

/// Reads what the gateway says after its order.
async fn listen(
    worker: Worker,
    lane: Lane,
    mut receive: ReceiveHalf,
    told: tokio::sync::mpsc::UnboundedSender<Heard>,
) {
    while let Ok(Some(message)) = frame::read(&mut receive, TO_PROVIDER_FRAME_BYTES_MAX).await {
        let heard = match message {
            ToProvider::Voucher(voucher) => {
                worker.change(|seen| keep_best(seen.lanes.get_mut(&lane).unwrap(), voucher));
                Heard::Voucher
            }
            ToProvider::Cancel => {
                worker.change(|seen| seen.cancels += 1);
                Heard::Cancel
            }
            ToProvider::Acknowledge(acknowledgement) => {
                worker.change(|seen| seen.acknowledged.push(acknowledgement));
                continue;
            }
            other => panic!("not after an order: {other:?}"),
        };
        let _ = told.send(heard);
    }
}

fn keep_best(state: &mut LaneState, voucher: Signed<Voucher>) {
    let best = state.voucher.as_ref().map(|best| (best.value.total, best.value.sequence));
    let this = (voucher.value.total, voucher.value.sequence);
    if let Some((total, sequence)) = best {
        assert!(this.1 > sequence || this.0 < total, "a later voucher has a later number");
    }
    if best.is_none_or(|best| this > best) {
        state.voucher = Some(voucher);
    }
}

fn piece(bytes: &[u8], open: &Open) -> TokenPiece {
    let alternatives = open.request.logprobs.map_or(0, usize::from);
    TokenPiece {
        span: Span::Text,
        id: Some(u32::try_from(bytes.len()).unwrap()),
        bytes: bytes.to_vec(),
        logprob_micros: open.request.logprobs.map(|_| -250_000),
        alternatives: vec![
            Alternative {
                id: Some(1),
                bytes: b"?".to_vec(),
                logprob_micros: -2_000_000
            };
            alternatives
        ],
        projection: None,
    }
}
