//! Crashes, restarts and endings: what is owed is kept, redeemed once, and in time.

use std::path::Path;

use net::{Limits, memory::MemoryNet};
use provider::{Provider, ProviderConfig, RedeemPolicy};
use types::{Lane, Nusd, inference::FinishReason};
use wire::serve::{LaneState, Refusal, ToGatewayControl};

use super::{
    World,
    gateway::{NOW, PRICE, TestGateway, node_key},
};

const PROMPT_TOKENS: u32 = 4;

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Never redeems by itself.
fn patient(config: ProviderConfig) -> ProviderConfig {
    let redeem = RedeemPolicy { threshold_nusd: Nusd::whole(u64::MAX), interval_ms: 1 << 40 };
    ProviderConfig { redeem, ..config }
}

#[tokio::test]
async fn a_gateway_that_disappears_midway_pays_for_what_was_delivered() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let ask = world.gateway.ask(1, link.model("dummy/stalls-after-3-tokens"));
    let mut exchange = world.gateway.send(&link, &ask).await;
    exchange.tokens(3).await;
    assert_eq!(world.net.cut(node_key(super::GATEWAY), node_key(super::PROVIDER)), 1);
    let status = provider.until(|status| status.served == 1).await;
    assert_eq!((status.active, status.unacknowledged), (0, 1));
    // It comes back, is told what is held, and goes on from there.
    let link = world.gateway.welcome().await;
    let voucher = Some(world.gateway.voucher(Lane(1), 1, ask.cover()));
    let charged = PRICE.charge(PROMPT_TOKENS, 3);
    assert_eq!(world.gateway.lanes(&link).await, [LaneState { lane: Lane(1), charged, voucher }]);
    let mut ask = world.gateway.ask(1, link.model("dummy/64"));
    (ask.order.attempt, ask.order.lane_total_before, ask.sequence) = (1, charged, 2);
    world.gateway.serve(&link, &ask).await;
    provider.shutdown().await;
}

#[tokio::test]
async fn a_killed_provider_finds_all_but_less_than_a_window() {
    let world = World::new();
    let (provider, link) = world.start(patient(world.config())).await;
    let done = world.gateway.serve(&link, &world.gateway.ask(1, link.model("dummy/200"))).await;
    let mut ask = world.gateway.ask(2, link.model("dummy/200"));
    ask.cover_tokens = 100;
    let mut running = world.gateway.send(&link, &ask).await;
    running.tokens(100).await;
    // What a kill would leave behind.
    let left = tempfile::tempdir().unwrap();
    copy_folder(world.home.path(), left.path());
    drop(running);
    provider.shutdown().await;

    let net = MemoryNet::new();
    let endpoint = net.endpoint(node_key(super::GATEWAY), Limits::default());
    world.chain.lock().gateways.clear();
    let gateway = TestGateway::start(&world.chain, endpoint, super::GATEWAY, world.operator());
    let claimed = world.chain.claimed(gateway.channel);
    assert_eq!(claimed, Nusd::ZERO, "the channel was opened anew");
    let endpoint = net.endpoint(node_key(super::PROVIDER), Limits::default());
    let revived = Provider::start(world.config_in(left.path(), endpoint)).await.unwrap();
    let link = gateway.welcome().await;
    let lanes = gateway.lanes(&link).await;
    assert_eq!(lanes[0].charged, done.cost());
    let delivered = PRICE.charge(PROMPT_TOKENS, 100);
    let charged = lanes[1].charged;
    assert!(charged <= delivered && charged.0 + PRICE.window().0 > delivered.0, "{charged:?}");
    // The attempt that was under way is not served again.
    assert_eq!(gateway.refusal(&link, &ask).await, Refusal::Duplicate);
    // The payer knows what arrived and says so; the difference is charged then.
    (ask.order.attempt, ask.order.lane_total_before, ask.sequence) = (1, delivered, 2);
    let rest = gateway.serve(&link, &ask).await;
    revived.shutdown().await;
    let due = done.cost().0 + delivered.0 + rest.cost().0;
    assert_eq!(world.chain.claimed(gateway.channel), Nusd(due));
}

#[tokio::test]
async fn a_restart_redeems_what_was_not() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let served = world.gateway.serve(&link, &world.gateway.ask(1, link.model("dummy/64"))).await;
    let home = tempfile::tempdir().unwrap();
    provider.until(|status| status.served == 1).await;
    copy_folder(world.home.path(), home.path());
    // The first one goes on to redeem; the copy redeems again, which claims nothing twice.
    provider.shutdown().await;
    assert_eq!(world.chain.claimed(world.gateway.channel), served.cost());
    let endpoint = world.net.endpoint(node_key(super::PROVIDER), Limits::default());
    let again = Provider::start(world.config_in(home.path(), endpoint)).await.unwrap();
    assert_eq!(again.redeem().await.unwrap(), Nusd::ZERO);
    let status = again.status();
    assert_eq!((status.earned, status.unredeemed), (served.cost(), Nusd::ZERO));
    again.shutdown().await;
    let state = world.chain.lock();
    assert_eq!((state.redemptions, state.registrations), (1, 1));
}

#[tokio::test]
async fn enough_charged_is_redeemed_at_once() {
    let world = World::new();
    let threshold_nusd = PRICE.charge(PROMPT_TOKENS, 64);
    let redeem = RedeemPolicy { threshold_nusd, interval_ms: 1 << 40 };
    let (provider, link) = world.start(ProviderConfig { redeem, ..world.config() }).await;
    world.gateway.serve(&link, &world.gateway.ask(1, link.model("dummy/64"))).await;
    let status = provider.until(|status| status.redeemed == threshold_nusd).await;
    assert_eq!(status.unredeemed, Nusd::ZERO);
    assert_eq!(world.chain.claimed(world.gateway.channel), threshold_nusd);
    provider.shutdown().await;
}

#[tokio::test]
async fn less_than_its_fee_is_redeemed_only_when_the_payer_withdraws() {
    let world = World::new();
    let mut config = patient(world.config());
    // Our share of the charge for three tokens is less than the fee of ten.
    config.pricing.default = types::price::Price {
        request_nusd: Nusd::ZERO,
        prompt_nusd_per_mtok: Nusd(1_000_000),
        completion_nusd_per_mtok: Nusd(1_000_000),
    };
    let price = config.pricing.default;
    let (provider, link) = world.start(config).await;
    let mut ask = world.gateway.ask(1, link.model("dummy/dies-after-3-tokens"));
    ask.order.price = price;
    let served = world.gateway.serve(&link, &ask).await;
    provider.until(|status| status.active == 0).await;
    assert_eq!(provider.redeem().await.unwrap(), Nusd::ZERO);
    world.chain.lock().channels.get_mut(&world.gateway.channel).unwrap().withdraw_at =
        Some(NOW.plus_ms(15 * 60_000));
    // From here no request runs: the watcher's timer is all there is.
    tokio::time::pause();
    provider.until(|status| status.redeemed == served.cost()).await;
    assert_eq!(world.chain.claimed(world.gateway.channel), served.cost());
    provider.shutdown().await;
}

#[tokio::test]
async fn leaving_tells_gateways_and_reports_what_was_delivered() {
    let world = World::new();
    let (provider, mut link) = world.start(ProviderConfig { drain_ms: 0, ..world.config() }).await;
    let ask = world.gateway.ask(1, link.model("dummy/stalls-after-3-tokens"));
    let mut running = world.gateway.send(&link, &ask).await;
    running.tokens(3).await;
    let shutdown = provider.shutdown();
    let ending = async {
        let report = running.report().await;
        assert_eq!((report.finish, report.completion_tokens), (FinishReason::Failed, 3));
        let next = world.gateway.ask(2, link.model("dummy/64"));
        assert_eq!(world.gateway.refusal(&link, &next).await, Refusal::Leaving);
        while link.control.next().await.expect("the gateway is told") != ToGatewayControl::Leaving {
        }
        drop(running);
        report
    };
    let ((), report) = tokio::join!(shutdown, ending);
    assert_eq!(world.chain.claimed(world.gateway.channel), report.lane_total);
    link.connection.closed().await;
}
