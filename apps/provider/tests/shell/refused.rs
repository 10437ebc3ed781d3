//! Every reason for which an order is not taken, and that refusing has no effect.

use keys::SecretKey;
use provider::{ORDER_AGE_MS_MAX, TIMEOUT_MS_MAX};
use types::{Address, ChannelId, Lane, ModelId, Nusd, inference::Prompt, limits};
use wire::serve::{LaneState, Open, Refusal, ToGateway, ToProvider};

use super::{
    World,
    gateway::{Ask, DEPOSIT, Exchange, NOW, PRICE, TestLink},
};

/// Changes what is asked for, and names what is answered.
async fn check(world: &World, link: &TestLink, change: impl FnOnce(&mut Ask), expected: Refusal) {
    let mut ask = world.gateway.ask(1, link.model("dummy/echo"));
    change(&mut ask);
    assert_eq!(world.gateway.refusal(link, &ask).await, expected);
}

/// Changes the message after it was signed.
async fn check_forged(world: &World, link: &TestLink, change: impl FnOnce(&mut Open)) {
    let ask = world.gateway.ask(1, link.model("dummy/echo"));
    let mut open = world.gateway.open(&ask);
    change(&mut open);
    let mut exchange = Exchange::open(link, &ToProvider::Open(Box::new(open))).await;
    let answer = exchange.next().await;
    let Some(ToGateway::Refused(refused)) = answer else { panic!("not refused: {answer:?}") };
    assert_eq!(refused.value.reason, Refusal::Order);
}

fn field(name: &str, problem: impl Into<String>) -> Refusal {
    Refusal::Request { field: name.to_owned(), problem: problem.into() }
}

#[tokio::test]
async fn orders_outside_the_limits() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let lane = |ask: &mut Ask| ask.order.lane = Lane(limits::LANES_MAX);
    check(&world, &link, lane, field("lane", "below 256")).await;
    for timeout_ms in [0, TIMEOUT_MS_MAX + 1] {
        let change = |ask: &mut Ask| ask.order.timeout_ms = timeout_ms;
        check(&world, &link, change, field("timeout_ms", "1 to 3600000")).await;
    }
    for issued_at in [NOW.0 - ORDER_AGE_MS_MAX - 1, NOW.0 + ORDER_AGE_MS_MAX + 1] {
        let change = |ask: &mut Ask| ask.order.issued_at = types::TimeMs(issued_at);
        let problem = "the clocks of the two sides differ too much";
        check(&world, &link, change, field("issued_at", problem)).await;
    }
    let empty = |ask: &mut Ask| ask.request.prompt = Prompt::Chat(Vec::new());
    check(&world, &link, empty, field("messages", "give at least one message")).await;
    assert_eq!(provider.status().refusals["request"], 6);
    provider.shutdown().await;
}

#[tokio::test]
async fn orders_that_do_not_fit_what_is_offered() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let model = |ask: &mut Ask| ask.order.model = ModelId([77; 32]);
    check(&world, &link, model, Refusal::UnknownModel).await;
    let cheap = |ask: &mut Ask| ask.order.price.completion_nusd_per_mtok.0 -= 1;
    check(&world, &link, cheap, Refusal::Price { asked: PRICE }).await;
    let refuses = link.model("dummy/refuses");
    check(&world, &link, |ask| ask.order.model = refuses, Refusal::Engine).await;
    assert!(world.gateway.lanes(&link).await.iter().all(|lane| lane.charged.is_zero()));
    provider.shutdown().await;
}

#[tokio::test]
async fn orders_that_are_not_what_was_signed() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    check_forged(&world, &link, |open| open.salt = [0; 16]).await;
    check_forged(&world, &link, |open| open.request.tokens_max = Some(9)).await;
    check_forged(&world, &link, |open| open.order.value.lane_total_before = Nusd(1)).await;
    check_forged(&world, &link, |open| open.voucher.value.total = DEPOSIT).await;
    check_forged(&world, &link, |open| open.voucher.value.lane = Lane(9)).await;
    check_forged(&world, &link, |open| open.order.value.provider = Address([0; 20])).await;
    let stranger = SecretKey::from_seed([66; 32]);
    check_forged(&world, &link, |open| {
        let (order, voucher) = (open.order.value.clone(), open.voucher.value);
        open.order = types::sign::Signed::new(order, &super::chain_id(), &stranger);
        open.voucher = types::sign::Signed::new(voucher, &super::chain_id(), &stranger);
    })
    .await;
    assert_eq!(provider.status().refusals["order"], 7);
    provider.shutdown().await;
}

#[tokio::test]
async fn channels_that_cannot_pay() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let id = world.gateway.channel;
    // Unknown to the chain: asked for by its own digest, so the voucher names it too.
    let unknown = ChannelId([5; 32]);
    let mut stranger = world.gateway.open(&world.gateway.ask(1, link.model("dummy/echo")));
    stranger.order.value.channel = unknown;
    stranger.voucher.value.channel = unknown;
    let payer = &*world.gateway.payer;
    stranger.order = types::sign::Signed::new(stranger.order.value, &super::chain_id(), payer);
    stranger.voucher = types::sign::Signed::new(stranger.voucher.value, &super::chain_id(), payer);
    let mut exchange = Exchange::open(&link, &ToProvider::Open(Box::new(stranger))).await;
    let answer = exchange.next().await;
    let Some(ToGateway::Refused(refused)) = answer else { panic!("not refused: {answer:?}") };
    assert_eq!(refused.value.reason, Refusal::Channel);

    let cover = world.gateway.ask(1, ModelId([0; 32])).cover();
    let short = |ask: &mut Ask| ask.cover_tokens = 63;
    let covered = Nusd(cover.0 - 1_000);
    check(&world, &link, short, Refusal::VoucherShort { covered, needed: cover }).await;
    let promised = Nusd(DEPOSIT.0 + 1);
    let beyond = |ask: &mut Ask| {
        ask.order.lane_total_before = Nusd(DEPOSIT.0 + 1 - cover.0);
    };
    check(&world, &link, beyond, Refusal::DepositShort { deposit: DEPOSIT, promised }).await;
    provider.shutdown().await;

    let world = World::new();
    world.chain.lock().channels.get_mut(&world.gateway.channel).unwrap().withdraw_at = Some(NOW);
    let (provider, link) = world.serving().await;
    check(&world, &link, |_| {}, Refusal::Channel).await;
    assert_ne!(id, unknown);
    provider.shutdown().await;
}

#[tokio::test]
async fn what_was_added_a_moment_ago_backs_vouchers() {
    let world = World::new();
    let cover = world.gateway.ask(1, ModelId([0; 32])).cover();
    let (deposit, channel) = (Nusd(cover.0 - 1), world.gateway.channel);
    world.chain.lock().channels.get_mut(&channel).unwrap().deposit = deposit;
    let (provider, link) = world.serving().await;
    check(&world, &link, |_| {}, Refusal::DepositShort { deposit, promised: cover }).await;
    world.chain.lock().channels.get_mut(&channel).unwrap().deposit = DEPOSIT;
    let ask = world.gateway.ask(1, link.model("dummy/echo"));
    assert!(world.gateway.serve(&link, &ask).await.receipt.is_some());
    provider.shutdown().await;
}

#[tokio::test]
async fn what_went_back_to_the_payer_backs_no_voucher() {
    let world = World::new();
    let left = Nusd(world.gateway.ask(1, ModelId([0; 32])).cover().0 - 1);
    let channel = world.gateway.channel;
    world.chain.lock().channels.get_mut(&channel).unwrap().returned = Nusd(DEPOSIT.0 - left.0);
    let (provider, link) = world.serving().await;
    let promised = Nusd(left.0 + 1);
    check(&world, &link, |_| {}, Refusal::DepositShort { deposit: left, promised }).await;
    provider.shutdown().await;
}

#[tokio::test]
async fn a_lane_serves_one_request_at_a_time() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let ask = world.gateway.ask(1, link.model("dummy/stalls-after-3-tokens"));
    let mut running = world.gateway.send(&link, &ask).await;
    running.tokens(3).await;
    let next = |ask: &mut Ask| ask.order.attempt = 1;
    check(&world, &link, next, Refusal::LaneBusy).await;
    running.say(&ToProvider::Cancel).await;
    running.report().await;
    drop(running);
    provider.shutdown().await;
}

#[tokio::test]
async fn an_attempt_is_served_once() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let mut ask = world.gateway.ask(1, link.model("dummy/echo"));
    let served = world.gateway.serve(&link, &ask).await;
    // The very same message, and the same attempt with newer money.
    assert_eq!(world.gateway.refusal(&link, &ask).await, Refusal::Duplicate);
    ask.order.lane_total_before = served.cost();
    ask.sequence = served.sequence + 1;
    assert_eq!(world.gateway.refusal(&link, &ask).await, Refusal::Duplicate);
    provider.shutdown().await;
}

#[tokio::test]
async fn a_payer_that_fell_behind_is_shown_its_own_signature() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let ask = world.gateway.ask(1, link.model("dummy/echo"));
    let served = world.gateway.serve(&link, &ask).await;
    let voucher = Some(world.gateway.voucher(Lane(1), 1, ask.cover()));
    let state = LaneState { lane: Lane(1), charged: served.cost(), voucher };
    let behind = |ask: &mut Ask| ask.order.attempt = 1;
    check(&world, &link, behind, Refusal::LaneDiffers(state.clone())).await;
    // Total right, voucher older than one we hold.
    let older = |ask: &mut Ask| {
        ask.order.attempt = 2;
        ask.order.lane_total_before = served.cost();
        ask.sequence = 0;
    };
    check(&world, &link, older, Refusal::LaneDiffers(state)).await;
    provider.shutdown().await;
}

#[tokio::test]
async fn more_requests_than_slots() {
    let world = World::new();
    let (provider, link) = world.serving().await;
    let model = link.model("dummy/stalls-after-3-tokens");
    let mut running = Vec::new();
    for number in 10..14 {
        let mut exchange = world.gateway.send(&link, &world.gateway.ask(number, model)).await;
        exchange.tokens(3).await;
        running.push(exchange);
    }
    check(&world, &link, |_| {}, Refusal::Busy { retry_after_ms: 1_000 }).await;
    drop(running);
    provider.until(|status| status.active == 0).await;
    provider.shutdown().await;
}
