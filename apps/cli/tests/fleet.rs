//! A gateway with its keys in a PostgreSQL database, killed in the middle of answers.

mod support;

use serde_json::Value;
use support::{
    network::{Network, Part, until_offered},
    postgres::Server,
    skip, until,
};

const STREAMS: usize = 4;

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
