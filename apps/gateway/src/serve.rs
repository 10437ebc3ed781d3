//! Serving HTTP to strangers: bounded connections, no waiting for ever on either side, and an end
//! that lets running answers finish.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, Sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::{Limits, Timeouts};

/// After an error of `accept`, e.g. no file descriptors left: long enough for some to be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Such errors in a row, a minute of them, after which the listener is taken for broken.
const ACCEPT_FAILURES_MAX: u32 = 600;
/// Bytes of a request's head, and of what is gathered before a write.
const BUFFER_BYTES: usize = 64 * 1024;

/// Serves `router` until `stop` completes; then takes no more connections and waits, within the
/// drain time, for the requests in work.
pub(crate) async fn serve(
    limits: &Limits,
    timeouts: &Timeouts,
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let tasks = TaskTracker::new();
    let (closing, cut) = (CancellationToken::new(), CancellationToken::new());
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(timeouts.header_ms))
        .max_buf_size(BUFFER_BYTES);
    let mut stop = std::pin::pin!(stop);
    let mut failures = 0;
    let result = loop {
        // A place first, so that what cannot be served waits in the system's queue.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut stop => break Ok(()),
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break Ok(()),
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if failures == ACCEPT_FAILURES_MAX => break Err(error),
            Err(error) => {
                tracing::warn!(%error, "http.accept");
                failures += 1;
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failures = 0;
        // Without it the first token waits for the client's delayed acknowledgement, some 40 ms.
        let _ = stream.set_nodelay(true);
        let io = TokioIo::new(Unstalled::new(stream, timeouts.write_stall_ms));
        let connection = builder.serve_connection(io, TowerToHyperService::new(router.clone()));
        let (closing, cut) = (closing.clone(), cut.clone());
        tasks.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection => ended,
                        () = cut.cancelled() => Ok(()),
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "http.connection");
            }
            drop(place);
        });
    };
    drop(listener);
    closing.cancel();
    tasks.close();
    if tokio::time::timeout(Duration::from_millis(timeouts.drain_ms), tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "http.drain_ended");
        cut.cancel();
        tasks.wait().await;
    }
    result
}

/// A socket whose writes fail when the other side has taken nothing for too long. Answers are read
/// from the provider only as fast as the client takes them, so such a client would hold a
/// provider's slot for as long as it likes.
struct Unstalled {
    stream: TcpStream,
    stall: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Unstalled {
    fn new(stream: TcpStream, stall_ms: u64) -> Unstalled {
        Unstalled { stream, stall: Duration::from_millis(stall_ms), waiting: None }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let until = Instant::now() + self.stall;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Unstalled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Unstalled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
