//! HTTP/1.1 without TLS, driven by whoever reads the answer.
//!
//! A client that has a task for each connection is woken by it for each chunk of an answer, and wakes it for the next: most
//! of what a chunk costs. Here nobody stands between the socket and the reader. What needs TLS, redirects or a login in
//! the address is left to [`reqwest`].
//!
//! A socket tells the runtime that it was made in that it can be read. So a connection is used in no other one: each time that
//! something came, one would have to wake the other.
//!
//! Invariant: a connection that waits for its next request has given the last answer to its end.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header, uri::Scheme};
use http_body::Frame;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{Connection, SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    runtime::{Handle, Id},
    time::{Instant, timeout},
};

use crate::remote::CONNECT_TIMEOUT;

/// How long a connection waits for its next request: less than what servers wait.
const IDLE: Duration = Duration::from_secs(60);
/// Connections that wait.
const IDLE_MAX: usize = 1_024;
/// A peer that is silent for so long is asked whether it is there, so often in so long pauses.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_RETRIES: u32 = 3;
/// Frames that are read of an answer that nobody wants more of, for the sake of its connection: the last ones.
const REST_FRAMES_MAX: usize = 4;

type Asked = Request<Full<Bytes>>;
type Driver = Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// Connections to one server.
#[derive(Debug)]
pub(crate) struct Plain {
    host: String,
    port: u16,
    /// For the header.
    authority: HeaderValue,
    /// What every path begins with.
    prefix: String,
    /// The one that was used last is the last.
    idle: Mutex<Vec<(Instant, Line)>>,
}

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlainError {
    #[error("no connection within {CONNECT_TIMEOUT:?}")]
    Slow,
    #[error("it takes no connection")]
    Connect(#[source] std::io::Error),
    #[error("the request could not be made")]
    Request(#[from] http::Error),
    #[error("it gave no answer")]
    Unanswered(#[source] hyper::Error),
    #[error("request or response body error")]
    Body(#[source] hyper::Error),
}

impl Plain {
    /// The way to `base`, unless it needs more than this.
    pub(crate) fn to(base: &str) -> Option<Arc<Plain>> {
        let uri: Uri = base.parse().ok()?;
        let authority = uri.authority()?;
        if uri.scheme() != Some(&Scheme::HTTP) || authority.as_str().contains('@') {
            return None;
        }
        Some(Arc::new(Plain {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: HeaderValue::from_str(authority.as_str()).ok()?,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            idle: Mutex::default(),
        }))
    }

    /// Sends JSON to `path`, and waits for the head of the answer. Dropping the future or the body ends the request at the
    /// server. A server may close a connection that waited just as the request arrives, and llama.cpp's does after some
    /// answers: what was asked over such a connection is asked once more over a new one, as long as nothing of an answer
    /// has come.
    pub(crate) async fn post(
        self: &Arc<Plain>,
        path: &str,
        login: Option<&HeaderValue>,
        json: Bytes,
    ) -> Result<Response<PlainBody>, PlainError> {
        let mut request = Request::post([&self.prefix, path].concat())
            .header(header::HOST, &self.authority)
            .header(header::ACCEPT, HeaderValue::from_static("*/*"))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::new(json))?;
        if let Some(login) = login {
            request.headers_mut().insert(header::AUTHORIZATION, login.clone());
        }
        let mut may_be_closed = true;
        loop {
            let waiting = if may_be_closed { self.take() } else { None };
            let again = waiting.is_some().then(|| request.clone());
            let mut line = match waiting {
                Some(line) => line,
                None => self.connect().await?,
            };
            match (line.ask(request).await, again) {
                (Ok(response), _) => {
                    let body = |body| PlainBody { body, line: Some(line), plain: Arc::clone(self) };
                    return Ok(response.map(body));
                }
                (Err(error), Some(again)) if was_closed(&error) => {
                    request = again;
                    may_be_closed = false;
                }
                (Err(error), _) => return Err(PlainError::Unanswered(error)),
            }
        }
    }

    async fn connect(&self) -> Result<Line, PlainError> {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| PlainError::Slow)?;
        let stream = stream.map_err(PlainError::Connect)?;
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE)
            .with_retries(KEEPALIVE_RETRIES);
        stream
            .set_nodelay(true)
            .and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keepalive))
            .map_err(PlainError::Connect)?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(PlainError::Unanswered)?;
        let runtime = Handle::current().id();
        Ok(Line { sender, connection: Some(Box::pin(connection)), runtime })
    }

    fn take(&self) -> Option<Line> {
        let runtime = Handle::current().id();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(at) = idle.iter().rposition(|(_, line)| line.runtime == runtime) {
            let (since, mut line) = idle.remove(at);
            if since.elapsed() >= IDLE {
                // Those below it have waited longer.
                idle.drain(..at);
                return None;
            }
            // Sees whether the server has closed it.
            if line.drive(&mut Context::from_waker(Waker::noop())) && line.sender.is_ready() {
                return Some(line);
            }
        }
        None
    }

    fn give_back(&self, mut line: Line, cx: &mut Context<'_>) {
        if !line.drive(cx) || !line.sender.is_ready() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let over = idle.iter().take_while(|(since, _)| now - *since >= IDLE).count();
        idle.drain(..over);
        if idle.len() < IDLE_MAX {
            idle.push((now, line));
        }
    }
}

/// One connection.
#[derive(Debug)]
struct Line {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    connection: Option<Pin<Box<Driver>>>,
    runtime: Id,
}

impl Line {
    /// Reads and writes what can be; whether it goes on.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        if connection.as_mut().poll(cx).is_ready() {
            // How it ended is told to who waits for an answer.
            self.connection = None;
        }
        self.connection.is_some()
    }

    /// The head of the answer.
    async fn ask(&mut self, request: Asked) -> Result<Response<Incoming>, hyper::Error> {
        let ready = poll_fn(|cx| {
            self.drive(cx);
            self.sender.poll_ready(cx)
        });
        ready.await?;
        let mut answer = pin!(self.sender.send_request(request));
        poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(cx)
        })
        .await
    }
}

/// Whether the server hung up without a byte of an answer.
fn was_closed(error: &hyper::Error) -> bool {
    let reset = || {
        let source = std::error::Error::source(error);
        let source = source.and_then(|source| source.downcast_ref::<std::io::Error>());
        source.is_some_and(|source| {
            use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
            matches!(source.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
        })
    };
    error.is_incomplete_message() || error.is_closed() || error.is_canceled() || reset()
}

/// The body of an answer, and its connection.
#[derive(Debug)]
pub(crate) struct PlainBody {
    body: Incoming,
    /// `None` after the end.
    line: Option<Line>,
    plain: Arc<Plain>,
}

impl PlainBody {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PlainError>>> {
        let Some(line) = &mut self.line else { return Poll::Ready(None) };
        let mut body = Pin::new(&mut self.body);
        let frame = match http_body::Body::poll_frame(body.as_mut(), cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                line.drive(cx);
                ready!(http_body::Body::poll_frame(body, cx))
            }
        };
        match frame {
            Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => {
                self.line = None;
                return Poll::Ready(Some(Err(PlainError::Body(error))));
            }
            None => {}
        }
        if let Some(line) = self.line.take() {
            self.plain.give_back(line, cx);
        }
        Poll::Ready(None)
    }
}

impl Drop for PlainBody {
    /// The end of an answer is often there when its reader has read enough.
    fn drop(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..REST_FRAMES_MAX {
            let Poll::Ready(Some(Ok(_))) = self.poll_frame(&mut cx) else { return };
        }
    }
}
