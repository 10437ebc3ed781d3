//! The gateway as any client sees it: base URL, key, and errors in OpenAI's form.

use std::time::Duration;

use anyhow::{Context, bail};
use gateway::RouteView;
use reqwest::{Method, StatusCode, header::CONTENT_TYPE};
use serde::Deserialize;
use wire::api::x402;

use super::x402::Purse;
use crate::{
    args::{GatewayClientArgs, OperatorArgs},
    home::Home,
};

/// Time for a connection to a gateway; answers may take as long as they need.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A gateway and the key to use with it.
pub(crate) struct Api {
    pub(crate) base_url: String,
    key: Option<String>,
    http: reqwest::Client,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Deserialize)]
struct ErrorDetail {
    message: String,
    #[serde(default)]
    code: Option<String>,
}

/// One entry of the list of models; what other servers leave out may be missing.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
pub(crate) struct Model {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) peerwatt: Option<serde_json::Value>,
}

impl Model {
    /// Whether it can be talked to; other servers do not say.
    pub(crate) fn completes(&self) -> bool {
        let told = self.peerwatt.as_ref().and_then(|detail| detail["completions"].as_bool());
        told.unwrap_or(true)
    }
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<Model>,
}

impl Api {
    pub(crate) fn new(home: &Home, args: &GatewayClientArgs) -> anyhow::Result<Api> {
        let base_url = home.base_url(args.base_url.as_deref())?;
        let key = match &args.api_key {
            Some(key) => Some(key.clone()),
            // The kept key belongs to the gateway of this folder; it is not sent anywhere else.
            None if home.running().base_url.as_deref() == Some(&base_url) => home.api_key()?,
            None => None,
        };
        Api::with(base_url, key)
    }

    /// The part of a gateway's API that is for whoever runs it.
    pub(crate) fn operator(home: &Home, args: &OperatorArgs) -> anyhow::Result<Api> {
        let base_url = home.base_url(args.base_url.as_deref())?;
        let key = operator_key(home, args, &base_url)?.context(
            "this needs the key of the gateway's operator: --admin-key, or the data folder that it runs from",
        )?;
        let origin = base_url.trim_end_matches("/v1");
        Api::with(format!("{origin}/admin"), Some(key))
    }

    /// Whether there is an operator's key for the gateway that the arguments mean.
    pub(crate) fn knows_operator(home: &Home, args: &OperatorArgs) -> anyhow::Result<bool> {
        let base_url = home.base_url(args.base_url.as_deref())?;
        Ok(operator_key(home, args, &base_url)?.is_some())
    }

    fn with(base_url: String, key: Option<String>) -> anyhow::Result<Api> {
        let http = wire::http_client_builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .context("preparing the HTTP client")?;
        Ok(Api { base_url, key, http })
    }

    /// The models that the gateway lists.
    pub(crate) async fn models(&self) -> anyhow::Result<Vec<Model>> {
        let list: ModelList =
            self.get("models").await?.json().await.context("reading the models")?;
        Ok(list.data)
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        self.ask(Method::GET, path, None).await
    }

    /// Asks with a body, if there is one.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> anyhow::Result<reqwest::Response> {
        let request = self.http.request(method, format!("{}/{path}", self.base_url));
        self.send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// Asks with a question after the `?`.
    pub(crate) async fn query(
        &self,
        path: &str,
        question: &[(&str, String)],
    ) -> anyhow::Result<reqwest::Response> {
        self.send(self.http.get(format!("{}/{path}", self.base_url)).query(question)).await
    }

    /// Where a request would go. `wishes` are headers.
    pub(crate) async fn route(
        &self,
        question: &[(&str, String)],
        wishes: &[(&'static str, String)],
    ) -> anyhow::Result<RouteView> {
        let request = self.http.get(format!("{}/route", self.base_url)).query(question);
        let with = |request: reqwest::RequestBuilder, (name, value): &(&'static str, String)| {
            request.header(*name, value)
        };
        let request = wishes.iter().fold(request, with);
        self.send(request).await?.json().await.context("reading the explanation")
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> anyhow::Result<reqwest::Response> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Posts without a key, and pays where that is asked.
    pub(crate) async fn post_paying(
        &self,
        path: &str,
        body: &serde_json::Value,
        purse: &Purse,
    ) -> anyhow::Result<reqwest::Response> {
        let has_length = !body["max_tokens"].is_null();
        let body = serde_json::to_vec(body).context("writing the request")?;
        let mut paid = None;
        loop {
            let request = self.http.post(format!("{}/{path}", self.base_url)).body(body.clone());
            let mut request = request.header(CONTENT_TYPE, "application/json");
            if let Some((header, _)) = &paid {
                request = request.header(x402::SIGNATURE, header);
            }
            let response = self.response(request).await?;
            let required = response.headers().get(x402::REQUIRED).and_then(|it| it.to_str().ok());
            let required = required.map(str::to_owned);
            let Some(required) =
                required.filter(|_| response.status() == StatusCode::PAYMENT_REQUIRED)
            else {
                return accepted(response).await;
            };
            let (status, error) = failure(response).await;
            let code = error.as_ref().and_then(|error| error.code.as_deref());
            let is_short = match (&paid, code) {
                (None, Some("payment_required")) => false,
                (Some((_, false)), Some("channel_too_small")) => true,
                _ => bail!(told(status, error)),
            };
            paid = Some((purse.pay(&required, (&body, has_length), is_short).await?, is_short));
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<reqwest::Response> {
        let request = match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        accepted(self.response(request).await?).await
    }

    async fn response(
        &self,
        request: reqwest::RequestBuilder,
    ) -> anyhow::Result<reqwest::Response> {
        request.send().await.with_context(|| format!("asking the gateway at {}", self.base_url))
    }
}

/// An answer that is none of a failure.
async fn accepted(response: reqwest::Response) -> anyhow::Result<reqwest::Response> {
    if response.status().is_success() {
        return Ok(response);
    }
    let (status, error) = failure(response).await;
    bail!(told(status, error))
}

async fn failure(response: reqwest::Response) -> (StatusCode, Option<ErrorDetail>) {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let body = serde_json::from_str::<ErrorBody>(&text);
    (status, body.ok().map(|body| body.error))
}

fn told(status: StatusCode, error: Option<ErrorDetail>) -> String {
    match error {
        Some(error) => format!("the gateway answered {status}: {}", error.message),
        None => format!("the gateway answered {status}"),
    }
}

/// The operator's key that is given, or kept for the gateway of this folder; it is not sent anywhere else.
fn operator_key(
    home: &Home,
    args: &OperatorArgs,
    base_url: &str,
) -> anyhow::Result<Option<String>> {
    match &args.admin_key {
        Some(key) => Ok(Some(key.clone())),
        None if home.running().base_url.as_deref() == Some(base_url) => home.admin_key(),
        None => Ok(None),
    }
}
