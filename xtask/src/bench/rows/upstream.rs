//! A server that answers like OpenAI's API at once and always the same: what proxies stand before when
//! they are measured. One thread per connection, blocking: it has to be quicker than a proxy.
//!
//! The model that is asked for says how a stream is paced, see [`Pace`].

use std::{
    io::{self, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread::Builder,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::bench::{
    STREAM_PACE, STREAM_TOKENS,
    load::{EVERY_TOKENS, Models, STACK_BYTES, http},
};

/// Connections at once. A proxy makes one for each stream, and may keep some of those before.
const CONNECTIONS_MAX: usize = 4_096;

/// Serves on a free loopback port, named in a line of JSON on stdout, until it is ended.
pub(crate) fn serve() -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind("127.0.0.1:0").context("bind a loopback port")?;
    let addr: SocketAddr = listener.local_addr()?;
    println!("{{\"addr\":\"{addr}\"}}");
    let answers = Answers::new();
    let open = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for connection in listener.incoming().flatten() {
            if open.fetch_add(1, Relaxed) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Relaxed);
                continue;
            }
            let (answers, open) = (&answers, &open);
            let served = Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || {
                // The peer went away, which ends a connection as well as anything.
                let _ = answers.serve(connection);
                open.fetch_sub(1, Relaxed);
            });
            if served.is_err() {
                open.fetch_sub(1, Relaxed);
            }
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// How a stream is paced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pace {
    /// `upstream`: all at once, each chunk written by itself.
    AtOnce,
    /// `upstream-paced`: as the dummy engine's `dummy/paced`.
    Paced,
    /// `upstream-every-N`: as the dummy engine's `dummy/every-N`.
    Every(Duration),
}

impl Pace {
    fn of(model: &str) -> Pace {
        match model.strip_prefix("upstream-") {
            Some("paced") => Pace::Paced,
            Some(other) => match other.strip_prefix("every-").map(str::parse) {
                Some(Ok(ms)) => Pace::Every(Duration::from_millis(ms)),
                _ => Pace::AtOnce,
            },
            None => Pace::AtOnce,
        }
    }

    fn tokens(self) -> u32 {
        if let Pace::Every(_) = self { EVERY_TOKENS } else { STREAM_TOKENS }
    }

    /// From the beginning to the token of this number, from 0.
    fn due(self, token: u32) -> Duration {
        match self {
            Pace::AtOnce => Duration::ZERO,
            Pace::Paced => STREAM_PACE * (token + 1),
            Pace::Every(pace) => pace * token,
        }
    }
}

/// The bytes of the answers, made once.
struct Answers {
    plain: Vec<u8>,
    models: Vec<u8>,
    chunk: Vec<u8>,
    finish: Vec<u8>,
    usage: Vec<u8>,
    last: Vec<u8>,
}

impl Answers {
    fn new() -> Answers {
        let plain = r#"{"id":"chatcmpl-0","object":"chat.completion","created":0,"model":"upstream","choices":[{"index":0,"message":{"role":"assistant","content":" one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":16,"total_tokens":28}}"#;
        let card = |name: String| {
            format!(r#"{{"id":"{name}","object":"model","created":0,"owned_by":"bench"}}"#)
        };
        let cards: Vec<String> = Models::Upstream.names().into_iter().map(card).collect();
        let models = format!(r#"{{"object":"list","data":[{}]}}"#, cards.join(","));
        let event = |delta: &str, finish: &str, rest: &str| {
            let event = format!(
                "data: {{\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"upstream\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]{rest}}}\n\n"
            );
            format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
        };
        let usage = "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"upstream\",\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":64,\"total_tokens\":76}}\n\n";
        let whole = |body: &str| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
            format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes()
        };
        Answers {
            plain: whole(plain),
            models: whole(&models),
            chunk: event(r#"{"content":" word"}"#, "null", ""),
            finish: event("{}", "\"stop\"", ""),
            usage: format!("{:x}\r\n{usage}\r\n", usage.len()).into_bytes(),
            last: b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n".to_vec(),
        }
    }

    fn serve(&self, connection: TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let mut reader = BufReader::new(connection.try_clone()?);
        let mut writer = connection;
        while let Some(request) = http::read_request(&mut reader)? {
            let body = std::str::from_utf8(&request.body).unwrap_or_default();
            if request.path.ends_with("/models") {
                writer.write_all(&self.models)?
            } else if value_of(body, "stream").is_some_and(|it| it.starts_with("true")) {
                let model = value_of(body, "model").and_then(|it| it.strip_prefix('"'));
                let pace = Pace::of(model.and_then(|it| it.split('"').next()).unwrap_or_default());
                let usage = value_of(body, "include_usage");
                let usage = usage.is_some_and(|it| it.starts_with("true"));
                let tokens_max = value_of(body, "max_tokens").and_then(number);
                let tokens = pace.tokens().min(tokens_max.unwrap_or(u32::MAX));
                self.stream(&mut writer, pace, tokens, usage)?
            } else {
                writer.write_all(&self.plain)?
            }
        }
        Ok(())
    }

    fn stream(
        &self,
        writer: &mut TcpStream,
        pace: Pace,
        tokens: u32,
        usage: bool,
    ) -> io::Result<()> {
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        writer.write_all(head)?;
        let started = Instant::now();
        for token in 0..tokens {
            // Paced by the clock, so that a late chunk does not make the rest late.
            let early = pace.due(token).saturating_sub(started.elapsed());
            if !early.is_zero() {
                std::thread::sleep(early);
            }
            writer.write_all(&self.chunk)?;
        }
        writer.write_all(&self.finish)?;
        if usage {
            writer.write_all(&self.usage)?;
        }
        writer.write_all(&self.last)
    }
}

/// The number at the beginning.
fn number(text: &str) -> Option<u32> {
    let end = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// What stands behind `"name":` in a request of the test, whose text says no such thing.
fn value_of<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let at = body.find(&format!("\"{name}\":"))?;
    Some(body[at + name.len() + 3..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_says_the_pace() {
        let every = Pace::Every(Duration::from_millis(625));
        let cases = [("upstream", Pace::AtOnce), ("upstream-paced", Pace::Paced)];
        for (model, pace) in cases.into_iter().chain([("upstream-every-625", every)]) {
            assert_eq!(Pace::of(model), pace, "{model}");
        }
        assert_eq!(every.due(2), Duration::from_millis(1_250));
    }

    #[test]
    fn a_value_is_found_with_and_without_a_space() {
        let body = r#"{"model": "upstream","stream":true}"#;
        assert_eq!(value_of(body, "model"), Some(r#""upstream","stream":true}"#));
        assert_eq!(value_of(body, "stream"), Some("true}"));
        assert_eq!(value_of(body, "include_usage"), None);
    }
}
