//! Two that answer, of which one does not: 30 requests of 30 are whole, whatever it does instead.

use std::convert::Infallible;

use axum::{
    Router,
    response::{IntoResponse, Response as Reply},
    routing::{get, post},
};
use bytes::Bytes;
use engine::{OpenAiEngine, OpenAiOptions};
use futures::StreamExt;
use http::StatusCode;
use types::{inference::CountMethod, price::Price};

use super::*;
use crate::{ConnectedUpstream, UpstreamConfig, UpstreamModel, UpstreamRole};

const REQUESTS: usize = 30;

#[tokio::test(start_paused = true)]
async fn of_two_providers() {
    for fault in ["refuses", "busy", "dies-at-once", "dies-before-the-first-token", "long-dies"] {
        let world = World::new().await;
        world.gateway.set_budget("tests", None).await.unwrap();
        let bad = world.provider(11, &[fault]).await;
        let _good = world.provider(12, &[&format!("{fault}=long")]).await;
        let mut asked = 0;
        for number in 0..REQUESTS {
            let answer = world.chat(fault, r#", "stream": true"#).await;
            let whole = answer.status == 200
                && answer.body.contains("\" t47\"")
                && answer.body.ends_with("data: [DONE]\n\n")
                && !answer.body.contains("error");
            assert!(whole, "{fault}, request {number}: {}", answer.body);
            asked = bad.seen().orders.len();
            // Those that are left alone after a failure come back, and fail again.
            tokio::time::sleep(std::time::Duration::from_secs(300)).await;
        }
        // Of one whose connection has died there is nothing left to ask.
        assert!(asked > usize::from(fault != "dies-at-once"), "{fault} was asked {asked} times");
    }
}

/// What a service does with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Service {
    Answers,
    Status(u16),
    /// Takes no connections any more.
    Gone,
    CutBefore,
    CutAfterTen,
}

fn chunk(number: usize) -> Bytes {
    let text = format!(r#"data: {{"choices":[{{"delta":{{"content":" t{number}"}}}}]}}"#);
    Bytes::from(text + "\n\n")
}

/// Twenty chunks, of which so many come before the connection is cut.
fn chunks(before_cut: usize) -> Reply {
    let end = concat!(
        r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
        "\n\n",
        r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":20}}"#,
        "\n\ndata: [DONE]\n\n"
    );
    let whole = before_cut > 20;
    let chunks = (0..20.min(before_cut)).map(chunk);
    let rest = if whole { Some(Bytes::from_static(end.as_bytes())) } else { None };
    let chunks: Vec<Result<Bytes, std::io::Error>> = chunks.chain(rest).map(Ok).collect();
    let cut = async {
        // What was written leaves before the connection does.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        Err(std::io::Error::other("cut"))
    };
    let cut = futures::stream::iter((!whole).then_some(cut)).then(|cut| cut);
    let body = Body::from_stream(futures::stream::iter(chunks).chain(cut));
    ([("content-type", "text/event-stream")], body).into_response()
}

async fn answer(service: Service) -> Result<Reply, Infallible> {
    Ok(match service {
        Service::Answers | Service::Gone => chunks(usize::MAX),
        Service::Status(429) => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], "{}").into_response()
        }
        Service::Status(status) => {
            (StatusCode::from_u16(status).unwrap(), r#"{"error":{"message":"no"}}"#).into_response()
        }
        Service::CutBefore => chunks(0),
        Service::CutAfterTen => chunks(10),
    })
}

/// A service on loopback, and what stops it.
async fn serve(service: Service) -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let models = || async { r#"{"object":"list","data":[{"id":"cloud-model","object":"model"}]}"# };
    let router = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(move || answer(service)));
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, server)
}

fn upstream(name: &str, url: String) -> UpstreamConfig {
    let price = Price {
        request_nusd: Nusd(0),
        prompt_nusd_per_mtok: Nusd(1_000_000),
        completion_nusd_per_mtok: Nusd(2_000_000),
    };
    let options = OpenAiOptions {
        models: vec!["cloud-model".into()],
        resold: true,
        ..OpenAiOptions::at(&url)
    };
    UpstreamConfig {
        name: name.into(),
        role: UpstreamRole::Policy,
        slots: 8,
        models: vec![UpstreamModel { serves: "m".into(), price }],
        connect: Arc::new(move || {
            let options = options.clone();
            Box::pin(async move {
                let engine = OpenAiEngine::connect(options).await?;
                let models = engine.model_named("cloud-model").into_iter().collect();
                Ok(ConnectedUpstream { engine: Arc::new(engine), models })
            })
        }),
    }
}

/// Real time and sockets: what is waited for is answers.
#[tokio::test]
async fn of_two_upstreams() {
    for fault in [
        Service::Status(500),
        Service::Status(429),
        Service::Gone,
        Service::CutBefore,
        Service::CutAfterTen,
    ] {
        let ((bad_url, bad), (good_url, _good)) =
            (serve(fault).await, serve(Service::Answers).await);
        let upstreams = vec![upstream("bad", bad_url), upstream("good", good_url)];
        let world = World::with(|config| config.upstreams = upstreams).await;
        let both = |shared: &crate::shared::Shared| shared.upstreams.offers(TimeMs(0)).len() == 2;
        world.gateway.until(both).await;
        if fault == Service::Gone {
            bad.abort();
            let _ = bad.await;
        }
        let (mut whole, mut cut) = (0, 0);
        for _ in 0..REQUESTS {
            let answer = world.chat("m", r#", "stream": true"#).await;
            assert_eq!(answer.status, 200, "{fault:?}: {}", answer.body);
            let receipt = world.gateway.receipt(answer.id.parse().unwrap()).unwrap();
            let ack = &receipt.receipt.acknowledgement.value;
            let (name, tokens) = (receipt.bought.unwrap().upstream, ack.delivered_tokens);
            match answer.body.ends_with("data: [DONE]\n\n") {
                true => {
                    assert_eq!((&*name, tokens, ack.counted), ("good", 20, CountMethod::Told));
                    whole += 1;
                }
                // Nobody goes on with the begun answer of a service that cannot.
                false => {
                    assert_eq!((fault, &*name, tokens), (Service::CutAfterTen, "bad", 10));
                    assert!(answer.body.contains("data: {\"error\":"), "{}", answer.body);
                    cut += 1;
                }
            }
        }
        assert_eq!(whole + cut, REQUESTS);
        assert_eq!(cut > 0, fault == Service::CutAfterTen, "{fault:?}: {cut} were cut");
    }
}
