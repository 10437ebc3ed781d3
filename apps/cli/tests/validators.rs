//! Several validators as processes on loopback: killed, cut down to a minority, brought back, joined,
//! left and impersonated. Whatever happens, all that run keep the same chain.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    process::{Process, json as run_json, peerwatt, run, string, text},
    until,
};
use types::{Address, Height, PublicKey};
use wire::chain::HttpChain;

/// How long a network that must not decide is watched. It decides within a fraction of it when it can.
const WATCHED: Duration = Duration::from_secs(6);

/// How long nodes may take to come to one block.
const PATIENCE: Duration = Duration::from_secs(60);

/// The data folders of a network and what runs of it.
struct Network {
    folder: tempfile::TempDir,
    nodes: Vec<Node>,
}

/// One data folder, and its process while it runs.
struct Node {
    home: PathBuf,
    chain: HttpChain,
    process: Option<Process>,
}

/// A port that is free for TCP and UDP; both are held until all of a test's have been found.
fn port() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            return (tcp, udp);
        }
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn write_json(path: &Path, value: &Value) {
    fs::write(path, serde_json::to_vec_pretty(value).unwrap()).unwrap();
}

impl Network {
    /// Folders for validators of these weights; nothing runs.
    async fn prepare(weights: &str) -> Network {
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

    async fn start(weights: &str) -> Network {
        let mut network = Network::prepare(weights).await;
        network.start_all().await;
        network
    }

    async fn start_all(&mut self) {
        for node in &mut self.nodes {
            node.start().await;
        }
    }

    /// Changes the genesis document of all, before they start.
    fn change_genesis(&self, change: impl Fn(&mut Value)) {
        for node in &self.nodes {
            let path = node.home.join("genesis.json");
            let mut genesis = read_json(&path);
            change(&mut genesis);
            write_json(&path, &genesis);
        }
    }

    /// How many validators have a seat, as the first node knows it.
    async fn seats(&self) -> usize {
        let validators = self.nodes[0].chain.validators().await.unwrap();
        validators.iter().filter(|it| it.power.is_some()).count()
    }

    /// What the first node says of the validator of this operator.
    async fn seat(&self, operator: &str) -> Value {
        let validators = self.nodes[0].chain.validators().await.unwrap();
        let validators = serde_json::to_value(validators).unwrap();
        let found = validators.as_array().unwrap().iter().find(|it| it["operator"] == operator);
        found.unwrap_or_else(|| panic!("{operator} is not among {validators}")).clone()
    }

    /// Moves one WATT through the node with this number, and waits until it is in a block.
    async fn pay(&self, through: usize) -> Value {
        let to = Address::of_key(&PublicKey([7; 32])).to_string();
        let home = self.nodes[0].home();
        let url = self.nodes[through].chain.url();
        let line = ["--data-dir", home, "wallet", "send", &to, "1", "--chain", url];
        run_json(&line).await
    }

    /// Address of the operator of a validator. Its node must run.
    async fn operator(&self, number: usize) -> String {
        let home = self.nodes[number].home();
        let shown = run_json(&["--data-dir", home, "wallet", "show", "--key", "validator"]).await;
        string(&shown, "address")
    }

    /// Waits until the given nodes stand at one block of at least this height. They keep one chain
    /// up to there.
    async fn agree(&self, numbers: &[usize], height: u64) -> u64 {
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
    fn add_stranger(&mut self) {
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
    async fn stop_and_check(mut self) -> Vec<u64> {
        let (mut roots, mut from) = (Vec::new(), Vec::new());
        for node in &mut self.nodes {
            if let Some(process) = node.process.take() {
                assert!(process.stop().await.success());
            }
            let checked = run_json(&["--data-dir", node.home(), "ledger", "check"]).await;
            assert_eq!(checked["violations"], json!([]), "{checked}");
            roots.push((checked["height"].clone(), checked["app_hash"].clone()));
            from.push(checked["from"].as_u64().unwrap());
        }
        assert!(roots.windows(2).all(|pair| pair[0] == pair[1]), "{roots:?}");
        from
    }
}

impl Node {
    fn home(&self) -> &str {
        self.home.to_str().unwrap()
    }

    async fn start(&mut self) {
        self.start_with(&[]).await;
    }

    async fn start_with(&mut self, options: &[&str]) {
        let line = ["--json", "-v", "--data-dir", self.home(), "validator"];
        let line = line.into_iter().chain(options.iter().copied());
        let mut process = Process::start("validator", &mut peerwatt(line));
        process.ready().await;
        self.process = Some(process);
    }

    async fn kill(&mut self) {
        self.process.take().expect("it runs").kill().await;
    }

    /// Height and digest of the newest block. `None`: it does not answer.
    async fn tip(&self) -> Option<(u64, String)> {
        let height = self.height().await?;
        let block = self.chain.block(Height(height)).await.ok()??;
        Some((height, serde_json::to_value(&block).unwrap()["hash"].to_string()))
    }

    /// The figures without labels.
    async fn metrics(&self) -> BTreeMap<String, f64> {
        let url = format!("{}/metrics", self.chain.url());
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| line.split_once(' '))
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }

    async fn height(&self) -> Option<u64> {
        let status = wire::chain::Chain::status(&self.chain).await.ok()?;
        Some(status.height.0)
    }
}

#[tokio::test]
async fn a_killed_validator_is_not_missed_and_votes_again_after_it_came_back() {
    let mut network = Network::start("1,1,1,1").await;
    network.pay(1).await;
    let before = network.agree(&[0, 1, 2, 3], 1).await;
    network.nodes[3].kill().await;
    for _ in 0..3 {
        network.pay(1).await;
    }
    let without = network.agree(&[0, 1, 2], before + 3).await;
    network.nodes[3].start().await;
    network.agree(&[0, 1, 2, 3], without).await;
    let metrics = network.nodes[0].metrics().await;
    assert_eq!(metrics["peerwatt_validators"], 4.0, "{metrics:?}");
    assert!(metrics["peerwatt_height"] >= without as f64);
    assert!(metrics["peerwatt_peers"] >= 2.0, "{metrics:?}");
    // Without another one its vote is needed.
    network.nodes[0].kill().await;
    network.pay(2).await;
    let with = network.agree(&[1, 2, 3], without + 1).await;
    network.nodes[0].start().await;
    network.agree(&[0, 1, 2, 3], with).await;
    network.stop_and_check().await;
}

#[tokio::test]
async fn half_of_the_power_decides_nothing_and_goes_on_when_a_third_one_returns() {
    let mut network = Network::start("1,1,1,1").await;
    network.pay(0).await;
    let before = network.agree(&[0, 1, 2, 3], 1).await;
    network.nodes[2].kill().await;
    network.nodes[3].kill().await;
    let paid = network.pay(0);
    let waited = tokio::time::timeout(WATCHED, paid).await;
    assert!(waited.is_err(), "two of four decided: {waited:?}");
    assert_eq!(network.nodes[0].height().await, Some(before));
    network.nodes[2].start().await;
    // What was submitted is decided now, whoever waits for it.
    let after = network.agree(&[0, 1, 2], before + 1).await;
    network.nodes[3].start().await;
    network.agree(&[0, 1, 2, 3], after).await;
    network.stop_and_check().await;
}

#[tokio::test]
async fn power_counts_and_not_heads() {
    let mut network = Network::start("5,1,1,1").await;
    network.pay(0).await;
    let before = network.agree(&[0, 1, 2, 3], 1).await;
    network.nodes[2].kill().await;
    network.nodes[3].kill().await;
    // Six of eight.
    network.pay(1).await;
    let six = network.agree(&[0, 1], before + 1).await;
    network.nodes[1].kill().await;
    // Five of eight are less than two thirds.
    let waited = tokio::time::timeout(WATCHED, network.pay(0)).await;
    assert!(waited.is_err(), "five of eight decided: {waited:?}");
    for number in 1..4 {
        network.nodes[number].start().await;
    }
    network.agree(&[0, 1, 2, 3], six + 1).await;
    network.stop_and_check().await;
}

#[tokio::test]
async fn a_full_node_follows_becomes_a_validator_by_stake_and_leaves_again() {
    let mut network = Network::start("1,1,1,1").await;
    network.pay(0).await;
    network.add_stranger();
    network.nodes[4].start().await;
    let height = network.agree(&[0, 4], 1).await;

    // It follows without being asked.
    network.pay(0).await;
    network.agree(&[0, 4], height + 1).await;

    let operator = network.operator(4).await;
    let (first, fifth) = (network.nodes[0].home().to_owned(), network.nodes[4].home().to_owned());
    let url = network.nodes[4].chain.url().to_owned();
    let send = ["--data-dir", &first, "wallet", "send", &operator, "200000", "--chain", &url];
    run_json(&send).await;
    let register = [
        "--data-dir",
        &fifth,
        "validator",
        "register",
        "--stake",
        "100000",
        "--moniker",
        "fifth",
        "--chain",
        &url,
    ];
    run_json(&register).await;
    let height = network.agree(&[0, 4], height).await;
    assert_eq!(network.seats().await, 5);
    // Of five equal ones four are needed: with one killed the new one's vote counts.
    network.nodes[3].kill().await;
    network.pay(4).await;
    network.nodes[3].start().await;

    let own = format!("validator/{operator}");
    let leave = [
        "--data-dir",
        &fifth,
        "stake",
        "undelegate",
        &own,
        "100000",
        "--key",
        "validator",
        "--chain",
        &url,
    ];
    run_json(&leave).await;
    let height = network.agree(&[0, 1, 2, 3, 4], height).await;
    assert_eq!(network.seats().await, 4);
    network.pay(1).await;
    network.agree(&[0, 1, 2, 3, 4], height + 1).await;
    network.stop_and_check().await;
}

#[tokio::test]
async fn a_node_begins_with_a_snapshot_and_has_no_block_before_it() {
    let every = ["--snapshot-interval", "3"];
    let mut network = Network::prepare("1,1,1,1").await;
    for node in &mut network.nodes {
        node.start_with(&every).await;
    }
    for _ in 0..8 {
        network.pay(1).await;
    }
    network.agree(&[0, 1, 2, 3], 8).await;
    network.add_stranger();
    let line = [&every[..], &["--full-node", "--state-sync"]].concat();
    network.nodes[4].start_with(&line).await;
    let height = network.agree(&[0, 4], 8).await;
    assert_eq!(network.nodes[4].chain.block(Height(1)).await.unwrap(), None);
    // It goes on like any other, and after a restart too.
    network.pay(4).await;
    network.agree(&[0, 4], height + 1).await;
    network.nodes[4].kill().await;
    network.pay(0).await;
    network.nodes[4].start_with(&line).await;
    network.agree(&[0, 1, 2, 3, 4], height + 2).await;
    let from = network.stop_and_check().await.pop().unwrap();
    assert!((3..=height + 2).contains(&from), "{from}");
}

#[tokio::test]
async fn who_is_away_for_too_long_is_jailed_and_comes_back() {
    let mut network = Network::prepare("1,1,1,1").await;
    network.change_genesis(|genesis| {
        let slashing = &mut genesis["params"]["slashing"];
        (slashing["window_blocks"], slashing["downtime_jail_ms"]) = (json!(6), json!(500));
    });
    network.start_all().await;
    network.pay(0).await;
    let operator = network.operator(3).await;
    let (first, fourth) = (network.nodes[0].home().to_owned(), network.nodes[3].home().to_owned());
    let url = network.nodes[0].chain.url().to_owned();
    run_json(&["--data-dir", &first, "wallet", "send", &operator, "10", "--chain", &url]).await;
    let height = network.agree(&[0, 1, 2, 3], 2).await;

    network.nodes[3].kill().await;
    let mut paid = 0;
    while network.seat(&operator).await["pool"]["jailed_until"].is_null() {
        assert!(paid < 20, "it missed {paid} blocks and is not jailed");
        network.pay(0).await;
        paid += 1;
    }
    let seat = network.seat(&operator).await;
    assert_eq!(seat["power"], Value::Null, "{seat}");
    // Of the three that are left each is needed, and none of them waits for the fourth.
    network.pay(1).await;

    network.nodes[3].start().await;
    network.agree(&[0, 1, 2, 3], height + paid + 1).await;
    // Refused until it has served its time.
    until("the jail to open", async || {
        let unjail = ["--data-dir", &fourth, "validator", "unjail", "--chain", &url];
        let output = run("unjail", peerwatt(["--json"]).args(unjail)).await;
        output.status.success().then_some(())
    })
    .await;
    let seat = network.seat(&operator).await;
    assert!(seat["pool"]["jailed_until"].is_null() && seat["power"].is_u64(), "{seat}");
    // Its vote counts again.
    network.nodes[2].kill().await;
    network.pay(0).await;
    network.nodes[2].start().await;
    network.agree(&[0, 1, 2, 3], height + paid + 3).await;
    network.stop_and_check().await;
}

#[tokio::test]
async fn a_key_that_signs_twice_is_slashed_and_buried() {
    let network = Network::start("1,1,1,1").await;
    network.pay(0).await;
    network.agree(&[0, 1, 2, 3], 1).await;
    // The same consensus key on a second machine, whose owner forgot the mark.
    let home = network.folder.path().join("twin");
    let keys = home.join("keys");
    fs::create_dir_all(&keys).unwrap();
    let original = network.nodes[3].home.clone();
    fs::copy(original.join("genesis.json"), home.join("genesis.json")).unwrap();
    fs::copy(original.join("keys/consensus.json"), keys.join("consensus.json")).unwrap();
    let mut settings = read_json(&original.join("validator.json"));
    let (chain_port, peer_port) = (port(), port());
    settings["listen"] = json!(chain_port.0.local_addr().unwrap().to_string());
    settings["peer_listen"] = json!(peer_port.0.local_addr().unwrap().to_string());
    write_json(&home.join("validator.json"), &settings);
    drop((chain_port, peer_port));
    let mut twin = Process::start(
        "twin",
        &mut peerwatt(["--json", "--data-dir", home.to_str().unwrap(), "validator"]),
    );
    twin.ready().await;

    let operator = network.operator(3).await;
    until("the twin to be found out", async || {
        network.pay(0).await;
        let validators = network.nodes[0].chain.validators().await.ok()?;
        let found = validators.iter().find(|it| it.operator.to_string() == operator)?;
        found.pool.tombstoned.then_some(())
    })
    .await;
    let list = run_json(&["validator", "list", "--chain", network.nodes[0].chain.url()]).await;
    let buried = list.as_array().unwrap().iter().find(|it| it["operator"] == json!(operator));
    assert_eq!(buried.unwrap()["power"], Value::Null, "{list}");
    twin.kill().await;
    // The others go on without it; it still follows.
    network.pay(1).await;
    network.agree(&[0, 1, 2, 3], 1).await;
    network.stop_and_check().await;
}

#[tokio::test]
async fn a_node_stops_before_the_height_that_was_agreed_for_an_upgrade() {
    let mut network = Network::prepare("1").await;
    let home = network.nodes[0].home().to_owned();
    let arguments = ["--json", "--data-dir", &home, "validator", "--halt-at", "2"];
    let mut process = Process::start("validator", &mut peerwatt(arguments));
    process.ready().await;
    network.nodes[0].process = Some(process);
    network.pay(0).await;
    network.pay(0).await;
    let waited = tokio::time::timeout(WATCHED, network.pay(0)).await;
    assert!(waited.is_err(), "a block was made after the last one: {waited:?}");
    assert_eq!(network.nodes[0].height().await, Some(2));
    network.nodes[0].kill().await;
    network.nodes[0].start().await;
    network.pay(0).await;
    network.stop_and_check().await;
}

#[tokio::test]
async fn bad_peers_and_folders_are_explained() {
    let network = Network::prepare("1").await;
    let home = network.nodes[0].home();
    for (arguments, expected) in [
        (["--peer", "nonsense"], "KEY@ADDRESS:PORT"),
        (["--peer", "00@127.0.0.1:1"], "KEY@ADDRESS:PORT"),
        (["--heartbeat", "0"], "heartbeat"),
    ] {
        let mut command = peerwatt(["--data-dir", home, "validator"]);
        let output = run("validator", command.args(arguments)).await;
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
    let dir = network.folder.path().to_str().unwrap();
    let mut command = peerwatt(["testnet", "--init-only", "--validators", "3", "--dir", dir]);
    let output = run("testnet", &mut command).await;
    assert!(text(&output.stderr).contains("holds a network of 1"), "{}", text(&output.stderr));
}
