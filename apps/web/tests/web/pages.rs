//! What the pages show, from fixed values.

use crate::{
    HOST, answer,
    fixture::{Fixture, busy, empty, model},
    get, page, policy, text,
};
use axum::http::StatusCode;
use expect_test::{Expect, expect};
use gateway::{ChatEvent, ModelView, ProviderView, RequestFailure};

/// The text between the tags, a line for each run of it. Good enough for pages of our own making.
pub(crate) fn visible(html: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for part in html.split('<').skip(1) {
        let run = part.split_once('>').map_or("", |(_, run)| run);
        let run = run.split_whitespace().collect::<Vec<_>>().join(" ");
        if !run.is_empty() {
            lines.push(run);
        }
    }
    lines
        .join("\n")
        .replace("&amp;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
}

/// The element with this id, from its tag to the end of the section it opens.
pub(crate) fn section<'a>(html: &'a str, id: &str) -> &'a str {
    let start = html.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no #{id}"));
    let start = html[..start].rfind('<').unwrap();
    let end = html[start..].find("</section>").unwrap() + start;
    &html[start..end]
}

pub(crate) async fn check(source: Fixture, path: &str, id: &str, expected: Expect) {
    let html = page(source, path).await;
    expected.assert_eq(&visible(section(&html, id)));
}

#[tokio::test]
async fn what_is_running() {
    check(
        busy(),
        "/",
        "running",
        expect![[r#"
        What is running
        Validator
        block 1 284
        peerwatt-local ·
        2026-11-21 03:59:18 UTC
        1 transaction waits
        Gateway
        serving
        gateway
        ·
        watt1k9elw…zvxg
        Providers
        2 connected
        3 of 6 slots in use"#]],
    )
    .await;
}

#[tokio::test]
async fn what_is_running_without_a_ledger() {
    let mut source = busy();
    source.ledger = None;
    source.account.problem = Some("the ledger was not read".to_owned());
    check(source, "/", "running", expect![[r#"
        What is running
        Validator
        not reachable
        the ledger was not read: the chain API at http://127.0.0.1:8401 does not answer; is the validator running? connection refused
        Requests go on as long as channels have credit.
        Gateway
        serving; the ledger is behind
        gateway
        ·
        watt1k9elw…zvxg
        the ledger was not read
        Providers
        2 connected
        3 of 6 slots in use"#]]).await;
}

#[tokio::test]
async fn what_is_running_before_anything_joined() {
    check(
        empty(),
        "/",
        "running",
        expect![[r#"
        What is running
        Validator
        block 0
        peerwatt-local ·
        2026-11-21 03:59:18 UTC
        Gateway
        joining the ledger
        gateway
        ·
        watt1k9elw…zvxg
        Providers
        none connected
        Start one with
        peerwatt provide
        ."#]],
    )
    .await;
}

#[tokio::test]
async fn the_last_requests() {
    check(
        busy(),
        "/",
        "requests",
        expect![[r#"
            Last requests
            The last requests, latest first
            When
            Model
            Provider
            Tokens
            Speed
            Cost
            Split
            2026-11-21 03:58:59 UTC
            ember
            watt1ysvxc…uy8v
            31 → 57
            63.3 tok/s
            $0.000 007 250
            provider 60 %, stakers 15 %, burned 15 %, treasury 10 %
            2026-11-21 03:57:58 UTC
            ember
            watt1ysvxc…uy8v
            32 → 121
            67.2 tok/s
            $0.000 013 700
            provider 60 %, stakers 15 %, burned 15 %, treasury 10 %
            2026-11-21 03:56:57 UTC
            ember
            failed
            watt1ysvxc…uy8v
            33 → 185
            68.5 tok/s
            $0.000 020 150
            provider 60 %, stakers 15 %, burned 15 %, treasury 10 %
            2026-11-21 03:55:56 UTC
            ember
            watt1ysvxc…uy8v
            34 → 1
            0.2 tok/s
            $0.000 026 600
            provider 60 %, stakers 15 %, burned 15 %, treasury 10 %
            2026-11-21 03:54:55 UTC
            ember
            watt1ysvxc…uy8v
            35 → 313
            69.5 tok/s
            $0.000 033 050
            provider 60 %, stakers 15 %, burned 15 %, treasury 10 %
            2026-11-21 03:53:54 UTC
            ember
            cut at limit
            watt1ysvxc…uy8v
            36 → 377
            69.8 tok/s
            $0.000 039 500
            provider 60 %, stakers 15 %, burned 15 %, treasury 10 %
            2026-11-21 03:52:53 UTC
            ember
            cloud
            37 → 441
            70.0 tok/s
            $0.000 045 950
            –
            2026-11-21 03:51:52 UTC
            ember
            watt1ysvxc…uy8v
            38 → 505
            70.1 tok/s
            $0.000 052 400
            provider 60 %, stakers 15 %, burned 15 %, treasury 10 %
            provider 60 %
            stakers 15 %
            burned 15 %
            treasury 10 %
            All requests"#]],
    )
    .await;
}

#[tokio::test]
async fn requests_with_the_parts_of_each() {
    let mut source = busy();
    source.requests.truncate(2);
    check(
        source,
        "/requests",
        "requests",
        expect![[r#"
        Last requests
        Costs are US dollars; the four parts are WATT at today's price of
        $1.14
        . Providers claim many requests at once, and what they claim is split when it is settled.
        provider 60 %
        stakers 15 %
        burned 15 %
        treasury 10 %
        The last requests, latest first
        When
        Model
        Provider
        Tokens
        Speed
        Cost
        Provider gets
        Stakers
        Burned
        Treasury
        Paid by
        2026-11-21 03:58:59 UTC
        ember
        watt1ysvxc…uy8v
        31 → 57
        63.3 tok/s
        $0.000 007 250
        0.000 003 815
        0.000 000 953
        0.000 000 953
        0.000 000 638
        first
        2026-11-21 03:57:58 UTC
        ember
        watt1ysvxc…uy8v
        32 → 121
        67.2 tok/s
        $0.000 013 700
        0.000 007 210
        0.000 001 802
        0.000 001 802
        0.000 001 203
        first"#]],
    )
    .await;
}

#[tokio::test]
async fn balances_and_channels() {
    check(
        busy(),
        "/",
        "balances",
        expect![[r#"
        Balances
        What the accounts of the gateway and its providers hold
        Account
        WATT
        Credits
        gateway
        998 911.4
        $94.999 8
        provider
        1.203 4
        $0
        validator
        12 000.34
        $0
        Channels
        Payment channels of this gateway
        Channel to
        Deposit
        Charged
        watt1ysvxc…uy8v
        $5.00
        $0.000 188"#]],
    )
    .await;
}

#[tokio::test]
async fn supply_and_burn() {
    check(
        busy(),
        "/",
        "supply",
        expect![[r#"
        Supply and burn
        Supply
        400 012 000.34
        WATT
        Minted
        12 000.4
        WATT
        Burned
        0.062 1
        WATT
        Vault
        87.719 3
        WATT
        Credits outstanding
        $99.999 8
        Price of a WATT
        $1.14
        The ledger"#]],
    )
    .await;
}

#[tokio::test]
async fn a_policy_that_pays_by_another_measure_shows_no_parts() {
    let mut source = busy();
    source.requests.truncate(1);
    let params = &mut source.ledger.as_mut().unwrap().status.params;
    params.credits.policy = types::params::CreditPolicy::Split;
    check(source, "/requests", "requests", expect![[r#"
        Last requests
        Costs are US dollars; what the four parts come to is known when they are settled. Providers claim many requests at once, and what they claim is split when it is settled.
        provider 60 %
        stakers 15 %
        burned 15 %
        treasury 10 %
        The last requests, latest first
        When
        Model
        Provider
        Tokens
        Speed
        Cost
        Provider gets
        Stakers
        Burned
        Treasury
        Paid by
        2026-11-21 03:58:59 UTC
        ember
        watt1ysvxc…uy8v
        31 → 57
        63.3 tok/s
        $0.000 007 250
        –
        –
        –
        –
        first"#]]).await;
}

#[tokio::test]
async fn models_with_how_to_call_them() {
    let mut source = busy();
    source.models.truncate(1);
    check(source, "/models", "models", expect![[r#"
        Models
        Point any OpenAI client at
        http://127.0.0.1:8400/v1
        with the API key that the gateway printed when it started. A name is what providers call a model; the id is the model itself and works in its place.
        ember
        1 provider
        7cadc15d609c4ae9b4be6265b8e1cace16e6fa78a81ab0c7db82e687a7c867a5
        Prompt
        $0.05
        / M tokens
        Completion
        $0.10
        / M tokens
        Per request
        $0
        Context
        512 tokens
        Also
        log-probabilities
        Audits of
        attic
        In a terminal
        Copy
        curl http://127.0.0.1:8400/v1/chat/completions \ -H "Authorization: Bearer $PEERWATT_API_KEY" \ -H "Content-Type: application/json" \ -d '{"model": "ember", "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}'"#]]).await;
}

#[tokio::test]
async fn without_requests_it_says_how_to_make_one() {
    check(
        empty(),
        "/",
        "requests",
        expect![[r#"
        Last requests
        Nothing was asked yet.
        Say something in the
        chat box
        , or paste the
        curl
        of a
        model
        into a terminal. Each answer appears here with what it cost and a receipt."#]],
    )
    .await;
}

#[tokio::test]
async fn without_models_it_says_how_to_serve_one() {
    check(
        empty(),
        "/models",
        "models",
        expect![[r#"
        Models
        No model is offered: no provider is connected and ready to be paid.
        Start one on any machine with
        peerwatt provide
        . It finds Ollama and llama.cpp by itself and brings a small model of its own."#]],
    )
    .await;
}

#[tokio::test]
async fn without_providers_it_says_how_to_start_one() {
    check(
        empty(),
        "/",
        "providers",
        expect![[r#"
        Providers
        No provider is connected.
        On any machine:
        peerwatt provide --chain URL
        , with the address of the validator's chain API. No port needs to be open."#]],
    )
    .await;
}

#[tokio::test]
async fn without_blocks_it_says_when_there_will_be_one() {
    check(
        empty(),
        "/ledger",
        "blocks",
        expect![[r#"
        Latest blocks
        No block yet.
        The first transaction makes one: there are no empty blocks."#]],
    )
    .await;
}

#[tokio::test]
async fn a_page_without_the_ledger_says_so_in_place() {
    let broken = || Fixture { ledger: None, ..busy() };
    check(broken(), "/", "supply", expect![[r#"
        Supply and burn
        the ledger was not read: the chain API at http://127.0.0.1:8401 does not answer; is the validator running? connection refused"#]]).await;
    for (path, id) in [("/", "balances"), ("/ledger", "blocks"), ("/ledger", "state")] {
        let html = page(broken(), path).await;
        let shown = visible(section(&html, id));
        assert!(shown.contains("the ledger was not read: the chain API"), "{path} {id}: {shown}");
    }
    // Costs are known without it.
    let html = page(broken(), "/requests").await;
    assert!(html.contains("value=\"7250\""));
}

async fn receipt_checks(number: &str, expected: Expect) {
    let path = format!("/requests/{}", number.repeat(16));
    check(busy(), &path, "checks", expected).await;
}

#[tokio::test]
async fn a_receipt_is_checked() {
    receipt_checks(
        "01",
        expect![[r#"
        Receipt of request 01010101010101010101010101010101
        Valid: both sides signed the same, and the bill adds up.
        holds:
        the payer's signature, by key 8139770ea8…b394
        holds:
        the bill: $0.000 007 25 for these counts at this price, $0.000 007 25 charged
        holds:
        the provider's signature, by watt1ysvxcz6zt3d4wp2fwe2agumc7v9hcsedc3uy8v
        holds:
        the payer acknowledges this very report
        holds:
        both sides counted the same tokens and the same answer
        Check it yourself:
        peerwatt receipt verify 01010101010101010101010101010101"#]],
    )
    .await;
}

#[tokio::test]
async fn a_receipt_on_which_the_sides_differ_says_so() {
    receipt_checks(
        "02",
        expect![[r#"
        Receipt of request 02020202020202020202020202020202
        Valid, but the two sides state different counts. Both records keep the difference.
        holds:
        the payer's signature, by key 8139770ea8…b394
        holds:
        the bill: $0.000 013 7 for these counts at this price, $0.000 013 7 charged
        holds:
        the provider's signature, by watt1ysvxcz6zt3d4wp2fwe2agumc7v9hcsedc3uy8v
        holds:
        the payer acknowledges this very report
        does not hold:
        both sides counted the same tokens and the same answer
        Check it yourself:
        peerwatt receipt verify 02020202020202020202020202020202"#]],
    )
    .await;
    let html = page(busy(), &format!("/requests/{}", "02".repeat(16))).await;
    let statements = visible(section(&html, "statements"));
    assert!(statements.contains("Answer tokens\ndiffers\n124\n121"), "{statements}");
}

#[tokio::test]
async fn a_receipt_without_a_report_says_so() {
    receipt_checks("03", expect![[r#"
        Receipt of request 03030303030303030303030303030303
        Valid, with the payer's statement only: the provider did not finish. What it delivered is paid.
        holds:
        the payer's signature, by key 8139770ea8…b394
        holds:
        the bill: $0.000 020 2 for these counts at this price, $0.000 020 2 charged
        Check it yourself:
        peerwatt receipt verify 03030303030303030303030303030303"#]]).await;
}

#[tokio::test]
async fn a_receipt_of_a_service_outside_the_network_says_so() {
    receipt_checks(
        "07",
        expect![[r#"
        Receipt of request 07070707070707070707070707070707
        Valid, with the gateway's statement only: its upstream
        cloud
        answered, a service outside the network, with its model
        <big>
        . Nobody verifies the answer.
        holds:
        the payer's signature, by key 8139770ea8…b394
        holds:
        the bill: $0.000 046 for these counts at this price, $0.000 046 charged
        Check it yourself:
        peerwatt receipt verify 07070707070707070707070707070707"#]],
    )
    .await;
    let html = page(busy(), &format!("/requests/{}", "07".repeat(16))).await;
    assert!(!html.contains("Who gets it"));
}

#[tokio::test]
async fn the_parts_before_are_shown_with_who_made_them() {
    let path = format!("/requests/{}", "05".repeat(16));
    check(busy(), &path, "earlier", expect![[r#"
        The parts before
        valid:
        313 tokens by watt1ysvxcz6zt3d4wp2fwe2agumc7v9hcsedc3uy8v, $0.000 033 1
        These providers failed in the middle, and the next one went on. The key pays the prompt once; that it was read again is the gateway's loss."#]]).await;
    let html = page(busy(), &format!("/requests/{}", "01".repeat(16))).await;
    assert!(!html.contains("The parts before"));
}

#[tokio::test]
async fn a_changed_receipt_is_not_valid() {
    receipt_checks("04", expect![[r#"
        Receipt of request 04040404040404040404040404040404
        Not valid: the signature of 8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394 over `acknowledgement/1` is not valid on this network
        does not hold:
        the payer's signature, by key 8139770ea8…b394
        does not hold:
        the bill: $0.000 001 8 for these counts at this price, $0.000 026 6 charged
        holds:
        the provider's signature, by watt1ysvxcz6zt3d4wp2fwe2agumc7v9hcsedc3uy8v
        holds:
        the payer acknowledges this very report
        does not hold:
        both sides counted the same tokens and the same answer
        Check it yourself:
        peerwatt receipt verify 04040404040404040404040404040404"#]]).await;
}

#[tokio::test]
async fn a_receipt_that_is_not_there() {
    for path in ["/requests/ffffffffffffffffffffffffffffffff", "/requests/x%3Cscript%3E"] {
        let response = answer(busy(), policy(), get(path)).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        let html = text(response).await;
        assert!(html.contains("No receipt"), "{html}");
        assert!(!html.contains("<script>"), "{html}");
    }
}

#[tokio::test]
async fn an_unknown_path_answers_people_and_programs() {
    let html = text(answer(busy(), policy(), get("/nowhere")).await).await;
    assert!(html.contains("There is nothing at this address."));
    let json = text(answer(busy(), policy(), get("/v1/nowhere")).await).await;
    expect![[r#"{"error":{"code":"not_found","message":"there is no such endpoint here","param":null,"type":"invalid_request_error"}}"#]].assert_eq(&json);
}

#[tokio::test]
async fn an_answer_streams_with_its_cost() {
    let json = r#"{"model": "ember", "messages": [{"role": "user", "content": "Hello"}]}"#;
    let request = || {
        axum::http::Request::post("/ui/chat")
            .header("host", HOST)
            .header("origin", format!("http://{}", HOST))
            .header("content-type", "application/json")
            .body(axum::body::Body::from(json))
            .unwrap()
    };
    let answered = text(answer(busy(), policy(), request()).await).await;
    expect![[r#"
        data: {"type":"text","text":"Hello"}

        data: {"type":"text","text":"! "}

        data: {"type":"text","text":"The lamp"}

        data: {"type":"text","text":" by the river"}

        data: {"type":"text","text":" was lit.\n"}

        data: {"type":"text","text":"<b>Not bold</b>"}

        data: {"type":"text","text":"."}

        data: {"type":"done","request_id":"01010101010101010101010101010101","provider":"watt1ysvxcz6zt3d4wp2fwe2agumc7v9hcsedc3uy8v","cost":"$0.000 007 25","tokens":"31 → 57 tokens","speed":"63.3 tok/s","note":null}

    "#]].assert_eq(&answered);

    let failure = RequestFailure::Upstream { reason: "it went away".to_owned() };
    let events = vec![ChatEvent::Text("Once".to_owned()), ChatEvent::Failed(failure)];
    let broken = Fixture { answer: Ok(events), ..busy() };
    let answered = text(answer(broken, policy(), request()).await).await;
    expect![[r#"
        data: {"type":"text","text":"Once"}

        data: {"type":"failed","message":"the provider failed: it went away"}

    "#]]
    .assert_eq(&answered);
}

#[tokio::test]
async fn what_others_say_is_text_and_nothing_else() {
    const EVIL: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'";
    let mut source = busy();
    source.models = vec![ModelView { alias: EVIL.to_owned(), ..model("ember", 1) }];
    let named: Vec<ProviderView> = source
        .providers
        .iter()
        .map(|provider| {
            let mut provider = provider.clone();
            provider.moniker = EVIL.to_owned();
            provider.health = EVIL.to_owned();
            provider.last_problem = Some(EVIL.to_owned());
            for model in &mut provider.models {
                model.alias = EVIL.to_owned();
                model.engine_version = EVIL.to_owned();
            }
            provider
        })
        .collect();
    source.providers = named;
    for request in &mut source.requests {
        request.model = EVIL.to_owned();
        request.key = EVIL.to_owned();
    }
    for balance in &mut source.balances {
        balance.label = EVIL.to_owned();
    }
    source.account.problem = Some(EVIL.to_owned());
    let source = std::sync::Arc::new(source);
    let service = hyper_util::service::TowerToHyperService::new(web::router(source, policy()));
    for path in ["/", "/chat", "/models", "/requests", "/ledger"] {
        let response = hyper::service::Service::call(&service, get(path)).await.unwrap();
        let html = text(response).await;
        assert!(!html.contains("<script>"), "{path}");
        assert!(!html.contains("<img src=x"), "{path}");
        assert_eq!(html.matches("<img").count(), 1, "{path}: the logo");
    }
}
