//! Heartbeats: one a period, when nothing else shows that we are there.

use std::{sync::Arc, time::Duration};

use provider::{Provider, ProviderConfig};
use tokio::time::{Instant, sleep};
use types::Watt;

use super::{TimerClock, World};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A world without gateways in which accounts have `balance`, and a provider's settings.
fn world(balance: Watt) -> (World, ProviderConfig) {
    let world = World::new();
    let clock = TimerClock { started: Instant::now() };
    {
        let mut chain = world.chain.lock();
        chain.gateways.clear();
        chain.balance = balance;
        chain.clock = Some(clock);
    }
    let config = ProviderConfig { clock: Arc::new(clock), ..world.config() };
    (world, config)
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_seen_in_every_period_for_one_fee() {
    let (world, config) = world(Watt::whole(1));
    let registered_in = world.chain.lock().period();
    let provider = Provider::start(config).await.unwrap();
    // Into the middle of a period.
    sleep(5 * HOUR + HOUR / 2).await;
    let expected: Vec<u64> = (1..=5).map(|after| registered_in + after).collect();
    assert_eq!(world.chain.lock().heartbeats, expected);
    // It was paid for work, or redeemed, in the next two periods.
    let paid_in = registered_in + 7;
    world.chain.lock().providers.get_mut(&world.operator()).unwrap().seen_period = paid_in;
    sleep(3 * HOUR).await;
    assert_eq!(world.chain.lock().heartbeats[expected.len()..], [paid_in + 1]);
    provider.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_cannot_pay_sends_no_heartbeat_until_it_can() {
    // Each costs 10 units here.
    let (world, config) = world(Watt(639));
    let provider = Provider::start(config).await.unwrap();
    sleep(5 * HOUR).await;
    assert!(world.chain.lock().heartbeats.is_empty());
    assert_eq!(provider.status().errors, []);
    world.chain.lock().balance = Watt(640);
    sleep(HOUR).await;
    assert_eq!(world.chain.lock().heartbeats.len(), 1);
    provider.shutdown().await;
}
