//! The least that a proxy in Rust does: hyper on both sides, one connection to the upstream for each of a
//! client, `TCP_NODELAY`, bodies passed on as they come. What a gateway does beyond this is its own.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::Context;
use hyper::{Request, body::Incoming, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
};

type Upstream = client::conn::http1::SendRequest<Incoming>;

/// Serves on a free loopback port, named in a line of JSON on stdout, until it is ended.
pub(crate) fn serve(upstream: &str) -> anyhow::Result<ExitCode> {
    let upstream = upstream.parse().context("the upstream's address")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_io().build()?;
    runtime.block_on(accept(upstream))?;
    Ok(ExitCode::SUCCESS)
}

async fn accept(upstream: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("bind a loopback port")?;
    println!("{{\"addr\":\"{}\"}}", listener.local_addr()?);
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(async move {
            // Whoever is cut off notices.
            let _ = relay(client, upstream).await;
        });
    }
}

async fn relay(client: TcpStream, upstream: SocketAddr) -> anyhow::Result<()> {
    client.set_nodelay(true)?;
    let stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let sender = Arc::new(Mutex::new(sender));
    let pass = |request: Request<Incoming>| pass(Arc::clone(&sender), request);
    server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(client), service_fn(pass))
        .await?;
    driver.abort();
    Ok(())
}

async fn pass(
    upstream: Arc<Mutex<Upstream>>,
    request: Request<Incoming>,
) -> hyper::Result<hyper::Response<Incoming>> {
    let mut upstream = upstream.lock().await;
    upstream.ready().await?;
    upstream.send_request(request).await
}
