//! The gateway as a whole, over a network in memory, against providers whose model names are
//! behaviours and a ledger without rules. Time is tokio's, paused.

#[macro_use]
pub(crate) mod postgres;

mod billing;
mod chain;
mod chaos;
mod continuation;
mod dialects;
mod double;
mod embeddings;
mod faults;
mod fleet;
mod hedging;
mod http_api;
mod keys_and_limits;
mod metrics;
mod replay;
mod restart;
mod routing;
mod table;
mod tallies;
mod tools;
mod traces;
mod upstreams;
mod whole;
mod x402;

use std::{
    path::Path,
    sync::{Arc, Mutex, OnceLock},
};

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use keys::SecretKey;
use net::{Limits as NetLimits, memory::MemoryNet};
use types::{ChainId, Nusd, PublicKey, TimeMs, Watt, sign::Sign};

use crate::{
    ChannelPolicy, CreditPolicy, DatabaseUrl, DemandPolicy, Gateway, GatewayConfig, GatewayHandle,
    KeyLimits, Limits, RECEIPT_RETENTION_MS, Timeouts,
};
use chain::TestChain;
use double::{Double, Seen};

/// The time of day, which stands still.
const NOW_MS: u64 = 1_700_000_000_000;
const BUDGET: Nusd = Nusd::whole(1);
const ADMIN_KEY: &str = "pwadmin-of-the-tests";

fn chain_id() -> ChainId {
    "test-1".parse().unwrap()
}

/// A key that is the same in every run.
fn key(seed: u8) -> Arc<SecretKey> {
    Arc::new(SecretKey::from_seed([seed; 32]))
}

/// The public key of a node.
fn node(seed: u8) -> PublicKey {
    key(seed).public_key()
}

const GATEWAY_OPERATOR: u8 = 1;
const GATEWAY_PAYER: u8 = 2;
const GATEWAY_NODE: u8 = 3;

/// While it lives, paused time does not run ahead: tokio waits for blocking work.
pub(crate) struct TimeStandsStill(
    #[expect(dead_code, reason = "dropped to end it")] std::sync::mpsc::Sender<()>,
);

impl TimeStandsStill {
    pub(crate) fn new() -> TimeStandsStill {
        let (alive, ended) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || ended.recv());
        TimeStandsStill(alive)
    }
}

/// A gateway with its surroundings.
struct World {
    home: tempfile::TempDir,
    net: MemoryNet,
    chain: Arc<TestChain>,
    gateway: GatewayHandle,
    api_key: String,
    /// Where the keys are, if not in the gateway's own journal.
    database: Option<DatabaseUrl>,
    node_seed: u8,
}

impl World {
    async fn new() -> World {
        World::with(|_| ()).await
    }

    /// A world whose gateway has another configuration.
    async fn with(change: impl FnOnce(&mut GatewayConfig)) -> World {
        let world = World::start(postgres::database(), GATEWAY_NODE, change).await;
        let made = world.gateway.create_api_key("tests", KeyLimits::budget(BUDGET)).await;
        World { api_key: made.unwrap(), ..world }
    }

    /// A gateway that nobody has a key to.
    async fn start(
        database: Option<DatabaseUrl>,
        node_seed: u8,
        change: impl FnOnce(&mut GatewayConfig),
    ) -> World {
        let home = tempfile::tempdir().unwrap();
        let (net, chain) = (MemoryNet::new(), Arc::new(TestChain::new(chain_id())));
        chain.fund(key(GATEWAY_OPERATOR).address(), Watt::whole(1_000));
        let mut config = config(home.path(), &net, &chain, node_seed);
        config.database.clone_from(&database);
        change(&mut config);
        let gateway = Gateway::start(config).await.unwrap();
        World { home, net, chain, gateway, api_key: String::new(), database, node_seed }
    }

    /// Another gateway with the same keys; its providers and channels are its own.
    async fn twin(&self, change: impl FnOnce(&mut GatewayConfig)) -> World {
        let twin = World::start(self.database.clone(), self.node_seed + 1, change).await;
        World { api_key: self.api_key.clone(), ..twin }
    }

    /// Stops the gateway and starts it anew on the same folder.
    async fn restart(self) -> World {
        self.restart_with(|_| ()).await
    }

    /// The same with another configuration.
    async fn restart_with(self, change: impl FnOnce(&mut GatewayConfig)) -> World {
        let World { home, net, chain, gateway, api_key, database, node_seed } = self;
        gateway.shutdown().await;
        drop(gateway);
        let mut config = config(home.path(), &net, &chain, node_seed);
        config.database.clone_from(&database);
        change(&mut config);
        let gateway = Gateway::start(config).await.unwrap();
        World { home, net, chain, gateway, api_key, database, node_seed }
    }

    /// A registered provider that offers `aliases`, connected and paid for. Each behaves as its
    /// name says; `name=behaviour` tells them apart.
    async fn provider(&self, seed: u8, aliases: &[&str]) -> Double {
        self.provider_again(seed, aliases, Arc::new(Mutex::new(Seen::default()))).await
    }

    /// The same with the memory of an earlier connection.
    async fn provider_again(&self, seed: u8, aliases: &[&str], seen: Arc<Mutex<Seen>>) -> Double {
        let operator = key(seed);
        self.chain.register(operator.address(), node(seed + 100));
        let endpoint = self.net.endpoint(node(seed + 100), NetLimits::default());
        let double =
            Double::connect(endpoint, node(self.node_seed), &chain_id(), operator, aliases, seen)
                .await;
        let address = double.key.address();
        self.gateway
            .until(|shared| {
                let providers = shared.directory.providers(shared.since_start());
                providers.iter().any(|view| view.operator == address && view.payable)
            })
            .await;
        double
    }

    /// Sends a request and returns status, headers and the body's stream.
    async fn send(&self, request: Request<Body>) -> Response<Body> {
        TowerToHyperService::new(self.gateway.router()).call(request).await.unwrap()
    }

    fn request(&self, path: &str, body: &str) -> Request<Body> {
        Request::post(path)
            .header("authorization", format!("Bearer {}", self.api_key))
            .header("content-type", "application/json")
            .body(Body::from(body.to_owned()))
            .unwrap()
    }

    async fn chat(&self, model: &str, more: &str) -> Answer {
        let body = format!(
            r#"{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]{more}}}"#
        );
        self.ask(self.request("/v1/chat/completions", &body)).await
    }

    async fn get(&self, path: &str) -> Answer {
        let bearer = format!("Bearer {}", self.api_key);
        let request = Request::get(path).header("authorization", bearer);
        self.ask(request.body(Body::empty()).unwrap()).await
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.send(request).await;
        let status = response.status().as_u16();
        let header = |name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let id = header("x-request-id").unwrap();
        let mut headers = String::new();
        for name in ["content-type", "retry-after", "trailer", "x-peerwatt-cost-nusd"] {
            if let Some(value) = header(name) {
                headers += &format!("{name}: {value}\n");
            }
        }
        let collected = response.into_body().collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let body = String::from_utf8(collected.to_bytes().to_vec()).unwrap();
        for (name, value) in &trailers {
            headers += &format!("trailer {name}: {}\n", value.to_str().unwrap());
        }
        Answer { status, id, headers, body }
    }

    /// What the first key has used and what is reserved for it.
    async fn spent(&self) -> (Nusd, Nusd) {
        let keys = self.gateway.keys().await.unwrap();
        let view = keys.iter().find(|view| view.name == "tests").unwrap();
        (view.used, view.reserved)
    }

    /// Charged and promised over all channels.
    fn owed(&self) -> (Nusd, Nusd) {
        let channels = self.gateway.account().channels;
        let sum = |of: fn(&crate::ChannelSummary) -> Nusd| channels.iter().map(of).sum();
        (sum(|channel| channel.charged), sum(|channel| channel.promised))
    }
}

/// An answer as text, with what differs between runs replaced.
struct Answer {
    status: u16,
    id: String,
    headers: String,
    body: String,
}

impl Answer {
    fn shown(&self) -> String {
        let Answer { status, id, headers, body } = self;
        format!("{status}\n{headers}\n{}\n", body.replace(id.as_str(), "ID"))
    }

    /// The text of all events or of the plain answer.
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn config(home: &Path, net: &MemoryNet, chain: &Arc<TestChain>, node_seed: u8) -> GatewayConfig {
    // One clock that stands still: timestamps are part of the answers.
    static CLOCK: OnceLock<crate::Clock> = OnceLock::new();
    let clock = CLOCK.get_or_init(|| Arc::new(|| TimeMs(NOW_MS)));
    GatewayConfig {
        home: home.to_owned(),
        chain_id: chain_id(),
        operator: key(GATEWAY_OPERATOR),
        payer: key(GATEWAY_PAYER),
        endpoint: net.endpoint(node(node_seed), NetLimits::default()),
        advertise: vec!["127.0.0.1:4433".into()],
        chain: Arc::clone(chain) as Arc<dyn wire::chain::Chain>,
        moniker: "gateway".into(),
        limits: Limits::standard(),
        timeouts: Timeouts::standard(),
        credits: CreditPolicy { below: Nusd::whole(20), amount: Nusd::whole(50) },
        channels: ChannelPolicy { deposit: Nusd::whole(5), withdraw_delay_ms: 3_600_000 },
        demands: DemandPolicy::standard(),
        playground_budget: Some(BUDGET),
        keyless: None,
        x402: false,
        admin_key: Some(ADMIN_KEY.to_owned()),
        database: None,
        upstreams: Vec::new(),
        collector: None,
        receipt_retention_ms: RECEIPT_RETENTION_MS,
        clock: Arc::clone(clock),
    }
}
