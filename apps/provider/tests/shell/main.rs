//! The provider's shell against a network, a chain and engines in memory, and once over iroh.
//!
//! Time is real where a request runs, because the journal's thread is; nothing waits for it. Where
//! a timer is what is tested, no request runs and time is paused.

mod chain;
mod gateway;
mod heartbeat;
mod hostile;
mod links;
mod openings;
mod recovery;
mod refused;
mod serving;
mod why;

use std::{path::Path, sync::Arc};

use chain::{TestChain, chain_id};
use engine::dummy::{DummyEngine, DummyOptions};
use gateway::{NOW, PRICE, TestGateway, TestLink, node_key};
use keys::SecretKey;
use net::{Limits, SharedEndpoint, memory::MemoryNet};
use provider::{Clock, Endpoints, Pricing, Provider, ProviderConfig, ProviderHandle};
use types::{Address, TimeMs};

const GATEWAY: u8 = 1;
const PROVIDER: u8 = 2;

/// A clock that stands still: nothing in a provider may wait for it.
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> TimeMs {
        NOW
    }
}

/// A clock that goes with tokio's timers, for what is planned by the time of day.
#[derive(Clone, Copy, Debug)]
struct TimerClock {
    started: tokio::time::Instant,
}

impl Clock for TimerClock {
    fn now(&self) -> TimeMs {
        let passed = self.started.elapsed().as_millis();
        NOW.plus_ms(u64::try_from(passed).unwrap())
    }
}

/// A network with one gateway, ready for a provider.
struct World {
    net: MemoryNet,
    chain: TestChain,
    home: tempfile::TempDir,
    operator: Arc<SecretKey>,
    gateway: TestGateway,
}

impl World {
    fn new() -> World {
        let net = MemoryNet::new();
        let chain = TestChain::default();
        let operator = Arc::new(SecretKey::from_seed([100; 32]));
        let endpoint = net.endpoint(node_key(GATEWAY), Limits::default());
        let gateway = TestGateway::start(&chain, endpoint, GATEWAY, operator.address());
        World { net, chain, home: tempfile::tempdir().unwrap(), operator, gateway }
    }

    fn operator(&self) -> Address {
        self.operator.address()
    }

    fn config_in(&self, home: &Path, endpoint: SharedEndpoint) -> ProviderConfig {
        let mut models = DummyOptions::all().models;
        models.push("dummy/200".to_owned());
        let options = DummyOptions { models, ..DummyOptions::all() };
        let engine = DummyEngine::new(options).unwrap();
        let auditors = MemoryNet::new().endpoint(node_key(PROVIDER), Limits::default());
        ProviderConfig {
            pricing: Pricing { default: PRICE, by_alias: Default::default() },
            clock: Arc::new(StoppedClock),
            random: Arc::new(|| 0),
            ..ProviderConfig::new(
                home.to_owned(),
                chain_id(),
                self.operator.clone(),
                Endpoints { gateways: endpoint, auditors },
                Arc::new(self.chain.clone()),
                vec![Arc::new(engine)],
            )
        }
    }

    fn config(&self) -> ProviderConfig {
        let endpoint = self.net.endpoint(node_key(PROVIDER), Limits::default());
        self.config_in(self.home.path(), endpoint)
    }

    /// A running provider, welcomed by the gateway.
    async fn serving(&self) -> (ProviderHandle, TestLink) {
        self.start(self.config()).await
    }

    async fn start(&self, config: ProviderConfig) -> (ProviderHandle, TestLink) {
        let provider = Provider::start(config).await.unwrap();
        let link = self.gateway.welcome().await;
        (provider, link)
    }
}
