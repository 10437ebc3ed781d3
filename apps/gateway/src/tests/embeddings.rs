//! Vectors, from the client to the provider and back, and what they cost.

use expect_test::{Expect, expect};
use types::price::Price;

use super::*;
use double::{PRICE, PROMPT_TOKENS};

/// The prompt, and nothing for each vector.
const COST: Nusd = Nusd(460);

/// A text of each length.
fn inputs(lengths: &[usize]) -> String {
    let texts = lengths.iter().map(|length| "a".repeat(*length));
    serde_json::to_string(&texts.collect::<Vec<_>>()).unwrap()
}

impl World {
    async fn embed(&self, model: &str, lengths: &[usize], more: &str) -> Answer {
        let body = format!(r#"{{"model": "{model}", "input": {}{more}}}"#, inputs(lengths));
        self.ask(self.request("/v1/embeddings", &body)).await
    }
}

/// After everything is closed: what the providers count, what the gateway owes, what the key paid.
async fn check_books(world: &World, doubles: &[&Double], charged: Nusd, billed: Nusd) {
    world.gateway.idle().await;
    let of =
        |double: &&Double| -> Nusd { double.seen().lanes.values().map(|lane| lane.charged).sum() };
    assert_eq!(doubles.iter().map(of).sum::<Nusd>(), charged, "what the providers count");
    assert_eq!(world.owed().0, charged, "what the gateway counts");
    assert_eq!(world.spent().await, (billed, Nusd::ZERO), "billed to the key, nothing reserved");
}

#[test]
fn the_cost_is_that_of_the_prompt() {
    let price = Price { completion_nusd_per_mtok: Nusd::ZERO, ..PRICE };
    assert_eq!(price.charge(PROMPT_TOKENS, 1), COST);
}

#[tokio::test(start_paused = true)]
async fn who_makes_only_vectors_asks_for_what_is_read() {
    let world = World::new().await;
    let _double = world.provider(11, &["embed-any"]).await;
    let asked = [
        world.get("/v1/models").await.json()["data"][0]["peerwatt"]["price"].clone(),
        world.get("/v1/prices").await.json()["data"][0]["price"].clone(),
        serde_json::to_value(world.gateway.models()[0].price_min).unwrap(),
    ];
    let price = Price { completion_nusd_per_mtok: Nusd::ZERO, ..PRICE };
    let expected = serde_json::to_value(price).unwrap();
    assert_eq!(asked, [expected.clone(), expected.clone(), expected]);
}

#[tokio::test(start_paused = true)]
async fn vectors_are_given_in_every_dialect() {
    let world = World::new().await;
    let double = world.provider(11, &["embed-any"]).await;
    let check = async |path: &str, body: &str, expect: Expect| {
        let body = body.replace("MODEL", r#""model": "embed-any""#);
        expect.assert_eq(&world.ask(world.request(path, &body)).await.shown());
    };
    check("/v1/embeddings", r#"{MODEL, "input": "Hello"}"#, expect![[r#"
        200
        content-type: application/json
        x-peerwatt-cost-nusd: 460

        {"object":"list","data":[{"object":"embedding","index":0,"embedding":[5.0,0.0,0.5]}],"model":"embed-any","usage":{"prompt_tokens":9,"total_tokens":9}}
    "#]]).await;
    let base64 = r#"{MODEL, "input": ["a", "bc"], "encoding_format": "base64", "dimensions": 2}"#;
    check("/v1/embeddings", base64, expect![[r#"
        200
        content-type: application/json
        x-peerwatt-cost-nusd: 460

        {"object":"list","data":[{"object":"embedding","index":0,"embedding":"AACAPwAAAAA="},{"object":"embedding","index":1,"embedding":"AAAAQAAAgD8="}],"model":"embed-any","usage":{"prompt_tokens":9,"total_tokens":9}}
    "#]]).await;
    check("/api/embed", r#"{MODEL, "input": ["a", "bc"]}"#, expect![[r#"
        200
        content-type: application/json
        x-peerwatt-cost-nusd: 460

        {"model":"embed-any","embeddings":[[1.0,0.0,0.5],[2.0,1.0,0.5]],"total_duration":0,"load_duration":0,"prompt_eval_count":9,"peerwatt":{"request_id":"ID","cost_nusd":"460","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"3ad6f15c50bd7042a976ebd2a7e57f2d1373da693afdd15f8bdb99c72a6fd3c3","receipt":"/v1/receipts/ID"}}
    "#]]).await;
    check("/api/embeddings", r#"{MODEL, "prompt": "Hello"}"#, expect![[r#"
        200
        content-type: application/json
        x-peerwatt-cost-nusd: 460

        {"embedding":[5.0,0.0,0.5],"peerwatt":{"request_id":"ID","cost_nusd":"460","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"3ad6f15c50bd7042a976ebd2a7e57f2d1373da693afdd15f8bdb99c72a6fd3c3","receipt":"/v1/receipts/ID"}}
    "#]]).await;
    check(
        "/api/embed",
        r#"{MODEL}"#,
        expect![[r#"
        200
        content-type: application/json

        {"model":"embed-any","embeddings":[]}
    "#]],
    )
    .await;
    check(
        "/api/embeddings",
        r#"{MODEL, "prompt": ""}"#,
        expect![[r#"
        200
        content-type: application/json

        {"embedding":[]}
    "#]],
    )
    .await;
    let paid = Nusd(4 * COST.0);
    check_books(&world, &[&double], paid, paid).await;
}

#[tokio::test(start_paused = true)]
async fn vectors_have_a_receipt() {
    let world = World::new().await;
    let double = world.provider(11, &["embed"]).await;
    let answer = world.embed("embed", &[1, 2, 3], "").await;
    assert_eq!(answer.json()["usage"], serde_json::json!({"prompt_tokens": 9, "total_tokens": 9}));
    double.until(|seen| seen.acknowledged.len() == 1).await;
    check_books(&world, &[&double], COST, COST).await;
    let receipt = world.gateway.receipt(answer.id.parse().unwrap()).unwrap().receipt;
    assert_eq!((receipt.verify(&keys::Ed25519), receipt.agrees()), (Ok(()), true));
    assert_eq!(receipt.acknowledgement.value.delivered_tokens, 3);
    let numbers = [1.0, 0.0, 0.5, 2.0, 1.0, 0.5, 3.0, 2.0, 0.5].map(f32::to_le_bytes);
    assert_eq!(receipt.verify_response(numbers.as_flattened()), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn who_breaks_off_is_replaced_unseen_and_its_loss_is_not_the_clients() {
    for fault in ["embed-dies", "embed-few", "embed-nan"] {
        let world = World::new().await;
        let loser = world.provider(11, &[&format!("embed={fault}")]).await;
        let winner = world.provider(12, &["embed"]).await;
        let mut answers = 0;
        // Which of the two is asked first is up to chance: until the loser was.
        while loser.seen().orders.is_empty() {
            let answer = world.embed("embed", &[1, 2], "").await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert_eq!(answer.json()["data"][1]["embedding"], serde_json::json!([2.0, 1.0, 0.5]));
            answers += 1;
        }
        let billed = Nusd(answers * COST.0);
        // Its first vector came, and is owed.
        check_books(&world, &[&loser, &winner], Nusd(billed.0 + COST.0), billed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_vectors_are_a_breach() {
    let check = async |fault: &str, expect: Expect| {
        let world = World::new().await;
        let _double = world.provider(11, &[&format!("embed={fault}")]).await;
        let answer = world.embed("embed", &[1, 2], "").await;
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        expect.assert_eq(&format!("{}: {message}", answer.status));
        world.gateway.idle().await;
        assert_eq!(world.spent().await, (Nusd::ZERO, Nusd::ZERO), "{fault}");
    };
    check(
        "embed-few",
        expect!["502: the provider failed: it broke the protocol: 1 vectors of 2 inputs"],
    )
    .await;
    check(
        "embed-many",
        expect!["502: the provider failed: it broke the protocol: more tokens than were ordered"],
    )
    .await;
    check(
        "embed-nan",
        expect!["502: the provider failed: it broke the protocol: a number that is not finite"],
    )
    .await;
    check(
        "embed-infinite",
        expect!["502: the provider failed: it broke the protocol: a number that is not finite"],
    )
    .await;
    check("embed-uneven", expect!["502: the provider failed: it broke the protocol: a vector of 4 numbers among those of 3"]).await;
    check(
        "embed-flat",
        expect!["502: the provider failed: it broke the protocol: a vector of 0 bytes"],
    )
    .await;
    check(
        "embed-wide",
        expect!["502: the provider failed: it broke the protocol: a vector of 32772 bytes"],
    )
    .await;
    check("embed-writes", expect!["502: the provider failed: it broke the protocol: something that is no vector, or a vector that nobody asked for"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_vector_in_a_chat_is_a_breach() {
    let world = World::new().await;
    let _double = world.provider(11, &["story=vector-in-a-chat"]).await;
    let answer = world.chat("story", "").await;
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    expect!["the provider failed: it broke the protocol: something that is no vector, or a vector that nobody asked for"].assert_eq(&message);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_pays_for_the_vectors_that_came() {
    let world = World::new().await;
    let double = world.provider(11, &["embed=embed-waits"]).await;
    let body = format!(r#"{{"model": "embed", "input": {}}}"#, inputs(&[1, 2]));
    tokio::select! {
        _ = world.send(world.request("/v1/embeddings", &body)) => panic!("it waits"),
        () = double.until(|seen| seen.sent == 1) => {}
    }
    double.until(|seen| seen.cancels == 1 && seen.acknowledged.len() == 1).await;
    check_books(&world, &[&double], COST, COST).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_model_does_not_make_is_refused() {
    let world = World::new().await;
    let _double = world.provider(11, &["embed", "plain", "story"]).await;
    let check = async |path: &str, body: &str, expect: Expect| {
        let answer = world.ask(world.request(path, body)).await;
        let error = match answer.json()["error"].clone() {
            serde_json::Value::String(message) => message,
            error => format!("{}: {}", error["param"], error["message"].as_str().unwrap()),
        };
        expect.assert_eq(&format!("{} {error}", answer.status));
    };
    let chat = r#"{"model": "embed", "messages": [{"role": "user", "content": "Hello"}]}"#;
    check("/v1/chat/completions", chat, expect![[r#"400 "model": no provider of `embed` can do this: it makes embeddings and nothing else; ask it for embeddings, or another model"#]]).await;
    check("/api/generate", r#"{"model": "embed", "prompt": "Hello"}"#, expect!["400 no provider of `embed` can do this: it makes embeddings and nothing else; ask it for embeddings, or another model"]).await;
    let plain = r#"{"model": "plain", "input": "Hello"}"#;
    check("/v1/embeddings", plain, expect![[r#"400 "model": no provider of `plain` can do this: no embeddings; ask a model whose embeddings GET /v1/models shows"#]]).await;
    check("/api/embed", plain, expect!["400 no provider of `plain` can do this: no embeddings; ask a model whose embeddings GET /v1/models shows"]).await;
    let sized = r#"{"model": "embed", "input": "Hello", "dimensions": 4}"#;
    check("/v1/embeddings", sized, expect![[r#"400 "dimensions": no provider of `embed` can do this: no choice of the embeddings' dimensions; leave `dimensions` out"#]]).await;
    check("/v1/embeddings", r#"{"model": "embed", "input": [1, 2]}"#, expect![[r#"400 "input[0]": input[0]: token ids are of the vocabulary that they were made with; send text"#]]).await;
    check(
        "/v1/embeddings",
        r#"{"model": "none", "input": "a"}"#,
        expect![[
            r#"404 "model": the model `none` is not offered here; offered now: embed, plain, story"#
        ]],
    )
    .await;
    let long = format!(r#"{{"model": "embed", "input": {}}}"#, inputs(&[1, 40_000]));
    check(
        "/v1/embeddings",
        &long,
        expect!["400 null: the prompt is longer than the context of `embed`; shorten it"],
    )
    .await;
}

/// Each text is read for itself: together they may be longer than the context.
#[tokio::test(start_paused = true)]
async fn many_inputs_fit_where_each_does() {
    let world = World::new().await;
    let double = world.provider(11, &["embed"]).await;
    let answer = world.embed("embed", &[10_000; 100], "").await;
    assert_eq!((answer.status, answer.json()["data"].as_array().unwrap().len()), (200, 100));
    // More texts than the context has tokens are no more than are paid for.
    let answer = world.embed("embed", &[1; 2_048], "").await;
    assert_eq!((answer.status, answer.json()["data"].as_array().unwrap().len()), (200, 2_048));
    let paid = Nusd(2 * COST.0);
    check_books(&world, &[&double], paid, paid).await;
    // What may be cut always fits.
    let cut = format!(r#"{{"model": "embed", "truncate": true, "input": {}}}"#, inputs(&[40_000]));
    assert_eq!(world.ask(world.request("/api/embed", &cut)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_prompt_is_what_must_be_left_of_a_budget() {
    let world = World::new().await;
    let double = world.provider(11, &["embed"]).await;
    // By its bytes, until it is known: 5 of text, 80 of markers.
    let price = Price { completion_nusd_per_mtok: Nusd::ZERO, ..PRICE };
    let needed = price.charge(85, 1);
    world.gateway.set_limits("tests", KeyLimits::budget(Nusd(needed.0 - 1))).await.unwrap();
    let answer = world.embed("embed", &[5], "").await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (402, &"insufficient_quota".into())
    );
    check_books(&world, &[&double], Nusd::ZERO, Nusd::ZERO).await;
    world.gateway.set_limits("tests", KeyLimits::budget(needed)).await.unwrap();
    assert_eq!(world.embed("embed", &[5], "").await.status, 200);
    check_books(&world, &[&double], COST, COST).await;
}

#[tokio::test(start_paused = true)]
async fn lists_say_who_embeds() {
    let world = World::new().await;
    let _double = world.provider(11, &["embed", "embed-any", "plain"]).await;
    let models = world.get("/v1/models").await.json();
    let able = |model: &serde_json::Value| {
        let of = &model["peerwatt"];
        format!(
            "{} completions {} embeddings {}\n",
            model["id"], of["completions"], of["embeddings"]
        )
    };
    let able: String = models["data"].as_array().unwrap().iter().map(able).collect();
    expect![[r#"
        "embed" completions false embeddings "fixed"
        "embed-any" completions false embeddings "sized"
        "plain" completions true embeddings "none"
    "#]]
    .assert_eq(&able);
    let show = world.ask(world.request("/api/show", r#"{"model": "embed"}"#)).await.json();
    expect![[r#"["embedding"]"#]].assert_eq(&show["capabilities"].to_string());
    // Of a model that only embeds, embeddings are meant.
    for question in ["model=embed", "model=embed&embeddings=fixed", "model=plain"] {
        let route = world.get(&format!("/v1/route?{question}")).await.json();
        assert_eq!(route["candidates"][0]["passed"], serde_json::Value::Null, "{question}");
    }
    let route = world.get("/v1/route?model=plain&embeddings=fixed").await.json();
    expect![[r#""no embeddings""#]].assert_eq(&route["candidates"][0]["passed"].to_string());
    let figures = crate::metrics::render(&world.gateway.shared);
    assert!(!figures.contains("api=\"embeddings\""));
    world.embed("embed", &[1], "").await;
    let figures = crate::metrics::render(&world.gateway.shared);
    let of_it =
        |line: &&str| line.contains("api=\"embeddings\"") || line.contains("peerwatt_tokens");
    let mut of_it: Vec<&str> =
        figures.lines().filter(|line| !line.starts_with('#')).filter(of_it).collect();
    of_it.sort_unstable();
    expect![[r#"
        peerwatt_requests_total{api="embeddings",outcome="answered"} 1
        peerwatt_tokens_total{gen_ai_token_type="input"} 9
        peerwatt_tokens_total{gen_ai_token_type="output"} 0"#]]
    .assert_eq(&of_it.join("\n"));
}

also_on_postgres! {
    vectors_have_a_receipt
    who_breaks_off_is_replaced_unseen_and_its_loss_is_not_the_clients
    a_client_that_leaves_pays_for_the_vectors_that_came
    the_prompt_is_what_must_be_left_of_a_budget
}
