//! Fetches models that a round asks for and nobody has put on the shelf, from a server that has files named by model ids.
//!
//! The mirror is not trusted: a file is a model if its bytes have the id, whatever the server says. What it may cost is bounded.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use engine::{EmbeddedEngine, EngineError};
use tokio::{fs, io::AsyncWriteExt};
use types::ModelId;

/// How long the server may take to answer, and to send the next part.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Debug)]
pub struct Mirror {
    client: reqwest::Client,
    url: String,
    folder: PathBuf,
    bytes_max: u64,
}

/// Why a model was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    #[error("cannot make an HTTP client")]
    Client { source: reqwest::Error },
    #[error("{url} is not fetched")]
    Http { url: String, source: reqwest::Error },
    #[error(
        "{url} has more than the {bytes_max} bytes that a model may have; allow more with --audit-download-max"
    )]
    TooLong { url: String, bytes_max: u64 },
    #[error("cannot keep {path}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{url} holds no model")]
    NoModel { url: String, source: EngineError },
    #[error("{url} holds another model, {actual}")]
    OtherModel { url: String, actual: ModelId },
    #[error("reading the fetched file ended abnormally")]
    Panicked,
}

impl Mirror {
    /// Keeps what it fetches in `folder`, as `ID.gguf`; a file has at most `bytes_max` bytes.
    pub fn new(url: &str, folder: PathBuf, bytes_max: u64) -> Result<Mirror, MirrorError> {
        let builder = wire::http_client_builder();
        let client = builder.connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
        let client = client.map_err(|source| MirrorError::Client { source })?;
        Ok(Mirror { client, url: url.trim_end_matches('/').to_owned(), folder, bytes_max })
    }

    /// Fetches a model, and checks that it is that. Returns where it lies.
    pub async fn fetch(&self, model: ModelId) -> Result<PathBuf, MirrorError> {
        let url = format!("{}/{model}.gguf", self.url);
        let path = self.folder.join(format!("{model}.gguf"));
        let part = path.with_extension("part");
        let fetched = self.fetch_to(&url, &part, model).await;
        if fetched.is_err() {
            // What is half there, or something else, is of no use; if it cannot be removed, the next try overwrites it.
            let _ = fs::remove_file(&part).await;
        }
        fetched?;
        let kept = fs::rename(&part, &path).await;
        kept.map_err(|source| MirrorError::File { path: path.clone(), source })?;
        Ok(path)
    }

    async fn fetch_to(&self, url: &str, part: &Path, model: ModelId) -> Result<(), MirrorError> {
        let http = |source| MirrorError::Http { url: url.to_owned(), source };
        let kept = |source| MirrorError::File { path: part.to_owned(), source };
        fs::create_dir_all(&self.folder).await.map_err(kept)?;
        let response = self.client.get(url).send().await;
        let mut response = response.and_then(reqwest::Response::error_for_status).map_err(http)?;
        let mut file = fs::File::create(part).await.map_err(kept)?;
        let mut bytes = 0_u64;
        while let Some(chunk) = response.chunk().await.map_err(http)? {
            bytes = bytes.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            if bytes > self.bytes_max {
                let bytes_max = self.bytes_max;
                return Err(MirrorError::TooLong { url: url.to_owned(), bytes_max });
            }
            file.write_all(&chunk).await.map_err(kept)?;
        }
        file.sync_all().await.map_err(kept)?;
        let read = part.to_owned();
        let id = tokio::task::spawn_blocking(move || EmbeddedEngine::model_id(&read)).await;
        let id = id.map_err(|_| MirrorError::Panicked)?;
        let actual = id.map_err(|source| MirrorError::NoModel { url: url.to_owned(), source })?;
        if actual == model {
            Ok(())
        } else {
            Err(MirrorError::OtherModel { url: url.to_owned(), actual })
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::Path as UrlPath, http::StatusCode, routing::get};

    use super::*;

    const MODEL: &str = "../../models/ember-1m-f16.gguf";

    /// Has the built-in model under its own id and under another one, and something that is none.
    async fn server(id: ModelId) -> String {
        let file = async move |UrlPath(name): UrlPath<String>| {
            let model = || std::fs::read(MODEL).unwrap();
            match name {
                name if name == format!("{id}.gguf") => Ok(model()),
                name if name == format!("{}.gguf", ModelId([1; 32])) => Ok(model()),
                name if name == format!("{}.gguf", ModelId([2; 32])) => Ok(b"no model".to_vec()),
                _ => Err(StatusCode::NOT_FOUND),
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/models/", listener.local_addr().unwrap());
        let router = Router::new().route("/models/{name}", get(file));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    #[tokio::test]
    async fn a_model_is_kept_if_its_bytes_have_the_id() {
        let id = EmbeddedEngine::model_id(Path::new(MODEL)).unwrap();
        let url = server(id).await;
        let folder = tempfile::tempdir().unwrap();
        let mirror =
            |bytes_max| Mirror::new(&url, folder.path().join("models"), bytes_max).unwrap();
        let path = mirror(u64::MAX).fetch(id).await.unwrap();
        assert_eq!(EmbeddedEngine::model_id(&path).unwrap(), id);
        std::fs::remove_file(&path).unwrap();

        let failed = async |bytes_max, id| mirror(bytes_max).fetch(id).await.unwrap_err();
        let other = failed(u64::MAX, ModelId([1; 32])).await;
        assert!(matches!(other, MirrorError::OtherModel { actual, .. } if actual == id));
        assert!(matches!(failed(u64::MAX, ModelId([2; 32])).await, MirrorError::NoModel { .. }));
        assert!(matches!(failed(u64::MAX, ModelId([3; 32])).await, MirrorError::Http { .. }));
        assert!(matches!(failed(1_000, id).await, MirrorError::TooLong { .. }));
        let left = std::fs::read_dir(folder.path().join("models")).unwrap().count();
        assert_eq!(left, 0, "nothing that failed is left");
    }
}
