//! A gateway that asks a service outside its network when no provider can answer; the service is another network's
//! gateway.

mod support;

use support::{
    network::{Network, Part, until_offered},
    process::{Up, check_ledger, peerwatt, run, text},
    stream::{Consumer, Seen},
    until,
};

async fn ask(consumer: &Consumer, model: &str) -> Option<Seen> {
    let seen = consumer.stream(model, "tell me all of it", || ()).await;
    Some(seen).filter(|seen| seen.finished)
}

#[tokio::test]
async fn a_last_resort_answers_when_the_only_provider_is_gone() {
    let service = Up::start(&["--dummy-engine"]).await;
    let there = Consumer::new(&service.base_url, &service.api_key);
    until_offered(&there, "dummy/64").await;
    let folder = tempfile::tempdir().unwrap();
    let (key, file) = (folder.path().join("key"), folder.path().join("upstreams.toml"));
    std::fs::write(&key, &service.api_key).unwrap();
    let upstreams = format!(
        r#"
        [[upstream]]
        name = "elsewhere"
        url = "{}"
        key_file = "{}"
        [[upstream.models]]
        serves = "dummy/64"
        prompt_usd_per_million = 1
        completion_usd_per_million = 2
        [[upstream.models]]
        serves = "theirs"
        model = "dummy/echo"
        prompt_usd_per_million = 1
        completion_usd_per_million = 2
        "#,
        service.base_url,
        key.display()
    );
    std::fs::write(&file, upstreams).unwrap();

    let arguments = ["--upstreams".to_owned(), file.display().to_string()];
    let mut network = Network::start_as(None, &arguments).await;
    let consumer = network.consumer();
    until_offered(&consumer, "theirs").await;
    let bought = async |seen: &Seen| {
        let path = format!("receipts/{}", seen.request_id.as_ref().unwrap());
        consumer.get(&path).await.unwrap()["bought"]["upstream"].as_str().map(str::to_owned)
    };
    let theirs = ask(&consumer, "theirs").await.unwrap();
    assert_eq!(bought(&theirs).await.as_deref(), Some("elsewhere"));
    until_offered(&consumer, "dummy/64").await;
    let ours = until("the provider's answer", async || {
        let seen = ask(&consumer, "dummy/64").await?;
        bought(&seen).await.is_none().then_some(seen)
    });
    assert_eq!(ours.await.tokens, 64);
    network.kill(Part::Provider).await;
    let resort = until("the service's answer", async || {
        let seen = ask(&consumer, "dummy/64").await?;
        bought(&seen).await.map(|_| seen)
    });
    let resort = resort.await;
    assert_eq!(resort.tokens, 64);

    let id = resort.request_id.unwrap();
    let mut verify = peerwatt(["receipt", "verify", &id, "--base-url", &network.base_url]);
    verify.args(["--api-key", &network.api_key]);
    let verified = text(&run("receipt verify", &mut verify).await.stdout);
    assert!(verified.contains("`elsewhere`, a service outside the network"), "{verified}");
    let used = |key: serde_json::Value| key["used"].as_str().unwrap().parse::<u128>().unwrap();
    assert!(used(there.get("key").await.unwrap()) > 0, "the service has its own bill");
    assert!(used(consumer.get("key").await.unwrap()) > 0);

    service.stop_and_check().await;
    network.stop(Part::Gateway).await;
    network.stop(Part::Validator).await;
    check_ledger(network.validator_home()).await;
}
