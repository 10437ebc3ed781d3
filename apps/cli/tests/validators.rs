//! Several validators as processes on loopback: killed, cut down to a minority, brought back, joined,
//! left and impersonated. Whatever happens, all that run keep the same chain.

mod support;

use std::{fs, time::Duration};

use serde_json::{Value, json};
use support::{
    process::{Process, json as run_json, peerwatt, run, text},
    testnet::{Network, port, read_json, write_json},
    until,
};
use types::Height;

/// How long a network that must not decide is watched. It decides within a fraction of it when it can.
const WATCHED: Duration = Duration::from_secs(6);

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
    // Its auditor would make a block of its own.
    let arguments = ["--json", "--data-dir", &home, "validator", "--halt-at", "2", "--no-audits"];
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
