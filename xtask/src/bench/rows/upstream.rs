//! A server that answers like OpenAI's API at once and always the same: what nginx stands before
//! when it is measured. One thread per connection, blocking: it has to be quicker than a proxy.

use std::{
    io::{self, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context;

use super::{STREAM_PACE, STREAM_TOKENS, load::http};

/// Connections at once; the load generator makes far fewer.
const CONNECTIONS_MAX: usize = 512;

/// Serves on a free loopback port, named in a line of JSON on stdout, until it is ended.
pub(crate) fn serve() -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind("127.0.0.1:0").context("bind a loopback port")?;
    println!("{{\"addr\":\"{}\"}}", listener.local_addr()?);
    let answers = Answers::new();
    let open = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for connection in listener.incoming().flatten() {
            use std::sync::atomic::Ordering::Relaxed;
            if open.fetch_add(1, Relaxed) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Relaxed);
                continue;
            }
            let (answers, open) = (&answers, &open);
            scope.spawn(move || {
                // The peer went away, which ends a connection as well as anything.
                let _ = answers.serve(connection);
                open.fetch_sub(1, Relaxed);
            });
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// The bytes of the answers, made once.
struct Answers {
    plain: Vec<u8>,
    chunk: Vec<u8>,
    last: Vec<u8>,
}

impl Answers {
    fn new() -> Answers {
        let plain = r#"{"id":"chatcmpl-0","object":"chat.completion","created":0,"model":"upstream","choices":[{"index":0,"message":{"role":"assistant","content":" one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":16,"total_tokens":28}}"#;
        let chunk = "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"upstream\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n";
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
        Answers {
            plain: format!("{head}{}\r\n\r\n{plain}", plain.len()).into_bytes(),
            chunk: format!("{:x}\r\n{chunk}\r\n", chunk.len()).into_bytes(),
            last: b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n".to_vec(),
        }
    }

    fn serve(&self, connection: TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let mut reader = BufReader::new(connection.try_clone()?);
        let mut writer = connection;
        while let Some(request) = http::read_request(&mut reader)? {
            let asks_for_stream = request.windows(13).any(|it| it == b"\"stream\":true");
            if asks_for_stream {
                self.stream(&mut writer)?
            } else {
                writer.write_all(&self.plain)?
            }
        }
        Ok(())
    }

    fn stream(&self, writer: &mut TcpStream) -> io::Result<()> {
        let head =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        writer.write_all(head)?;
        let started = Instant::now();
        for token in 1..=STREAM_TOKENS {
            // Paced by the clock, so that a late chunk does not make the rest late.
            std::thread::sleep((STREAM_PACE * token).saturating_sub(started.elapsed()));
            writer.write_all(&self.chunk)?;
        }
        writer.write_all(&self.last)
    }
}
