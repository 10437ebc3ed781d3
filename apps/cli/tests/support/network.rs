//! A network as processes of their own, each of which can be killed and started again where it was.

use std::{net::TcpListener, path::Path};

use tempfile::TempDir;
use types::{Address, Nusd};
use wire::chain::{Chain, HttpChain};

use super::{
    process::{Process, peerwatt, peerwatt_gateway, string},
    stream::Consumer,
    until,
};

/// A process of the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Validator,
    Gateway,
    Provider,
}

impl Part {
    pub const ALL: [Part; 3] = [Part::Validator, Part::Gateway, Part::Provider];
}

/// Validator, gateway and a provider with the dummy engine, three processes on loopback.
pub struct Network {
    /// Of validator and gateway: the genesis document that the validator makes funds the gateway
    /// whose key lies beside it.
    pub home: TempDir,
    pub provider_home: TempDir,
    pub base_url: String,
    pub api_key: String,
    pub operator: Address,
    pub chain: HttpChain,
    chain_addr: String,
    gateway_addr: String,
    peer_addr: String,
    /// Where the gateway's keys are, if not in its own journal.
    database: Option<String>,
    gateway_arguments: Vec<String>,
    validator: Option<Process>,
    gateway: Option<Process>,
    provider: Option<Process>,
}

impl Network {
    pub async fn start() -> Network {
        Network::start_with(None).await
    }

    /// With the keys of its gateway in a database.
    pub async fn start_with(database: Option<String>) -> Network {
        Network::start_as(database, &[]).await
    }

    /// The same, with more arguments for the gateway.
    pub async fn start_as(database: Option<String>, gateway_arguments: &[String]) -> Network {
        let (chain_addr, gateway_addr, peer_addr) = (free_addr(), free_addr(), free_addr());
        let mut network = Network {
            home: tempfile::tempdir().unwrap(),
            provider_home: tempfile::tempdir().unwrap(),
            base_url: format!("http://{gateway_addr}/v1"),
            api_key: String::new(),
            // Known once the provider has started.
            operator: Address([0; 20]),
            chain: HttpChain::new(&format!("http://{chain_addr}")).unwrap(),
            chain_addr,
            gateway_addr,
            peer_addr,
            database,
            gateway_arguments: gateway_arguments.to_vec(),
            validator: None,
            gateway: None,
            provider: None,
        };
        for part in Part::ALL {
            network.start_part(part).await;
        }
        network
    }

    /// Starts a part where it was and waits until it says that it serves.
    pub async fn start_part(&mut self, part: Part) {
        let home = match part {
            Part::Validator | Part::Gateway => self.home.path(),
            Part::Provider => self.provider_home.path(),
        };
        let begin = ["--json", "--data-dir"];
        let mut command = match part {
            Part::Gateway => peerwatt_gateway(begin),
            Part::Validator | Part::Provider => peerwatt(begin),
        };
        command.arg(home);
        let chain = format!("http://{}", self.chain_addr);
        match part {
            // It has no peers, and tests of one file run at once.
            Part::Validator => command
                .args(["validator", "--listen", &self.chain_addr])
                .args(["--peer-listen", "127.0.0.1:0"]),
            Part::Gateway => command
                .args(["gateway", "--chain", &chain, "--listen", &self.gateway_addr])
                .args(["--peer-listen", &self.peer_addr])
                .args(&self.gateway_arguments),
            Part::Provider => command.args(["provide", "--chain", &chain, "--dummy-engine"]),
        };
        if let Some(database) = &self.database {
            command.env("PEERWATT_DATABASE", database);
        }
        let mut process = Process::start(&format!("{part:?}"), &mut command);
        let ready = process.ready().await;
        match part {
            Part::Validator => {}
            Part::Gateway => self.api_key = string(&ready, "api_key"),
            Part::Provider => self.operator = string(&ready, "operator").parse().unwrap(),
        }
        *self.slot(part) = Some(process);
    }

    /// SIGKILL.
    pub async fn kill(&mut self, part: Part) {
        self.slot(part).take().expect("running").kill().await;
    }

    /// SIGTERM: the part closes its books.
    pub async fn stop(&mut self, part: Part) {
        let status = self.slot(part).take().expect("running").stop().await;
        assert!(status.success(), "{part:?}: {status}");
    }

    fn slot(&mut self, part: Part) -> &mut Option<Process> {
        match part {
            Part::Validator => &mut self.validator,
            Part::Gateway => &mut self.gateway,
            Part::Provider => &mut self.provider,
        }
    }

    pub fn consumer(&self) -> Consumer {
        Consumer::new(&self.base_url, &self.api_key)
    }

    /// All that was claimed from channels to the provider, as the ledger has it.
    pub async fn claimed(&self) -> Nusd {
        let channels = self.chain.channels_of(self.operator).await.unwrap();
        channels.iter().fold(Nusd::ZERO, |sum, channel| sum.saturating_add(channel.claimed))
    }

    /// Where `peerwatt ledger check` looks.
    pub fn validator_home(&self) -> &Path {
        self.home.path()
    }
}

/// Waits until the gateway lists `model`.
pub async fn until_offered(consumer: &Consumer, model: &str) {
    until(&format!("an offer of {model}"), async || {
        let models = consumer.get("models").await?;
        models["data"].as_array()?.iter().any(|it| it["id"] == model).then_some(())
    })
    .await;
}

/// An address of this machine that is free now. A part that starts again must be found where it
/// was, so it cannot be given port 0.
fn free_addr() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
