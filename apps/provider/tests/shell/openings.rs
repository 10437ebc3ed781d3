//! Openings: what one verifier does keeps nothing from another, and no gateway is told what another one asked.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use engine::{
    Engine, EngineError, EngineModel, Generation, Load, SharedEngine,
    dummy::{DummyEngine, DummyOptions},
};
use net::{Limits, ReceiveHalf, SendHalf, SharedEndpoint, memory::MemoryNet};
use provider::{Provider, ProviderConfig};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use types::{
    Address, Height, ModelId, Ppm, Watt,
    audit::{Beacon, CommitmentId, Demand, ReceiptsCommitment},
    channel::ChannelTerms,
    inference::InferenceRequest,
    offer::EngineKind,
    receipt::{Receipt, report_hash},
    sign::Sign,
};
use wire::{
    audit::{TO_AUDITOR_FRAME_BYTES_MAX, ToAuditor, ToProvider},
    chain::{AuditorView, RoundView, VerifierView},
    frame,
    serve::ToGateway,
};

use super::{
    World,
    gateway::{DEPOSIT, Exchange, NOW, TestGateway, TestLink, node_key},
};

const SLOW: u8 = 10;
const HONEST: u8 = 11;

/// An engine that says it is one whose answers can be audited.
#[derive(Debug)]
struct Audited(DummyEngine);

#[async_trait]
impl Engine for Audited {
    fn kind(&self) -> EngineKind {
        self.0.kind()
    }

    fn version(&self) -> String {
        "llama.cpp b6730".to_owned()
    }

    async fn models(&self) -> Result<Vec<EngineModel>, EngineError> {
        self.0.models().await
    }

    async fn generate(
        &self,
        model: ModelId,
        request: InferenceRequest,
        cancel: CancellationToken,
    ) -> Result<Generation, EngineError> {
        self.0.generate(model, request, cancel).await
    }

    fn load(&self) -> Load {
        self.0.load()
    }
}

fn audited() -> SharedEngine {
    let models = vec!["dummy/64".to_owned()];
    let options = DummyOptions { models, ..DummyOptions::all() };
    Arc::new(Audited(DummyEngine::new(options).unwrap()))
}

fn address(verifier: u8) -> Address {
    Address([verifier; 20])
}

impl World {
    fn auditing(&self, auditors: &MemoryNet) -> ProviderConfig {
        let audit_endpoint = auditors.endpoint(node_key(super::PROVIDER), Limits::default());
        ProviderConfig { engines: vec![audited()], audit_endpoint, ..self.config() }
    }

    /// Has a round about one answer that its payer demanded.
    fn demand(&self, receipt: &Receipt) {
        let report = receipt.report.as_ref().unwrap();
        let digest = report_hash(report);
        let payer = self.gateway.payer.address();
        let acknowledgement = receipt.acknowledgement.clone();
        let demand = Demand { payer, deposit: Watt::ZERO, acknowledgement };
        let verifier =
            |number| VerifierView { verifier: address(number), committed: None, outcome: None };
        let round = RoundView {
            commitment: CommitmentId::demanded(self.operator(), &digest),
            receipts: ReceiptsCommitment::of(report.value.model, &[digest]).unwrap(),
            height: Height(1),
            beacon: Beacon::default(),
            share: Ppm::ONE,
            opened_at: NOW,
            commit_by: NOW.plus_ms(600_000),
            reveal_by: NOW.plus_ms(1_200_000),
            planted: false,
            is_appeal: false,
            demand: Some(Box::new(demand)),
            verifiers: vec![verifier(SLOW), verifier(HONEST)],
        };
        self.chain.lock().rounds.push(round);
    }

    fn auditor(&self, net: &MemoryNet, number: u8) -> SharedEndpoint {
        let operator = address(number);
        let view =
            AuditorView { operator, node_key: node_key(number), addrs: Vec::new(), record: None };
        self.chain.lock().auditors.insert(operator, view);
        net.endpoint(node_key(number), Limits::default())
    }
}

/// A stream of a provider.
struct Talk(SendHalf, ReceiveHalf);

impl Talk {
    async fn hear(&mut self) -> Option<ToAuditor> {
        frame::read(&mut self.1, TO_AUDITOR_FRAME_BYTES_MAX).await.ok().flatten()
    }

    async fn say(&mut self, message: &ToProvider) {
        frame::write(&mut self.0, message).await.unwrap();
    }

    /// Asks for the only answer of the round. Returns which round that is.
    async fn want(&mut self, numbers: Vec<u32>) -> CommitmentId {
        let Some(ToAuditor::Committed { commitment, digests, .. }) = self.hear().await else {
            panic!("the first message is another one")
        };
        assert_eq!(digests.len(), 1);
        self.say(&ToProvider::Wanted(numbers)).await;
        commitment
    }

    async fn take(&mut self) {
        let Some(ToAuditor::Receipt(_)) = self.hear().await else { panic!("not a receipt") };
        let mut length = 0;
        loop {
            match self.hear().await {
                Some(ToAuditor::Opening { part, more }) => {
                    length += part.len();
                    if !more {
                        break;
                    }
                }
                other => panic!("not an opening: {other:?}"),
            }
        }
        assert!(length > 64, "{length}");
        self.say(&ToProvider::Taken).await;
    }
}

/// Bytes of the opening of an answer that a gateway is told, and how many lanes of the channel.
async fn told(link: &TestLink, receipt: &Receipt) -> (usize, usize) {
    let ack = &receipt.acknowledgement.value;
    let question = wire::serve::ToProvider::Sync { channel: ack.channel };
    let lanes = match Exchange::open(link, &question).await.next().await {
        Some(ToGateway::Lanes(lanes)) => lanes.len(),
        other => panic!("unexpected: {other:?}"),
    };
    let question =
        wire::serve::ToProvider::Disclose { request_id: ack.request_id, attempt: ack.attempt };
    match Exchange::open(link, &question).await.next().await {
        Some(ToGateway::Opening { part, more: false }) => (part.len(), lanes),
        other => panic!("unexpected: {other:?}"),
    }
}

#[tokio::test]
async fn a_gateway_that_says_it_is_another_one_is_told_nothing() {
    let world = World::new();
    let (ours, net) = (&world.gateway, MemoryNet::new());
    let endpoint = world.net.endpoint(node_key(50), Limits::default());
    let liar = TestGateway::start(&world.chain, endpoint, 50, world.operator());
    // One of its callers pays by a channel of its own.
    let terms = ChannelTerms {
        payer: address(9),
        payer_key: ours.payer.public_key(),
        receiver: world.operator(),
        salt: 7,
        withdraw_delay_ms: 15 * 60_000,
    };
    let channel = world.chain.open_channel(terms, DEPOSIT);
    let caller = TestGateway {
        endpoint: ours.endpoint.clone(),
        payer: ours.payer.clone(),
        channel,
        provider: ours.provider,
    };
    let mut receipts = Vec::new();
    for is_restarted in [false, true] {
        let provider = Provider::start(world.auditing(&net)).await.unwrap();
        let (link, lying) = tokio::join!(ours.welcome(), liar.welcome_as(&ours.payer));
        if !is_restarted {
            for (number, gateway) in [(1, ours), (2, &caller)] {
                let mut ask = gateway.ask(number, link.model("dummy/64"));
                ask.request.logprobs = Some(20);
                receipts.push(gateway.serve(&link, &ask).await.receipt.unwrap());
            }
        }
        for (receipt, is_callers) in receipts.iter().zip([false, true]) {
            assert_eq!(told(&lying, receipt).await, (0, 0));
            let (bytes, lanes) = told(&link, receipt).await;
            // That it ordered what somebody else's channel paid for is known until we end.
            assert_eq!(bytes > 64, !(is_callers && is_restarted), "{is_callers} {is_restarted}");
            assert_eq!(lanes, usize::from(!is_callers));
        }
        provider.shutdown().await;
    }
}

#[tokio::test]
async fn a_verifier_that_is_silent_or_wants_too_much_keeps_no_round_from_another() {
    let world = World::new();
    let net = MemoryNet::new();
    let (provider, link) = world.start(world.auditing(&net)).await;
    let mut rounds = Vec::new();
    for number in 1..=3 {
        let mut ask = world.gateway.ask(number, link.model("dummy/64"));
        ask.request.logprobs = Some(20);
        let receipt = world.gateway.serve(&link, &ask).await.receipt.unwrap();
        assert_eq!(receipt.report.as_ref().unwrap().value.profile, "np1-l1");
        world.demand(&receipt);
        rounds.push(world.chain.lock().rounds.last().unwrap().commitment);
    }
    provider.shutdown().await;
    drop(provider);
    let (slow, honest) = (world.auditor(&net, SLOW), world.auditor(&net, HONEST));
    let greedy = tokio::spawn(async move {
        let connection = slow.accept().await.unwrap();
        let mut streams = Vec::new();
        // The first wants the same again and again, and is told nothing; the others are silent.
        loop {
            let (send, receive) = connection.accept().await.unwrap();
            let mut talk = Talk(send, receive);
            talk.want(if streams.is_empty() { vec![0; 1_020] } else { vec![0] }).await;
            if streams.is_empty() {
                assert!(talk.hear().await.is_none());
            }
            streams.push(talk);
        }
    });
    // Its first look is when it starts.
    let provider = Provider::start(world.auditing(&net)).await.unwrap();
    let told = async {
        let connection = honest.accept().await.unwrap();
        let mut told = Vec::new();
        for _ in 0..3 {
            let (send, receive) = connection.accept().await.unwrap();
            let mut talk = Talk(send, receive);
            told.push(talk.want(vec![0]).await);
            talk.take().await;
        }
        told
    };
    // Far less than the silent one is waited for.
    let mut told = timeout(Duration::from_secs(20), told).await.unwrap();
    told.sort_unstable();
    rounds.sort_unstable();
    assert_eq!(told, rounds);
    assert!(!greedy.is_finished());
    greedy.abort();
    provider.shutdown().await;
}
