//! Validator and gateway in one process, the provider in another, connected by iroh on loopback.

mod support;

use support::{
    books::{owed, terms_of},
    network::until_offered,
    process::{Process, Up, json, peerwatt, string},
    stream::Consumer,
    until,
};
use types::{Address, Nusd};
use wire::chain::{Chain, HttpChain};

const STREAMS: usize = 12;

#[tokio::test]
async fn books_agree_to_the_unit_when_nothing_fails() {
    let up = Up::start(&["--no-provider"]).await;
    let running = std::fs::read_to_string(up.home.path().join("running.json")).unwrap();
    let chain_url = string(&serde_json::from_str(&running).unwrap(), "chain_url");
    let provider_home = tempfile::tempdir().unwrap();
    let mut command = peerwatt(["--json", "--data-dir"]);
    command.arg(provider_home.path()).args(["provide", "--chain", &chain_url, "--dummy-engine"]);
    let mut provider = Process::start("provider", &mut command);
    let operator: Address = string(&provider.ready().await, "operator").parse().unwrap();

    let consumer = Consumer::new(&up.base_url, &up.api_key);
    until_offered(&consumer, "dummy/64").await;
    let streams = (0..STREAMS).map(|_| consumer.stream("dummy/64", "tell me all of it", || ()));
    let seen = futures::future::join_all(streams).await;
    let mut all_terms = Vec::new();
    for it in &seen {
        assert!(it.finished && it.tokens == 64, "{it:?}");
        all_terms.push(terms_of(&consumer, it).await);
    }
    // Told every ten seconds, and written down as often.
    until("what the gateway tells of its choices", async || {
        let why = provider::read_why(&provider_home.path().join("provider")).unwrap()?;
        let chosen = why.hours.iter().map(|hour| hour.chosen).sum::<u64>();
        (chosen == STREAMS as u64).then_some(())
    })
    .await;
    let home = provider_home.path().to_str().unwrap();
    let why = json(&["--data-dir", home, "provider", "why", "--model", "dummy/64"]).await;
    assert_eq!(why["gateways"][0]["state"], "connected", "{why}");
    assert!(why["running"] == true && why["hours"][0]["model"] == "dummy/64", "{why}");
    all_terms.dedup();
    let [terms] = all_terms[..] else { panic!("equal requests on unequal terms: {all_terms:?}") };

    // A provider that is asked to stop redeems all it holds first.
    let status = provider.stop().await;
    assert!(status.success(), "{status}");
    let channels = HttpChain::new(&chain_url).unwrap().channels_of(operator).await.unwrap();
    let claimed = channels.iter().fold(Nusd::ZERO, |sum, it| sum.saturating_add(it.claimed));
    assert_eq!(claimed, owed(&terms, &seen));
    assert!(!claimed.is_zero());
    up.stop_and_check().await;
}
