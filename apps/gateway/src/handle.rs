//! Starting a gateway, and the handle by which the rest of the process uses it.

use std::{future::Future, sync::Arc};

use tokio::net::TcpListener;
use types::{Address, Nusd, RequestId, Watt};

use crate::{
    chat::{ChatRequest, ChatStream},
    config::GatewayConfig,
    error::{GatewayError, KeyError, ReceiptLookupError, RequestFailure},
    views::{AccountSummary, KeyView, ModelView, ProviderView, RequestView, StoredReceipt},
};

/// The key that pays for the web page's chat box. No request over HTTP can use it.
pub const PLAYGROUND_KEY: &str = "playground";

/// A gateway; see [`Gateway::start`].
#[derive(Debug)]
pub struct Gateway;

/// A running gateway. Clones are the same gateway.
#[derive(Clone, Debug)]
pub struct GatewayHandle {
    config: Arc<GatewayConfig>,
}

impl Gateway {
    /// Opens the books and starts to accept providers. Returns before the ledger was reached:
    /// registering, buying credits and opening channels go on in the background.
    pub async fn start(config: GatewayConfig) -> Result<GatewayHandle, GatewayError> {
        Ok(GatewayHandle { config: Arc::new(config) })
    }
}

impl GatewayHandle {
    /// The HTTP API, to be merged with other routes and served. It has no fallback of its own.
    pub fn router(&self) -> axum::Router {
        axum::Router::new()
    }

    /// Serves `router` on `listener` until `stop` completes, then lets running requests finish.
    pub async fn serve(
        &self,
        listener: TcpListener,
        router: axum::Router,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let _ = (listener, router);
        stop.await;
        Ok(())
    }

    /// Makes a key with `budget` and returns it; only its digest is kept.
    pub fn create_api_key(&self, name: &str, budget: Nusd) -> Result<String, KeyError> {
        let _ = (name, budget);
        Err(KeyError::Name)
    }

    /// Takes a key made elsewhere. A key that is known under this name gets the new budget.
    pub fn import_api_key(&self, name: &str, key: &str, budget: Nusd) -> Result<(), KeyError> {
        let _ = (name, key, budget);
        Err(KeyError::Name)
    }

    /// Replaces the budget of a key. What was used stays used.
    pub fn set_budget(&self, name: &str, budget: Nusd) -> Result<(), KeyError> {
        let _ = (name, budget);
        Err(KeyError::Name)
    }

    pub fn keys(&self) -> Vec<KeyView> {
        Vec::new()
    }

    pub fn models(&self) -> Vec<ModelView> {
        Vec::new()
    }

    pub fn providers(&self) -> Vec<ProviderView> {
        Vec::new()
    }

    /// The last `n` finished requests, latest first; at most 1 000 are remembered.
    pub fn recent_requests(&self, n: usize) -> Vec<RequestView> {
        let _ = n;
        Vec::new()
    }

    /// The receipt of any request, whichever key made it.
    pub fn receipt(&self, id: RequestId) -> Result<StoredReceipt, ReceiptLookupError> {
        Err(ReceiptLookupError::Unknown { id })
    }

    pub fn account(&self) -> AccountSummary {
        AccountSummary {
            address: Address::of_key(&self.config.operator.public_key()),
            watt: Watt::ZERO,
            credits: Nusd::ZERO,
            registered: false,
            channels: Vec::new(),
            read_at: None,
            problem: None,
        }
    }

    /// Waits until at least one provider can be paid for at least one model.
    pub async fn ready(&self) {}

    /// Asks for an answer that the key named `key_name` pays for.
    pub async fn chat(
        &self,
        request: ChatRequest,
        key_name: &str,
    ) -> Result<ChatStream, RequestFailure> {
        let _ = (request, key_name);
        Err(RequestFailure::Closing)
    }

    /// Takes no more requests, lets the running ones end, closes the books and the endpoint.
    pub async fn shutdown(&self) {}
}
