//! Who is answered: hosts, origins, bodies, headers. The page can spend, so each of these is a wall.

use crate::{
    HOST, answer,
    fixture::{Fixture, busy},
    get, page, policy, text,
};
use axum::{
    body::Body,
    http::{HeaderName, Request, StatusCode, header, request::Builder},
};
use gateway::RequestFailure;
use types::Nusd;
use web::HostPolicy;

const PAGES: [&str; 10] = [
    "/",
    "/chat",
    "/models",
    "/requests",
    "/requests/01010101010101010101010101010101",
    "/ledger",
    "/audits",
    "/audits/watt1ysvxcz6zt3d4wp2fwe2agumc7v9hcsedc3uy8v",
    "/audits/watt1ysvxcz6zt3d4wp2fwe2agumc7v9hcsedc3uy8v/51",
    "/nowhere",
];
const QUESTION: &str = r#"{"model": "ember", "messages": [{"role": "user", "content": "Hello"}]}"#;
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A question as the page's own script sends it.
fn own_question() -> Builder {
    Request::post("/ui/chat")
        .header(header::HOST, HOST)
        .header(header::ORIGIN, format!("http://{HOST}"))
        .header(FETCH_SITE, "same-origin")
        .header(header::CONTENT_TYPE, "application/json")
}

/// `own_question` with one header changed (`Some`) or left out.
fn question_with(name: HeaderName, value: Option<&str>) -> Request<Body> {
    let mut request = own_question().body(Body::from(QUESTION)).unwrap();
    request.headers_mut().remove(&name);
    if let Some(value) = value {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

/// The status of the answer, and whether anything was spent.
async fn spend(policy: HostPolicy, request: Request<Body>) -> (u16, bool) {
    let source = busy();
    let asked = source.asked.clone();
    let response = answer(source, policy, request).await;
    (response.status().as_u16(), !asked.lock().unwrap().is_empty())
}

#[tokio::test]
async fn a_foreign_host_sees_no_page() {
    for path in PAGES.into_iter().chain(["/assets/style.css", "/ui/chat"]) {
        for host in [
            "evil.example",
            "evil.example:8400",
            "127.0.0.1",
            "127.0.0.1:8401",
            "localhost.evil.example:8400",
            "127.0.0.1:8400.evil.example",
            "127.0.0.1:8400@evil.example",
            "0.0.0.0:8400",
            "",
        ] {
            let request =
                Request::get(path).header(header::HOST, host).body(Body::empty()).unwrap();
            let response = answer(busy(), policy(), request).await;
            assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST, "{path} as {host}");
            assert!(!text(response).await.contains("ember"), "{path} as {host}");
        }
    }
}

#[tokio::test]
async fn a_host_that_is_missing_or_given_twice_is_refused() {
    let status = async |request: Builder| {
        answer(busy(), policy(), request.body(Body::empty()).unwrap()).await.status().as_u16()
    };
    assert_eq!(status(Request::get("/")).await, 400);
    let twice = Request::get("/").header(header::HOST, HOST).header(header::HOST, HOST);
    assert_eq!(status(twice).await, 400);
    // HTTP/2 and proxies name the host in the address; then both must agree.
    let differing = Request::get(format!("http://{HOST}/")).header(header::HOST, "evil.example");
    assert_eq!(status(differing).await, 400);
    assert_eq!(status(Request::get(format!("http://{HOST}/"))).await, 200);
    assert_eq!(status(Request::get("http://evil.example:8400/")).await, 421);
}

#[tokio::test]
async fn own_hosts_see_the_page() {
    for host in ["127.0.0.1:8400", "localhost:8400", "LOCALHOST:8400", "[::1]:8400"] {
        let request = Request::get("/").header(header::HOST, host).body(Body::empty()).unwrap();
        assert_eq!(answer(busy(), policy(), request).await.status(), StatusCode::OK, "{host}");
    }
    let public = policy().allow("gateway.example.org").unwrap();
    let request =
        Request::get("/").header(header::HOST, "gateway.example.org").body(Body::empty()).unwrap();
    assert_eq!(answer(busy(), public, request).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn only_the_page_itself_spends() {
    let origin = |value| (header::ORIGIN, value);
    for ((name, value), expected) in [
        (origin(Some("http://127.0.0.1:8400")), (200, true)),
        (origin(None), (403, false)),
        (origin(Some("null")), (403, false)),
        (origin(Some("http://evil.example")), (403, false)),
        (origin(Some("http://evil.example:8400")), (403, false)),
        (origin(Some("https://127.0.0.1:8400")), (403, false)),
        (origin(Some("http://127.0.0.1:8400.evil.example")), (403, false)),
        // Another name of this page, but not the one of this request.
        (origin(Some("http://localhost:8400")), (403, false)),
        ((header::HOST, Some("evil.example:8400")), (421, false)),
        ((FETCH_SITE, None), (200, true)),
        ((FETCH_SITE, Some("same-site")), (403, false)),
        ((FETCH_SITE, Some("cross-site")), (403, false)),
        ((FETCH_SITE, Some("none")), (403, false)),
        ((header::CONTENT_TYPE, Some("application/json; charset=utf-8")), (200, true)),
        ((header::CONTENT_TYPE, None), (415, false)),
        // What a form of a foreign page can send without being asked about it first.
        ((header::CONTENT_TYPE, Some("text/plain")), (415, false)),
        ((header::CONTENT_TYPE, Some("application/x-www-form-urlencoded")), (415, false)),
        ((header::CONTENT_TYPE, Some("application/jsonp")), (415, false)),
    ] {
        let request = question_with(name.clone(), value);
        assert_eq!(spend(policy(), request).await, expected, "{name}: {value:?}");
    }
}

#[tokio::test]
async fn a_rebound_name_spends_nothing() {
    // After DNS rebinding, the foreign page is of the same origin as this one; its name remains.
    let request = Request::post("/ui/chat")
        .header(header::HOST, "evil.example:8400")
        .header(header::ORIGIN, "http://evil.example:8400")
        .header(FETCH_SITE, "same-origin")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(QUESTION))
        .unwrap();
    assert_eq!(spend(policy(), request).await, (421, false));
}

#[tokio::test]
async fn the_chat_box_is_for_this_machine_unless_opened() {
    let public = policy().allow("gateway.example.org").unwrap();
    let from_public = || {
        Request::post("/ui/chat")
            .header(header::HOST, "gateway.example.org")
            .header(header::ORIGIN, "https://gateway.example.org")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(QUESTION))
            .unwrap()
    };
    assert_eq!(spend(public.clone(), from_public()).await, (403, false));
    assert_eq!(spend(public.allow_chat_everywhere(), from_public()).await, (200, true));

    // A listener that others reach: who says `127.0.0.1` there need not be here.
    let open_listener = HostPolicy::of_listener("0.0.0.0:8400".parse().unwrap());
    let request = question_with(FETCH_SITE, None);
    assert_eq!(spend(open_listener, request).await, (403, false));

    // A proxy on this machine that names us by our own address.
    let forwarded = question_with(HeaderName::from_static("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(spend(policy(), forwarded).await, (403, false));
}

#[tokio::test]
async fn a_body_that_is_too_long_or_no_chat_is_refused() {
    let long = format!(
        r#"{{"model": "ember", "messages": [{{"role": "user", "content": "{}"}}]}}"#,
        "x".repeat(300 * 1024)
    );
    for (body, expected) in [
        (long.as_str(), 413),
        ("", 400),
        ("[]", 400),
        ("{\"model\": \"ember\"}", 400),
        (r#"{"model": "", "messages": [{"role": "user", "content": "x"}]}"#, 400),
        (r#"{"model": "ember", "messages": []}"#, 400),
        (r#"{"model": "ember", "messages": [{"role": "root", "content": "x"}]}"#, 400),
        (r#"{"model": "ember", "messages": [], "key": "pw-x"}"#, 400),
    ] {
        let request = own_question().body(Body::from(body.to_owned())).unwrap();
        let shown: String = body.chars().take(60).collect();
        assert_eq!(spend(policy(), request).await, (expected, false), "{shown}");
    }
}

#[tokio::test]
async fn only_post_spends() {
    for method in ["GET", "PUT", "OPTIONS", "HEAD"] {
        let request = own_question().method(method).body(Body::from(QUESTION)).unwrap();
        assert_eq!(spend(policy(), request).await, (405, false), "{method}");
    }
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let foreign = || Request::get("/").header(header::HOST, "evil").body(Body::empty()).unwrap();
    let requests = PAGES.map(get).into_iter().chain([foreign(), question_with(FETCH_SITE, None)]);
    for request in requests {
        let what = request.uri().to_string();
        let response = answer(busy(), policy(), request).await;
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'self'; script-src 'self'"), "{what}: {policy}");
        assert!(!policy.contains("unsafe"), "{what}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{what}: {policy}");
        assert_eq!(header("x-frame-options"), "DENY", "{what}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{what}");
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{what}");
    }
}

#[tokio::test]
async fn pages_are_not_kept_and_their_files_are() {
    let cache = async |path: &str| {
        let response = answer(busy(), policy(), get(path)).await;
        response.headers()[header::CACHE_CONTROL].to_str().unwrap().to_owned()
    };
    for path in PAGES {
        assert_eq!(cache(path).await, "no-store", "{path}");
    }
    let overview = page(busy(), "/").await;
    let files: Vec<&str> =
        overview.split('"').filter(|part| part.starts_with("/assets/")).collect();
    assert_eq!(files.len(), 4, "logo twice, style, script: {files:?}");
    for file in files {
        assert!(cache(file).await.contains("immutable"), "{file}");
    }
}

#[tokio::test]
async fn nothing_runs_or_loads_from_outside_the_page_s_own_files() {
    for path in PAGES {
        let html = text(answer(busy(), policy(), get(path)).await).await;
        for wrong in [" style=\"", " onclick", " onload", "javascript:", "@import", "url("] {
            assert!(!html.contains(wrong), "{path}: {wrong}");
        }
        for part in ["src=\"", "href=\""] {
            for address in html.split(part).skip(1).map(|rest| rest.split('"').next().unwrap()) {
                assert!(address.starts_with('/') || address.starts_with('#'), "{path}: {address}");
            }
        }
        assert_eq!(html.matches("<script").count(), 1, "{path}");
        assert!(html.contains("<script type=\"module\" src=\"/assets/"), "{path}");
    }
}

#[tokio::test]
async fn no_page_holds_a_key() {
    for path in PAGES {
        let html = text(answer(busy(), policy(), get(path)).await).await;
        // The fixture's key begins with `pw-4f`; the gateway shows that much of it, the page nothing.
        assert!(!html.contains("pw-"), "{path}");
        assert!(!html.to_lowercase().contains("bearer pw"), "{path}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_begin_says_why() {
    let failure =
        RequestFailure::Budget { budget: gateway::Budget::Total, needed: Nusd(7), left: Nusd(3) };
    let source = Fixture { answer: Err(failure), ..busy() };
    let response = answer(source, policy(), question_with(FETCH_SITE, None)).await;
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    assert!(text(response).await.starts_with("{\"message\":\"the key's budget is exhausted"));
}
