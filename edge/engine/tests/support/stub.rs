//! An HTTP server on loopback that replays responses and remembers what it was asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Request, Response, StatusCode, header},
};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;

/// How a response ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Whole,
    /// The connection breaks.
    Cut,
    /// Nothing more comes, and the connection stays.
    Hang,
}

/// One response.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub chunks: Vec<String>,
    pub end: End,
}

impl Reply {
    pub fn json(body: &str) -> Reply {
        Reply { status: 200, chunks: vec![body.to_owned()], end: End::Whole }
    }

    pub fn error(status: u16, body: &str) -> Reply {
        Reply { status, ..Reply::json(body) }
    }

    /// One network chunk per item.
    pub fn chunks<S: ToString>(chunks: impl IntoIterator<Item = S>) -> Reply {
        let chunks = chunks.into_iter().map(|chunk| chunk.to_string()).collect();
        Reply { status: 200, chunks, end: End::Whole }
    }

    pub fn ending(self, end: End) -> Reply {
        Reply { end, ..self }
    }
}

/// What the server was asked.
#[derive(Clone, PartialEq, Debug)]
pub struct Asked {
    pub path: String,
    pub authorization: Option<String>,
    pub body: String,
}

/// The server; it ends with the test's runtime.
pub struct Stub {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    hung_up: mpsc::UnboundedReceiver<()>,
}

#[derive(Clone)]
struct Shared {
    replies: Arc<HashMap<String, Reply>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    hang_up: mpsc::UnboundedSender<()>,
}

/// Tells when the body it is part of is dropped.
struct Guard(mpsc::UnboundedSender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl Stub {
    /// Serves these replies by path; anything else is 404.
    pub async fn start(replies: &[(&str, Reply)]) -> Stub {
        let replies = replies.iter().map(|(path, reply)| ((*path).to_owned(), reply.clone()));
        let (hang_up, hung_up) = mpsc::unbounded_channel();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let shared =
            Shared { replies: Arc::new(replies.collect()), asked: Arc::clone(&asked), hang_up };
        let router = Router::new().fallback(reply).with_state(shared);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Stub { url, asked, hung_up }
    }

    /// The last request to `path`.
    pub fn asked(&self, path: &str) -> Asked {
        let asked = self.asked.lock().unwrap();
        asked.iter().rev().find(|asked| asked.path == path).unwrap().clone()
    }

    pub fn count(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.path == path).count()
    }

    /// Waits until a body has been dropped: sent whole, or left by its reader.
    pub async fn body_dropped(&mut self) {
        self.hung_up.recv().await.unwrap();
    }
}

async fn reply(State(shared): State<Shared>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let path = head.uri.path().to_owned();
    let authorization = head.headers.get(header::AUTHORIZATION);
    shared.asked.lock().unwrap().push(Asked {
        path: path.clone(),
        authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    let Some(reply) = shared.replies.get(&path).cloned() else {
        let missing = Body::from("404 page not found");
        return Response::builder().status(StatusCode::NOT_FOUND).body(missing).unwrap();
    };
    let guard = Guard(shared.hang_up.clone());
    let chunks = stream::iter(reply.chunks).map(|chunk| Ok(Bytes::from(chunk)));
    let end: stream::BoxStream<'static, std::io::Result<Bytes>> = match reply.end {
        End::Whole => stream::empty().boxed(),
        // Pending once, so that what came before is sent and not cut with the rest.
        End::Cut => stream::once(async {
            tokio::task::yield_now().await;
            Err(std::io::Error::other("cut"))
        })
        .boxed(),
        End::Hang => stream::pending().boxed(),
    };
    let body = chunks.chain(end).map(move |chunk| {
        let _guard = &guard;
        chunk
    });
    Response::builder().status(reply.status).body(Body::from_stream(body)).unwrap()
}
