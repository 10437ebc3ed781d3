//! Callers without an API key, who pay by request from channels of their own.

use expect_test::expect;
use types::{
    ChannelId, Hash32, Nusd, TimeMs, channel::ChannelTerms, payment::Payment, sign::Signed,
};
use wire::api::x402::{self, Accepted, PaymentPayload, PaymentRequired, PaymentResponse};

use super::*;

const CALLER: u8 = 60;
const CHAT: &str = "/v1/chat/completions";
const NOW: TimeMs = TimeMs(1_700_000_000_000);

async fn world() -> World {
    World::with(|config| config.x402 = true).await
}

/// An answer with the headers of x402.
struct Paid {
    status: u16,
    id: String,
    provider: Option<String>,
    required: Option<PaymentRequired>,
    response: Option<PaymentResponse>,
    body: String,
}

impl Paid {
    fn error(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        let error = &json["error"];
        format!(
            "{} {}: {}",
            self.status,
            error["code"].as_str().unwrap(),
            error["message"].as_str().unwrap()
        )
    }
}

fn body(model: &str, more: &str) -> String {
    format!(r#"{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]{more}}}"#)
}

fn terms(provider: u8) -> ChannelTerms {
    ChannelTerms {
        payer: key(CALLER).address(),
        payer_key: node(GATEWAY_PAYER),
        receiver: key(provider).address(),
        salt: 1,
        withdraw_delay_ms: 3_600_000,
    }
}

/// The caller's channel.
fn open(world: &World, provider: u8, deposit: Nusd) -> ChannelId {
    world.chain.put_channel(&terms(provider), deposit)
}

/// What pays for `body`.
fn payment(channel: ChannelId, body: &str, amount_max: Nusd) -> Payment {
    Payment {
        channel,
        request: Payment::request_hash(CHAT, body.as_bytes()),
        nonce: Hash32([1; 32]),
        amount_max,
        expires_at: NOW.plus_ms(60_000),
    }
}

fn signed(payment: Payment, by: u8) -> String {
    let payload = Signed::new(payment, &chain_id(), &*key(by));
    header(payload)
}

fn header(payload: Signed<Payment>) -> String {
    let accepted = Accepted { scheme: x402::SCHEME.into(), network: x402::network(&chain_id()) };
    x402::encode(&PaymentPayload { x402_version: x402::VERSION, accepted, payload })
}

impl World {
    /// Asks without a key.
    async fn pay(&self, path: &str, body: &str, payment: Option<&str>) -> Paid {
        let mut request = Request::post(path).header("content-type", "application/json");
        if let Some(payment) = payment {
            request = request.header(x402::SIGNATURE, payment);
        }
        let response = self.send(request.body(Body::from(body.to_owned())).unwrap()).await;
        let header = |name: &str| response.headers().get(name).map(|value| value.as_bytes());
        let paid = Paid {
            status: response.status().as_u16(),
            id: String::from_utf8(header("x-request-id").unwrap().to_vec()).unwrap(),
            provider: header("x-peerwatt-provider")
                .map(|it| String::from_utf8(it.to_vec()).unwrap()),
            required: header(x402::REQUIRED).map(|header| x402::decode(header).unwrap()),
            response: header(x402::RESPONSE).map(|header| x402::decode(header).unwrap()),
            body: String::new(),
        };
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Paid { body: String::from_utf8(bytes.to_vec()).unwrap(), ..paid }
    }

    /// What callers who pay by request were charged.
    async fn paid_by_request(&self) -> Nusd {
        let keys = self.gateway.keys().await.unwrap();
        keys.iter().find(|view| view.name == crate::X402_KEY).unwrap().used
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_key_one_is_told_what_it_costs_and_whom_one_pays() {
    let world = world().await;
    let _one = world.provider(11, &["dummy/echo"]).await;
    let _other = world.provider(12, &["dummy/echo"]).await;
    let body = body("dummy/echo", r#", "max_tokens": 5"#);
    let told = world.pay(CHAT, &body, None).await;
    expect!["402 payment_required: no API key was given; send `Authorization: Bearer pw-…`, or pay for this request from a channel of your own, as the header PAYMENT-REQUIRED says (docs/spec/x402.md)"].assert_eq(&told.error());
    let mut required = told.required.unwrap();
    required.accepts.sort_by_key(|way| way.pay_to);
    let first = &required.accepts[0].extra;
    assert_eq!(first.request, Payment::request_hash(CHAT, body.as_bytes()));
    expect![[r#"
        {
          "x402Version": 2,
          "error": "no API key was given; send `Authorization: Bearer pw-…`, or pay for this request from a channel of your own, as the header PAYMENT-REQUIRED says (docs/spec/x402.md)",
          "resource": {
            "url": "/v1/chat/completions",
            "description": "an answer of dummy/echo",
            "mimeType": "application/json"
          },
          "accepts": [
            {
              "scheme": "peerwatt-channel",
              "network": "peerwatt:test-1",
              "asset": "nusd",
              "amount": "4760",
              "payTo": "watt1d0luaq9eph3hrtu6fw8g2hw5drs2pcnvqdf78j",
              "maxTimeoutSeconds": 600,
              "extra": {
                "payerKey": "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394",
                "chainId": "test-1",
                "request": "68d60493b17abbf69346868ea241eafc8b7f27f5b735d856f11a2e1bed597d47",
                "model": "c493b5617ce068a0bd46f103b326e1829ff22ab5d77afbf1d6c0c3f7f292301d",
                "price": {
                  "request_nusd": "10",
                  "prompt_nusd_per_mtok": "50000000",
                  "completion_nusd_per_mtok": "100000000"
                },
                "withdrawDelayMs": 3600000
              }
            },
            {
              "scheme": "peerwatt-channel",
              "network": "peerwatt:test-1",
              "asset": "nusd",
              "amount": "4760",
              "payTo": "watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v",
              "maxTimeoutSeconds": 600,
              "extra": {
                "payerKey": "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394",
                "chainId": "test-1",
                "request": "68d60493b17abbf69346868ea241eafc8b7f27f5b735d856f11a2e1bed597d47",
                "model": "c493b5617ce068a0bd46f103b326e1829ff22ab5d77afbf1d6c0c3f7f292301d",
                "price": {
                  "request_nusd": "10",
                  "prompt_nusd_per_mtok": "50000000",
                  "completion_nusd_per_mtok": "100000000"
                },
                "withdrawDelayMs": 3600000
              }
            }
          ]
        }"#]].assert_eq(&serde_json::to_string_pretty(&required).unwrap());
    // It is not told of models that nobody has.
    let unknown = world.pay(CHAT, &super::x402::body("nobody/s", ""), None).await;
    expect![
        "404 model_not_found: the model `nobody/s` is not offered here; offered now: dummy/echo"
    ]
    .assert_eq(&unknown.error());
    // What there is may be looked at, what others used may not.
    for (path, status) in
        [("/v1/models", 200), ("/v1/prices", 200), ("/v1/key", 401), ("/v1/usage", 401)]
    {
        let answer = world.ask(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_paid_from_the_callers_channel() {
    let world = world().await;
    let double = world.provider(11, &["dummy/echo"]).await;
    let _other = world.provider(12, &["dummy/echo"]).await;
    let channel = open(&world, 11, Nusd::whole(1));
    let body = body("dummy/echo", r#", "max_tokens": 5"#);
    let most = world.pay(CHAT, &body, None).await.required.unwrap().accepts[0].amount;
    let paid = world.pay(CHAT, &body, Some(&signed(payment(channel, &body, most), CALLER))).await;
    assert_eq!(paid.status, 200, "{}", paid.body);
    let response = paid.response.unwrap();
    let cost = response.amount.unwrap();
    assert!(cost > Nusd::ZERO && cost <= most, "{cost} {most}");
    assert_eq!(response.payer, key(CALLER).address());
    assert_eq!(response.transaction.to_string(), paid.id);
    assert_eq!(world.paid_by_request().await, cost);
    assert_eq!(world.owed(), (Nusd::ZERO, Nusd::ZERO), "the gateway pays nothing");
    let receipt = world.gateway.receipt(response.transaction).unwrap().receipt;
    assert_eq!(receipt.acknowledgement.value.channel, channel);
    assert_eq!(receipt.acknowledgement.value.provider, double.key.address());
    // Whoever knows the request's id may read its receipt.
    let path = format!("/v1/receipts/{}", paid.id);
    let answer = world.ask(Request::get(path).body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_payment_pays_once_even_after_a_restart() {
    let world = world().await;
    let double = world.provider(11, &["dummy/echo", "dummy/busy", "dummy/slow"]).await;
    let channel = open(&world, 11, Nusd::whole(1));
    let body = body("dummy/echo", r#", "max_tokens": 5"#);
    let header = signed(payment(channel, &body, Nusd(100_000)), CALLER);
    // Twice at once: one is answered.
    let (one, other) =
        tokio::join!(world.pay(CHAT, &body, Some(&header)), world.pay(CHAT, &body, Some(&header)));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 402]);
    let again = world.pay(CHAT, &body, Some(&header)).await;
    expect![
        "402 payment_invalid: the payment cannot be used: it was used before; sign another one"
    ]
    .assert_eq(&again.error());
    let charged = world.paid_by_request().await;
    let memory = double.memory();
    double.connection.close("gone");
    let world = world.restart_with(|config| config.x402 = true).await;
    let _double = world.provider_again(11, &["dummy/echo"], memory).await;
    let again = world.pay(CHAT, &body, Some(&header)).await;
    expect![
        "402 payment_invalid: the payment cannot be used: it was used before; sign another one"
    ]
    .assert_eq(&again.error());
    assert_eq!(world.paid_by_request().await, charged);
    // The lane goes on where it was.
    let next = Payment { nonce: Hash32([2; 32]), ..payment(channel, &body, Nusd(100_000)) };
    let paid = world.pay(CHAT, &body, Some(&signed(next, CALLER))).await;
    assert_eq!(paid.status, 200, "{}", paid.body);
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_bought_nothing_can_be_used_again() {
    let world = world().await;
    let double = world.provider(11, &["story=refuses"]).await;
    let channel = open(&world, 11, Nusd::whole(1));
    let body = body("story", r#", "max_tokens": 5"#);
    let header = signed(payment(channel, &body, Nusd(100_000)), CALLER);
    let refused = world.pay(CHAT, &body, Some(&header)).await;
    assert_ne!(refused.status, 200);
    assert_ne!(refused.status, 402, "{}", refused.body);
    let again = world.pay(CHAT, &body, Some(&header)).await;
    assert_eq!(again.status, refused.status, "{}", again.body);
    drop(double);
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_says_something_else_is_refused() {
    let world = world().await;
    let _double = world.provider(11, &["dummy/echo"]).await;
    let channel = open(&world, 11, Nusd::whole(1));
    let body = body("dummy/echo", r#", "max_tokens": 5"#);
    let good = payment(channel, &body, Nusd(100_000));
    let not_ours = world
        .chain
        .put_channel(&ChannelTerms { payer_key: node(CALLER), ..terms(11) }, Nusd::whole(1));
    let withdrawn = world.chain.put_channel(&ChannelTerms { salt: 2, ..terms(11) }, Nusd::whole(1));
    world.chain.withdraw(withdrawn);
    let elsewhere = header(Signed::new(good, &"other-1".parse().unwrap(), &*key(CALLER)));
    let bad = [
        "no base64".to_owned(),
        x402::encode(&serde_json::json!({ "x402Version": 2 })),
        x402::encode(&serde_json::json!({
            "x402Version": 2,
            "accepted": { "scheme": "exact", "network": "eip155:8453" },
            "payload": Signed::new(good, &chain_id(), &*key(CALLER)),
        })),
        elsewhere,
        signed(Payment { request: Hash32([9; 32]), ..good }, CALLER),
        signed(Payment { expires_at: NOW, ..good }, CALLER),
        signed(Payment { expires_at: NOW.plus_ms(601_000), ..good }, CALLER),
        signed(good, CALLER + 1),
        signed(Payment { channel: ChannelId([7; 32]), ..good }, CALLER),
        signed(Payment { channel: not_ours, ..good }, CALLER),
        signed(Payment { channel: withdrawn, ..good }, CALLER),
    ];
    let mut shown = String::new();
    for header in bad {
        let refused = world.pay(CHAT, &body, Some(&header)).await;
        shown += &format!("{}\n", refused.error());
    }
    expect![[r#"
        402 payment_invalid: the payment cannot be used: the header payment-signature is not base64
        402 payment_invalid: the payment cannot be used: the header payment-signature is not what x402 has there: missing field `accepted` at line 1 column 17
        402 payment_invalid: the payment cannot be used: the header payment-signature is not of x402 version 2, scheme peerwatt-channel, network peerwatt:test-1
        402 payment_invalid: the payment cannot be used: its signature is not valid on the network test-1
        402 payment_invalid: the payment cannot be used: it is for another request: the hash of path and body differs
        402 payment_invalid: the payment cannot be used: it must expire within 10 minutes from now, and not before
        402 payment_invalid: the payment cannot be used: it must expire within 10 minutes from now, and not before
        402 payment_invalid: the payment cannot be used: the channel 1d713787541ae75216a4a9e472d1e1643bab69739c53dd38e4e9624a8ec1ad5c is not of its signer
        402 payment_invalid: the payment cannot be used: there is no channel 0707070707070707070707070707070707070707070707070707070707070707
        402 payment_invalid: the payment cannot be used: the channel 7aeacc9276e57e11987e0091fc26484dd0bf8cc325706c91c0fab5a45a465009 does not name the payer key of this gateway, 8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394
        402 payment_invalid: the payment cannot be used: the channel 97e89e6342e0cc78c98c589ec287154276ba121b2babda2ab63991ceb04a9d8b is closed, or its payer withdraws
    "#]].assert_eq(&shown);
    // Nothing was held or charged for any of them, and the good one still pays.
    assert_eq!(world.paid_by_request().await, Nusd::ZERO);
    assert_eq!(world.pay(CHAT, &body, Some(&signed(good, CALLER))).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_charged_than_a_payment_allows_and_a_channel_has() {
    let world = world().await;
    let _double = world.provider(11, &["dummy/echo", "story=endless"]).await;
    let channel = open(&world, 11, Nusd(40_000));
    // A length that was named is given whole or not at all.
    let named = body("dummy/echo", r#", "max_tokens": 100"#);
    let little = signed(payment(channel, &named, Nusd(100)), CALLER);
    let refused = world.pay(CHAT, &named, Some(&little)).await;
    expect!["402 payment_too_small: the payment allows 100 nano-USD, and this request may cost up to 14260; allow more, or lower `max_tokens`"].assert_eq(&refused.error());
    assert!(refused.required.is_some(), "it is told again how to pay");
    let long = body("dummy/echo", r#", "max_tokens": 4000"#);
    let much = signed(payment(channel, &long, Nusd::whole(1)), CALLER);
    let refused = world.pay(CHAT, &long, Some(&much)).await;
    expect!["402 channel_too_small: the channel does not have the 404260 nano-USD that this request may cost; add to its deposit, or lower `max_tokens`"].assert_eq(&refused.error());
    // The payment was not used: with more in the channel it pays.
    world.chain.put_channel(&terms(11), Nusd::whole(1));
    assert_eq!(world.pay(CHAT, &long, Some(&much)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_any_length_is_as_long_as_the_payment_lasts() {
    let world = world().await;
    let _double = world.provider(11, &["story=endless"]).await;
    let channel = open(&world, 11, Nusd::whole(1));
    let body = body("story", r#", "stream": true"#);
    let amount = Nusd(40_000);
    let paid = world.pay(CHAT, &body, Some(&signed(payment(channel, &body, amount), CALLER))).await;
    assert_eq!(paid.status, 200, "{}", paid.body);
    assert!(paid.body.contains(r#""finish_reason":"length""#), "{}", paid.body);
    let response = paid.response.unwrap();
    assert_eq!(response.amount, None, "nobody knows at the beginning of a stream");
    world.gateway.idle().await;
    let charged = world.paid_by_request().await;
    assert!(charged <= amount && charged > Nusd(20_000), "{charged}");
}

#[tokio::test(start_paused = true)]
async fn the_channels_provider_answers_and_nobody_else() {
    let world = world().await;
    let _one = world.provider(11, &["dummy/echo"]).await;
    let other = world.provider(12, &["dummy/echo"]).await;
    let channel = open(&world, 12, Nusd::whole(1));
    let body = body("dummy/echo", r#", "max_tokens": 5"#);
    for nonce in 0..8 {
        let payment =
            Payment { nonce: Hash32([nonce; 32]), ..payment(channel, &body, Nusd(100_000)) };
        let paid = world.pay(CHAT, &body, Some(&signed(payment, CALLER))).await;
        assert_eq!(paid.status, 200, "{}", paid.body);
        assert_eq!(paid.provider, Some(other.key.address().to_string()));
    }
    let fresh = Payment { nonce: Hash32([99; 32]), ..payment(channel, &body, Nusd(100_000)) };
    let request = Request::post(CHAT)
        .header(x402::SIGNATURE, signed(fresh, CALLER))
        .header("x-peerwatt-pin-provider", key(11).address().to_string());
    let refused = world.ask(request.body(Body::from(body)).unwrap()).await;
    expect!["the payment cannot be used: the channel leads to another provider than the one that is pinned"]
        .assert_eq(refused.json()["error"]["message"].as_str().unwrap());
}

#[tokio::test(start_paused = true)]
async fn its_operator_bounds_and_ends_it_like_a_key() {
    let world = world().await;
    let _double = world.provider(11, &["dummy/echo"]).await;
    let channel = open(&world, 11, Nusd::whole(1));
    let limits = KeyLimits { requests_per_minute: Some(1), ..KeyLimits::default() };
    world.gateway.set_limits(crate::X402_KEY, limits).await.unwrap();
    let body = body("dummy/echo", r#", "max_tokens": 5"#);
    let mut statuses = Vec::new();
    for nonce in 0..2 {
        let payment =
            Payment { nonce: Hash32([nonce; 32]), ..payment(channel, &body, Nusd(100_000)) };
        statuses.push(world.pay(CHAT, &body, Some(&signed(payment, CALLER))).await.status);
    }
    assert_eq!(statuses, [200, 429]);
    // The word that clients send who insist on a key is none; other words are.
    let with = |word: &str| {
        let request = Request::post(CHAT).header("authorization", format!("Bearer {word}"));
        world.ask(request.body(Body::from(body.clone())).unwrap())
    };
    assert_eq!(with(crate::X402_KEY).await.status, 402);
    assert_eq!(with("pw-00000000000000000000").await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_takes_no_payments_says_nothing_of_them() {
    let world = World::new().await;
    let _double = world.provider(11, &["dummy/echo"]).await;
    let channel = open(&world, 11, Nusd::whole(1));
    let body = body("dummy/echo", "");
    let header = signed(payment(channel, &body, Nusd(100_000)), CALLER);
    let refused = world.pay(CHAT, &body, Some(&header)).await;
    assert_eq!((refused.status, refused.required.is_none()), (401, true));
    assert_eq!(world.get("/v1/models").await.status, 200);
}

also_on_postgres! {
    a_request_is_paid_from_the_callers_channel
    a_payment_pays_once_even_after_a_restart
    no_more_is_charged_than_a_payment_allows_and_a_channel_has
    its_operator_bounds_and_ends_it_like_a_key
}
