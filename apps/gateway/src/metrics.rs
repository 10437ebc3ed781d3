//! Figures for Prometheus. What other inference servers measure too has OpenTelemetry's names (semantic
//! conventions for generative AI, as Prometheus writes them). No label is chosen by a client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tokio::time::Instant;
use types::RequestId;
use verify::l0::{Counts, Finding};
use wire::api::{Dialect, embeddings::Endpoint, ollama, openai};

use crate::{error::RequestFailure, http::api_error, shared::Shared, traces::RequestSpan};

/// From 10 ms, each bucket is twice the one before; the last ends at about three minutes.
const SECONDS_MIN: f64 = 0.01;
const SECONDS_BUCKETS: u16 = 15;
/// A token takes from a millisecond to two seconds.
const TOKEN_SECONDS_MIN: f64 = 0.001;
const TOKEN_SECONDS_BUCKETS: u16 = 12;

/// The media type of Prometheus' text format, as the library writes it.
pub(crate) const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Request {
    api: &'static str,
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Attempt {
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Continuation {
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Hedge {
    winner: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Tokens {
    gen_ai_token_type: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Replayed {
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Found {
    finding: &'static str,
}

/// What is counted while a gateway runs.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Family<Request, Counter>,
    attempts: Family<Attempt, Counter>,
    tokens: Family<Tokens, Counter>,
    billed_nusd: Counter,
    continuations: Family<Continuation, Counter>,
    hedges: Family<Hedge, Counter>,
    replayed: Family<Replayed, Counter>,
    findings: Family<Found, Counter>,
    duration: Histogram,
    first_token: Histogram,
    output_token: Histogram,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let seconds = || Histogram::new(exponential_buckets(SECONDS_MIN, 2.0, SECONDS_BUCKETS));
        let of_a_token = exponential_buckets(TOKEN_SECONDS_MIN, 2.0, TOKEN_SECONDS_BUCKETS);
        Metrics {
            requests: Family::default(),
            attempts: Family::default(),
            tokens: Family::default(),
            billed_nusd: Counter::default(),
            continuations: Family::default(),
            hedges: Family::default(),
            replayed: Family::default(),
            findings: Family::default(),
            duration: seconds(),
            first_token: seconds(),
            output_token: Histogram::new(of_a_token),
        }
    }
}

impl Metrics {
    /// What became of an order to a provider.
    pub(crate) fn attempt(&self, outcome: market::Outcome) {
        use market::Outcome;
        let outcome = match outcome {
            Outcome::Served { .. } | Outcome::ServedWhole => "served",
            Outcome::Failed => "failed",
            Outcome::Cut => "cut",
            Outcome::Untrue => "untrue",
            Outcome::Busy { .. } => "busy",
            Outcome::Neutral => "neutral",
        };
        self.attempts.get_or_create(&Attempt { outcome }).inc();
    }

    /// An answer broke off, and another provider went on with it, or none did.
    pub(crate) fn continued(&self, by_another: bool) {
        let outcome = if by_another { "continued" } else { "given_up" };
        self.continuations.get_or_create(&Continuation { outcome }).inc();
    }

    /// A second provider was asked because the first was late; which of them was faster.
    pub(crate) fn hedged(&self, winner: &'static str) {
        self.hedges.get_or_create(&Hedge { winner }).inc();
    }

    /// What the replay of an answer's tokens came to.
    pub(crate) fn replayed(&self, counts: &Counts, finding: Finding) {
        let Counts { matched, excused, unexplained, unreported } = *counts;
        let counts = [
            ("match", matched),
            ("excused", excused),
            ("mismatch", unexplained),
            ("unreported", unreported),
        ];
        for (outcome, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            self.replayed.get_or_create(&Replayed { outcome }).inc_by(count.into());
        }
        let finding = match finding {
            Finding::Clean => "clean",
            Finding::Audit => "audit",
            Finding::Suspend => "suspend",
        };
        self.findings.get_or_create(&Found { finding }).inc();
    }

    /// What was delivered to a client and taken from its budget.
    pub(crate) fn delivered(&self, input: u32, output: u32, billed: types::Nusd) {
        for (gen_ai_token_type, count) in [("input", input), ("output", output)] {
            self.tokens.get_or_create(&Tokens { gen_ai_token_type }).inc_by(count.into());
        }
        self.billed_nusd.inc_by(u64::try_from(billed.0).unwrap_or(u64::MAX));
    }

    fn ended(&self, request: Request, duration: Duration) {
        self.requests.get_or_create(&request).inc();
        if request.outcome == "answered" {
            self.duration.observe(duration.as_secs_f64());
        }
    }
}

/// One request of a client, counted once: as what it is said to have become, or as `left` if nobody said
/// anything, because its client has gone. Clones are the same request.
#[derive(Clone)]
pub(crate) struct Measured(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    api: &'static str,
    began: Instant,
    /// Microseconds to the first text; none is zero.
    first_text_us: AtomicU64,
    ended: AtomicBool,
    /// The same request in a trace, if it is in one.
    span: Option<RequestSpan>,
}

impl Measured {
    pub(crate) fn begin(
        shared: &Arc<Shared>,
        api: Api,
        id: RequestId,
        headers: &HeaderMap,
    ) -> Measured {
        let tracer = shared.tracer.as_ref();
        let span = tracer.and_then(|it| it.request(shared.now(), api, id, headers));
        Measured(Arc::new(Inner {
            shared: Arc::clone(shared),
            api: api.name,
            began: Instant::now(),
            first_text_us: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            span,
        }))
    }

    /// The same request in a trace, if it is in one.
    pub(crate) fn span(&self) -> Option<&RequestSpan> {
        self.0.span.as_ref()
    }

    /// There is text for the client. The first time counts.
    pub(crate) fn text(&self) {
        let elapsed = self.0.began.elapsed();
        let us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).max(1);
        let first =
            self.0.first_text_us.compare_exchange(0, us, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            self.0.shared.metrics.first_token.observe(elapsed.as_secs_f64());
        }
    }

    /// Time from the request to the first text, or to now if there was none.
    pub(crate) fn first_text(&self) -> Duration {
        match self.0.first_text_us.load(Ordering::Relaxed) {
            0 => self.elapsed(),
            us => Duration::from_micros(us),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.began.elapsed()
    }

    /// The answer is complete.
    pub(crate) fn answered(&self, output_tokens: u32) {
        let rest = self.elapsed().saturating_sub(self.first_text());
        if let Some(gaps) = output_tokens.checked_sub(1).filter(|gaps| *gaps > 0) {
            let token = rest.as_secs_f64() / f64::from(gaps);
            self.0.shared.metrics.output_token.observe(token);
        }
        self.0.end("answered");
    }

    /// There is no answer, or only a part of one: the error's code.
    pub(crate) fn failed(&self, code: &'static str) {
        self.0.end(code);
    }

    /// The same, by why.
    pub(crate) fn refused(&self, failure: &RequestFailure) {
        let error = api_error(failure);
        self.failed(error.code.unwrap_or(error.kind));
    }
}

impl Inner {
    fn end(&self, outcome: &'static str) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            let request = Request { api: self.api, outcome };
            self.shared.metrics.ended(request, self.began.elapsed());
            if let (Some(tracer), Some(span)) = (&self.shared.tracer, &self.span) {
                let first_text = match self.first_text_us.load(Ordering::Relaxed) {
                    0 => None,
                    us => Some(Duration::from_micros(us)),
                };
                span.end(tracer, outcome, first_text, self.began.elapsed());
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end("left");
    }
}

/// An endpoint, as figures and traces name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Api {
    pub name: &'static str,
    /// In the words of the semantic conventions for generative AI.
    pub operation: &'static str,
}

impl Api {
    /// The web page's chat box.
    pub(crate) const PAGE: Api = Api { name: "page", operation: "chat" };
}

impl From<Dialect> for Api {
    fn from(dialect: Dialect) -> Api {
        let (name, operation) = match dialect {
            Dialect::OpenAi(openai::Kind::Chat) => ("chat_completions", "chat"),
            Dialect::OpenAi(openai::Kind::Text) => ("completions", "text_completion"),
            Dialect::Responses => ("responses", "chat"),
            Dialect::Ollama(ollama::Kind::Chat) => ("ollama_chat", "chat"),
            Dialect::Ollama(ollama::Kind::Generate) => ("ollama_generate", "text_completion"),
            Dialect::Anthropic => ("messages", "chat"),
        };
        Api { name, operation }
    }
}

impl From<Endpoint> for Api {
    fn from(endpoint: Endpoint) -> Api {
        let name = match endpoint {
            Endpoint::OpenAi => "embeddings",
            Endpoint::Ollama => "ollama_embed",
            Endpoint::OllamaSingle => "ollama_embeddings",
        };
        Api { name, operation: "embeddings" }
    }
}

/// Everything, in Prometheus' text format.
pub(crate) fn render(shared: &Shared) -> String {
    let gauge = |value: usize| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge
    };
    let metrics = &shared.metrics;
    let mut registry = Registry::default();
    registry.register(
        "peerwatt_requests",
        "Requests of clients, by API and what became of them: answered, left, or the code of the error",
        metrics.requests.clone(),
    );
    registry.register(
        "peerwatt_attempts",
        "Orders to providers, by what became of them",
        metrics.attempts.clone(),
    );
    registry.register(
        "peerwatt_tokens",
        "Tokens read and delivered, as billed",
        metrics.tokens.clone(),
    );
    registry.register(
        "peerwatt_billed_nano_usd",
        "Taken from the budgets of keys",
        metrics.billed_nusd.clone(),
    );
    registry.register(
        "peerwatt_continuations",
        "Answers that broke off, by whether another provider went on",
        metrics.continuations.clone(),
    );
    registry.register(
        "peerwatt_hedges",
        "Second providers that were asked because the first was late, by which was faster",
        metrics.hedges.clone(),
    );
    registry.register(
        "peerwatt_replayed_tokens",
        "Tokens that were drawn again from what was reported with them, by what came of it",
        metrics.replayed.clone(),
    );
    registry.register(
        "peerwatt_replays",
        "Answers whose tokens were drawn again, by what follows for their provider",
        metrics.findings.clone(),
    );
    registry.register_with_unit(
        "gen_ai_server_request_duration",
        "From a request to the end of its answer, of those that were answered",
        Unit::Seconds,
        metrics.duration.clone(),
    );
    registry.register_with_unit(
        "gen_ai_server_time_to_first_token",
        "From a request to the first text for its client",
        Unit::Seconds,
        metrics.first_token.clone(),
    );
    registry.register_with_unit(
        "gen_ai_server_time_per_output_token",
        "Between two tokens of an answer, on average over it",
        Unit::Seconds,
        metrics.output_token.clone(),
    );
    registry.register(
        "peerwatt_requests_in_work",
        "Requests that were let in and are not closed yet",
        gauge(usize::try_from(shared.books.in_flight()).unwrap_or(usize::MAX)),
    );
    registry.register(
        "peerwatt_providers_connected",
        "Providers that are connected",
        gauge(shared.directory.connected().len()),
    );
    registry.register(
        "peerwatt_models_offered",
        "Models that can be asked for",
        gauge(shared.models().len()),
    );
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}
