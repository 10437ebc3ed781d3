//! Providers that fail or cheat, and what the client sees of it.

use std::time::Duration;

use super::*;
use double::introduce;
use types::sign::Signed;
use wire::serve::{ToGatewayControl, ToProviderControl};

/// Status, error code and the provider's last problem.
async fn check(model: &str, status: u16, code: &str, problem: &str) {
    let world = World::new().await;
    let _double = world.provider(11, &[model]).await;
    let answer = world.chat(model, "").await;
    assert_eq!(answer.status, status, "{model}: {}", answer.body);
    assert_eq!(answer.json()["error"]["code"], code, "{model}");
    let providers = world.gateway.providers();
    if let Some(view) = providers.first() {
        assert_eq!(view.last_problem.as_deref(), Some(problem), "{model}");
    }
    let streamed = world.chat(model, r#", "stream": true"#).await;
    if streamed.status == 200 {
        // A stream that has begun ends with an error in its own form, never without a word.
        let last = streamed.body.trim_end().lines().last().unwrap();
        assert!(last.starts_with(r#"data: {"error":{"message":"#), "{model}: {last}");
    }
    assert_eq!(world.spent().await.1, Nusd::ZERO, "{model}: nothing stays reserved");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_alone_gives_an_error_that_says_why() {
    check("refuses", 502, "provider_failed", "refused: the engine does not answer").await;
    check("dies-before-the-first-token", 502, "provider_failed", "its connection ended").await;
    check("dies-after-3-tokens", 502, "provider_failed", "its connection ended").await;
    check("stalls", 502, "provider_failed", "it stalled").await;
    let problem = "no first token came in time";
    check("stalls-before-the-first-token", 502, "provider_failed", problem).await;
    check("fails", 502, "provider_failed", "its engine failed").await;
    let problem = "it broke the protocol: a signature that is not its own";
    check("forges", 502, "provider_failed", problem).await;
    let problem =
        "it broke the protocol: a frame of 4294967295 bytes is longer than the 262144 allowed";
    check("huge", 502, "provider_failed", problem).await;
    check("busy", 429, "providers_busy", "refused: all slots are in use").await;
    check("dies-at-once", 502, "provider_failed", "-").await;
}

#[tokio::test(start_paused = true)]
async fn before_the_first_content_another_provider_takes_over_unseen() {
    let failures = [
        "refuses",
        "busy",
        "dies-at-once",
        "dies-before-the-first-token",
        "dies-after-half-a-character",
        "stalls-before-the-first-token",
    ];
    for failure in failures {
        let world = World::new().await;
        let bad = world.provider(11, &[failure]).await;
        let _good = world.provider(12, &[&format!("{failure}=story")]).await;
        // Both may be asked first; after some requests the bad one surely was.
        for n in 0..40 {
            let more = if n % 2 == 0 { "" } else { r#", "stream": true"# };
            let answer = world.chat(failure, more).await;
            assert_eq!(answer.status, 200, "{failure}: {}", answer.body);
            assert!(!answer.body.contains("error"), "{failure}: {}", answer.body);
        }
        assert!(!bad.seen().orders.is_empty(), "{failure} was never asked");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_after_a_slow_beginning_is_seen_in_time() {
    let world = World::new().await;
    let double = world.provider(11, &["stalls"]).await;
    double.seen().sleep = Duration::from_secs(10);
    // Its first token may take two minutes, the next ones half a minute each.
    let body = format!(r#"{{"model": "stalls", "prompt": "{}"}}"#, "x ".repeat(4_000));
    let began = tokio::time::Instant::now();
    let answer = world.ask(world.request("/v1/completions", &body)).await;
    assert_eq!((answer.status, began.elapsed().as_secs()), (502, 40), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn a_second_final_changes_nothing() {
    let world = World::new().await;
    let double = world.provider(11, &["ends-twice"]).await;
    for _ in 0..3 {
        assert_eq!(world.chat("ends-twice", "").await.status, 200);
    }
    double.until(|seen| seen.acknowledged.len() == 3).await;
    assert_eq!(world.gateway.recent_requests(9).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_keeps_failing_is_quarantined_and_the_client_told_when_to_return() {
    let world = World::new().await;
    let _double = world.provider(11, &["refuses", "story"]).await;
    for _ in 0..3 {
        assert_eq!(world.chat("refuses", "").await.status, 502);
    }
    let answer = world.chat("refuses", "").await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (503, Some("no_provider"))
    );
    assert!(answer.headers.contains("retry-after: 30\n"), "{}", answer.headers);
    assert_eq!(world.gateway.providers()[0].health, "quarantined");
    assert_eq!(world.chat("story", "").await.status, 200, "the other model is not affected");
}

#[tokio::test(start_paused = true)]
async fn bad_requests_do_not_open_the_breaker() {
    let world = World::new().await;
    let _double = world.provider(11, &["bad-request"]).await;
    for _ in 0..10 {
        let answer = world.chat("bad-request", "").await;
        assert_eq!((answer.status, answer.json()["error"]["param"].as_str()), (400, Some("stop")));
    }
    assert_eq!(world.gateway.providers()[0].health, "ok");
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_a_slot_and_then_give_up() {
    let world = World::with(|config| config.timeouts.inter_token_ms = 1_000_000).await;
    let double = world.provider(11, &["waits"]).await;
    let body = r#"{"model": "waits", "prompt": "Hello", "stream": true}"#;
    let mut running = Vec::new();
    for _ in 0..4 {
        running.push(world.send(world.request("/v1/completions", body)).await);
    }
    let answer = world.ask(world.request("/v1/completions", body)).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (429, Some("providers_busy"))
    );
    assert!(answer.headers.contains("retry-after: 1\n"), "{}", answer.headers);
    let (waited, ()) = tokio::join!(world.send(world.request("/v1/completions", body)), async {
        tokio::task::yield_now().await;
        running.pop();
    });
    assert_eq!(waited.status(), 200);
    drop((waited, running));
    double.until(|seen| seen.active == 0).await;
    world.gateway.idle().await;
}

#[tokio::test(start_paused = true)]
async fn one_key_cannot_take_the_whole_gateway() {
    let world = World::with(|config| config.limits.requests_per_key_max = 2).await;
    let _double = world.provider(11, &["waits"]).await;
    let body = r#"{"model": "waits", "prompt": "Hello", "stream": true}"#;
    let running = [
        world.send(world.request("/v1/completions", body)).await,
        world.send(world.request("/v1/completions", body)).await,
    ];
    let answer = world.ask(world.request("/v1/completions", body)).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
    drop(running);
    world.gateway.idle().await;
}

#[tokio::test(start_paused = true)]
async fn strangers_are_told_why_they_are_rejected() {
    let world = World::new().await;
    let operator = key(11);
    let endpoint = world.net.endpoint(node(111), NetLimits::default());
    let models = ["story".to_owned()];
    let offer = |node_key| Double::offer(&operator, node_key, &models, 1);
    let hello = |chain: &str, offer, signer: &SecretKey| {
        let chain_id: ChainId = chain.parse().unwrap();
        let offer = Signed::new(offer, &chain_id, signer);
        ToGatewayControl::Hello { chain_id, offer }
    };
    let mut too_long = offer(node(111));
    too_long.models[0].alias = "x".repeat(200);
    let mut cases = vec![
        (hello("other", offer(node(111)), &operator), "this gateway serves the network"),
        (hello("test-1", offer(node(111)), &key(12)), "not signed by its operator"),
        (hello("test-1", offer(node(112)), &operator), "another node key"),
        (hello("test-1", too_long, &operator), "not acceptable"),
        (hello("test-1", offer(node(111)), &operator), "is not registered"),
        (ToGatewayControl::Leaving, "must be an introduction"),
    ];
    for (first, reason) in cases.drain(..) {
        let (_connection, answer, _control) =
            introduce(&*endpoint, node(GATEWAY_NODE), &first).await;
        let ToProviderControl::Rejected { reason: told } = answer else { panic!("taken") };
        assert!(told.contains(reason), "{told}");
    }
    world.chain.register(operator.address(), node(113));
    let first = hello("test-1", offer(node(111)), &operator);
    let (_connection, answer, _control) = introduce(&*endpoint, node(GATEWAY_NODE), &first).await;
    assert!(
        matches!(answer, ToProviderControl::Rejected { reason } if reason.contains("another node key"))
    );
    world.chain.register(operator.address(), node(111));
    world.chain.set_leaving(operator.address());
    let (_connection, answer, _control) = introduce(&*endpoint, node(GATEWAY_NODE), &first).await;
    assert!(matches!(answer, ToProviderControl::Rejected { reason } if reason.contains("leaving")));
    assert!(world.gateway.providers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn offers_replace_each_other_and_silence_ends_them() {
    let world = World::new().await;
    let double = world.provider(11, &["story"]).await;
    let names =
        || -> Vec<String> { world.gateway.models().into_iter().map(|view| view.alias).collect() };
    assert!(matches!(double.welcome, ToProviderControl::Welcome { .. }));
    double.fall_silent();
    double.say(&double.signed_offer(3, &["story", "tale"])).await;
    world.gateway.until(|shared| shared.directory.models().len() == 2).await;
    double.say(&double.signed_offer(2, &["old"])).await;
    double.say(&double.signed_offer(4, &["tale"])).await;
    world.gateway.until(|shared| shared.directory.models().len() == 1).await;
    assert_eq!(names(), ["tale"], "an older offer does not come back");
    let before = tokio::time::Instant::now();
    double.connection.closed().await;
    let silence = before.elapsed();
    assert!((29..=31).contains(&silence.as_secs()), "{silence:?}");
    tokio::time::timeout(Duration::from_secs(1), async {
        while !world.gateway.providers().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_leaves_gets_no_more_requests() {
    let world = World::new().await;
    let double = world.provider(11, &["story"]).await;
    double.say(&ToGatewayControl::Leaving).await;
    world.gateway.until(|shared| !shared.directory.any_ready()).await;
    assert_eq!(world.chat("story", "").await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_gone_is_replaced() {
    let world = World::new().await;
    let double = world.provider(11, &["story"]).await;
    assert_eq!(world.chat("story", "").await.status, 200);
    let before = world.gateway.account().channels[0].id;
    world.chain.close_channels();
    crate::treasury::recheck(&world.gateway.shared, double.key.address());
    world
        .gateway
        .until(|shared| {
            let channel = shared.books.channel_of(&double.key.address());
            channel.is_some_and(|channel| channel != before)
        })
        .await;
    assert_eq!(world.chain.log().iter().filter(|kind| **kind == "open channel").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_gives_back_is_promised_to_nobody() {
    let world = World::new().await;
    let _double = world.provider(11, &["story"]).await;
    let deposit = world.gateway.account().channels[0].deposit;
    let left = Nusd(1_000);
    world.chain.return_deposits(deposit.saturating_sub(left));
    // The next look at the ledger sees it and fills the channel up again.
    let full = left.saturating_add(deposit);
    world.gateway.until(|shared| shared.books.channels()[0].deposit == full).await;
    assert_eq!(world.chain.deposits(), [deposit.saturating_add(deposit)]);
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_topped_up_before_it_runs_dry() {
    let world = World::with(|config| config.channels.deposit = Nusd(100_000)).await;
    let double = world.provider(11, &["endless"]).await;
    for _ in 0..6 {
        let answer = world.chat("endless", r#", "max_tokens": 300"#).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let deposit: Nusd = world.chain.deposits().into_iter().sum();
    assert!(deposit.0 >= 200_000, "{deposit:?}");
    let (charged, promised) = world.owed();
    assert!(charged <= promised && promised <= deposit);
    assert_eq!(double.seen().sent, 1_800);
}

also_on_postgres! {
    a_provider_that_fails_alone_gives_an_error_that_says_why
    before_the_first_content_another_provider_takes_over_unseen
    a_second_final_changes_nothing
    requests_wait_for_a_slot_and_then_give_up
    one_key_cannot_take_the_whole_gateway
}

/// The age of an answer decides whether its payer can demand an audit of it.
#[tokio::test(start_paused = true)]
async fn a_provider_that_dates_its_reports_back_is_left_alone() {
    let world = World::new().await;
    let double = world.provider(11, &["misdated"]).await;
    assert_eq!(world.chat("misdated", "").await.status, 200);
    world.gateway.idle().await;
    let address = double.key.address();
    let providers = world.gateway.providers();
    let view = providers.iter().find(|view| view.operator == address).unwrap();
    assert_ne!(view.health, "ok");
    assert_eq!(world.chat("misdated", "").await.status, 503);
}
