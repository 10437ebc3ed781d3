//! What gateways tell of their choices: counted, kept over a restart, and no way to do harm.

use std::time::Duration;

use types::{ModelId, limits::OFFER_MODELS_MAX};
use wire::serve::{PassedFor, TALLY_INTERVAL_MS, Tally, ToProviderControl};

use super::{World, gateway::TestLink};
use provider::{LinkState, Provider, ProviderHandle, WhyHour, read_why};

fn tallies(model: ModelId, chosen: u32, passed: &[PassedFor]) -> ToProviderControl {
    let mut tally = Tally { chosen, ..Tally::new(model) };
    passed.iter().for_each(|reason| tally.pass(*reason));
    ToProviderControl::Tallies(vec![tally])
}

fn considered(provider: &ProviderHandle) -> u64 {
    provider.why().hours.iter().map(WhyHour::considered).sum()
}

#[tokio::test(start_paused = true)]
async fn what_gateways_tell_is_counted_and_kept_over_a_restart() {
    let world = World::new();
    let (provider, mut link) = world.serving().await;
    let model = link.model("dummy/64");
    link.say(&tallies(model, 2, &[PassedFor::Price, PassedFor::Full, PassedFor::Price])).await;
    link.say(&tallies(ModelId([77; 32]), 5, &[])).await;
    link.say(&tallies(model, 1, &[PassedFor::Region])).await;
    provider.until(|_| considered(&provider) == 7).await;
    provider.shutdown().await;
    drop(provider);

    let kept = read_why(world.home.path()).unwrap().unwrap();
    let [row] = &kept.hours[..] else { panic!("{kept:?}") };
    let passed: Vec<_> = row.passed().map(|(reason, count)| (reason.name(), count)).collect();
    assert_eq!((row.alias.as_str(), row.chosen, row.considered()), ("dummy/64", 3, 7));
    assert_eq!(passed, [("region", 1), ("full", 1), ("price", 2)]);

    let provider = Provider::start(world.config()).await.unwrap();
    assert_eq!(provider.why().hours, kept.hours);
    let mut link = world.gateway.welcome().await;
    link.say(&tallies(model, 0, &[PassedFor::Speed])).await;
    provider.until(|_| considered(&provider) == 8).await;
    provider.shutdown().await;
}

/// The connection is given up after `message`, and made again.
async fn check_broken(world: &World, provider: &ProviderHandle, mut link: TestLink) -> TestLink {
    let model = link.model("dummy/64");
    let too_many = ToProviderControl::Tallies(vec![Tally::new(model); OFFER_MODELS_MAX + 1]);
    link.say(&too_many).await;
    link.connection.closed().await;
    let link = world.gateway.welcome().await;
    provider.until(|status| status.links[0].state == LinkState::Connected).await;
    link
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_tells_too_much_is_left() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let mut link = check_broken(&world, &provider, link).await;
    assert_eq!(considered(&provider), 0);
    let message = tallies(link.model("dummy/64"), u32::MAX, &[PassedFor::Full]);
    // As often as the protocol has it, for as long as it likes.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(TALLY_INTERVAL_MS)).await;
        link.say(&message).await;
    }
    provider.until(|_| provider.why().hours[0].considered() == 20 * (1 << 32)).await;
    // All at once: a few are taken.
    for _ in 0..20 {
        link.say(&message).await;
    }
    link.connection.closed().await;
    let chosen = provider.why().hours[0].considered() / (1 << 32);
    assert_eq!(chosen, 26);
    let _link = world.gateway.welcome().await;
    provider.shutdown().await;
}
