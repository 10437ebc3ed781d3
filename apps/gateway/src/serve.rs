//! Serving HTTP to strangers: bounded connections, no waiting for ever on either side, and an end
//! that lets running answers finish.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::{Request, Response, body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Limits, Timeouts},
    threads::{Place, Places, Threads},
    turn::Turn,
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
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(timeouts.header_ms))
        .max_buf_size(BUFFER_BYTES)
        // What is written is small, and one piece of memory is cheaper to hand over than three.
        .writev(false);
    let server = Arc::new(Server {
        builder,
        router: TowerToHyperService::new(router),
        stall: Duration::from_millis(timeouts.write_stall_ms),
        threads: threads.places(),
        tasks: TaskTracker::new(),
        is_closing: AtomicBool::new(false),
        closing: CancellationToken::new(),
        cut: CancellationToken::new(),
    });
    let mut stop = pin!(stop);
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
        let accepted = Open { stream, read: Bytes::new(), permit: place };
        match server.threads.find() {
            None => drop(server.tasks.spawn(Arc::clone(&server).answer(accepted, None))),
            Some(thread) => server.move_to(thread, accepted),
        }
    };
    drop(listener);
    server.is_closing.store(true, Ordering::Release);
    server.closing.cancel();
    let tasks = &server.tasks;
    tasks.close();
    if tokio::time::timeout(Duration::from_millis(timeouts.drain_ms), tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "http.drain_ended");
        server.cut.cancel();
        tasks.wait().await;
    }
    result
}

/// An open connection that waits for its next request.
struct Open {
    stream: TcpStream,
    /// What was read of it and not answered.
    read: Bytes,
    /// To be one of those that may be open at once.
    permit: Result<OwnedSemaphorePermit, AcquireError>,
}

/// What every connection needs.
struct Server {
    builder: http1::Builder,
    router: TowerToHyperService<Router>,
    stall: Duration,
    threads: Arc<Places>,
    tasks: TaskTracker,
    /// Set before `closing` is cancelled: each look at that would have all threads lock it for every chunk.
    is_closing: AtomicBool,
    closing: CancellationToken,
    cut: CancellationToken,
}

/// What becomes of a connection.
enum Next {
    Ended(hyper::Result<()>),
    /// It waits for its next request, and is to do so elsewhere.
    Moves(Place),
    /// The server takes no more requests.
    Closes,
}

impl Server {
    /// Answers a connection on another thread.
    fn move_to(self: &Arc<Server>, thread: Place, open: Open) {
        let Open { stream, read, permit } = open;
        // Whether it is readable is told to the runtime that it was accepted in, until that is over.
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return tracing::warn!(%error, "http.connection"),
        };
        let (server, runtime) = (Arc::clone(self), thread.runtime.clone());
        // In a box, for it may come here again.
        let moved: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            let stream = match TcpStream::from_std(stream) {
                Ok(stream) => stream,
                Err(error) => return tracing::warn!(%error, "http.connection"),
            };
            let open = Open { stream, read, permit };
            let moves = Arc::clone(&server).answer(open, Some(&thread)).await;
            drop(thread);
            if let Some((place, open)) = moves {
                server.move_to(place, open);
            }
        });
        self.tasks.spawn_on(moved, &runtime);
    }

    /// Answers a connection to its end, or until it is to be answered elsewhere.
    async fn answer(self: Arc<Server>, open: Open, place: Option<&Place>) -> Option<(Place, Open)> {
        let Open { stream, read, permit } = open;
        let (work, turn) = (Arc::<Work>::default(), Turn::default());
        let io = Unstalled::new(stream, read, self.stall, Arc::clone(&work));
        let (router, turn_of) = (self.router.clone(), turn.clone());
        let service = Noted { router, work: Arc::clone(&work), turn: turn_of };
        let mut connection = self.builder.serve_connection(TokioIo::new(io), service);
        let mut closing = pin!(self.closing.cancelled());
        let mut listens = false;
        let next = poll_fn(|cx| {
            turn.begin();
            match Pin::new(&mut connection).poll(cx) {
                Poll::Ready(ended) => return Poll::Ready(Next::Ended(ended)),
                Poll::Pending if work.is_over() => {
                    if let Some(place) = place.and_then(|place| self.threads.better(place)) {
                        return Poll::Ready(Next::Moves(place));
                    }
                }
                Poll::Pending => {}
            }
            // A task has the same waker all its life.
            let closes = self.is_closing.load(Ordering::Acquire)
                || (!listens && closing.as_mut().poll(cx).is_ready());
            listens = true;
            if closes { Poll::Ready(Next::Closes) } else { Poll::Pending }
        });
        let next = match next.await {
            Next::Closes => {
                Pin::new(&mut connection).graceful_shutdown();
                let ended = poll_fn(|cx| {
                    turn.begin();
                    Pin::new(&mut connection).poll(cx)
                });
                tokio::select! {
                    ended = ended => Next::Ended(ended),
                    () = self.cut.cancelled() => Next::Ended(Ok(())),
                }
            }
            next => next,
        };
        match next {
            Next::Ended(Ok(())) | Next::Closes => None,
            Next::Ended(Err(error)) => {
                tracing::debug!(%error, "http.connection");
                None
            }
            Next::Moves(place) => {
                let http1::Parts { io, read_buf, .. } = connection.into_parts();
                let stream = io.into_inner().stream;
                Some((place, Open { stream, read: read_buf, permit }))
            }
        }
    }
}

/// What a connection is doing. One that has answered, and whose last write was taken, has nothing left to write: HTTP is flushed
/// whenever something was written. And what comes next on it is a request only if the body of the last one was read to its end: the
/// rest of one that nobody wanted would be taken for one elsewhere.
#[derive(Debug, Default)]
struct Work {
    /// The body of the last request was read to its end.
    heard: AtomicBool,
    /// An answer was given to its end, which nobody has taken note of.
    answered: AtomicBool,
    /// A write waits for the client.
    writes: AtomicBool,
}

impl Work {
    /// Whether a request has come to its end since it was last asked, with everything written.
    fn is_over(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
            && self.heard.load(Ordering::Relaxed)
            && !self.writes.load(Ordering::Relaxed)
            && self.answered.swap(false, Ordering::Relaxed)
    }
}

/// Takes note of when an answer is over.
struct Noted {
    router: TowerToHyperService<Router>,
    work: Arc<Work>,
    turn: Turn,
}

impl hyper::service::Service<Request<Incoming>> for Noted {
    type Response = Response<NotedBody>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let work = Arc::clone(&self.work);
        work.answered.store(false, Ordering::Relaxed);
        work.heard.store(http_body::Body::is_end_stream(request.body()), Ordering::Relaxed);
        let mut request = request.map(|body| NotedRequest { body, work: Arc::clone(&work) });
        request.extensions_mut().insert(self.turn.clone());
        let answer = hyper::service::Service::call(&self.router, request);
        Box::pin(async move { answer.await.map(|it| it.map(|body| NotedBody { body, work })) })
    }
}

/// The body of a request. Takes note of its end.
struct NotedRequest {
    body: Incoming,
    work: Arc<Work>,
}

impl http_body::Body for NotedRequest {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.work.heard.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer. Dropped, it is over.
struct NotedBody {
    body: Body,
    work: Arc<Work>,
}

impl http_body::Body for NotedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for NotedBody {
    fn drop(&mut self) {
        self.work.answered.store(true, Ordering::Relaxed);
    }
}

/// A socket whose writes fail when the other side has taken nothing for too long. Answers are read
/// from the provider only as fast as the client takes them, so such a client would hold a
/// provider's slot for as long as it likes.
struct Unstalled {
    stream: TcpStream,
    /// Read of it elsewhere, and not yet here.
    read: Bytes,
    stall: Duration,
    work: Arc<Work>,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Unstalled {
    fn new(stream: TcpStream, read: Bytes, stall: Duration, work: Arc<Work>) -> Unstalled {
        Unstalled { stream, read, stall, work, waiting: None }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.work.writes.store(written.is_pending(), Ordering::Relaxed);
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
        if !self.read.is_empty() {
            let length = self.read.len().min(buf.remaining());
            buf.put_slice(&self.read.split_to(length));
            return Poll::Ready(Ok(()));
        }
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
    use axum::{
        Router,
        body::Body,
        routing::{get, post},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::{mpsc, oneshot},
        task::JoinHandle,
    };

    use super::*;

    /// A server whose `/slow` answers when told, whose `/beats` says what it is told when it is told, and whose `/endless` never ends.
    struct Server {
        addr: std::net::SocketAddr,
        release: Arc<tokio::sync::Notify>,
        arrived: Arc<tokio::sync::Notify>,
        beats: Option<mpsc::Sender<&'static str>>,
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
        let (beats, told) = mpsc::channel(8);
        let told = Arc::new(std::sync::Mutex::new(Some(told)));
        let beating = move |request: axum::extract::Request| {
            let turn = request.extensions().get::<Turn>().cloned().unwrap();
            let told = told.lock().unwrap().take().unwrap();
            async move { Body::new(Beats { turn, told }) }
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
            .route("/beats", get(beating))
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
        Server { addr, release, arrived, beats: Some(beats), stop: Some(stop), running }
    }

    /// Asked by its own task for more only when it has been woken.
    struct Beats {
        turn: Turn,
        told: mpsc::Receiver<&'static str>,
    }

    impl http_body::Body for Beats {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            if self.turn.is_waited_for() {
                return Poll::Pending;
            }
            let told = ready!(self.told.poll_recv(cx));
            if self.told.is_empty() && !self.told.is_closed() {
                assert!(self.told.poll_recv(cx).is_pending());
                self.turn.wait();
            }
            Poll::Ready(told.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
        }
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
    async fn an_answer_that_waits_is_asked_again_in_the_next_turn_also_after_the_stop() {
        let mut server = server(|_, _| ()).await;
        let (mut beats, mut got) = (server.ask("/beats").await, String::new());
        let tell = server.beats.take().unwrap();
        let mut heard = async |text: &'static str| {
            tell.send(text).await.unwrap();
            while !got.ends_with(&format!("{text}\r\n")) {
                let mut bytes = [0; 256];
                let length = beats.read(&mut bytes).await.unwrap();
                assert!(length > 0, "it ended after {got}");
                got += std::str::from_utf8(&bytes[..length]).unwrap();
            }
        };
        heard("one").await;
        heard("two").await;
        server.stop.take().unwrap().send(()).unwrap();
        while TcpStream::connect(server.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
        heard("three").await;
        heard("four").await;
        drop(tell);
        assert!(rest(beats).await.ends_with("0\r\n\r\n"));
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_connection_moves_between_two_requests() {
        let threads = Threads::beside_this().unwrap();
        let places = threads.places();
        let name = || async { std::thread::current().name().unwrap_or_default().to_owned() };
        let router = Router::new().route("/", get(name));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let (limits, timeouts) = (Limits::standard(), Timeouts::standard());
            let stop = async { stopped.await.unwrap_or_default() };
            serve(&limits, &timeouts, &threads, listener, router, stop).await
        });
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let mut ask = async |times: usize| {
            let request = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(times);
            stream.write_all(request.as_bytes()).await.unwrap();
            let (mut got, mut bytes) = (String::new(), [0; 1024]);
            while got.matches("clients-").count() < times || !got.ends_with(['0', '1']) {
                let read = stream.read(&mut bytes).await.unwrap();
                assert!(read > 0, "{got}");
                got += std::str::from_utf8(&bytes[..read]).unwrap();
            }
            let names = got.split("clients-").skip(1);
            names.map(|rest| rest.chars().next().unwrap()).collect::<String>()
        };
        assert_eq!(ask(1).await, "0");
        // At once, or when what has come in the meantime is answered: several requests at a time, so that some are read and not
        // answered when it moves.
        for (from, to) in [(0, "111"), (1, "000")] {
            places.crowd(from, 1);
            let mut answers = String::new();
            for _ in 0..100 {
                answers = ask(3).await;
                if answers == to {
                    break;
                }
            }
            assert_eq!(answers, to);
        }
        stop.send(()).unwrap();
        running.await.unwrap().unwrap();
    }

    /// Its rest would be taken for a request on the other thread.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_connection_whose_request_was_not_read_to_its_end_moves_nowhere() {
        let threads = Threads::beside_this().unwrap();
        let places = threads.places();
        let router = Router::new().route("/", post(|| async { "unread" }));
        let router = router.route("/smuggled", get(|| async { "smuggled" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let (limits, timeouts) = (Limits::standard(), Timeouts::standard());
            let stop = async { stopped.await.unwrap_or_default() };
            serve(&limits, &timeouts, &threads, listener, router, stop).await
        });
        let rest = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", rest.len());
        for _ in 0..20 {
            places.crowd(0, 1);
            places.crowd(1, 1);
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut bytes = [0; 1024];
            let read = stream.read(&mut bytes).await.unwrap();
            let mut got = String::from_utf8_lossy(&bytes[..read]).into_owned();
            // It may have been closed by now.
            let _ = stream.write_all(rest.as_bytes()).await;
            let _ = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut bytes)).await;
            got += &String::from_utf8_lossy(&bytes);
            assert!(got.contains("unread") && !got.contains("smuggled"), "{got}");
        }
        stop.send(()).unwrap();
        running.await.unwrap().unwrap();
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
