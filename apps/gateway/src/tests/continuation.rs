//! Answers that break off in the middle, and who goes on with them.

use super::{
    double::{PRICE, PROMPT_TOKENS},
    *,
};

const ANSWER: &str = "Once upon a time.";

/// The text of a stream of chunks, or of a plain answer.
pub(super) fn text(answer: &Answer) -> String {
    let content = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    if !answer.headers.contains("event-stream") {
        return content(&answer.json()["choices"][0]["message"]["content"]);
    }
    let chunks = answer.body.lines().filter_map(|line| line.strip_prefix("data: {"));
    chunks
        .map(|chunk| {
            let chunk: serde_json::Value = serde_json::from_str(&format!("{{{chunk}")).unwrap();
            content(&chunk["choices"][0]["delta"]["content"])
        })
        .collect()
}

/// A world where one provider breaks off as `failure` says and another does what `other` says.
async fn world(failure: &str, other: &str) -> (World, Double, Double) {
    let world = World::new().await;
    let bad = world.provider(11, &[failure]).await;
    let good = world.provider(12, &[&format!("{failure}={other}")]).await;
    (world, bad, good)
}

impl World {
    /// Asks until the bad provider was the first to be asked.
    async fn until_broken(&self, bad: &Double, model: &str, more: &str) -> Answer {
        for _ in 0..100 {
            let before = bad.seen().orders.len();
            let answer = self.chat(model, more).await;
            if bad.seen().orders.len() > before {
                return answer;
            }
        }
        panic!("{model} was never asked");
    }
}

#[tokio::test(start_paused = true)]
async fn another_provider_goes_on_where_one_broke_off() {
    for failure in ["dies-after-3-tokens", "stalls", "fails"] {
        for more in ["", r#", "stream": true"#] {
            let (world, bad, _good) = world(failure, "story").await;
            let answer = world.until_broken(&bad, failure, more).await;
            assert_eq!((answer.status, text(&answer).as_str()), (200, ANSWER), "{failure} {more}");
            assert!(!answer.body.contains("error"), "{failure}: {}", answer.body);
            if !more.is_empty() {
                assert!(answer.body.contains("data: [DONE]"), "{}", answer.body);
                let mark = answer.body.find(": peerwatt {\"continued_by\":").unwrap();
                let first = if failure == "dies-after-3-tokens" { " a\"" } else { " upon\"" };
                assert!(mark > answer.body.find(first).unwrap(), "{failure}: {}", answer.body);
                assert!(answer.body.contains("\"earlier_providers\":["), "{}", answer.body);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_is_paid_for_its_part_and_the_client_pays_its_prompt_once() {
    let (world, bad, good) = world("dies-after-3-tokens", "story").await;
    let answer = world.until_broken(&bad, "dies-after-3-tokens", "").await;
    world.gateway.idle().await;
    let cost = Nusd(PRICE.charge(PROMPT_TOKENS, 3).0 + PRICE.completion(2).0);
    assert!(
        answer.headers.contains(&format!("x-peerwatt-cost-nusd: {cost}\n")),
        "{}",
        answer.headers
    );
    let usage = &answer.json()["usage"];
    assert_eq!(
        (usage["prompt_tokens"].as_u64(), usage["completion_tokens"].as_u64()),
        (Some(9), Some(5))
    );

    let stored = world.gateway.receipt(answer.id.parse().unwrap()).unwrap();
    let [first] = &stored.earlier[..] else { panic!("one part before the last") };
    let (first, last) = (&first.acknowledgement.value, &stored.receipt.acknowledgement.value);
    assert_eq!((first.provider, first.delivered_tokens), (bad.key.address(), 3));
    assert_eq!((last.provider, last.delivered_tokens), (good.key.address(), 2));
    assert_eq!(stored.receipt.cost(), PRICE.charge(PROMPT_TOKENS, 2), "the prompt was read again");
    assert_eq!(stored.receipt.verify(&keys::Ed25519), Ok(()));
    assert_eq!(stored.earlier[0].verify(&keys::Ed25519), Ok(()));
    assert_eq!(first.prompt_hash, last.prompt_hash);

    let usage = world.gateway.shared.books.usage(answer.id.parse().unwrap(), None).unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.cost_nusd), (9, 5, cost));
    // It is so after a restart.
    let id = answer.id.parse().unwrap();
    let world = world.restart().await;
    assert_eq!(world.gateway.receipt(id).unwrap(), stored);
}

#[tokio::test(start_paused = true)]
async fn a_client_may_want_the_error_instead() {
    let (world, bad, good) = world("dies-after-3-tokens", "story").await;
    for _ in 0..100 {
        let before = bad.seen().orders.len();
        let body = r#"{"model": "dies-after-3-tokens", "prompt": "Hello", "stream": true}"#;
        let mut request = world.request("/v1/completions", body);
        request.headers_mut().insert("x-peerwatt-continue", "false".parse().unwrap());
        let asked = good.seen().orders.len();
        let answer = world.ask(request).await;
        if bad.seen().orders.len() > before {
            assert!(answer.body.contains(r#"data: {"error":"#), "{}", answer.body);
            assert_eq!(good.seen().orders.len(), asked, "nobody else was asked");
            return;
        }
    }
    panic!("it was never asked");
}

#[tokio::test(start_paused = true)]
async fn where_nobody_can_go_on_the_client_is_told_and_pays_what_it_got() {
    let (world, bad, _other) = world("dies-after-3-tokens", "cannot-go-on").await;
    let before = world.spent().await.0;
    let answer = world.until_broken(&bad, "dies-after-3-tokens", r#", "stream": true"#).await;
    assert!(answer.body.contains(r#"data: {"error":"#), "{}", answer.body);
    assert!(!answer.body.contains("[DONE]") && !answer.body.contains("continued_by"));
    world.gateway.idle().await;
    let whole = PRICE.charge(PROMPT_TOKENS, 5);
    let spent = Nusd(world.spent().await.0.0 - before.0);
    let part = PRICE.charge(PROMPT_TOKENS, 3);
    assert_eq!(spent.0 % whole.0, part.0 % whole.0, "some whole answers and this part: {spent:?}");
}

#[tokio::test(start_paused = true)]
async fn half_a_character_is_made_anew_and_not_billed_twice() {
    let failure = "dies-after-half-of-a-second-character";
    let (world, bad, _good) = world(failure, "pieces").await;
    let answer = world.until_broken(&bad, failure, "").await;
    assert_eq!(text(&answer), "grüße 😀", "{}", answer.body);
    // Six tokens were given; the seventh, half a character, is its provider's earning and the gateway's loss.
    assert_eq!(answer.json()["usage"]["completion_tokens"], 6);
    let cost = Nusd(PRICE.charge(PROMPT_TOKENS, 1).0 + PRICE.completion(5).0);
    assert!(
        answer.headers.contains(&format!("x-peerwatt-cost-nusd: {cost}\n")),
        "{}",
        answer.headers
    );
}

#[tokio::test(start_paused = true)]
async fn what_broke_off_after_the_last_token_is_whole() {
    let world = World::new().await;
    let _double = world.provider(11, &["dies-after-3-tokens"]).await;
    let answer = world.chat("dies-after-3-tokens", r#", "max_tokens": 3"#).await;
    assert_eq!((answer.status, text(&answer).as_str()), (200, "Once upon a"));
    assert_eq!(answer.json()["choices"][0]["finish_reason"], "length");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_gone_on_with_twice_and_no_more() {
    // A token each: five would be needed.
    let world = World::new().await;
    let mut doubles = Vec::new();
    for seed in 11..16 {
        doubles.push(world.provider(seed, &["makes-one-token"]).await);
    }
    let answer = world.chat("makes-one-token", r#", "stream": true"#).await;
    assert_eq!(text(&answer), "Once upon a");
    assert!(answer.body.contains(r#"data: {"error":"#), "{}", answer.body);
    assert_eq!(answer.body.matches("continued_by").count(), 2);
    world.gateway.idle().await;
    let cost = Nusd(PRICE.charge(PROMPT_TOKENS, 1).0 + 2 * PRICE.completion(1).0);
    assert_eq!(world.spent().await, (cost, Nusd::ZERO));
}

also_on_postgres! {
    another_provider_goes_on_where_one_broke_off
    each_is_paid_for_its_part_and_the_client_pays_its_prompt_once
    a_client_may_want_the_error_instead
    where_nobody_can_go_on_the_client_is_told_and_pays_what_it_got
    half_a_character_is_made_anew_and_not_billed_twice
    what_broke_off_after_the_last_token_is_whole
    an_answer_is_gone_on_with_twice_and_no_more
}
