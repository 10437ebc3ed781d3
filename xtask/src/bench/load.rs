//! The load generator: a thread per connection, blocking, each with one request in flight over a
//! kept-alive connection. It checks what it gets: a failed or short answer ends the measurement,
//! because a quick error would look like a fast proxy.

pub(super) mod http;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use http::Client;

/// Where and what to ask.
#[derive(Clone)]
pub(super) struct Load {
    addr: SocketAddr,
    model: String,
    /// Sent as a bearer token.
    api_key: Option<String>,
    /// The model asked for streams, if another one is the paced one.
    stream_model: Option<String>,
}

/// What came of plain requests.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) requests: u64,
    pub(super) took: Duration,
    pub(super) latencies: Vec<Duration>,
}

/// What came of streams.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) streams: u64,
    /// From sending the request to the first chunk with text.
    pub(super) first_chunks: Vec<Duration>,
}

impl Load {
    pub(super) fn new(addr: SocketAddr, model: &str, api_key: Option<&str>) -> Load {
        let api_key = api_key.map(str::to_owned);
        Load { addr, model: model.to_owned(), api_key, stream_model: None }
    }

    pub(super) fn with_stream_model(self, model: &str) -> Load {
        Load { stream_model: Some(model.to_owned()), ..self }
    }

    fn request(&self, tokens: u32, stream: bool) -> Vec<u8> {
        let model = match &self.stream_model {
            Some(model) if stream => model,
            _ => &self.model,
        };
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"Count to sixteen, please."}}],"max_tokens":{tokens},"stream":{stream}}}"#
        );
        let key = self.api_key.as_ref();
        let authorization = key.map(|key| format!("authorization: Bearer {key}\r\n"));
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{}content-length: {}\r\n\r\n{body}",
            self.addr,
            authorization.unwrap_or_default(),
            body.len(),
        )
        .into_bytes()
    }

    /// Sends plain requests over `connections` for `time`, as quickly as they are answered.
    pub(super) fn plain(
        &self,
        tokens: u32,
        connections: usize,
        time: Duration,
    ) -> anyhow::Result<Plain> {
        let request = self.request(tokens, false);
        let started = Instant::now();
        let latencies = on_each(connections, || {
            let mut client = Client::connect(self.addr)?;
            let mut latencies: Vec<Duration> = Vec::new();
            // At least one, so that no measurement is empty.
            while latencies.is_empty() || started.elapsed() < time {
                let sent = Instant::now();
                let body = client.plain(&request)?;
                ensure!(
                    body.windows(9).any(|it| it == b"\"content\""),
                    "an answer without content: {}",
                    String::from_utf8_lossy(&body)
                );
                latencies.push(sent.elapsed());
            }
            Ok(latencies)
        })?;
        let latencies: Vec<Duration> = latencies.into_iter().flatten().collect();
        Ok(Plain { requests: latencies.len() as u64, took: started.elapsed(), latencies })
    }

    /// Reads `per_connection` paced streams on each of `connections`.
    pub(super) fn streams(
        &self,
        tokens: u32,
        connections: usize,
        per_connection: u32,
    ) -> anyhow::Result<Streams> {
        let request = self.request(tokens, true);
        let first_chunks = on_each(connections, || {
            let mut client = Client::connect(self.addr)?;
            (0..per_connection).map(|_| client.stream(&request)).collect()
        })?;
        let first_chunks: Vec<Duration> = first_chunks.into_iter().flatten().collect();
        Ok(Streams { streams: first_chunks.len() as u64, first_chunks })
    }
}

/// Runs `work` on `threads` threads and collects what they return, or the first failure.
fn on_each<T: Send>(
    threads: usize,
    work: impl Fn() -> anyhow::Result<Vec<T>> + Sync,
) -> anyhow::Result<Vec<Vec<T>>> {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        let ended = running.into_iter().map(|thread| thread.join().ok());
        ended.map(|result| result.context("a thread of the load generator panicked")?).collect()
    })
}
