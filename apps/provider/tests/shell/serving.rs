//! Requests that are served, and what they cost.

use futures::future::join_all;
use keys::Ed25519;
use net::IrohConfig;
use types::{
    Lane, Nusd,
    inference::{FinishReason, InferenceRequest, Inputs, Prompt, Span},
    price::Price,
};
use wire::serve::{Refusal, ToProvider};

use super::{
    World,
    gateway::{DEPOSIT, Exchange, PRICE, TestGateway, node_key},
};
use provider::{Attempt, Provider};

/// `dummy/…` counts the four words of the test's prompt.
const PROMPT_TOKENS: u32 = 4;

#[tokio::test]
async fn a_request_is_served_paid_and_receipted() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let ask = world.gateway.ask(1, link.model("dummy/200"));
    let served = world.gateway.serve(&link, &ask).await;
    assert_eq!(served.pieces.len(), 200);
    assert!(served.sequence > 2, "vouchers follow the delivery: {}", served.sequence);
    assert_eq!(served.cost(), PRICE.charge(PROMPT_TOKENS, 200));

    let attempt = Attempt { request_id: ask.order.request_id, number: 0 };
    let held = |stored: &provider::StoredReceipt| stored.acknowledgement.is_some();
    let status = provider.until(|_| provider.receipt(attempt).unwrap().as_ref().is_some_and(held));
    let status = status.await;
    assert_eq!((status.served, status.tokens_delivered, status.active), (1, 200, 0));
    assert_eq!((status.earned, status.unacknowledged), (served.cost(), 0));
    assert_eq!(status.violations, Default::default());
    let stored = provider.receipt(attempt).unwrap().unwrap();
    let receipt = stored.receipt(super::chain_id()).unwrap();
    assert_eq!(receipt.verify(&Ed25519), Ok(()));
    assert!(receipt.agrees());
    assert_eq!(Some(receipt), served.receipt);

    let lanes = world.gateway.lanes(&link).await;
    assert_eq!((lanes.len(), lanes[0].lane, lanes[0].charged), (1, Lane(1), served.cost()));
    provider.shutdown().await;
    assert_eq!(world.chain.claimed(world.gateway.channel), served.cost());
}

#[tokio::test]
async fn vectors_are_served_for_the_price_of_their_prompt() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let mut ask = world.gateway.ask(1, link.model("dummy/embed"));
    // Long enough for several frames of up to 256 KiB.
    let texts: Vec<String> = (0..100).map(|number| format!("text {number}")).collect();
    let inputs = Inputs { texts, dimensions: Some(4_096), truncate: false };
    ask.request = InferenceRequest::of(Prompt::Inputs(inputs));
    ask.order.price = Price { completion_nusd_per_mtok: Nusd::ZERO, ..PRICE };
    let served = world.gateway.serve(&link, &ask).await;
    assert_eq!(served.pieces.len(), 100);
    assert!(served.pieces.iter().all(|it| it.span == Span::Vector && it.bytes.len() == 4 * 4_096));
    // Two words each.
    assert_eq!(served.cost(), ask.order.price.charge(200, 1));
    let receipt = served.receipt.unwrap();
    assert!(receipt.agrees());
    assert_eq!(receipt.acknowledgement.value.finish, FinishReason::Stop);

    // It writes nothing, and others make no vectors.
    let refused = |ask| world.gateway.refusal(&link, ask);
    let mut chat = world.gateway.ask(2, link.model("dummy/embed"));
    chat.order.request_id.0 = [2; 16];
    assert!(matches!(refused(&chat).await, Refusal::Request { .. }));
    ask.order.request_id.0 = [3; 16];
    ask.order.lane = Lane(3);
    ask.order.model = link.model("dummy/echo");
    assert!(matches!(refused(&ask).await, Refusal::Request { .. }));
    provider.shutdown().await;
}

#[tokio::test]
async fn a_lane_goes_on_where_it_stopped() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let mut ask = world.gateway.ask(1, link.model("dummy/64"));
    for number in 1..=3 {
        ask.order.request_id.0 = [number; 16];
        let served = world.gateway.serve(&link, &ask).await;
        ask.order.lane_total_before = ask.order.lane_total_before.saturating_add(served.cost());
        ask.sequence = served.sequence + 1;
    }
    let lanes = world.gateway.lanes(&link).await;
    assert_eq!(lanes[0].charged, ask.order.lane_total_before);
    provider.shutdown().await;
}

#[tokio::test]
async fn lanes_run_side_by_side() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let asks: Vec<_> =
        (0..4).map(|number| world.gateway.ask(number, link.model("dummy/200"))).collect();
    let served = join_all(asks.iter().map(|ask| world.gateway.serve(&link, ask))).await;
    let paid: Nusd = served.iter().map(|served| served.cost()).sum();
    assert_eq!(provider.until(|status| status.served == 4).await.earned, paid);
    provider.shutdown().await;
    assert_eq!(world.chain.claimed(world.gateway.channel), paid);
}

#[tokio::test]
async fn two_gateways_are_served_at_once() {
    let world = World::new();
    let endpoint = world.net.endpoint(node_key(50), net::Limits::default());
    let other = TestGateway::start(&world.chain, endpoint, 50, world.operator());
    let provider = Provider::start(world.config()).await.unwrap();
    let (link, other_link) = tokio::join!(world.gateway.welcome(), other.welcome());
    let ask = world.gateway.ask(1, link.model("dummy/64"));
    let other_ask = other.ask(2, link.model("dummy/64"));
    let (served, other_served) =
        tokio::join!(world.gateway.serve(&link, &ask), other.serve(&other_link, &other_ask));
    provider.shutdown().await;
    assert_eq!(world.chain.claimed(world.gateway.channel), served.cost());
    assert_eq!(world.chain.claimed(other.channel), other_served.cost());
    assert_eq!(world.chain.lock().redemptions, 2);
}

#[tokio::test]
async fn a_payer_hears_of_its_own_channels_only() {
    let world = World::new();
    let endpoint = world.net.endpoint(node_key(50), net::Limits::default());
    let other = TestGateway::start(&world.chain, endpoint, 50, world.operator());
    let provider = Provider::start(world.config()).await.unwrap();
    let (link, other_link) = tokio::join!(world.gateway.welcome(), other.welcome());
    world.gateway.serve(&link, &world.gateway.ask(1, link.model("dummy/64"))).await;
    let question = ToProvider::Sync { channel: world.gateway.channel };
    let answer = Exchange::open(&other_link, &question).await.next().await;
    assert_eq!(answer, Some(wire::serve::ToGateway::Lanes(Vec::new())));
    assert_eq!(world.gateway.lanes(&link).await.len(), 1);
    provider.shutdown().await;
}

#[tokio::test]
async fn nothing_delivered_is_free() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let served = world.gateway.serve(&link, &world.gateway.ask(1, link.model("dummy/empty"))).await;
    assert_eq!((served.pieces.len(), served.cost()), (0, Nusd::ZERO));
    let status = provider.until(|status| status.active == 0).await;
    assert_eq!((status.served, status.earned), (0, Nusd::ZERO));
    provider.shutdown().await;
    assert_eq!(world.chain.lock().redemptions, 0);
}

#[tokio::test]
async fn a_client_that_leaves_pays_for_what_was_delivered() {
    let due = PRICE.charge(PROMPT_TOKENS, 3);
    // By saying so.
    let world = World::new();
    let (provider, link) = world.serving().await;
    let ask = world.gateway.ask(1, link.model("dummy/stalls-after-3-tokens"));
    let mut exchange = world.gateway.send(&link, &ask).await;
    exchange.tokens(3).await;
    exchange.say(&ToProvider::Cancel).await;
    let report = exchange.report().await;
    assert_eq!((report.finish, report.completion_tokens), (FinishReason::Cancelled, 3));
    assert_eq!(report.lane_total, due);
    drop(exchange);
    // By vanishing.
    let ask = world.gateway.ask(2, link.model("dummy/stalls-after-3-tokens"));
    let mut exchange = world.gateway.send(&link, &ask).await;
    exchange.tokens(3).await;
    drop(exchange);
    provider.until(|status| status.served == 2).await;
    let lanes = world.gateway.lanes(&link).await;
    assert_eq!(lanes.iter().map(|lane| lane.charged).collect::<Vec<_>>(), [due, due]);
    provider.shutdown().await;
    assert_eq!(world.chain.claimed(world.gateway.channel), Nusd(2 * due.0));
}

#[tokio::test]
async fn a_provider_that_dies_is_paid_for_what_was_delivered() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let ask = world.gateway.ask(1, link.model("dummy/dies-after-3-tokens"));
    let served = world.gateway.serve(&link, &ask).await;
    let report = served.receipt.as_ref().unwrap().report.as_ref().unwrap().value.clone();
    assert_eq!((report.finish, served.pieces.len()), (FinishReason::Failed, 3));
    assert_eq!(served.cost(), PRICE.charge(PROMPT_TOKENS, 3));
    provider.shutdown().await;
    assert_eq!(world.chain.claimed(world.gateway.channel), served.cost());
}

#[tokio::test]
async fn tokens_without_ids_are_counted_in_chunks() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let served =
        world.gateway.serve(&link, &world.gateway.ask(1, link.model("dummy/no-ids"))).await;
    assert!(served.receipt.as_ref().unwrap().agrees());
    let counted = served.receipt.unwrap().report.unwrap().value.counted;
    assert_eq!(counted, types::inference::CountMethod::Chunks);
    provider.shutdown().await;
}

#[tokio::test]
async fn a_stream_is_not_served_beyond_the_deposit() {
    let world = World::new();
    let cover = world.gateway.ask(1, types::ModelId([0; 32])).cover();
    world.chain.lock().channels.get_mut(&world.gateway.channel).unwrap().deposit = cover;
    let (provider, link) = world.serving().await;
    let ask = world.gateway.ask(1, link.model("dummy/200"));
    let mut exchange = world.gateway.send(&link, &ask).await;
    // Two tokens more than the first voucher, beyond the deposit.
    let beyond = Nusd(cover.0 + 2_000);
    exchange.say(&ToProvider::Voucher(world.gateway.voucher(Lane(1), 2, beyond))).await;
    exchange.tokens(64).await;
    exchange.say(&ToProvider::Cancel).await;
    assert!(exchange.report().await.lane_total <= cover);
    drop(exchange);
    provider.shutdown().await;
    assert!(world.chain.claimed(world.gateway.channel) <= DEPOSIT);
}

#[tokio::test]
async fn a_request_is_served_over_iroh() {
    let world = World::new();
    let bind = |seed: u8| net::bind(IrohConfig::new([seed; 32]));
    let (at_gateway, at_provider) = (bind(11).await.unwrap(), bind(12).await.unwrap());
    // The memory gateway of the world stays silent; this one is real.
    world.chain.lock().gateways.clear();
    let gateway = TestGateway::start(&world.chain, at_gateway, 11, world.operator());
    let provider = Provider::start(world.config_in(world.home.path(), at_provider)).await.unwrap();
    let link = gateway.welcome().await;
    let served = gateway.serve(&link, &gateway.ask(1, link.model("dummy/200"))).await;
    assert_eq!(served.pieces.len(), 200);
    let ask = gateway.ask(2, link.model("dummy/stalls-after-3-tokens"));
    let mut exchange = gateway.send(&link, &ask).await;
    exchange.tokens(3).await;
    drop(exchange);
    provider.until(|status| status.served == 2).await;
    provider.shutdown().await;
    let left = PRICE.charge(PROMPT_TOKENS, 3);
    assert_eq!(world.chain.claimed(gateway.channel), served.cost().saturating_add(left));
    link.connection.closed().await;
    gateway.endpoint.close().await;
}
