//! A started validator, asked over HTTP by the real client, by strangers and after restarts.

mod audits;
mod check;
mod ledger_api;
mod network;

use std::sync::Arc;

use network::{GATEWAY, HOLDER, Home, START, USERS, genesis, key, sender};
use types::{
    ChannelId, Height, Lane, Nonce, Nusd, TxId, Watt,
    channel::{ChannelTerms, Voucher},
    limits::TX_BYTES_MAX,
    sign::{Sign, Signed},
    state::ProviderProfile,
    tx::{Action, CreditPurchase, SignedTx, Tx, VoucherClaim},
};
use validator::ValidatorError;
use wire::chain::{Chain, ChainError, HttpChain, TxResult, code};

fn transfer(to: u8, amount: Watt) -> Action {
    Action::Transfer { to: key(to).address(), amount }
}

/// A transaction signed by hand, for what a sender would never send.
fn signed(from: u8, nonce: u64, edit: impl FnOnce(&mut Tx)) -> SignedTx {
    let chain_id = genesis().chain_id;
    let mut tx = Tx {
        chain_id: chain_id.clone(),
        nonce: Nonce(nonce),
        fee_max: Watt::whole(1),
        tip: Watt::ZERO,
        valid_until: None,
        action: transfer(11, Watt(1)),
    };
    edit(&mut tx);
    let chain_id = tx.chain_id.clone();
    SignedTx(Signed::new(tx, &chain_id, &key(from)))
}

#[tokio::test]
async fn a_channel_lives_from_opening_to_settlement() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    let (gateway, provider) = (sender(&chain, GATEWAY), sender(&chain, 10));
    let buy = CreditPurchase::Pay { watt: Watt::whole(1_000) };
    gateway.send(Action::BuyCredits(buy)).await.unwrap();
    let node_key = key(100).public_key();
    let addrs = vec!["127.0.0.1:4433".to_owned()];
    let moniker = || "local".to_owned();
    gateway.send(Action::RegisterGateway { node_key, moniker: moniker(), addrs }).await.unwrap();
    let profile = ProviderProfile { moniker: moniker(), ..ProviderProfile::default() };
    let (commission, bond) = (None, Watt::ZERO);
    let register = Action::RegisterProvider { node_key, profile, commission, bond };
    provider.send(register).await.unwrap();
    let terms = ChannelTerms {
        payer: key(GATEWAY).address(),
        payer_key: key(101).public_key(),
        receiver: key(10).address(),
        salt: 7,
        withdraw_delay_ms: 3_600_000,
    };
    let status = chain.status().await.unwrap();
    let id = terms.id(&status.chain_id);
    let deposit = Nusd::whole(10);
    gateway.send(Action::OpenChannel { terms: terms.clone(), deposit }).await.unwrap();

    let total = Nusd::whole(4);
    let voucher = Voucher { channel: id, lane: Lane(3), sequence: 1, total };
    let voucher = Signed::new(voucher, &status.chain_id, &key(101));
    let claims = vec![VoucherClaim { voucher, total }];
    let redeemed = provider.send(Action::RedeemVouchers { claims }).await.unwrap();
    assert_eq!(redeemed.events[0].kind, "channel.claimed");
    // Nothing is held back on a local network, so the block that claims also settles.
    let block = chain.block(redeemed.height).await.unwrap().unwrap();
    assert!(block.events.iter().any(|event| event.kind == "channel.settled"));

    let channel = chain.channel(id).await.unwrap().unwrap();
    assert_eq!((channel.terms, channel.deposit, channel.claimed), (terms, deposit, total));
    assert_eq!(channel.settled, total);
    assert_eq!((channel.lanes[0].lane, channel.lanes[0].claimed), (Lane(3), total));
    for party in [GATEWAY, 10] {
        let channels = chain.channels_of(key(party).address()).await.unwrap();
        assert_eq!(channels.iter().map(|channel| channel.id).collect::<Vec<_>>(), [id]);
    }
    assert!(chain.channels_of(key(11).address()).await.unwrap().is_empty());
    let providers = chain.providers().await.unwrap();
    assert_eq!(chain.provider(key(10).address()).await.unwrap().as_ref(), providers.first());
    assert!(providers[0].earned > Watt::ZERO);
    assert_eq!(chain.gateways().await.unwrap()[0].addrs, ["127.0.0.1:4433"]);
    let supply = chain.supply().await.unwrap();
    assert_eq!((supply.credits_settled, supply.watt_genesis), (total, Watt::whole(100_000_000)));
    validator.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_none_and_what_was_never_used_is_zero() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    assert_eq!(chain.channel(ChannelId([1; 32])).await.unwrap(), None);
    assert_eq!(chain.provider(key(10).address()).await.unwrap(), None);
    assert_eq!(chain.tx(TxId([1; 32])).await.unwrap(), None);
    assert_eq!(chain.block(Height(1)).await.unwrap(), None);
    assert!(chain.blocks(Height(1), 10).await.unwrap().is_empty());
    let page = chain.events(Height(1), 10).await.unwrap();
    assert!(page.events.is_empty() && page.next_height == Height(1));
    let unused = chain.account(key(200).address()).await.unwrap();
    assert_eq!((unused.watt, unused.nonce), (Watt::ZERO, Nonce(0)));
    assert_eq!(chain.genesis().await.unwrap(), genesis());
    validator.shutdown().await.unwrap();
}

#[tokio::test]
async fn blocks_and_events_come_in_pages_without_gaps() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    let sender = sender(&chain, 10);
    for amount in 1..=5 {
        sender.send(transfer(11, Watt(amount))).await.unwrap();
        home.clock.advance(1_000);
    }
    let first = chain.blocks(Height(1), 3).await.unwrap();
    let rest = chain.blocks(Height(4), 3).await.unwrap();
    let blocks: Vec<_> = first.into_iter().chain(rest).collect();
    assert_eq!(blocks.len(), 5);
    let parents = blocks.windows(2).all(|pair| pair[1].header.parent == pair[0].hash);
    assert!(parents && blocks[0].header.parent == genesis().hash());
    assert_eq!(chain.block(Height(2)).await.unwrap().as_ref(), Some(&blocks[1]));
    let tx = &blocks[1].txs[0];
    assert_eq!((tx.sender, &tx.tx.value.action), (key(10).address(), &transfer(11, Watt(2))));
    assert_eq!(chain.tx(tx.outcome.id).await.unwrap().as_ref(), Some(&tx.outcome));

    let (mut from, mut amounts) = (Height(1), Vec::new());
    loop {
        let page = chain.events(from, 2).await.unwrap();
        if page.events.is_empty() {
            break;
        }
        let transfers = page.events.iter().filter(|event| event.event.kind == "bank.transferred");
        amounts.extend(transfers.map(|event| event.event.fields[2].1.clone()));
        from = page.next_height;
    }
    assert_eq!(amounts, ["1", "2", "3", "4", "5"]);
    validator.shutdown().await.unwrap();
}

/// Posts bytes as a stranger would and shows the status and the code of the answer.
async fn post(chain: &HttpChain, body: Vec<u8>) -> (u16, String) {
    let url = format!("{}/v1/txs", chain.url());
    let answer = wire::http_client().unwrap().post(url).body(body).send().await.unwrap();
    code_of(answer.status().as_u16(), &answer.bytes().await.unwrap())
}

async fn get(chain: &HttpChain, path: &str) -> (u16, String) {
    let url = format!("{}{path}", chain.url());
    let answer = wire::http_client().unwrap().get(url).send().await.unwrap();
    code_of(answer.status().as_u16(), &answer.bytes().await.unwrap())
}

fn code_of(status: u16, body: &[u8]) -> (u16, String) {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    (status, body["code"].as_str().unwrap_or("none").to_owned())
}

#[tokio::test]
async fn hostile_submissions_are_refused_by_name_and_change_nothing() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    let plain = || signed(10, 0, |_| {});
    let mut forged = plain();
    forged.0.value.fee_max = Watt::whole(2);
    let mut trailing = plain().encode();
    trailing.push(0);
    let wrong_voucher = signed(10, 0, |tx| {
        let voucher =
            Voucher { channel: ChannelId([0; 32]), lane: Lane(0), sequence: 1, total: Nusd(1) };
        let other = "another-network".parse().unwrap();
        let voucher = Signed::new(voucher, &other, &key(101));
        tx.action =
            Action::RedeemVouchers { claims: vec![VoucherClaim { voucher, total: Nusd(1) }] };
    });
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("nothing", vec![], 400, code::TX_MALFORMED),
        ("garbage", vec![0xff; 300], 400, code::TX_MALFORMED),
        ("something behind", trailing, 400, code::TX_MALFORMED),
        ("cut short", plain().encode()[..50].to_vec(), 400, code::TX_MALFORMED),
        ("too long", vec![0; TX_BYTES_MAX + 1], 413, code::TOO_LONG),
        ("changed after signing", forged.encode(), 400, code::TX_SIGNATURE),
        ("a voucher of another network", wrong_voucher.encode(), 400, code::TX_SIGNATURE),
        (
            "for another network",
            signed(10, 0, |tx| tx.chain_id = "another-network".parse().unwrap()).encode(),
            409,
            "tx.chain_id",
        ),
        ("a gap", signed(10, 1, |_| {}).encode(), 409, code::NONCE_TOO_HIGH),
        ("far ahead", signed(10, 1_000_000, |_| {}).encode(), 409, code::NONCE_TOO_HIGH),
        (
            "too little fee",
            signed(10, 0, |tx| tx.fee_max = Watt(1)).encode(),
            409,
            "fee.max_too_low",
        ),
        ("no funds", signed(200, 0, |_| {}).encode(), 409, "fee.cannot_pay"),
        ("late", signed(10, 0, |tx| tx.valid_until = Some(START)).encode(), 409, code::TX_EXPIRED),
    ];
    for (name, body, status, code) in cases {
        assert_eq!(post(&chain, body).await, (status, code.to_owned()), "{name}");
    }
    assert_eq!(chain.status().await.unwrap().height, Height(0));
    validator.shutdown().await.unwrap();
}

#[tokio::test]
async fn hostile_questions_are_refused_by_name() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    let id = "ab".repeat(32);
    let cases = [
        ("/v1/accounts/nobody", 400, code::BAD_REQUEST),
        ("/v1/accounts/%00", 400, code::BAD_REQUEST),
        ("/v1/channels", 400, code::BAD_REQUEST),
        ("/v1/channels?party=x", 400, code::BAD_REQUEST),
        ("/v1/channels/12", 400, code::BAD_REQUEST),
        (&format!("/v1/channels/{id}"), 404, code::NOT_FOUND),
        ("/v1/providers?after=1", 400, code::BAD_REQUEST),
        ("/v1/providers?party=1", 400, code::BAD_REQUEST),
        ("/v1/providers?limit=-1", 400, code::BAD_REQUEST),
        ("/v1/blocks?from=18446744073709551616", 400, code::BAD_REQUEST),
        ("/v1/blocks?height=1", 400, code::BAD_REQUEST),
        ("/v1/blocks/18446744073709551615", 404, code::NOT_FOUND),
        ("/v1/blocks?from=18446744073709551615&limit=18446744073709551615", 200, "none"),
        ("/v1/events?from_height=18446744073709551615", 200, "none"),
        (&format!("/v1/txs/{id}"), 404, code::NOT_FOUND),
        ("/v1/txs", 405, "request.method"),
        ("/v2/status", 404, "request.path"),
        ("/", 404, "request.path"),
        ("/health", 200, "none"),
        ("/v1/operators/gateway/x", 400, code::BAD_REQUEST),
        ("/v1/operators/validator/x", 400, code::BAD_REQUEST),
        ("/v1/proofs/accounts/x", 400, code::BAD_REQUEST),
        (&format!("/v1/proofs/channels/{id}/lanes/-1"), 400, code::BAD_REQUEST),
        ("/v1/events/stream?from_height=x", 400, code::BAD_REQUEST),
        ("/v1/params", 200, "none"),
        ("/v1/simulations", 405, "request.method"),
    ];
    for (path, status, code) in cases {
        assert_eq!(get(&chain, path).await, (status, code.to_owned()), "{path}");
    }
    validator.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_replayed_transaction_is_answered_and_not_done_again() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    let tx = signed(10, 0, |tx| tx.action = transfer(11, Watt::whole(7)));
    let first = chain.submit(&tx).await.unwrap();
    assert!(matches!(first.result, TxResult::Applied { .. }));
    let balance = chain.account(key(11).address()).await.unwrap().watt;
    for _ in 0..3 {
        assert_eq!(chain.submit(&tx).await.unwrap(), first);
    }
    assert_eq!(chain.account(key(11).address()).await.unwrap().watt, balance);
    let status = chain.status().await.unwrap();
    validator.shutdown().await.unwrap();

    let (validator, chain) = home.start().await;
    assert_eq!(chain.submit(&tx).await.unwrap(), first, "after a restart too");
    assert_eq!(chain.status().await.unwrap(), status);
    let other = signed(10, 0, |_| {});
    let error = chain.submit(&other).await.unwrap_err();
    assert_eq!(error.code(), Some(code::NONCE_TOO_LOW));
    validator.shutdown().await.unwrap();
}

#[tokio::test]
async fn many_senders_at_once_are_all_served() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    let senders = USERS.map(|user| {
        let sender = sender(&chain, user);
        tokio::spawn(async move {
            for _ in 0..5 {
                sender.send(transfer(HOLDER, Watt(1))).await.unwrap();
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    for user in USERS {
        assert_eq!(chain.account(key(user).address()).await.unwrap().nonce, Nonce(5));
    }
    validator.shutdown().await.unwrap();
}

#[tokio::test]
async fn one_home_has_one_validator_of_one_network_with_its_key() {
    let home = Home::new();
    let (validator, _) = home.start().await;
    let path = home.config().home.join("blocks.redb");
    match home.start_with(home.config()).await.unwrap_err() {
        ValidatorError::Store { source } => {
            assert!(matches!(source, store::StoreError::Locked { .. }));
            assert!(source.to_string().contains(path.to_str().unwrap()), "{source}");
        }
        other => panic!("{other:?}"),
    }
    validator.shutdown().await.unwrap();

    let mut config = home.config();
    config.genesis.time = START.plus_ms(1);
    let other = home.start_with(config).await.unwrap_err();
    assert!(matches!(
        other,
        ValidatorError::Store { source: store::StoreError::OtherGenesis { .. } }
    ));
    home.start().await.0.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_chain_that_is_not_there_or_not_a_chain_is_an_error_with_its_address() {
    let home = Home::new();
    let (validator, chain) = home.start().await;
    let elsewhere = HttpChain::new(&format!("{}/elsewhere", chain.url())).unwrap();
    let error = elsewhere.channel(ChannelId([0; 32])).await.unwrap_err();
    assert_eq!(error.code(), Some("request.path"), "another 404 is not a missing channel");
    validator.shutdown().await.unwrap();
    let error = Arc::clone(&chain).status().await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }));
    assert!(error.to_string().contains(chain.url()));
    for bad in ["", "127.0.0.1:1", "ftp://host", "http://host/?query", "http://"] {
        assert!(matches!(HttpChain::new(bad), Err(ChainError::BadUrl { .. })), "{bad}");
    }
}
