//! Gateways that break the protocol get nothing, and others are served on.

use keys::SecretKey;
use types::{Lane, Nusd, sign::Signed};
use wire::serve::{TO_PROVIDER_FRAME_BYTES_MAX, ToProvider};

use super::{
    World,
    gateway::{Exchange, TestLink},
};
use provider::ProviderHandle;

/// A stream that begins with `bytes` is dropped, and counted as `what`.
async fn check(provider: &ProviderHandle, link: &TestLink, bytes: &[u8], what: &str) {
    let before = provider.status().violations.get(what).copied().unwrap_or(0);
    let mut exchange = Exchange::raw(link, bytes).await;
    assert_eq!(exchange.next().await, None);
    provider.until(|status| status.violations.get(what) == Some(&(before + 1))).await;
}

#[tokio::test]
async fn streams_that_begin_wrongly_are_dropped() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let oversize = u32::try_from(TO_PROVIDER_FRAME_BYTES_MAX + 1).unwrap().to_le_bytes();
    check(&provider, &link, &oversize, "frame").await;
    check(&provider, &link, b"\x04\x00\x00\x00\xff\xff\xff\xff", "frame").await;
    let cancel = wire::frame::encode(&ToProvider::Cancel).unwrap();
    check(&provider, &link, &cancel, "first message").await;
    let served = world.gateway.serve(&link, &world.gateway.ask(1, link.model("dummy/64"))).await;
    assert_eq!(served.pieces.len(), 64);
    provider.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_dropped() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    // The length of a frame, and never the frame.
    check(&provider, &link, &[200, 0, 0, 0, 1], "silent stream").await;
    provider.shutdown().await;
}

/// After three tokens the gateway says `message`: the request ends, and is charged for three.
async fn check_midway(message: impl FnOnce(&World) -> ToProvider, what: &str) {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let ask = world.gateway.ask(1, link.model("dummy/stalls-after-3-tokens"));
    let mut exchange = world.gateway.send(&link, &ask).await;
    exchange.tokens(3).await;
    exchange.say(&message(&world)).await;
    let report = exchange.report().await;
    assert_eq!(report.completion_tokens, 3);
    drop(exchange);
    let counted = provider.status().violations;
    assert_eq!(counted.into_iter().collect::<Vec<_>>(), [(what, 1)]);
    provider.shutdown().await;
    assert_eq!(world.chain.claimed(world.gateway.channel), report.lane_total);
}

#[tokio::test]
async fn a_voucher_of_another_key_ends_the_request() {
    let forged = |world: &World| {
        let voucher = world.gateway.voucher(Lane(1), 2, Nusd::whole(1)).value;
        let stranger = SecretKey::from_seed([66; 32]);
        ToProvider::Voucher(Signed::new(voucher, &super::chain_id(), &stranger))
    };
    check_midway(forged, "voucher").await;
}

#[tokio::test]
async fn a_voucher_changed_on_the_way_ends_the_request() {
    let changed = |world: &World| {
        let mut voucher = world.gateway.voucher(Lane(1), 2, Nusd::whole(1));
        voucher.value.total = Nusd::whole(2);
        ToProvider::Voucher(voucher)
    };
    check_midway(changed, "voucher").await;
}

#[tokio::test]
async fn a_voucher_that_promises_less_ends_the_request() {
    let lower = |world: &World| ToProvider::Voucher(world.gateway.voucher(Lane(1), 2, Nusd(5)));
    check_midway(lower, "voucher order").await;
}

#[tokio::test]
async fn a_voucher_of_another_lane_ends_the_request() {
    let other =
        |world: &World| ToProvider::Voucher(world.gateway.voucher(Lane(2), 2, Nusd::whole(1)));
    check_midway(other, "voucher order").await;
}

#[tokio::test]
async fn a_second_open_on_a_stream_ends_the_request() {
    let again = |world: &World| ToProvider::Sync { channel: world.gateway.channel };
    check_midway(again, "later message").await;
}

#[tokio::test]
async fn an_acknowledgement_of_something_else_is_not_kept() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let first = world.gateway.serve(&link, &world.gateway.ask(1, link.model("dummy/64"))).await;
    let mut exchange =
        world.gateway.send(&link, &world.gateway.ask(2, link.model("dummy/64"))).await;
    let report = exchange.report().await;
    let other = first.receipt.unwrap().acknowledgement;
    exchange.say(&ToProvider::Acknowledge(other)).await;
    let status = provider.until(|status| status.unacknowledged == 1).await;
    assert_eq!(status.violations["acknowledgement"], 1);
    let attempt = provider::Attempt { request_id: report.request_id, number: report.attempt };
    let stored = provider.receipt(attempt).unwrap().unwrap();
    assert_eq!((stored.report.value, stored.acknowledgement), (report, None));
    provider.shutdown().await;
}
