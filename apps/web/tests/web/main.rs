//! The pages over fixed values: what they show, and whom they answer.

mod audited_pages;
mod audits_page;
mod fixture;
mod ledger_page;
mod pages;
mod security;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
    response::Response,
};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use web::HostPolicy;

use fixture::Fixture;

/// Where the page of the tests listens.
const HOST: &str = "127.0.0.1:8400";

fn policy() -> HostPolicy {
    let listener: SocketAddr = HOST.parse().unwrap();
    HostPolicy::of_listener(listener)
}

/// What the page answers.
async fn answer(source: Fixture, policy: HostPolicy, request: Request<Body>) -> Response {
    let service = TowerToHyperService::new(web::router(Arc::new(source), policy));
    service.call(request).await.unwrap()
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header(header::HOST, HOST).body(Body::empty()).unwrap()
}

async fn text(response: Response) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The whole of a page that must be there.
async fn page(source: Fixture, path: &str) -> String {
    let response = answer(source, policy(), get(path)).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    text(response).await
}
