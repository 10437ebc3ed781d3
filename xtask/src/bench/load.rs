//! The load generator: a thread per connection, blocking, each with one request in flight over a
//! kept-alive connection. It checks what it gets: a failed or short answer ends the measurement,
//! because a quick error would look like a fast proxy.

pub(super) mod http;

use std::{
    net::SocketAddr,
    thread::Builder,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use http::Client;

/// Completion tokens of a plain request. Short: what is measured is the way, not the engine.
pub(super) const PLAIN_TOKENS: u32 = 16;
/// Tokens of a stream of [`Ask::Every`].
pub(super) const EVERY_TOKENS: u32 = 16;
/// Bytes of a long prompt.
const LONG_BYTES: usize = 100_000;
/// For one connection's thread: there may be a thousand.
pub(super) const STACK_BYTES: usize = 128 * 1024;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    /// A short answer, whole.
    Plain,
    /// The same with a prompt of 100 kB.
    Long,
    /// A stream of 64 chunks at once.
    Burst,
    /// A stream of 64 chunks, one each 20 ms.
    Paced,
    /// A stream of 16 chunks, the first at once, then one each so many milliseconds.
    Every { ms: u32 },
}

/// Whose models are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Models {
    /// Our upstream server's.
    Upstream,
    /// The dummy engine's.
    Dummy,
}

/// How many streams are kept open at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Crowd {
    pub(super) streams: usize,
    /// Streams that begin in a second, so that the work is the same however many are open.
    pub(super) per_second: u32,
    /// How long after all are open.
    pub(super) measured: Duration,
}

/// Where and what to ask.
#[derive(Clone)]
pub(super) struct Load {
    addr: SocketAddr,
    models: Models,
    /// Sent as bearer tokens, by the connections in turn.
    api_keys: Vec<String>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) count: u64,
    pub(super) took: Duration,
    /// To the whole answer; of a paced stream to its first chunk with text.
    pub(super) times: Vec<Duration>,
}

impl Ask {
    pub(super) fn tokens(self) -> u32 {
        match self {
            Ask::Plain | Ask::Long => PLAIN_TOKENS,
            Ask::Burst | Ask::Paced => super::STREAM_TOKENS,
            Ask::Every { .. } => EVERY_TOKENS,
        }
    }

    fn streams(self) -> bool {
        !matches!(self, Ask::Plain | Ask::Long)
    }

    fn prompt(self) -> String {
        let short = "Count to sixteen, please.";
        match self {
            Ask::Long => " sixteen".repeat(LONG_BYTES / 8),
            Ask::Plain | Ask::Burst | Ask::Paced | Ask::Every { .. } => short.to_owned(),
        }
    }
}

impl Models {
    fn name(self, ask: Ask) -> String {
        match (self, ask) {
            (Models::Upstream, Ask::Plain | Ask::Long | Ask::Burst) => "upstream".to_owned(),
            (Models::Upstream, Ask::Paced) => "upstream-paced".to_owned(),
            (Models::Upstream, Ask::Every { ms }) => format!("upstream-every-{ms}"),
            (Models::Dummy, Ask::Plain | Ask::Long | Ask::Burst) => "dummy/64".to_owned(),
            (Models::Dummy, Ask::Paced) => "dummy/paced".to_owned(),
            (Models::Dummy, Ask::Every { ms }) => format!("dummy/every-{ms}"),
        }
    }

    /// Those of [`Ask::Every`] that crowds of the measurement use.
    pub(super) fn unusual(self) -> Vec<String> {
        super::scenarios::crowds().map(|crowd| self.name(crowd.ask())).collect()
    }

    /// All that the measurement uses.
    pub(super) fn names(self) -> Vec<String> {
        let usual = [self.name(Ask::Plain), self.name(Ask::Paced)];
        usual.into_iter().chain(self.unusual()).collect()
    }
}

impl Crowd {
    /// How long a stream may last, so that the last one begins when the first one ends.
    fn life(self) -> Duration {
        Duration::from_secs(1) * u32::try_from(self.streams).unwrap_or(u32::MAX) / self.per_second
    }

    /// Streams that end a little before their life does.
    pub(super) fn ask(self) -> Ask {
        let ms = self.life().as_millis() / u128::from(EVERY_TOKENS);
        Ask::Every { ms: u32::try_from(ms).unwrap_or(u32::MAX) }
    }
}

impl Load {
    pub(super) fn new(addr: SocketAddr, models: Models, api_keys: Vec<String>) -> Load {
        Load { addr, models, api_keys }
    }

    /// The request of a connection.
    fn request(&self, ask: Ask, connection: usize) -> Vec<u8> {
        let (model, prompt) = (self.models.name(ask), ask.prompt());
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"{prompt}"}}],"max_tokens":{},"stream":{}}}"#,
            ask.tokens(),
            ask.streams()
        );
        let key = self.api_keys.get(connection % self.api_keys.len().max(1));
        let authorization = key.map(|key| format!("authorization: Bearer {key}\r\n"));
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{}content-length: {}\r\n\r\n{body}",
            self.addr,
            authorization.unwrap_or_default(),
            body.len(),
        )
        .into_bytes()
    }

    pub(super) fn get(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.addr);
        Client::connect(self.addr)?.plain(request.as_bytes())
    }

    /// Asks over `connections` for `time`, as quickly as is answered; at least once each, so that no
    /// measurement is empty.
    pub(super) fn closed(
        &self,
        ask: Ask,
        connections: usize,
        time: Duration,
    ) -> anyhow::Result<Answers> {
        let started = Instant::now();
        let times = on_each(connections, |connection| {
            let (mut client, request) =
                (Client::connect(self.addr)?, self.request(ask, connection));
            let mut times: Vec<Duration> = Vec::new();
            while times.is_empty() || started.elapsed() < time {
                let sent = Instant::now();
                answer(&mut client, ask, &request)?;
                times.push(sent.elapsed());
            }
            Ok(times)
        })?;
        Ok(Answers::of(times, started.elapsed()))
    }

    /// Asks for `each` streams, one after the other, on every one of `connections`.
    pub(super) fn streams(
        &self,
        ask: Ask,
        connections: usize,
        each: u32,
    ) -> anyhow::Result<Answers> {
        let started = Instant::now();
        let times = on_each(connections, |connection| {
            let (mut client, request) =
                (Client::connect(self.addr)?, self.request(ask, connection));
            (0..each).map(|_| answer(&mut client, ask, &request)).collect()
        })?;
        Ok(Answers::of(times, started.elapsed()))
    }

    /// Asks `per_second` times a second, whether or not earlier answers have come: `connections` are enough for
    /// none to wait for another.
    pub(super) fn open(
        &self,
        ask: Ask,
        per_second: u32,
        connections: usize,
        time: Duration,
    ) -> anyhow::Result<Answers> {
        let gap = Duration::from_secs(1) / per_second;
        let started = Instant::now();
        let times = on_each(connections, |connection| {
            let (mut client, request) =
                (Client::connect(self.addr)?, self.request(ask, connection));
            let mut due = gap * u32::try_from(connection).unwrap_or(u32::MAX);
            let mut times = Vec::new();
            while due < time {
                std::thread::sleep(due.saturating_sub(started.elapsed()));
                let sent = Instant::now();
                answer(&mut client, ask, &request)?;
                times.push(sent.elapsed());
                due += gap * u32::try_from(connections).unwrap_or(u32::MAX);
            }
            Ok(times)
        })?;
        Ok(Answers::of(times, started.elapsed()))
    }

    /// Opens streams at an even pace until all of `crowd` are open, and goes on opening one for each that ends.
    /// Counted are those that begin when all are open. `look` is called then.
    pub(super) fn crowd<T: Send>(
        &self,
        crowd: Crowd,
        look: impl FnOnce() -> T + Send,
    ) -> anyhow::Result<(Answers, T)> {
        let (ask, life) = (crowd.ask(), crowd.life());
        let gap = Duration::from_secs(1) / crowd.per_second;
        let started = Instant::now();
        std::thread::scope(|scope| {
            let looked = scope.spawn(|| {
                std::thread::sleep(life + crowd.measured / 2);
                look()
            });
            let times = on_each(crowd.streams, |connection| {
                let (mut client, request) =
                    (Client::connect(self.addr)?, self.request(ask, connection));
                let mut due = gap * u32::try_from(connection).unwrap_or(u32::MAX);
                let mut times = Vec::new();
                while due < life + crowd.measured {
                    std::thread::sleep(due.saturating_sub(started.elapsed()));
                    let first = answer(&mut client, ask, &request)?;
                    if due >= life {
                        times.push(first);
                    }
                    due += life;
                }
                Ok(times)
            })?;
            let looked = looked.join().ok().context("looking at the process panicked")?;
            Ok((Answers::of(times, started.elapsed()), looked))
        })
    }
}

impl Answers {
    fn of(times: Vec<Vec<Duration>>, took: Duration) -> Answers {
        let times: Vec<Duration> = times.into_iter().flatten().collect();
        Answers { count: times.len() as u64, took, times }
    }
}

/// Reads one whole answer, and tells when its first text came.
fn answer(client: &mut Client, ask: Ask, request: &[u8]) -> anyhow::Result<Duration> {
    if ask.streams() {
        return client.stream(request);
    }
    let sent = Instant::now();
    let body = client.plain(request)?;
    ensure!(
        body.windows(9).any(|it| it == b"\"content\""),
        "an answer without content: {}",
        String::from_utf8_lossy(&body)
    );
    Ok(sent.elapsed())
}

/// Runs `work` on `threads` threads and collects what they return, or the first failure.
fn on_each<T: Send>(
    threads: usize,
    work: impl Fn(usize) -> anyhow::Result<Vec<T>> + Sync,
) -> anyhow::Result<Vec<Vec<T>>> {
    std::thread::scope(|scope| {
        let work = &work;
        let start = |number| {
            Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, move || work(number))
        };
        let running: Vec<_> =
            (0..threads).map(start).collect::<Result<_, _>>().context("start a thread")?;
        let ended = running.into_iter().map(|thread| thread.join().ok());
        ended.map(|result| result.context("a thread of the load generator panicked")?).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_crowd_end_before_the_next_round_begins() {
        for (streams, ms) in [(16, 10), (256, 160), (1_000, 625)] {
            let crowd = Crowd { streams, per_second: 100, measured: Duration::ZERO };
            assert_eq!(crowd.ask(), Ask::Every { ms });
        }
    }
}
