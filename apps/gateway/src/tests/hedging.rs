//! Slow providers: how long they are waited for, and when a second one is asked.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    double::{PRICE, PROMPT_TOKENS},
    *,
};

impl World {
    async fn hedged(&self, hedge: &str) -> (Answer, Duration) {
        let body = r#"{"model": "story", "messages": [{"role": "user", "content": "Hello"}]}"#;
        let mut request = self.request("/v1/chat/completions", body);
        request.headers_mut().insert("x-peerwatt-hedge", hedge.parse().unwrap());
        let began = Instant::now();
        (self.ask(request).await, began.elapsed())
    }
}

/// Two providers of one model, both measured as fast.
async fn two() -> (World, [Double; 2]) {
    let world = World::new().await;
    let doubles = [world.provider(11, &["story"]).await, world.provider(12, &["story"]).await];
    while doubles.iter().any(|double| double.seen().orders.len() < 60) {
        assert_eq!(world.chat("story", "").await.status, 200);
    }
    (world, doubles)
}

#[tokio::test(start_paused = true)]
async fn a_second_provider_is_asked_when_the_first_is_late() {
    let (world, [slow, quick]) = two().await;
    slow.seen().sleep = Duration::from_secs(2);
    let asked = |double: &Double| double.seen().orders.len();
    let (mut hedged, before) = (0, world.spent().await.0);
    for count in 1..=40 {
        if hedged == 2 {
            break;
        }
        let was = asked(&slow);
        let (answer, took) = world.hedged("true").await;
        assert_eq!(answer.status, 200);
        if asked(&slow) > was {
            hedged += 1;
            assert!((100..500).contains(&took.as_millis()), "{took:?}");
        }
        world.gateway.idle().await;
        let spent = world.spent().await.0.saturating_sub(before);
        assert_eq!(
            spent,
            Nusd(count * PRICE.charge(PROMPT_TOKENS, 5).0),
            "one answer is paid each"
        );
    }
    assert!(hedged > 0, "the slow one was never asked");
    slow.until(|seen| seen.active == 0).await;
    assert!(slow.seen().cancels >= hedged, "who lost is stopped");
    drop(quick);
}

#[tokio::test(start_paused = true)]
async fn without_a_wish_nobody_is_asked_twice() {
    let (world, [slow, _quick]) = two().await;
    slow.seen().sleep = Duration::from_secs(2);
    for _ in 0..6 {
        let was = slow.seen().orders.len();
        let (answer, took) = world.hedged("false").await;
        assert_eq!(answer.status, 200);
        assert_eq!(slow.seen().orders.len() > was, took.as_secs() == 2, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_always_quick_is_not_waited_for_a_minute() {
    let (world, [stuck, _quick]) = two().await;
    stuck.seen().sleep = Duration::from_secs(3_600);
    for _ in 0..20 {
        let was = stuck.seen().orders.len();
        let (answer, took) = world.hedged("false").await;
        assert_eq!(answer.status, 200);
        if stuck.seen().orders.len() > was {
            assert_eq!(took.as_secs(), 3, "{took:?}");
        }
    }
    assert!(world.gateway.providers().iter().any(|view| view.failed > 0));
}

#[tokio::test(start_paused = true)]
async fn who_is_alone_is_waited_for() {
    let world = World::new().await;
    let double = world.provider(11, &["story"]).await;
    for _ in 0..5 {
        assert_eq!(world.chat("story", "").await.status, 200);
    }
    double.seen().sleep = Duration::from_secs(40);
    let (answer, took) = world.hedged("true").await;
    assert_eq!((answer.status, took.as_secs()), (200, 40));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_two_pays_one() {
    let (world, [first, second]) = two().await;
    for double in [&first, &second] {
        double.seen().sleep = Duration::from_secs(2);
    }
    let (before, orders) = (world.spent().await.0, first.seen().orders.len());
    let asked = tokio::time::timeout(Duration::from_secs(1), world.hedged("true")).await;
    assert!(asked.is_err(), "nobody has answered yet");
    world.gateway.idle().await;
    assert!(first.seen().orders.len() > orders);
    // Both make their tokens before they hear that nobody waits.
    let spent = world.spent().await.0.saturating_sub(before);
    assert_eq!(spent, PRICE.charge(PROMPT_TOKENS, 5));
}

also_on_postgres! {
    a_second_provider_is_asked_when_the_first_is_late
    a_client_that_leaves_two_pays_one
}
