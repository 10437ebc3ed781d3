//! What providers are told about requests that went elsewhere.

use std::time::Duration;

use expect_test::{Expect, expect};
use types::sign::Signed;
use wire::serve::{PassedFor, ToGatewayControl, ToProviderControl};

use super::{double::model, *};

/// The next tallies of a provider, one line per model.
async fn check(double: &Double, expect: Expect) {
    let Some(ToProviderControl::Tallies(tallies)) = double.told().await else {
        panic!("nothing was told")
    };
    let mut shown = String::new();
    for tally in tallies {
        let which = if tally.model == model("story") { "story" } else { "other" };
        shown += &format!("{which}: chosen {}, {} as second", tally.chosen, tally.second);
        for reason in PassedFor::ALL {
            match tally.passed[reason.index()] {
                0 => {}
                count => shown += &format!(", {} {count}", reason.name()),
            }
        }
        shown.push('\n');
    }
    expect.assert_eq(&shown);
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_told_why_it_was_passed_over() {
    let world = World::new().await;
    let one = world.provider(11, &["story"]).await;
    let other = world.provider(12, &["story"]).await;
    // The same name for another model, and not as many offer it.
    let third = world.provider(13, &["other"]).await;
    let mut offer = Double::offer(&third.key, third.node_key, &["story".to_owned()], 1_000);
    offer.models[0].model = model("other");
    third.say(&ToGatewayControl::Offer(Signed::new(offer, &chain_id(), &*third.key))).await;
    world
        .gateway
        .until(|shared| shared.directory.models().iter().all(|model| model.alias == "story"))
        .await;

    let pinned = key(11).address().to_string();
    for headers in [
        &[("x-peerwatt-pin-provider", pinned.as_str())][..],
        &[("x-peerwatt-pin-provider", pinned.as_str())],
        &[("x-peerwatt-max-price", "0.01/0.01")],
        &[("x-peerwatt-region", "eu")],
    ] {
        world.chat_with("story", headers).await;
    }
    // By its id a model is what it is.
    world.chat_with(&model("other").to_string(), &[]).await;
    check(
        &one,
        expect![[r#"
        story: chosen 2, 0 as second, region 1, price_max 1
    "#]],
    )
    .await;
    check(
        &other,
        expect![[r#"
        story: chosen 0, 0 as second, pinned 2, region 1, price_max 1
    "#]],
    )
    .await;
    check(
        &third,
        expect![[r#"
        other: chosen 1, 0 as second, other_model 4
    "#]],
    )
    .await;
    // Once is enough.
    assert_eq!(one.told().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_is_counted_once() {
    let world = World::new().await;
    let double = world.provider(11, &["story"]).await;
    double.seen().sleep = Duration::from_secs(20);
    let chats = futures::future::join_all((0..5).map(|_| world.chat("story", "")));
    let mut statuses: Vec<u16> = chats.await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 429]);
    check(
        &double,
        expect![[r#"
        story: chosen 4, 0 as second, full 1
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_was_asked_as_the_second_one_is_told() {
    let world = World::new().await;
    let doubles = [world.provider(11, &["story"]).await, world.provider(12, &["story"]).await];
    while doubles.iter().any(|double| double.seen().orders.len() < 60) {
        assert_eq!(world.chat("story", "").await.status, 200);
    }
    let sum = async |of: fn(&wire::serve::Tally) -> u32| {
        let mut sum = 0;
        for double in &doubles {
            while let Some(ToProviderControl::Tallies(tallies)) = double.told().await {
                sum += tallies.iter().map(of).sum::<u32>();
            }
        }
        sum
    };
    let asked = || doubles.iter().map(|double| double.seen().orders.len()).sum::<usize>();
    assert_eq!(sum(|tally| tally.chosen).await, u32::try_from(asked()).unwrap());
    doubles.iter().for_each(|double| double.seen().sleep = Duration::from_secs(2));
    let headers = [("x-peerwatt-hedge", "true")];
    world.chat_with("story", &headers).await;
    assert_eq!(sum(|tally| tally.second).await, 1);
}
