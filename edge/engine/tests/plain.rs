//! Connections to a server without TLS: kept, replaced, closed.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use engine::{Engine, EngineEvent, OpenAiEngine, OpenAiOptions};
use support::chat;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use types::ModelId;

/// What the server does with a connection after an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum After {
    Keeps,
    Closes,
    /// And has announced it.
    Announces,
    /// As soon as the next request is there.
    HangsUp,
}

const MODELS: &str = r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#;
const WHOLE: &str = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#;
const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n\
    data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// A server, and how many connections with requests for answers it has had.
async fn server(after: After) -> (OpenAiEngine, ModelId, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/prefix", listener.local_addr().unwrap());
    let connections = Arc::<AtomicU32>::default();
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, after, Arc::clone(&counter)));
        }
    });
    let options = OpenAiOptions { resold: true, ..OpenAiOptions::at(&url) };
    let engine = OpenAiEngine::connect(options).await.unwrap();
    let model = engine.models().await.unwrap()[0].id;
    (engine, model, connections)
}

async fn serve(stream: TcpStream, after: After, connections: Arc<AtomicU32>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut is_counted = false;
    loop {
        let (mut path, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            if path.is_empty() {
                path = line.split(' ').nth(1)?.to_owned();
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().ok()?;
            } else if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let is_asked = path.ends_with("/completions");
        match is_asked.then(|| std::mem::replace(&mut is_counted, true)) {
            Some(false) => {
                connections.fetch_add(1, Ordering::Relaxed);
            }
            Some(true) if after == After::HangsUp => return None,
            Some(true) | None => {}
        }
        let is_streamed = String::from_utf8(body).ok()?.contains(r#""stream":true"#);
        let (status, answer) = match path.as_str() {
            "/prefix/v1/models" => (200, MODELS),
            "/prefix/v1/chat/completions" if is_streamed => (200, STREAM),
            "/prefix/v1/chat/completions" => (200, WHOLE),
            _ => (404, "no such page"),
        };
        let close = if after == After::Announces { "connection: close\r\n" } else { "" };
        let head = format!("HTTP/1.1 {status} It\r\n{close}transfer-encoding: chunked\r\n\r\n");
        let chunks: String = answer
            .split_inclusive("\n\n")
            .map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len()))
            .collect();
        stream.write_all(format!("{head}{chunks}0\r\n\r\n").as_bytes()).await.ok()?;
        if matches!(after, After::Closes | After::Announces) {
            stream.shutdown().await.ok()?;
            return None;
        }
    }
}

#[tokio::test]
async fn a_connection_is_used_again_as_long_as_the_server_keeps_it() {
    for (after, expected) in
        [(After::Keeps, 1), (After::Closes, 20), (After::Announces, 20), (After::HangsUp, 20)]
    {
        let (engine, model, connections) = server(after).await;
        for number in 0..20 {
            let cancel = CancellationToken::new();
            let asked = match number % 2 {
                0 => engine.generate(model, chat("Hi"), cancel).await,
                _ => engine.answer_whole(model, chat("Hi"), cancel).await,
            };
            let mut events = asked.unwrap().events;
            let Some(EngineEvent::Token(piece)) = events.recv().await else { panic!("no token") };
            assert_eq!(piece.bytes, b"Hi");
            let end = events.recv().await;
            assert!(matches!(end, Some(EngineEvent::Done { .. })), "{after:?}: {end:?}");
            drop(events);
        }
        assert_eq!(connections.load(Ordering::Relaxed), expected, "{after:?}");
    }
}

#[tokio::test]
async fn requests_at_once_have_a_connection_each_and_share_them_later() {
    let (engine, model, connections) = server(After::Keeps).await;
    let ask = || async {
        let mut events =
            engine.answer_whole(model, chat("Hi"), CancellationToken::new()).await.unwrap().events;
        while events.recv().await.is_some() {}
    };
    for _ in 0..5 {
        futures::future::join_all((0..8).map(|_| ask())).await;
    }
    assert_eq!(connections.load(Ordering::Relaxed), 8);
}
