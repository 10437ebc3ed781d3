//! Who may talk to the page: requests that name one of its own hosts, and, where money is spent,
//! that come from the page itself.
//!
//! A page on loopback is reachable by every website that the same browser has open. Two attacks
//! matter. A foreign page posts to it (cross-site request forgery): answered by the checks of
//! `Origin`, `Sec-Fetch-Site` and the content type. A foreign *name* is made to resolve to loopback
//! (DNS rebinding), which turns the foreign page into a page of the same origin: answered by the
//! check of `Host`, because the browser still sends the foreign name there.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Bytes of a host name with its port.
const HOST_BYTES_MAX: usize = 255;

/// Sent with every answer. Nothing is loaded from elsewhere, nothing inline runs, nobody frames it,
/// and the script cannot turn text into markup.
const SECURITY_HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// A proxy that forwards a request says so in one of these. Its client need not be on this machine.
const FORWARDED_HEADERS: [&str; 5] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// The hosts under which the page is served. Whatever else a request names is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPolicy {
    /// Names and addresses of the listener itself, with its port.
    local: BTreeSet<String>,
    /// Names given by the operator, as they stand in `Host`.
    public: BTreeSet<String>,
    listens_on_loopback: bool,
    chat_everywhere: bool,
}

/// A public name that cannot stand in `Host`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a host name; give one such as gateway.example.org or 192.0.2.7:8400")]
pub struct BadHostName {
    name: String,
}

impl HostPolicy {
    /// The listener's own address, `localhost` and the loopback addresses, each with its port.
    pub fn of_listener(listener: SocketAddr) -> HostPolicy {
        let port = listener.port();
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        if !listener.ip().is_unspecified() {
            names.push(match listener {
                SocketAddr::V4(address) => address.ip().to_string(),
                SocketAddr::V6(address) => format!("[{}]", address.ip()),
            });
        }
        let mut local: BTreeSet<String> =
            names.iter().map(|name| format!("{name}:{port}")).collect();
        if port == 80 {
            local.extend(names);
        }
        HostPolicy {
            local,
            public: BTreeSet::new(),
            listens_on_loopback: listener.ip().is_loopback(),
            chat_everywhere: false,
        }
    }

    /// Serves the page under `name` too: a host, with its port unless that is the scheme's own.
    pub fn allow(mut self, name: &str) -> Result<HostPolicy, BadHostName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if name.is_empty() || name.len() > HOST_BYTES_MAX || !name.chars().all(plain) {
            return Err(BadHostName { name: name.chars().take(80).collect() });
        }
        self.public.insert(name.to_ascii_lowercase());
        Ok(self)
    }

    /// Lets everybody who reaches the page use the chat box, and so spend its budget. Otherwise
    /// only a browser on this machine may.
    pub fn allow_chat_everywhere(mut self) -> HostPolicy {
        self.chat_everywhere = true;
        self
    }

    /// The host a request is for, if it is one of ours.
    fn host(&self, uri: &Uri, headers: &HeaderMap) -> Result<String, Refusal> {
        let mut named = headers.get_all(header::HOST).iter();
        let first = named.next().map(HeaderValue::as_bytes);
        if named.next().is_some() {
            return Err(Refusal::NoHost);
        }
        let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
        let host = match (authority, first) {
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                return Err(Refusal::NoHost);
            }
            (Some(host), _) | (None, Some(host)) => host,
            (None, None) => return Err(Refusal::NoHost),
        };
        if host.len() > HOST_BYTES_MAX {
            return Err(Refusal::ForeignHost);
        }
        let host =
            String::from_utf8(host.to_ascii_lowercase()).map_err(|_| Refusal::ForeignHost)?;
        if self.local.contains(&host) || self.public.contains(&host) {
            Ok(host)
        } else {
            Err(Refusal::ForeignHost)
        }
    }

    /// Whether whoever sent this may use the chat box.
    pub(crate) fn chat_allowed(&self, host: &Host, headers: &HeaderMap) -> bool {
        let forwarded = FORWARDED_HEADERS.iter().any(|name| headers.contains_key(*name));
        self.chat_everywhere
            || (self.listens_on_loopback && self.local.contains(&host.0) && !forwarded)
    }

    /// Whether a request that spends comes from the page itself, in this browser.
    pub(crate) fn check_spending(&self, host: &Host, headers: &HeaderMap) -> Result<(), Refusal> {
        let origin = one(headers, header::ORIGIN).ok_or(Refusal::NoOrigin)?;
        let (scheme, authority) = origin.split_once("://").ok_or(Refusal::ForeignOrigin)?;
        // TLS ends before us if at all, and only under a public name.
        let scheme_fits = scheme == "http" || (scheme == "https" && self.public.contains(&host.0));
        if !scheme_fits || !authority.eq_ignore_ascii_case(&host.0) {
            return Err(Refusal::ForeignOrigin);
        }
        let site = HeaderName::from_static("sec-fetch-site");
        if headers.contains_key(&site) && one(headers, site) != Some("same-origin") {
            return Err(Refusal::ForeignOrigin);
        }
        let content_type = one(headers, header::CONTENT_TYPE).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Refusal::ContentType);
        }
        if !self.chat_allowed(host, headers) {
            return Err(Refusal::ChatNotHere);
        }
        Ok(())
    }
}

/// The one value of a header; nothing if there are several.
fn one(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok();
    if values.next().is_some() { None } else { value }
}

/// The host that a request was found to be for, one of the policy's.
#[derive(Clone, Debug)]
pub(crate) struct Host(String);

/// Why a request is not answered. The text is for the person who sees it in a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the request does not say, or says twice, which host it is for")]
    NoHost,
    #[error(
        "this page is not served under that host name. It can spend, so it answers only to its own \
         address and to localhost, on the port it listens on; another name is allowed with \
         `--public-host NAME` when the gateway starts"
    )]
    ForeignHost,
    #[error("requests that spend must come from the page itself: the Origin header is missing")]
    NoOrigin,
    #[error("requests that spend must come from the page itself: the origin is another one")]
    ForeignOrigin,
    #[error("send application/json")]
    ContentType,
    #[error(
        "the chat box of this gateway works only in a browser on its own machine; use the API with \
         a key instead"
    )]
    ChatNotHere,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Refusal::NoHost => StatusCode::BAD_REQUEST,
            Refusal::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
            Refusal::NoOrigin | Refusal::ForeignOrigin | Refusal::ChatNotHere => {
                StatusCode::FORBIDDEN
            }
            Refusal::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status(), format!("{self}\n")).into_response()
    }
}

/// Lets a request through if its host is ours, and puts the security headers on every answer.
pub(crate) async fn guard(
    State(policy): State<Arc<HostPolicy>>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut response = match policy.host(request.uri(), request.headers()) {
        Ok(host) => {
            request.extensions_mut().insert(Host(host));
            next.run(request).await
        }
        Err(refusal) => {
            tracing::warn!(path = request.uri().path(), reason = ?refusal, "page request refused");
            refusal.into_response()
        }
    };
    for (name, value) in SECURITY_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(policy: &HostPolicy) -> Vec<&str> {
        policy.local.iter().chain(&policy.public).map(String::as_str).collect()
    }

    #[test]
    fn a_policy_names_the_listener_and_loopback_with_their_port() {
        let policy = |listener: &str| HostPolicy::of_listener(listener.parse().unwrap());
        assert_eq!(
            hosts(&policy("127.0.0.1:8400")),
            ["127.0.0.1:8400", "[::1]:8400", "localhost:8400"]
        );
        assert_eq!(
            hosts(&policy("192.0.2.7:8400")),
            ["127.0.0.1:8400", "192.0.2.7:8400", "[::1]:8400", "localhost:8400"]
        );
        // The unspecified address is no name of anything.
        assert_eq!(
            hosts(&policy("0.0.0.0:80")),
            ["127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80", "localhost", "localhost:80"]
        );
        assert!(!policy("0.0.0.0:80").listens_on_loopback);
    }

    #[test]
    fn a_public_name_is_a_host() {
        let policy = HostPolicy::of_listener("127.0.0.1:1".parse().unwrap());
        assert!(policy.clone().allow("Gateway.Example.org:8443").is_ok());
        for bad in ["", "https://example.org", "a/b", "a b", "ü.org", &"x".repeat(300)] {
            assert!(policy.clone().allow(bad).is_err(), "{bad}");
        }
    }
}
