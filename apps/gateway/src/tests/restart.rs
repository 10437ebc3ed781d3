//! What a gateway knows after it was stopped.

use super::*;

#[tokio::test(start_paused = true)]
async fn books_and_lanes_go_on_after_a_restart() {
    let world = World::new().await;
    let double = world.provider(11, &["story"]).await;
    let first = world.chat("story", "").await;
    double.until(|seen| seen.acknowledged.len() == 1).await;
    let (spent, owed) = (world.spent().await, world.owed());
    let memory = double.memory();
    let world = world.restart().await;
    assert_eq!(world.spent().await, spent);
    assert_eq!(world.gateway.recent_requests(9).len(), 1);
    assert!(world.gateway.receipt(first.id.parse().unwrap()).is_ok());

    let double = world.provider_again(11, &["story"], memory).await;
    assert_eq!(double.seen().syncs, 2, "lanes are agreed on before they are used");
    assert_eq!(world.owed().0, owed.0);
    assert_eq!(world.chat("story", "").await.status, 200);
    assert_eq!(world.owed().0, Nusd(2 * owed.0.0));
    let lanes: Vec<u32> = double.seen().lanes.keys().map(|lane| lane.0).collect();
    assert_eq!(lanes, [0], "the lane goes on");
    let opened = world.chain.log().iter().filter(|kind| **kind == "open channel").count();
    assert_eq!(opened, 1, "the channel goes on");
    let registered = world.chain.log().iter().filter(|kind| **kind == "register gateway").count();
    assert_eq!(registered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_counts_more_than_it_signed_has_nothing_of_it() {
    let world = World::new().await;
    let double = world.provider(11, &["story"]).await;
    assert_eq!(world.chat("story", "").await.status, 200);
    let owed = world.owed().0;
    // Backed by a voucher, but both sides have signed less.
    let backed = Nusd(owed.0 + 300);
    double.seen().lanes.values_mut().for_each(|lane| lane.charged = backed);
    assert_eq!(world.chat("story", "").await.status, 200, "refused once, then another lane");
    assert_eq!(world.owed().0, Nusd(2 * owed.0));

    // More than any voucher promises.
    let unbacked = Nusd(u128::from(u64::MAX));
    double.seen().lanes.values_mut().for_each(|lane| lane.charged = unbacked);
    assert_eq!(world.chat("story", "").await.status, 200);
    assert_eq!(world.owed().0, Nusd(3 * owed.0));
    let lanes: Vec<u32> = double.seen().lanes.keys().map(|lane| lane.0).collect();
    assert_eq!(lanes, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_the_provider_is_not_done_with_is_passed_over() {
    let world = World::new().await;
    let double = world.provider(11, &["story"]).await;
    assert_eq!(world.chat("story", "").await.status, 200);
    double.seen().busy_lanes.push(types::Lane(0));
    assert_eq!(world.chat("story", "").await.status, 200);
    assert_eq!(world.chat("story", "").await.status, 200);
    let lanes: Vec<u32> = double.seen().lanes.keys().map(|lane| lane.0).collect();
    assert_eq!((lanes, double.seen().orders.len()), (vec![0, 1], 4));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_lost_its_books_takes_over_what_the_provider_can_prove() {
    let world = World::new().await;
    let double = world.provider(11, &["story"]).await;
    assert_eq!(world.chat("story", "").await.status, 200);
    double.until(|seen| seen.acknowledged.len() == 1).await;
    let (owed, memory) = (world.owed(), double.memory());
    std::fs::remove_dir_all(world.home.path().join("journal")).unwrap();
    let mut world = world.restart().await;
    world.api_key = world.gateway.create_api_key("tests", KeyLimits::budget(BUDGET)).await.unwrap();
    let _double = world.provider_again(11, &["story"], memory).await;
    assert_eq!(world.owed().0, owed.0);
    assert_eq!(world.chat("story", "").await.status, 200);
    assert_eq!(world.owed().0, Nusd(2 * owed.0.0));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_forgot_takes_the_gateways_count() {
    let world = World::new().await;
    let double = world.provider(11, &["story"]).await;
    world.chat("story", "").await;
    let charged = world.owed().0;
    double.seen().lanes.clear();
    assert_eq!(world.chat("story", "").await.status, 200);
    assert_eq!(world.owed().0, Nusd(2 * charged.0));
    assert_eq!(double.seen().lanes.values().next().unwrap().charged, world.owed().0);
}

#[tokio::test(start_paused = true)]
async fn keys_are_kept_by_digest_and_by_name() {
    let world = World::new().await;
    let journal = std::fs::read(world.home.path().join("journal/00000001.journal")).unwrap();
    let contains = |text: &str| journal.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!contains(&world.api_key) && contains("tests"));
    let errors = [
        world.gateway.create_api_key("tests", KeyLimits::budget(BUDGET)).await.unwrap_err(),
        world.gateway.create_api_key("", KeyLimits::budget(BUDGET)).await.unwrap_err(),
        world
            .gateway
            .import_api_key("other", &world.api_key, KeyLimits::default())
            .await
            .unwrap_err(),
        world.gateway.import_api_key("short", "pw-x", KeyLimits::default()).await.unwrap_err(),
        world.gateway.set_limits("nobody", KeyLimits::default()).await.unwrap_err(),
    ];
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "there is a key named `tests` already; choose another name",
            "a key's name has 1 to 64 bytes",
            "this key is in use under another name",
            "an imported key starts with `pw-` and has 20 to 128 letters, digits, `-` or `_`",
            "there is no key named `nobody`",
        ]
    );
    let limits = KeyLimits { requests_per_minute: Some(600), ..KeyLimits::budget(Nusd::whole(7)) };
    world.gateway.set_limits("tests", limits.clone()).await.unwrap();
    let world = world.restart().await;
    let keys = world.gateway.keys().await.unwrap().into_iter();
    let keys: Vec<(String, KeyLimits)> = keys.map(|view| (view.name, view.limits)).collect();
    let playground = ("playground".to_owned(), KeyLimits::budget(BUDGET));
    assert_eq!(keys, [playground, ("tests".to_owned(), limits)]);
}

also_on_postgres! {
    books_and_lanes_go_on_after_a_restart
    a_provider_that_forgot_takes_the_gateways_count
}
