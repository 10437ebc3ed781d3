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

use crate::{
    config::{Limits, Timeouts},
    threads::{Place, Threads},
};

/// After an error of `accept`, e.g. no file descriptors left: long enough for some to be freed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Such errors in a row, a minute of them, after which the listener is taken for broken.
const ACCEPT_FAILURES_MAX: u32 = 600;
/// Bytes of a request's head, and of what is gathered before a write.
const BUFFER_BYTES: usize = 64 * 1024;

/// Serves `router` on `threads` until `stop` completes; then takes no more connections and waits, within the
/// drain time, for the requests in work.
pub(crate) async fn serve(
    limits: &Limits,
    timeouts: &Timeouts,
    threads: &Threads,
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
        let (builder, router, stall_ms) =
            (builder.clone(), router.clone(), timeouts.write_stall_ms);
        let (closing, cut) = (closing.clone(), cut.clone());
        let answer = move |stream: TcpStream| async move {
            let io = TokioIo::new(Unstalled::new(stream, stall_ms));
            let connection = builder.serve_connection(io, TowerToHyperService::new(router));
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
        };
        match threads.place() {
            None => drop(tasks.spawn(answer(stream))),
            Some(thread) => move_to(thread, stream, &tasks, answer),
        }
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

/// Answers a connection on another thread.
fn move_to<F: Future<Output = ()> + Send + 'static>(
    thread: Place,
    stream: TcpStream,
    tasks: &TaskTracker,
    answer: impl FnOnce(TcpStream) -> F + Send + 'static,
) {
    // Whether it is readable is told to the runtime that it was accepted in, until that is over.
    let stream = match stream.into_std() {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "http.connection"),
    };
    let runtime = thread.runtime.clone();
    let moved = async move {
        match TcpStream::from_std(stream) {
            Ok(stream) => answer(stream).await,
            Err(error) => tracing::warn!(%error, "http.connection"),
        }
        drop(thread);
    };
    tasks.spawn_on(moved, &runtime);
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

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
        task::JoinHandle,
    };

    use super::*;

    /// A server whose `/slow` answers when told and whose `/endless` never ends.
    struct Server {
        addr: std::net::SocketAddr,
        release: Arc<tokio::sync::Notify>,
        arrived: Arc<tokio::sync::Notify>,
        stop: Option<oneshot::Sender<()>>,
        running: JoinHandle<io::Result<()>>,
    }

    async fn server(change: impl FnOnce(&mut Limits, &mut Timeouts)) -> Server {
        let (mut limits, mut timeouts) = (Limits::standard(), Timeouts::standard());
        change(&mut limits, &mut timeouts);
        let (release, arrived) = <(Arc<tokio::sync::Notify>, Arc<tokio::sync::Notify>)>::default();
        let slow = {
            let (release, arrived) = (Arc::clone(&release), Arc::clone(&arrived));
            move || async move {
                arrived.notify_one();
                release.notified().await;
                "done"
            }
        };
        let endless = || async {
            let chunk = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
            let chunks = futures::stream::repeat_with(move || {
                Ok::<_, std::convert::Infallible>(chunk.clone())
            });
            Body::from_stream(chunks)
        };
        let router = Router::new()
            .route("/fast", get(|| async { "fast" }))
            .route("/slow", get(slow))
            .route("/endless", get(endless));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            let threads = Threads::beside_this()?;
            serve(&limits, &timeouts, &threads, listener, router, stop).await
        });
        Server { addr, release, arrived, stop: Some(stop), running }
    }

    impl Server {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.addr).await.unwrap()
        }

        async fn ask(&self, path: &str) -> TcpStream {
            let mut stream = self.connect().await;
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream
        }
    }

    async fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        // A connection that was cut has said what it said.
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn a_request_in_work_is_answered_after_the_stop_and_no_new_one() {
        let mut server = server(|_, _| ()).await;
        assert!(rest(server.ask("/fast").await).await.ends_with("\r\n\r\nfast"));
        let slow = server.ask("/slow").await;
        server.arrived.notified().await;
        server.stop.take().unwrap().send(()).unwrap();
        while TcpStream::connect(server.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
        server.release.notify_one();
        assert!(rest(slow).await.ends_with("\r\n\r\ndone"));
        server.running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_request_that_does_not_end_is_cut_after_the_drain_time() {
        let mut server = server(|_, timeouts| timeouts.drain_ms = 10).await;
        let slow = server.ask("/slow").await;
        server.arrived.notified().await;
        server.stop.take().unwrap().send(()).unwrap();
        server.running.await.unwrap().unwrap();
        assert_eq!(rest(slow).await, "");
    }

    #[tokio::test]
    async fn half_a_header_is_not_waited_for_for_ever() {
        let server = server(|_, timeouts| timeouts.header_ms = 20).await;
        let mut stream = server.connect().await;
        stream.write_all(b"GET /fast HTTP/1.1\r\nhost:").await.unwrap();
        assert!(!rest(stream).await.contains("fast"));
        assert_eq!(rest(server.connect().await).await, "", "nor is silence");
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_cut_off() {
        let server = server(|limits, timeouts| {
            limits.connections_max = 1;
            timeouts.write_stall_ms = 50;
        })
        .await;
        let stalled = server.ask("/endless").await;
        // The only place becomes free when the stalled client is cut off.
        assert!(rest(server.ask("/fast").await).await.ends_with("fast"));
        drop(stalled);
    }
}
