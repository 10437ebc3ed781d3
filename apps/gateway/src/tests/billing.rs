//! The billing rules, one test each, counted from what the provider's double sent.

use super::{double::PRICE, *};
use double::PROMPT_TOKENS;

/// After everything is closed: what the provider counts, what the gateway owes, what the key paid.
async fn check(world: &World, doubles: &[&Double], delivered: u32, billed: Nusd) {
    world.gateway.idle().await;
    let sent: u32 = doubles.iter().map(|double| double.seen().sent).sum();
    assert_eq!(sent, delivered, "the double counts what it sent");
    let counted: Nusd = doubles
        .iter()
        .flat_map(|double| {
            let seen = double.seen();
            seen.lanes.values().map(|lane| lane.charged).collect::<Vec<_>>()
        })
        .sum();
    let (charged, promised) = world.owed();
    assert_eq!(charged, counted, "both sides count the same");
    let lanes: u32 = world.gateway.account().channels.iter().map(|channel| channel.lanes).sum();
    let ahead = PRICE.charge(64, 64).0 * u128::from(lanes);
    assert!(promised.0 <= charged.0 + ahead, "promised {promised:?}, charged {charged:?}");
    assert_eq!(world.spent().await, (billed, Nusd::ZERO), "billed to the key, nothing reserved");
}

#[tokio::test(start_paused = true)]
async fn nothing_delivered_is_free() {
    let models = [
        "refuses",
        "dies-before-the-first-token",
        "stalls-before-the-first-token",
        "says-nothing",
        "bad-request",
    ];
    for model in models {
        let world = World::new().await;
        let double = world.provider(11, &[model]).await;
        world.chat(model, "").await;
        world.chat(model, r#", "stream": true"#).await;
        check(&world, &[&double], 0, Nusd::ZERO).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_dies_is_paid_for_what_was_delivered() {
    let world = World::new().await;
    let double = world.provider(11, &["dies-after-3-tokens"]).await;
    let answer = world.chat("dies-after-3-tokens", r#", "stream": true"#).await;
    assert!(answer.body.contains(r#"data: {"error":"#), "{}", answer.body);
    assert!(!answer.body.contains("[DONE]"));
    let cost = PRICE.charge(PROMPT_TOKENS, 3);
    check(&world, &[&double], 3, cost).await;
    let receipt = world.gateway.receipt(answer.id.parse().unwrap()).unwrap().receipt;
    assert_eq!(receipt.verify(&keys::Ed25519), Ok(()));
    assert_eq!((receipt.cost(), receipt.report), (cost, None));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_pays_for_what_was_delivered() {
    let world = World::new().await;
    let double = world.provider(11, &["waits"]).await;
    let body = r#"{"model": "waits", "prompt": "Hello", "stream": true}"#;
    let mut response = world.send(world.request("/v1/completions", body)).await;
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    double.until(|seen| seen.cancels == 1 && seen.acknowledged.len() == 1).await;
    check(&world, &[&double], 3, PRICE.charge(PROMPT_TOKENS, 3)).await;
    let recent = world.gateway.recent_requests(1).remove(0);
    let receipt = world.gateway.receipt(recent.id).unwrap().receipt;
    assert!(receipt.agrees(), "the provider's report was waited for");

    // The same for a plain answer, whose client hangs up before it is there.
    let body = r#"{"model": "waits", "prompt": "Hello"}"#;
    let request = world.request("/v1/completions", body);
    tokio::select! {
        _ = world.send(request) => panic!("it waits"),
        () = double.until(|seen| seen.sent == 6) => {}
    }
    double.until(|seen| seen.cancels == 2 && seen.acknowledged.len() == 2).await;
    check(&world, &[&double], 6, Nusd(2 * PRICE.charge(PROMPT_TOKENS, 3).0)).await;
}

#[tokio::test(start_paused = true)]
async fn the_loser_of_a_retry_is_never_billed_to_the_consumer() {
    // Half a character was delivered, of which the client saw nothing.
    let world = World::new().await;
    let loser = world.provider(11, &["dies-after-half-a-character"]).await;
    let winner = world.provider(12, &["dies-after-half-a-character=story"]).await;
    let mut answers = 0;
    // Which of the two is asked first is up to chance: until the loser was.
    while loser.seen().sent == 0 {
        let answer = world.chat("dies-after-half-a-character", "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.json()["choices"][0]["message"]["content"], "Once upon a time.");
        answers += 1;
    }
    let billed = Nusd(answers * PRICE.charge(PROMPT_TOKENS, 5).0);
    let delivered = u32::try_from(answers).unwrap() * 5 + 1;
    check(&world, &[&loser, &winner], delivered, billed).await;
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_is_paid_in_windows_and_never_further_ahead() {
    let world = World::new().await;
    let double = world.provider(11, &["endless"]).await;
    let answer = world.chat("endless", r#", "max_tokens": 500"#).await;
    assert_eq!(answer.json()["usage"]["completion_tokens"], 500);
    assert_eq!(answer.json()["choices"][0]["finish_reason"], "length");
    double.until(|seen| seen.acknowledged.len() == 1).await;
    check(&world, &[&double], 500, PRICE.charge(PROMPT_TOKENS, 500)).await;
}

#[tokio::test(start_paused = true)]
async fn a_lie_about_usage_costs_the_client_nothing() {
    let world = World::new().await;
    let double = world.provider(11, &["lies"]).await;
    let answer = world.chat("lies", "").await;
    assert_eq!(answer.json()["usage"]["completion_tokens"], 5);
    check(&world, &[&double], 5, PRICE.charge(PROMPT_TOKENS, 5)).await;
    let receipt = world.gateway.receipt(answer.id.parse().unwrap()).unwrap().receipt;
    assert_eq!((receipt.verify(&keys::Ed25519), receipt.agrees()), (Ok(()), false));
    let problem = world.gateway.providers()[0].last_problem.clone().unwrap();
    assert_eq!(problem, "the provider counts 60 tokens, 5 arrived");
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_budget_is_402_also_for_requests_at_once() {
    let world = World::new().await;
    let double = world.provider(11, &["endless", "waits"]).await;
    // Nobody is done before all have asked.
    double.seen().sleep = std::time::Duration::from_secs(1);
    // The prompt is billed by its bytes until it is known: 5 of text, 80 of markers.
    let one = PRICE.charge(85, 100);
    world.gateway.set_limits("tests", KeyLimits::budget(Nusd(one.0 * 5 / 2))).await.unwrap();
    let asks = (0..4).map(|_| world.chat("endless", r#", "max_tokens": 100"#));
    let statuses: Vec<u16> =
        futures::future::join_all(asks).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 402).count(), 2, "{statuses:?}");
    let spent = Nusd(2 * PRICE.charge(PROMPT_TOKENS, 100).0);
    check(&world, &[&double], 200, spent).await;

    // Without a length, the answer is as long as the money lasts.
    world.gateway.set_limits("tests", KeyLimits::budget(Nusd(spent.0 + one.0))).await.unwrap();
    let answer = world.chat("endless", "").await;
    assert_eq!(answer.json()["choices"][0]["finish_reason"], "length");
    let tokens = answer.json()["usage"]["completion_tokens"].as_u64().unwrap();
    assert!((100..=200).contains(&tokens), "{tokens}");
    world.gateway.set_limits("tests", KeyLimits::budget(spent)).await.unwrap();
    let answer = world.chat("endless", "").await;
    assert_eq!(answer.status, 402);
    assert_eq!(answer.json()["error"]["code"], "insufficient_quota");
}

also_on_postgres! {
    nothing_delivered_is_free
    a_provider_that_dies_is_paid_for_what_was_delivered
    a_client_that_leaves_pays_for_what_was_delivered
    the_loser_of_a_retry_is_never_billed_to_the_consumer
    a_long_answer_is_paid_in_windows_and_never_further_ahead
    a_lie_about_usage_costs_the_client_nothing
    an_exhausted_budget_is_402_also_for_requests_at_once
}
