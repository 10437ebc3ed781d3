//! Several validators as processes on loopback, from the data folders that `peerwatt testnet` makes.

use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use types::{Address, Height, PublicKey};
use wire::chain::HttpChain;

use super::{
    process::{Process, json as run_json, peerwatt, string},
    until,
};

/// How long nodes may take to come to one block.
const PATIENCE: Duration = Duration::from_secs(60);

/// The data folders of a network and what runs of it.
pub struct Network {
    pub folder: tempfile::TempDir,
    pub nodes: Vec<Node>,
}

/// One data folder, and its process while it runs.
pub struct Node {
    pub home: PathBuf,
    pub chain: HttpChain,
    pub process: Option<Process>,
}

/// A port that is free for TCP and UDP; both are held until all of a test's have been found.
pub fn port() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            return (tcp, udp);
        }
    }
}

pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub fn write_json(path: &Path, value: &Value) {
    fs::write(path, serde_json::to_vec_pretty(value).unwrap()).unwrap();
}

impl Network {
    /// Folders for validators of these weights; nothing runs.
    pub async fn prepare(weights: &str) -> Network {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_str().unwrap();
        run_json(&["testnet", "--init-only", "--weights", weights, "--dir", dir]).await;
        let count = weights.split(',').count();
        let mut network = Network { folder, nodes: Vec::new() };
        // Ports that are free here and now, instead of those of the documentation.
        let held: Vec<_> = (0..2 * count).map(|_| port()).collect();
        let addrs: Vec<String> =
            held.iter().map(|(tcp, _)| tcp.local_addr().unwrap().to_string()).collect();
        let settings: Vec<(PathBuf, Value)> = (0..count)
            .map(|number| {
                let home = network.folder.path().join(format!("validator-{number}"));
                let settings = read_json(&home.join("validator.json"));
                (home, settings)
            })
            .collect();
        let old: Vec<String> =
            settings.iter().map(|(_, it)| it["peer_listen"].as_str().unwrap().to_owned()).collect();
        for (number, (home, mut settings)) in settings.into_iter().enumerate() {
            settings["listen"] = json!(addrs[2 * number]);
            settings["peer_listen"] = json!(addrs[2 * number + 1]);
            for peer in settings["peers"].as_array_mut().unwrap() {
                let (key, addr) = peer.as_str().unwrap().split_once('@').unwrap();
                let place = old.iter().position(|it| it == addr).unwrap();
                *peer = json!(format!("{key}@{}", addrs[2 * place + 1]));
            }
            write_json(&home.join("validator.json"), &settings);
            let chain = HttpChain::new(&format!("http://{}", addrs[2 * number])).unwrap();
            network.nodes.push(Node { home, chain, process: None });
        }
        network
    }

    pub async fn start(weights: &str) -> Network {
        let mut network = Network::prepare(weights).await;
        network.start_all().await;
        network
    }

    pub async fn start_all(&mut self) {
        for node in &mut self.nodes {
            node.start().await;
        }
    }

    /// Changes the genesis document of all, before they start.
    pub fn change_genesis(&self, change: impl Fn(&mut Value)) {
        for node in &self.nodes {
            let path = node.home.join("genesis.json");
            let mut genesis = read_json(&path);
            change(&mut genesis);
            write_json(&path, &genesis);
        }
    }

    /// How many validators have a seat, as the first node knows it.
    pub async fn seats(&self) -> usize {
        let validators = self.nodes[0].chain.validators().await.unwrap();
        validators.iter().filter(|it| it.power.is_some()).count()
    }

    /// What the first node says of the validator of this operator.
    pub async fn seat(&self, operator: &str) -> Value {
        let validators = self.nodes[0].chain.validators().await.unwrap();
        let validators = serde_json::to_value(validators).unwrap();
        let found = validators.as_array().unwrap().iter().find(|it| it["operator"] == operator);
        found.unwrap_or_else(|| panic!("{operator} is not among {validators}")).clone()
    }

    /// Moves one WATT through the node with this number, and waits until it is in a block.
    pub async fn pay(&self, through: usize) -> Value {
        let to = Address::of_key(&PublicKey([7; 32])).to_string();
        let home = self.nodes[0].home();
        let url = self.nodes[through].chain.url();
        let line = ["--data-dir", home, "wallet", "send", &to, "1", "--chain", url];
        run_json(&line).await
    }

    /// Address of the operator of a validator. Its node must run.
    pub async fn operator(&self, number: usize) -> String {
        let home = self.nodes[number].home();
        let shown = run_json(&["--data-dir", home, "wallet", "show", "--key", "validator"]).await;
        string(&shown, "address")
    }

    /// Waits until the given nodes stand at one block of at least this height. They keep one chain
    /// up to there.
    pub async fn agree(&self, numbers: &[usize], height: u64) -> u64 {
        let agreed = until("all to stand at one block", async || {
            let mut tips = Vec::new();
            for number in numbers {
                tips.push(self.nodes[*number].tip().await?);
            }
            let first = tips.first()?.clone();
            (first.0 >= height && tips.iter().all(|tip| *tip == first)).then_some(first.0)
        });
        if let Ok(height) = tokio::time::timeout(PATIENCE, agreed).await {
            return height;
        }
        let mut told = String::new();
        for number in numbers {
            let (node, tip) = (&self.nodes[*number], self.nodes[*number].tip().await);
            let log = node.process.as_ref().map_or_else(String::new, Process::explain);
            told += &format!("\nvalidator {number} stands at {tip:?}\n{log}");
        }
        panic!("they do not come to stand at one block of height {height} or more{told}");
    }

    /// A fifth folder, of somebody who knows the genesis document and two nodes.
    pub fn add_stranger(&mut self) {
        let home = self.folder.path().join("validator-4");
        fs::create_dir(&home).unwrap();
        fs::copy(self.nodes[0].home.join("genesis.json"), home.join("genesis.json")).unwrap();
        let mut settings = read_json(&self.nodes[0].home.join("validator.json"));
        let own = read_json(&self.nodes[1].home.join("validator.json"));
        let key_of_first = own["peers"][0].clone();
        let peers = settings["peers"].as_array_mut().unwrap();
        peers.push(key_of_first);
        let (chain_port, peer_port) = (port(), port());
        let addr = |port: &(TcpListener, UdpSocket)| port.0.local_addr().unwrap().to_string();
        settings["listen"] = json!(addr(&chain_port));
        settings["peer_listen"] = json!(addr(&peer_port));
        let chain = HttpChain::new(&format!("http://{}", addr(&chain_port))).unwrap();
        drop((chain_port, peer_port));
        write_json(&home.join("validator.json"), &settings);
        self.nodes.push(Node { home, chain, process: None });
    }

    /// Stops everything and replays every folder: each chain is whole, and all end the same. Tells where
    /// each replay began.
    pub async fn stop_and_check(self) -> Vec<u64> {
        let ends = self.stop_each_and_check().await;
        assert!(ends.windows(2).all(|pair| pair[0].0 == pair[1].0), "{ends:?}");
        ends.into_iter().map(|(_, from)| from).collect()
    }

    /// The same of a network that goes on by itself until the last of a majority has stopped: those that end at one height
    /// end the same. Returns height, digest of the state, and where the replay began.
    pub async fn stop_each_and_check(mut self) -> Vec<((u64, String), u64)> {
        let mut ends: Vec<((u64, String), u64)> = Vec::new();
        for node in &mut self.nodes {
            if let Some(process) = node.process.take() {
                assert!(process.stop().await.success());
            }
            let checked = run_json(&["--data-dir", node.home(), "ledger", "check"]).await;
            assert_eq!(checked["violations"], json!([]), "{checked}");
            let number = |field: &str| checked[field].as_u64().unwrap();
            ends.push(((number("height"), string(&checked, "app_hash")), number("from")));
        }
        let by_height: BTreeMap<u64, &str> =
            ends.iter().map(|((height, hash), _)| (*height, hash.as_str())).collect();
        assert!(ends.iter().all(|((height, hash), _)| by_height[height] == hash), "{ends:?}");
        ends
    }
}

impl Node {
    pub fn home(&self) -> &str {
        self.home.to_str().unwrap()
    }

    pub async fn start(&mut self) {
        self.start_with(&[]).await;
    }

    pub async fn start_with(&mut self, options: &[&str]) {
        let line = ["--json", "-v", "--data-dir", self.home(), "validator"];
        let line = line.into_iter().chain(options.iter().copied());
        let mut process = Process::start("validator", &mut peerwatt(line));
        process.ready().await;
        self.process = Some(process);
    }

    pub async fn kill(&mut self) {
        self.process.take().expect("it runs").kill().await;
    }

    /// Height and digest of the newest block. `None`: it does not answer.
    pub async fn tip(&self) -> Option<(u64, String)> {
        let height = self.height().await?;
        let block = self.chain.block(Height(height)).await.ok()??;
        Some((height, serde_json::to_value(&block).unwrap()["hash"].to_string()))
    }

    /// The figures without labels.
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        let url = format!("{}/metrics", self.chain.url());
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| line.split_once(' '))
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }

    pub async fn height(&self) -> Option<u64> {
        let status = wire::chain::Chain::status(&self.chain).await.ok()?;
        Some(status.height.0)
    }
}
