//! Gateways with their keys in a PostgreSQL database: one that is killed in the middle of answers, and two that share it.

mod support;

use serde_json::{Value, json};
use support::{
    network::{Network, Part, until_offered},
    postgres::Server,
    process::{Process, check_ledger, json as run_json, peerwatt, string},
    skip,
    stream::Consumer,
    until,
};
use tempfile::TempDir;

const STREAMS: usize = 4;
/// Requests at once, through both gateways in turn, with a key whose budget is less than they cost.
const ASKS: usize = 24;

/// An amount of the key, in nano-USD.
fn amount(key: &Value, field: &str) -> u128 {
    key[field].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_killed_gateway_finds_its_keys_and_holds_nothing() {
    let server = match Server::start() {
        Ok(server) => server,
        Err(reason) => return skip("a_killed_gateway_finds_its_keys_and_holds_nothing", reason),
    };
    let mut network = Network::start_with(Some(server.database())).await;
    let (key, consumer) = (network.api_key.clone(), network.consumer());
    until_offered(&consumer, "dummy/64").await;
    let whole = consumer.stream("dummy/64", "tell me all of it", || ()).await;
    assert!(whole.finished, "{whole:?}");
    let before = consumer.get("key").await.unwrap();
    assert!(amount(&before, "used") > 0);
    assert_eq!((amount(&before, "reserved"), &before["in_flight"]), (0, &Value::from(0)));

    let (first, mut tokens) = tokio::sync::mpsc::unbounded_channel();
    let streams = (0..STREAMS).map(|_| {
        let first = first.clone();
        let consumer = consumer.clone();
        tokio::spawn(async move {
            let told = || first.send(()).unwrap_or(());
            consumer.stream("dummy/paced", "tell me all of it", told).await
        })
    });
    let streams: Vec<_> = streams.collect();
    tokens.recv().await.unwrap();
    network.kill(Part::Gateway).await;
    for stream in streams {
        stream.await.unwrap();
    }
    network.start_part(Part::Gateway).await;
    assert_eq!(network.api_key, key, "the key of the data folder is still known");
    let consumer = network.consumer();
    let after = consumer.get("key").await.unwrap();
    assert_eq!((amount(&after, "reserved"), &after["in_flight"]), (0, &Value::from(0)));
    assert_eq!(amount(&after, "used"), amount(&before, "used"), "nothing more was settled");
    until_offered(&consumer, "dummy/64").await;
    let again = until("an answer", || async {
        Some(consumer.stream("dummy/64", "tell me all of it", || ()).await).filter(|it| it.finished)
    });
    let again = again.await;
    let receipt = format!("receipts/{}", again.request_id.unwrap());
    assert!(consumer.get(&receipt).await.is_some());
    let usage = consumer.get("usage").await.unwrap();
    let rows = usage["data"].as_array().unwrap();
    let billed: u128 = rows.iter().map(|row| amount(row, "cost_nusd")).sum();
    let used = amount(&consumer.get("key").await.unwrap(), "used");
    assert_eq!((rows.len() >= 2, billed), (true, used), "the bills add up to what the key used");
}

/// A second gateway of a network, with the database of the first and a data folder of its own.
struct Twin {
    process: Process,
    base_url: String,
    _home: TempDir,
}

impl Twin {
    async fn start(network: &Network, database: &str) -> Twin {
        let home = tempfile::tempdir().unwrap();
        let (folder, wallet) = (home.path().to_str().unwrap(), network.home.path());
        let chain = network.chain.url();
        let made = ["--data-dir", folder, "wallet", "new", "--key", "gateway"];
        let address = string(&run_json(&made).await, "address");
        let wallet = ["--data-dir", wallet.to_str().unwrap(), "wallet", "send", &address, "10000"];
        run_json(&[&wallet[..], &["--chain", chain]].concat()).await;
        let mut command = peerwatt(["--json", "--data-dir", folder, "gateway", "--chain", chain]);
        command.args(["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"]);
        let mut process = Process::start("twin", command.env("PEERWATT_DATABASE", database));
        let base_url = string(&process.ready().await, "base_url");
        Twin { process, base_url, _home: home }
    }
}

/// A key with this budget in USD, made at the network's gateway, as it is used there and at its twin.
async fn new_key(network: &Network, twin: &Twin, name: &str, usd: &str) -> [Consumer; 2] {
    let folder = network.home.path().to_str().unwrap();
    let made = run_json(&["--data-dir", folder, "key", "new", name, "--budget", usd]).await;
    let key = string(&made, "api_key");
    [Consumer::new(&network.base_url, &key), Consumer::new(&twin.base_url, &key)]
}

/// What a key has used, once nothing is held for its requests.
async fn used(consumer: &Consumer) -> u128 {
    let key = until("the end of all requests", async || {
        let key = consumer.get("key").await?;
        (amount(&key, "reserved") == 0 && key["in_flight"] == 0).then_some(key)
    });
    amount(&key.await, "used")
}

/// The sum of the bills of a key.
async fn billed(consumer: &Consumer) -> u128 {
    let usage = consumer.get("usage").await.unwrap();
    usage["data"].as_array().unwrap().iter().map(|row| amount(row, "cost_nusd")).sum()
}

#[tokio::test]
async fn two_gateways_share_keys_and_one_goes_on_when_the_other_is_killed() {
    let test = "two_gateways_share_keys_and_one_goes_on_when_the_other_is_killed";
    let server = match Server::start() {
        Ok(server) => server,
        Err(reason) => return skip(test, reason),
    };
    let database = server.database();
    let mut network = Network::start_with(Some(database.clone())).await;
    let twin = Twin::start(&network, &database).await;
    let [here, there] = new_key(&network, &twin, "shared", "1").await;
    let ask = json!({ "model": "dummy/64", "max_tokens": 64,
        "messages": [{ "role": "user", "content": "tell me all of it" }] });
    for consumer in [&here, &there] {
        until_offered(consumer, "dummy/64").await;
        until("an answer", async || consumer.ask(&ask).await.status().is_success().then_some(()))
            .await;
    }
    let cost = used(&here).await / 2;
    assert_eq!((used(&there).await, billed(&there).await), (2 * cost, 2 * cost));

    // Six and a half of such answers.
    let usd = format!("0.{:09}", cost * 13 / 2);
    let tight = new_key(&network, &twin, "tight", &usd).await;
    let asks = (0..ASKS).map(|number| tight[number % 2].ask(&ask));
    let statuses = futures::future::join_all(asks).await;
    let statuses: Vec<u16> = statuses.iter().map(|answer| answer.status().as_u16()).collect();
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| [200, 402].contains(status)), "{statuses:?}");
    assert!((1..=6).contains(&served), "{statuses:?}");
    for consumer in &tight {
        let paid = served as u128 * cost;
        assert_eq!((used(consumer).await, billed(consumer).await), (paid, paid));
    }

    let (first, mut tokens) = tokio::sync::mpsc::unbounded_channel();
    let streams = [&here, &there].map(|consumer| {
        let (consumer, first) = (consumer.clone(), first.clone());
        tokio::spawn(async move {
            let told = || first.send(()).unwrap_or(());
            consumer.stream("dummy/paced", "tell me all of it", told).await
        })
    });
    tokens.recv().await.unwrap();
    network.kill(Part::Gateway).await;
    let [cut, whole] = streams.map(async |stream| stream.await.unwrap());
    assert!(!cut.await.finished);
    let whole = whole.await;
    assert_eq!((whole.finished, whole.tokens), (true, 64), "{whole:?}");
    assert_eq!(there.ask(&ask).await.status(), 200, "with a key of the one that is gone");

    network.start_part(Part::Gateway).await;
    let paid = used(&here).await;
    assert!(paid > 3 * cost);
    assert_eq!((used(&there).await, billed(&here).await), (paid, paid));
    assert!(twin.process.stop().await.success());
    for part in [Part::Provider, Part::Gateway, Part::Validator] {
        network.stop(part).await;
    }
    check_ledger(network.validator_home()).await;
}
