//! As much of HTTP/1.1 as a measurement on loopback needs, and no more: kept-alive connections,
//! bodies with a length or in chunks, server-sent events.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

/// No answer of the measurement takes longer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Longest body that is read; answers here are a few kilobytes.
const BODY_BYTES_MAX: u64 = 1024 * 1024;

/// One connection.
pub(super) struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

/// How the end of a body is told.
enum Body {
    Length(u64),
    Chunked,
}

impl Client {
    pub(super) fn connect(addr: SocketAddr) -> anyhow::Result<Client> {
        let writer = TcpStream::connect_timeout(&addr, TIMEOUT).context("connect")?;
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(TIMEOUT))?;
        Ok(Client { reader: BufReader::new(writer.try_clone()?), writer })
    }

    /// Sends `request` and reads the whole answer.
    pub(super) fn plain(&mut self, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.writer.write_all(request)?;
        let body = self.head()?;
        self.body(&body)
    }

    /// Sends `request`, reads a stream of events to its end, and tells when the first one with
    /// text came. A stream that ends without `[DONE]` is a failure.
    pub(super) fn stream(&mut self, request: &[u8]) -> anyhow::Result<Duration> {
        let sent = Instant::now();
        self.writer.write_all(request)?;
        let Body::Chunked = self.head()? else { bail!("a stream that is not sent in chunks") };
        let (mut first, mut done) = (None, false);
        while let Some(chunk) = self.chunk()? {
            // A chunk may hold several events and, from a proxy, parts of one; the two words
            // looked for are short enough never to have been seen torn on loopback.
            if first.is_none() && holds(&chunk, b"\"content\":\"") && !only_empty_content(&chunk) {
                first = Some(sent.elapsed());
            }
            done |= holds(&chunk, b"[DONE]");
            ensure!(!holds(&chunk, b"\"error\""), "{}", String::from_utf8_lossy(&chunk));
        }
        ensure!(done, "a stream ended without [DONE]");
        first.context("a stream without text")
    }

    fn head(&mut self) -> anyhow::Result<Body> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let status = line.clone();
        let mut body = None;
        loop {
            line.clear();
            ensure!(self.reader.read_line(&mut line)? > 0, "the connection ended in a head");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                body = Some(Body::Length(value.trim().parse()?));
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                body = Some(Body::Chunked);
            }
        }
        let body = body.context("an answer that does not tell its length")?;
        if !status.starts_with("HTTP/1.1 200") {
            let text = self.body(&body)?;
            bail!("{}: {}", status.trim_end(), String::from_utf8_lossy(&text));
        }
        Ok(body)
    }

    fn body(&mut self, body: &Body) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match body {
            &Body::Length(length) => {
                ensure!(length <= BODY_BYTES_MAX, "an answer of {length} bytes");
                self.reader.by_ref().take(length).read_to_end(&mut bytes)?;
            }
            Body::Chunked => {
                while let Some(chunk) = self.chunk()? {
                    bytes.extend(chunk);
                }
            }
        }
        Ok(bytes)
    }

    fn chunk(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut line = String::new();
        ensure!(self.reader.read_line(&mut line)? > 0, "the connection ended in a body");
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let length = u64::from_str_radix(size, 16).with_context(|| format!("size `{size}`"))?;
        ensure!(length <= BODY_BYTES_MAX, "a chunk of {length} bytes");
        let mut bytes = Vec::new();
        self.reader.by_ref().take(length).read_to_end(&mut bytes)?;
        line.clear();
        self.reader.read_line(&mut line)?;
        if length > 0 {
            return Ok(Some(bytes));
        }
        // Trailers end with an empty line; without any, that line was just read.
        while !line.trim_end().is_empty() {
            line.clear();
            self.reader.read_line(&mut line)?;
        }
        Ok(None)
    }
}

fn holds(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|it| it == word)
}

/// The first event of a chat stream names the role and has no text yet.
fn only_empty_content(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.match_indices("\"content\":\"").all(|(at, word)| text[at + word.len()..].starts_with('"'))
}

/// A request as a server needs it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
}

/// The next request of a connection; `None` when the peer has closed it.
pub(crate) fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut length = 0;
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(io::Error::other("a request in chunks"));
        }
    }
    let mut body = Vec::new();
    reader.take(length.min(BODY_BYTES_MAX)).read_to_end(&mut body)?;
    Ok(Some(Request { path, body }))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What a client gets from a server that answers `answer`, whatever it is asked.
    fn check(answer: &'static [u8], expected: Result<&str, &str>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(connection.try_clone().unwrap());
            let request = Request { path: "/".to_owned(), body: b"{}".to_vec() };
            assert_eq!(read_request(&mut reader).unwrap(), Some(request));
            connection.write_all(answer).unwrap();
        });
        let request = b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}";
        let body = Client::connect(addr).unwrap().plain(request);
        server.join().unwrap();
        let body = body.map(|bytes| String::from_utf8(bytes).unwrap()).map_err(|it| it.to_string());
        assert_eq!(body.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn bodies_are_read_by_length_and_in_chunks() {
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok("ok"));
        check(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1;x=y\r\n!\r\n0\r\n\r\n",
            Ok("ok!"),
        );
        check(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ncost: 1\r\n\r\n",
            Ok("ok"),
        );
    }

    #[test]
    fn a_quick_error_is_no_answer() {
        check(
            b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nlate",
            Err("HTTP/1.1 503 Busy: late"),
        );
    }

    #[test]
    fn an_event_that_only_names_the_role_is_no_text() {
        assert!(only_empty_content(br#"{"delta":{"role":"assistant","content":""}}"#));
        assert!(!only_empty_content(br#"{"content":""} {"content":"a"}"#));
    }
}
