//! The stylesheet, the script and the logo, compiled in. Their addresses carry a digest of what
//! they hold, so a browser keeps them for good and takes new ones after an update.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use types::sha256;

/// A file of the page.
pub(crate) struct Asset {
    /// Below `/assets/`.
    pub(crate) name: String,
    media_type: &'static str,
    content: &'static str,
}

pub(crate) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "style",
        "css",
        "text/css; charset=utf-8",
        concat!(
            include_str!("assets/frame.css"),
            "\n",
            include_str!("assets/parts.css"),
            "\n",
            include_str!("assets/audits.css")
        ),
    )
});
pub(crate) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("page", "js", "text/javascript; charset=utf-8", include_str!("assets/page.js"))
});
pub(crate) static LOGO: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("logo", "svg", "image/svg+xml", include_str!("assets/logo.svg")));

impl Asset {
    fn new(stem: &str, ending: &str, media_type: &'static str, content: &'static str) -> Asset {
        let digest = sha256(&[content.as_bytes()]).to_string();
        let digest = digest.get(..12).unwrap_or_default();
        Asset { name: format!("{stem}-{digest}.{ending}"), media_type, content }
    }

    pub(crate) fn url(&self) -> String {
        format!("/assets/{}", self.name)
    }
}

/// `GET /assets/{name}`
pub(crate) async fn serve(Path(name): Path<String>) -> Response {
    let assets = [&*STYLE, &*SCRIPT, &*LOGO];
    let Some(asset) = assets.into_iter().find(|asset| asset.name == name) else {
        return (StatusCode::NOT_FOUND, "there is no such file; reload the page\n").into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, asset.content).into_response()
}
