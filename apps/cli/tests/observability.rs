//! What a running gateway tells those who watch it: figures for Prometheus, and traces for a collector.

mod support;

use std::sync::{Arc, Mutex};

use support::{figures, process::Up, stream::Consumer, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What a collector was sent: the path of each request, and all bodies as text as far as they are some.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<String>>);

impl Collector {
    async fn start() -> (Collector, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Collector::default();
        let seen = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(seen.clone().serve(stream));
            }
        });
        (collector, url)
    }

    /// Answers every request of a connection.
    async fn serve(self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let mut taken = 0;
        while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&bytes[taken..]).into_owned();
            let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
            });
            let end = taken + head.len() + 4 + length.unwrap().unwrap();
            if bytes.len() < end {
                continue;
            }
            let request = String::from_utf8_lossy(&bytes[taken..end]).into_owned();
            self.0.lock().unwrap().push_str(&request);
            taken = end;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    }

    fn seen(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn figures_and_traces_tell_of_requests_and_not_of_prompts() {
    let (collector, url) = Collector::start().await;
    let metrics = figures::free();
    let arguments = ["--dummy-engine", "--metrics-listen", &metrics, "--otlp", &url];
    let up = Up::start(&arguments).await;
    let consumer = Consumer::new(&up.base_url, &up.api_key);
    let seen = consumer.stream("dummy/64", "a prompt that nobody else may read", || ()).await;
    assert!(seen.finished, "{seen:?}");

    let figures = figures::text(&metrics).await;
    let has = |line: &str| figures.lines().any(|it| it.starts_with(line));
    assert!(has("# TYPE peerwatt_"), "{figures}");
    assert!(!figures.contains("nobody else"), "{figures}");
    // They are not where the API is.
    let here = format!("{}/metrics", up.base_url.trim_end_matches("/v1"));
    assert_ne!(reqwest::get(here).await.unwrap().status(), 200);

    let traced = until("a trace of the request", async || {
        let traced = collector.seen();
        traced.contains("dummy/64").then_some(traced)
    });
    let traced = traced.await;
    assert!(traced.contains("POST /v1/traces"), "{traced}");
    assert!(traced.contains("gen_ai.request.model"), "{traced}");
    assert!(!traced.contains("nobody else"), "{traced}");
    up.stop_and_check().await;
}
