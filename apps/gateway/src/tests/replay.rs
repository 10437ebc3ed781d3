//! Answers whose tokens are drawn again while they stream.

use std::time::Duration;

use expect_test::expect;
use verify::profile;

use super::*;

impl World {
    /// How often an audit was demanded.
    async fn demanded(&self) -> usize {
        // The treasury sends one transaction after the other.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.chain.log().iter().filter(|it| **it == "demand audit").count()
    }

    /// What was counted of replays.
    fn replays(&self) -> String {
        let figures = crate::metrics::render(&self.gateway.shared);
        let lines = figures.lines().filter(|line| line.starts_with("peerwatt_replay"));
        let mut lines: Vec<String> = lines.map(|line| format!("{line}\n")).collect();
        lines.sort();
        lines.concat()
    }

    async fn health(&self, double: &Double) -> String {
        self.gateway.idle().await;
        let address = double.key.address();
        let providers = self.gateway.providers();
        providers.iter().find(|view| view.operator == address).unwrap().health.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn an_honest_answer_is_drawn_again_token_by_token() {
    let world = World::new().await;
    let double = world.provider(11, &["draws"]).await;
    for more in
        ["", r#", "temperature": 0"#, r#", "temperature": 1.5, "top_p": 1, "max_tokens": 9"#]
    {
        assert_eq!(world.chat("draws", more).await.status, 200);
    }
    expect![[r#"
        peerwatt_replayed_tokens_total{outcome="match"} 137
        peerwatt_replays_total{finding="clean"} 3
    "#]]
    .assert_eq(&world.replays());
    assert_eq!(world.health(&double).await, "ok");
    assert_eq!(world.demanded().await, 0);
}

#[tokio::test(start_paused = true)]
async fn the_seed_is_nobodys_choice() {
    let world = World::new().await;
    let double = world.provider(11, &["draws"]).await;
    let answer = world.chat("draws", "").await;
    let id = answer.id.parse().unwrap();
    let stored = world.gateway.receipt(id).unwrap();
    let seed = stored.receipt.report.unwrap().value.seed.unwrap();
    let salt = types::hash::from_hex::<16>(&stored.salt).unwrap();
    let derived = profile::seed(&profile::NO_BEACON, &salt, &double.key.address(), &id);
    assert_eq!(seed, u64::from(derived));
    // What the client did not ask for it does not get.
    assert!(answer.json()["choices"][0]["logprobs"].is_null());
    let asked = world.chat("draws", r#", "logprobs": true, "top_logprobs": 2"#).await.json();
    let shown = asked["choices"][0]["logprobs"]["content"][0]["top_logprobs"].as_array().unwrap();
    assert_eq!(shown.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_to_be_disclosed_is_drawn_again_in_no_profile() {
    let world = World::new().await;
    let _double = world.provider(11, &["draws"]).await;
    let (answer, _) = world.chat_with("draws", &[("x-peerwatt-disclose", "false")]).await;
    assert_eq!(answer.status, 200);
    world.gateway.idle().await;
    let id = world.gateway.recent_requests(1)[0].id;
    let receipt = world.gateway.receipt(id).unwrap().receipt;
    assert_eq!(receipt.report.as_ref().unwrap().value.profile, profile::NO_NAME);
    assert!(receipt.agrees());
    expect![[r#"
        peerwatt_replayed_tokens_total{outcome="match"} 64
        peerwatt_replays_total{finding="clean"} 1
    "#]]
    .assert_eq(&world.replays());
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_draws_otherwise_is_suspended() {
    let world = World::new().await;
    let double = world.provider(11, &["draws-otherwise"]).await;
    // The answer is the client's all the same: whether it is bad, somebody else must find.
    assert_eq!(world.chat("draws-otherwise", "").await.status, 200);
    assert_ne!(world.health(&double).await, "ok");
    let refused = world.chat("draws-otherwise", "").await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    expect![[r#"
        peerwatt_replayed_tokens_total{outcome="mismatch"} 64
        peerwatt_replays_total{finding="suspend"} 1
    "#]]
    .assert_eq(&world.replays());
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_reports_too_little_is_found() {
    let world = World::new().await;
    let double = world.provider(11, &["draws-silent"]).await;
    assert_eq!(world.chat("draws-silent", "").await.status, 200);
    expect![[r#"
        peerwatt_replayed_tokens_total{outcome="unreported"} 64
        peerwatt_replays_total{finding="audit"} 1
    "#]]
    .assert_eq(&world.replays());
    assert_eq!(world.health(&double).await, "ok", "an audit finds more, and suspends if it must");
    assert_eq!(world.demanded().await, 1);
    // One an hour of a provider: each may cost its deposit.
    assert_eq!(world.chat("draws-silent", "").await.status, 200);
    assert_eq!(world.demanded().await, 1);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(world.chat("draws-silent", "").await.status, 200);
    assert_eq!(world.demanded().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_few_tokens_of_another_seed_are_found() {
    let world = World::new().await;
    let double = world.provider(11, &["draws-slips"]).await;
    assert_eq!(world.chat("draws-slips", "").await.status, 200);
    expect![[r#"
        peerwatt_replayed_tokens_total{outcome="match"} 58
        peerwatt_replayed_tokens_total{outcome="mismatch"} 6
        peerwatt_replays_total{finding="suspend"} 1
    "#]]
    .assert_eq(&world.replays());
    assert_ne!(world.health(&double).await, "ok");
}

#[tokio::test(start_paused = true)]
async fn what_a_client_asks_for_is_honoured_and_not_replayed() {
    let world = World::new().await;
    let _double = world.provider(11, &["draws"]).await;
    for more in [
        r#", "seed": 5"#,
        r#", "top_k": 40"#,
        r#", "presence_penalty": 0.5"#,
        r#", "response_format": {"type": "json_object"}"#,
    ] {
        assert_eq!(world.chat("draws", more).await.status, 200, "{more}");
    }
    expect![""].assert_eq(&world.replays());
}
