//! Answers that a service outside the network is asked for as a whole: when, how long they are waited for, and that nobody
//! sees a difference.
//!
//! Some answers are streamed whoever waits for them, and which ones is drawn: where it matters, a test asks again until it was not.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response as Reply},
    routing::{get, post},
};
use engine::{
    Engine, EngineError, EngineModel, Generation, Load, OpenAiEngine, OpenAiOptions,
    dummy::{DummyEngine, DummyOptions},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{
    ModelId,
    inference::{CountMethod, InferenceRequest},
    offer::EngineKind,
    price::Price,
};

use super::*;
use crate::{ConnectUpstream, ConnectedUpstream, UpstreamConfig, UpstreamModel, UpstreamRole};

/// More than it takes to see both kinds of answers.
const REQUESTS: usize = 200;

fn upstream(name: &str, connect: ConnectUpstream) -> UpstreamConfig {
    let price = Price {
        request_nusd: Nusd(0),
        prompt_nusd_per_mtok: Nusd(1_000_000),
        completion_nusd_per_mtok: Nusd(2_000_000),
    };
    UpstreamConfig {
        name: name.into(),
        role: UpstreamRole::Policy,
        slots: 8,
        models: vec![UpstreamModel { serves: "m".into(), price }],
        connect,
    }
}

/// An engine whose whole answers take their time.
#[derive(Debug)]
struct Service {
    dummy: DummyEngine,
    takes: Duration,
    wholes: AtomicU32,
    stopped: AtomicU32,
}

#[async_trait]
impl Engine for Service {
    fn kind(&self) -> EngineKind {
        EngineKind::Resold
    }

    fn version(&self) -> String {
        "twin".into()
    }

    async fn models(&self) -> Result<Vec<EngineModel>, EngineError> {
        self.dummy.models().await
    }

    async fn generate(
        &self,
        model: ModelId,
        request: InferenceRequest,
        cancel: CancellationToken,
    ) -> Result<Generation, EngineError> {
        self.dummy.generate(model, request, cancel).await
    }

    fn answers_whole(&self, _request: &InferenceRequest) -> bool {
        true
    }

    async fn answer_whole(
        &self,
        model: ModelId,
        request: InferenceRequest,
        cancel: CancellationToken,
    ) -> Result<Generation, EngineError> {
        self.wholes.fetch_add(1, Ordering::Relaxed);
        let _stopped = Stopped(self, cancel.clone());
        tokio::time::sleep(self.takes).await;
        self.dummy.generate(model, request, cancel).await
    }

    fn load(&self) -> Load {
        self.dummy.load()
    }
}

/// Counts a request that nobody waits for any more.
struct Stopped<'a>(&'a Service, CancellationToken);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        if self.1.is_cancelled() {
            self.0.stopped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Service {
    async fn start(takes: Duration) -> (World, Arc<Service>) {
        let dummy = DummyEngine::new(DummyOptions::all()).unwrap();
        let (wholes, stopped) = Default::default();
        let service = Arc::new(Service { dummy, takes, wholes, stopped });
        let connected = Arc::clone(&service);
        let connect: ConnectUpstream = Arc::new(move || {
            let engine = Arc::clone(&connected);
            Box::pin(async move {
                let models = engine.models().await?;
                let models = models.into_iter().filter(|it| it.alias == "dummy/no-ids").collect();
                Ok(ConnectedUpstream { engine, models })
            })
        });
        let world = World::with(|config| config.upstreams = vec![upstream("cloud", connect)]).await;
        world.gateway.ready().await;
        // What is not measured is streamed.
        assert_eq!(world.chat("m", r#", "max_tokens": 2"#).await.status, 200);
        (world, service)
    }

    fn asked(&self) -> u32 {
        self.wholes.load(Ordering::Relaxed)
    }

    /// The first whole answer, and how long it took.
    async fn whole(&self, world: &World, more: &str) -> (Answer, Duration) {
        for _ in 0..REQUESTS {
            let (asked, began) = (self.asked(), Instant::now());
            let answer = world.chat("m", more).await;
            if self.asked() > asked {
                return (answer, began.elapsed());
            }
        }
        panic!("it was never asked for a whole answer");
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_waited_for_as_long_as_for_its_tokens_one_by_one() {
    // Longer than for a first token.
    let (world, service) = Service::start(Duration::from_secs(100)).await;
    let (answer, took) = service.whole(&world, r#", "max_tokens": 2"#).await;
    assert_eq!((answer.status, took.as_secs()), (200, 100));

    let (world, service) = Service::start(Duration::from_secs(100_000)).await;
    let before = world.spent().await;
    for (tokens, seconds) in [(1, 60 + 2 * 30), (2, 60 + 3 * 30), (1_000, 15 * 60)] {
        let (answer, took) = service.whole(&world, &format!(r#", "max_tokens": {tokens}"#)).await;
        assert_eq!((answer.status, took.as_secs()), (502, seconds), "{}", answer.body);
        assert!(answer.body.contains("took too long"), "{}", answer.body);
    }
    assert!(world.spent().await.0 >= before.0);
    assert_eq!(world.spent().await.1, Nusd::ZERO);
    assert_eq!(service.stopped.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn only_short_answers_to_who_waits_for_their_end_are_asked_for_so() {
    let (world, service) = Service::start(Duration::ZERO).await;
    for more in ["", r#", "max_tokens": 1025"#, r#", "max_tokens": 16, "stream": true"#] {
        for _ in 0..REQUESTS / 10 {
            assert_eq!(world.chat("m", more).await.status, 200);
        }
    }
    assert_eq!(service.asked(), 0);
    service.whole(&world, r#", "max_tokens": 1024"#).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_stops_it_and_pays_nothing() {
    let (world, service) = Service::start(Duration::from_secs(50)).await;
    while service.asked() == 0 {
        let spent = world.spent().await;
        let asked = world.chat("m", r#", "max_tokens": 2"#);
        let left = tokio::time::timeout(Duration::from_secs(10), asked).await;
        world.gateway.idle().await;
        assert_eq!(left.is_err(), service.asked() == 1);
        assert!(left.is_ok() || world.spent().await == spent);
    }
    assert_eq!(service.stopped.load(Ordering::Relaxed), 1);
}

/// How a service over HTTP deals with those who want whole answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wholes {
    Given,
    Refused,
    Cut,
}

async fn answer(State((wholes, asked)): State<(Wholes, Arc<AtomicU32>)>, body: String) -> Reply {
    let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":5}"#;
    if body.contains(r#""stream":true"#) {
        let chunk =
            |text: &str| format!(r#"data: {{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#);
        let text = [" a", " b", " c", " d", " e"].map(|text| chunk(text) + "\n\n").concat();
        let end = r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        return format!("{text}{end}\n\ndata: {{\"choices\":[],{usage}}}\n\ndata: [DONE]\n\n")
            .into_response();
    }
    asked.fetch_add(1, Ordering::Relaxed);
    let message = r#"{"role":"assistant","content":" a b c d e"}"#;
    let whole =
        format!(r#"{{"choices":[{{"message":{message},"finish_reason":"stop"}}],{usage}}}"#);
    match wholes {
        Wholes::Given => whole.into_response(),
        Wholes::Refused => {
            let problem = r#"{"error":{"message":"this model only supports stream=true"}}"#;
            (http::StatusCode::BAD_REQUEST, problem).into_response()
        }
        Wholes::Cut => {
            let parts = [Ok(whole[..9].to_owned()), Err(std::io::Error::other("cut"))];
            Body::from_stream(futures::stream::iter(parts)).into_response()
        }
    }
}

/// A service on loopback. What it counts is requests for whole answers.
async fn serve(name: &str, wholes: Wholes) -> (UpstreamConfig, Arc<AtomicU32>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = OpenAiOptions {
        resold: true,
        ..OpenAiOptions::at(&format!("http://{}", listener.local_addr().unwrap()))
    };
    let models = || async { r#"{"object":"list","data":[{"id":"cloud-model","object":"model"}]}"# };
    let asked = Arc::<AtomicU32>::default();
    let router = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(answer))
        .with_state((wholes, Arc::clone(&asked)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let connect: ConnectUpstream = Arc::new(move || {
        let options = options.clone();
        Box::pin(async move {
            let engine = OpenAiEngine::connect(options).await?;
            let models = engine.model_named("cloud-model").into_iter().collect();
            Ok(ConnectedUpstream { engine: Arc::new(engine), models })
        })
    });
    (upstream(name, connect), asked)
}

/// Real time and sockets: what is waited for is answers.
#[tokio::test]
async fn whichever_way_it_came_the_client_gets_the_same() {
    for wholes in [Wholes::Given, Wholes::Refused, Wholes::Cut] {
        let (odd, asked) = serve("odd", wholes).await;
        let (good, _) = serve("good", Wholes::Given).await;
        let upstreams = if wholes == Wholes::Cut { vec![odd, good] } else { vec![odd] };
        let count = upstreams.len();
        let world = World::with(|config| config.upstreams = upstreams).await;
        let all = |shared: &crate::shared::Shared| shared.upstreams.offers(TimeMs(0)).len();
        world.gateway.until(|shared| all(shared) == count).await;
        for _ in 0..REQUESTS {
            let answer = world.chat("m", r#", "max_tokens": 16"#).await;
            assert_eq!(answer.status, 200, "{wholes:?}: {}", answer.body);
            let body = answer.json();
            let choice = &body["choices"][0];
            assert_eq!(choice["message"]["content"], " a b c d e");
            assert_eq!(
                (&choice["finish_reason"], &body["usage"]["total_tokens"]),
                (&"stop".into(), &8.into())
            );
            let receipt = world.gateway.receipt(answer.id.parse().unwrap()).unwrap().receipt;
            let ack = &receipt.acknowledgement.value;
            assert_eq!((ack.delivered_tokens, ack.prompt_tokens), (5, 3));
            assert_eq!((ack.counted, receipt.verify(&keys::Ed25519)), (CountMethod::Told, Ok(())));
        }
        match (asked.load(Ordering::Relaxed), wholes) {
            (1, Wholes::Refused) => {}
            (asked, Wholes::Given) if asked > 100 => {}
            (asked, Wholes::Cut) if asked > 1 => {}
            (asked, _) => panic!("{wholes:?}: asked {asked} times"),
        }
    }
}
