//! The one way the project makes an HTTP client: rustls over ring, no proxy from the environment.

use std::sync::Once;

static INSTALL_CRYPTO: Once = Once::new();

/// A builder with the project's TLS stack. Callers add their own timeouts.
pub fn client_builder() -> reqwest::ClientBuilder {
    INSTALL_CRYPTO.call_once(|| {
        // An error means that one is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().no_proxy().tcp_nodelay(true)
}

/// A client with defaults.
pub fn client() -> Result<reqwest::Client, reqwest::Error> {
    client_builder().build()
}
