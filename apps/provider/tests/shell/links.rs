//! Connections to gateways: made again, kept to the list, and offers on them.

use keys::Ed25519;
use provider::{LinkState, Provider, ProviderConfig, ProviderError};
use types::{Watt, offer::Offer};
use wire::{
    frame,
    serve::{ToGatewayControl, ToProviderControl},
};

use super::{
    GATEWAY, PROVIDER, World, chain_id,
    gateway::{Control, TestGateway, TestLink, node_key},
};

/// The next repeated offer.
async fn offer(link: &mut TestLink) -> Offer {
    match link.control.next().await {
        Some(ToGatewayControl::Offer(offer)) => {
            offer.verify(&chain_id(), &Ed25519).unwrap().value().clone()
        }
        other => panic!("not an offer: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn offers_repeat_and_their_sequence_rises() {
    let world = World::new();
    let (provider, mut link) = world.serving().await;
    let mut last = link.offer.sequence;
    let start = tokio::time::Instant::now();
    for _ in 0..3 {
        let offer = offer(&mut link).await;
        assert!(offer.sequence > last);
        assert_eq!((offer.operator, offer.node_key), (world.operator(), node_key(PROVIDER)));
        assert_eq!((offer.slots, offer.active), (4, 0));
        last = offer.sequence;
    }
    assert_eq!(start.elapsed().as_secs(), 30);
    provider.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_again() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let mut links = vec![link];
    for count in 1..=5 {
        assert_eq!(world.net.cut(node_key(GATEWAY), node_key(PROVIDER)), 1);
        let link = world.gateway.welcome().await;
        assert!(link.offer.sequence > links[count - 1].offer.sequence);
        links.push(link);
        provider.until(|status| status.links[0].state == LinkState::Connected).await;
    }
    provider.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_refuses_is_tried_again_ever_more_rarely() {
    let world = World::new();
    world.net.set_refusing(node_key(GATEWAY), true);
    let provider = Provider::start(world.config()).await.unwrap();
    let status = provider.until(|status| status.errors.len() == 6).await;
    assert_eq!(status.links[0].state, LinkState::Waiting);
    assert!(status.errors[0].what.ends_with("the peer refuses"), "{:?}", status.errors);
    world.net.set_refusing(node_key(GATEWAY), false);
    world.gateway.welcome().await;
    provider.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_told() {
    let world = World::new();
    let provider = Provider::start(world.config()).await.unwrap();
    let connection = world.gateway.endpoint.accept().await.unwrap();
    let (mut send, receive) = connection.accept().await.unwrap();
    Control::new(receive).next().await.unwrap();
    let reason = "another network".to_owned();
    frame::write(&mut send, &ToProviderControl::Rejected { reason }).await.unwrap();
    let status = provider.until(|status| !status.errors.is_empty()).await;
    assert!(status.errors[0].what.ends_with("another network"), "{:?}", status.errors);
    provider.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_list_of_gateways_is_followed() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let endpoint = world.net.endpoint(node_key(50), net::Limits::default());
    world.chain.lock().gateways.clear();
    let other = TestGateway::start(&world.chain, endpoint, 50, world.operator());
    let _other_link = other.welcome().await;
    link.connection.closed().await;
    let only_other = |status: &provider::ProviderStatus| {
        status.links.len() == 1 && status.links[0].gateway == node_key(50)
    };
    provider.until(only_other).await;
    provider.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_registers_once_and_again_under_a_new_node_key() {
    let world = World::new();
    let bond = Watt::whole(3);
    let provider = Provider::start(ProviderConfig { bond, ..world.config() }).await.unwrap();
    provider.shutdown().await;
    drop(provider);
    let provider = Provider::start(ProviderConfig { bond, ..world.config() }).await.unwrap();
    provider.shutdown().await;
    drop(provider);
    assert_eq!(world.chain.lock().registrations, 1);
    assert_eq!(world.chain.lock().providers[&world.operator()].bond, bond);
    let endpoint = world.net.endpoint(node_key(99), net::Limits::default());
    let config = world.config_in(world.home.path(), endpoint);
    let provider = Provider::start(config).await.unwrap();
    provider.shutdown().await;
    assert_eq!(world.chain.lock().registrations, 2);
    assert_eq!(world.chain.lock().providers[&world.operator()].node_key, node_key(99));
}

#[tokio::test(start_paused = true)]
async fn two_providers_do_not_share_a_home() {
    let world = World::new();
    let provider = Provider::start(world.config()).await.unwrap();
    let error = Provider::start(world.config()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Books { .. }), "{error:?}");
    provider.shutdown().await;
}
