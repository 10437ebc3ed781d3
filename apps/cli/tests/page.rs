//! The web page in a real browser, over a whole network: what it shows, what it costs, how it
//! looks, and whom it refuses. Skipped, with a reason, where Chromium or its driver is missing.

#[path = "support/browser.rs"]
mod browser;
mod support;

use browser::{Browser, Scheme};
use support::{
    process::{Up, string},
    skip,
    stream::Consumer,
};

/// A foreign name that resolves to this machine, as after DNS rebinding.
const REBOUND: &str = "rebound.example";
const PAGES: [&str; 5] = ["", "chat", "models", "requests", "ledger"];

#[tokio::test]
async fn the_page_in_a_browser() {
    let rules = format!("--host-resolver-rules=MAP {REBOUND} 127.0.0.1");
    let browser = match Browser::start(&[&rules]).await {
        Ok(browser) => browser,
        Err(reason) => return skip("the_page_in_a_browser", reason),
    };
    let up = Up::start(&["--embedded"]).await;
    let model = offered_model(&up).await;

    overview_shows_what_runs(&browser, &up, &model).await;
    let receipt = chat_streams_and_costs(&browser).await;
    request_appears_with_a_receipt(&browser, &up, &receipt).await;
    every_page_fits_and_holds_no_key(&browser, &up, &receipt).await;
    assert_eq!(browser.console().await, Vec::<String>::new(), "the console is quiet");
    a_rebound_name_is_refused(&browser, &up, &model).await;

    drop(browser);
    up.stop_and_check().await;
}

async fn offered_model(up: &Up) -> String {
    let models = Consumer::new(&up.base_url, &up.api_key).get("models").await.unwrap();
    string(&models["data"][0], "id")
}

async fn overview_shows_what_runs(browser: &Browser, up: &Up, model: &str) {
    browser.look(1280, 900, Scheme::Light).await;
    browser.open(&up.dashboard_url).await;
    assert_eq!(browser.text("return document.title").await, "Overview · Peerwatt");
    let shown = browser.text("return document.querySelector('#models').innerText").await;
    assert!(shown.contains(model), "{shown}");
    let tiles = "return document.querySelectorAll('.tile.good').length === 3";
    browser.until("validator, gateway and provider in order", tiles).await;
    let none = browser.text("return document.querySelector('#requests').innerText").await;
    assert!(none.contains("Nothing was asked yet."), "{none}");
}

/// The address of the receipt.
async fn chat_streams_and_costs(browser: &Browser) -> String {
    // Every length that the answer has on its way: a stream shows more than its end.
    let observe = "window.lengths = new Set();
        new MutationObserver(() => {
            const said = document.querySelector('.turn.assistant .said');
            if (said) window.lengths.add(said.textContent.length);
        }).observe(document.querySelector('#chat-log'), { subtree: true, childList: true });";
    browser.evaluate(observe).await;
    browser.type_into("#chat-text", "Tell me a story about a fox.").await;
    browser.click("#chat-send").await;
    let end = "return document.querySelector('.turn.assistant .about')?.innerText";
    let about = browser.until("the end of the answer", end).await;
    let about = about.as_str().unwrap();
    assert!(about.starts_with("$0.000") && about.contains("tokens"), "{about}");
    let steps = browser.evaluate("return window.lengths.size").await.as_u64().unwrap();
    assert!(steps >= 3, "the answer came in {steps} steps");
    let answer = browser.text("return document.querySelector('.turn.assistant .said').innerText");
    assert!(answer.await.len() > 20);
    browser.text("return document.querySelector('.turn.assistant a').getAttribute('href')").await
}

/// Without loading the page again.
async fn request_appears_with_a_receipt(browser: &Browser, up: &Up, receipt: &str) {
    let row = format!("return document.querySelector('#requests a[href=\"{receipt}\"]') !== null");
    browser.until("the request in the table", &row).await;
    let used = "return document.querySelector('#chat-budget').innerText";
    assert!(browser.text(used).await.starts_with("$0.000"));

    browser.open(&format!("{}{receipt}", up.dashboard_url.trim_end_matches('/'))).await;
    let checks = browser.text("return document.querySelector('#checks').innerText").await;
    assert!(
        checks.contains("Valid: both sides signed the same, and the bill adds up."),
        "{checks}"
    );
}

async fn every_page_fits_and_holds_no_key(browser: &Browser, up: &Up, receipt: &str) {
    for path in PAGES.into_iter().chain([receipt.trim_start_matches('/')]) {
        let mut grounds = Vec::new();
        for (width, height, scheme) in [
            (1280, 900, Scheme::Light),
            (1280, 900, Scheme::Dark),
            (768, 1024, Scheme::Light),
            (390, 844, Scheme::Light),
            (390, 844, Scheme::Dark),
        ] {
            browser.look(width, height, scheme).await;
            browser.open(&format!("{}{path}", up.dashboard_url)).await;
            let over = "return document.documentElement.scrollWidth - innerWidth";
            let over = browser.evaluate(over).await.as_i64().unwrap();
            assert!(over <= 0, "/{path} is {over} px wider than {width} px");
            let ground = "return getComputedStyle(document.body).backgroundColor";
            grounds.push((scheme, browser.text(ground).await));
            assert!(!browser.source().await.contains(&up.api_key), "/{path} holds the key");
        }
        for (scheme, ground) in &grounds {
            let same_scheme = grounds.iter().filter(|(other, _)| other == scheme);
            assert!(same_scheme.clone().all(|(_, other)| other == ground), "/{path}: {grounds:?}");
            assert!(grounds.iter().any(|(_, other)| other != ground), "/{path}: {grounds:?}");
        }
    }
}

/// The foreign page is of the same origin as itself, so nothing but the name gives it away.
async fn a_rebound_name_is_refused(browser: &Browser, up: &Up, model: &str) {
    let foreign = up.dashboard_url.replace("127.0.0.1", REBOUND);
    assert_ne!(foreign, up.dashboard_url);
    browser.open(&foreign).await;
    let shown = browser.text("return document.body.innerText").await;
    assert!(shown.contains("not served under that host name"), "{shown}");
    assert!(!shown.contains(model), "{shown}");
    let spend = format!(
        "fetch('/ui/chat', {{ method: 'POST', headers: {{ 'content-type': 'application/json' }}, \
         body: JSON.stringify({{ model: '{model}', messages: [{{ role: 'user', content: 'x' }}] }}) }})\
         .then((response) => response.status)"
    );
    assert_eq!(browser.resolve(&spend).await, 421);
}
