//! Traces for OpenTelemetry, where the operator names a collector: a span for each request of a client or of the
//! page's chat box, with the names of the semantic conventions for generative AI, and below it one for each order to a
//! provider. Names, counts and times; never a prompt, an answer, a stop sequence or a key.
//!
//! What is sent waits in a queue that is bounded, and is dropped while the collector is away or slow: no
//! request waits for it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, header::HOST, uri::Authority};
use market::Outcome;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use types::{
    Address, Nusd, RequestId, TimeMs,
    inference::{FinishReason, InferenceRequest, Prompt},
};
use wire::{
    api::{Billing, Usage},
    otlp::{Attribute, CollectorClient, ExportRequest, Span, SpanEvent, SpanKind},
};

use crate::{
    config::GatewayConfig,
    metrics::Api,
    session::{Closing, Ending, Terms},
};

/// Spans that wait: some seconds of a busy gateway, about a kilobyte each.
const QUEUE_MAX: usize = 4_096;
/// Spans that are sent together, and how long the first of them waits for others.
const BATCH_MAX: usize = 512;
const BATCH_WAIT: Duration = Duration::from_secs(2);
/// For what waits to be sent when the gateway stops.
const FINISH_WAIT: Duration = Duration::from_secs(5);
/// Characters of what a client chooses: the name of a model, a host.
const CHARS_MAX: usize = 200;
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const NS_PER_MS: u64 = 1_000_000;

/// A request's span, as those below it name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    trace: [u8; 16],
    span: [u8; 8],
}

/// Takes spans and has them sent.
#[derive(Debug)]
pub(crate) struct Tracer {
    queue: mpsc::Sender<Item>,
    lost: Arc<AtomicU64>,
    exporting: Mutex<Option<AbortOnDropHandle<()>>>,
}

#[derive(Debug)]
enum Item {
    Span(Box<Span>),
    Finish,
}

impl Tracer {
    /// `resource` says which gateway it is.
    pub(crate) fn start(collector: CollectorClient, resource: Vec<Attribute>) -> Tracer {
        let (queue, items) = mpsc::channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let exporting = tokio::spawn(export(collector, resource, items, Arc::clone(&lost)));
        let exporting = Mutex::new(Some(AbortOnDropHandle::new(exporting)));
        Tracer { queue, lost, exporting }
    }

    /// The span of a request that has just come. `None`: its client has it traced nowhere.
    pub(crate) fn request(
        &self,
        now: TimeMs,
        api: Api,
        id: RequestId,
        headers: &HeaderMap,
    ) -> Option<RequestSpan> {
        let parent = headers.get(TRACEPARENT).and_then(|value| parent(value.to_str().ok()?));
        if parent.is_some_and(|parent| !parent.sampled) {
            return None;
        }
        // Without a trace of its client, a request can be found by its own id.
        let trace = parent.map_or(id.0, |parent| parent.place.trace);
        let place = Place { trace, span: span_id() };
        let Api { name, operation } = api;
        let mut span = Span {
            trace_id: trace.to_vec(),
            span_id: place.span.to_vec(),
            parent_span_id: parent.map(|parent| parent.place.span.to_vec()).unwrap_or_default(),
            name: operation.to_owned(),
            kind: SpanKind::Server.into(),
            start_unix_ns: now.0.saturating_mul(NS_PER_MS),
            ..Span::default()
        };
        span.set("gen_ai.operation.name", operation);
        span.set("gen_ai.provider.name", "peerwatt");
        span.set("gen_ai.response.id", id.to_string());
        span.set("peerwatt.api", name);
        let host: Option<Authority> =
            headers.get(HOST).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(host) = host {
            span.set("server.address", cut(host.host()));
            if let Some(port) = host.port_u16() {
                span.set("server.port", u32::from(port));
            }
        }
        Some(RequestSpan { place, operation, draft: Mutex::new(Draft { span, stream: false }) })
    }

    /// An order to a provider that is over.
    pub(crate) fn attempt(&self, place: Place, attempt: &AttemptSpan<'_>) {
        let AttemptSpan { terms, closing, outcome, start_unix_ns, .. } = *attempt;
        let at = |ms: u64| start_unix_ns.saturating_add(ms.saturating_mul(NS_PER_MS));
        let mut span = Span {
            trace_id: place.trace.to_vec(),
            span_id: span_id().to_vec(),
            parent_span_id: place.span.to_vec(),
            name: "peerwatt.attempt".to_owned(),
            kind: SpanKind::Client.into(),
            start_unix_ns,
            end_unix_ns: at(attempt.total_ms),
            ..Span::default()
        };
        span.set("peerwatt.request_id", terms.request_id.to_string());
        span.set("peerwatt.attempt", u32::from(terms.attempt));
        span.set("peerwatt.provider", terms.provider.to_string());
        span.set("peerwatt.model_id", terms.model.to_string());
        span.set("peerwatt.outcome", outcome_name(outcome));
        span.set("peerwatt.prompt_tokens", closing.prompt_tokens);
        span.set("peerwatt.delivered_tokens", closing.delivered);
        span.set("peerwatt.charge_nano_usd", nano_usd(closing.charge));
        span.set("peerwatt.billed_nano_usd", nano_usd(attempt.billed));
        if let Some(ms) = attempt.accepted_ms {
            span.events.push(SpanEvent { unix_ns: at(ms), name: "accepted".to_owned() });
        }
        if let Some(ms) = attempt.first_token_ms {
            span.set("peerwatt.time_to_first_token", Duration::from_millis(ms).as_secs_f64());
            span.events.push(SpanEvent { unix_ns: at(ms), name: "first_token".to_owned() });
        }
        match &closing.ending {
            Ending::Finished(_) | Ending::ClientGone => {}
            Ending::Refused(_) => span.fail("refused"),
            Ending::Failed(_) => span.fail("failed"),
        }
        self.offer(span);
    }

    /// Sends what waits, for as long as a stop may take.
    pub(crate) async fn finish(&self) {
        let exporting = self.exporting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(exporting) = exporting else { return };
        let finish = async {
            // An exporter that is gone sends nothing.
            let _ = self.queue.send(Item::Finish).await;
            let _ = exporting.await;
        };
        if timeout(FINISH_WAIT, finish).await.is_err() {
            tracing::warn!("traces.cut: the collector takes too long, the last spans are not sent");
        }
    }

    fn offer(&self, span: Span) {
        if self.queue.try_send(Item::Span(Box::new(span))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What is known of an order when it is over.
#[derive(Clone, Copy)]
pub(crate) struct AttemptSpan<'a> {
    pub terms: &'a Terms,
    pub closing: &'a Closing,
    pub outcome: Outcome,
    pub billed: Nusd,
    pub start_unix_ns: u64,
    /// Since then.
    pub accepted_ms: Option<u64>,
    pub first_token_ms: Option<u64>,
    pub total_ms: u64,
}

/// The span of a request, until it ends.
#[derive(Debug)]
pub(crate) struct RequestSpan {
    place: Place,
    operation: &'static str,
    draft: Mutex<Draft>,
}

#[derive(Debug, Default)]
struct Draft {
    span: Span,
    stream: bool,
}

impl RequestSpan {
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// What the client asks for.
    pub(crate) fn asked(&self, model: &str, request: &InferenceRequest, stream: bool) {
        let Draft { span, stream: is_stream } = &mut *self.lock();
        *is_stream = stream;
        let model = cut(model);
        span.name = format!("{} {model}", self.operation);
        span.set("gen_ai.request.model", model);
        span.set("gen_ai.request.stream", stream);
        if let Prompt::Inputs(inputs) = &request.prompt {
            if let Some(count) = inputs.dimensions {
                span.set("gen_ai.embeddings.dimension.count", count);
            }
            return;
        }
        let form = if request.form.is_some() { "json" } else { "text" };
        span.set("gen_ai.output.type", form);
        if let Some(tokens) = request.tokens_max {
            span.set("gen_ai.request.max_tokens", tokens);
        }
        let sampling = &request.sampling;
        for (key, micros) in [
            ("gen_ai.request.temperature", sampling.temperature_micros.map(f64::from)),
            ("gen_ai.request.top_p", sampling.top_p_micros.map(f64::from)),
            ("gen_ai.request.presence_penalty", sampling.presence_penalty_micros.map(f64::from)),
            ("gen_ai.request.frequency_penalty", sampling.frequency_penalty_micros.map(f64::from)),
        ] {
            if let Some(micros) = micros {
                span.set(key, micros / 1e6);
            }
        }
        if let Some(count) = sampling.top_k {
            span.set("gen_ai.request.top_k", count);
        }
        if let Some(seed) = sampling.seed.and_then(|seed| i64::try_from(seed).ok()) {
            span.set("gen_ai.request.seed", seed);
        }
    }

    /// What became of it, as far as it came; of a whole one, whether tools were called.
    pub(crate) fn closed(
        &self,
        usage: Usage,
        billing: &Billing,
        finish: Option<(FinishReason, bool)>,
    ) {
        let span = &mut self.lock().span;
        span.set("gen_ai.response.model", billing.model.to_string());
        span.set("gen_ai.usage.input_tokens", usage.prompt_tokens);
        span.set("gen_ai.usage.output_tokens", usage.completion_tokens);
        span.set("peerwatt.cost_nano_usd", nano_usd(billing.cost));
        span.set("peerwatt.provider", billing.provider.to_string());
        if let Some((finish, has_calls)) = finish {
            let name = match (finish, has_calls) {
                (FinishReason::Stop, true) => "tool_calls",
                _ => finish_name(finish),
            };
            span.set("gen_ai.response.finish_reasons", [name]);
        }
    }

    /// Sends it, once. `outcome` is `answered`, `left`, or the code of an error.
    pub(crate) fn end(
        &self,
        tracer: &Tracer,
        outcome: &str,
        first_text: Option<Duration>,
        took: Duration,
    ) {
        let Draft { mut span, stream } = std::mem::take(&mut *self.lock());
        span.end_unix_ns = span.start_unix_ns.saturating_add(nanos(took));
        if let Some(first_text) = first_text.filter(|_| stream) {
            span.set("gen_ai.response.time_to_first_chunk", first_text.as_secs_f64());
        }
        span.set("peerwatt.outcome", outcome);
        match outcome {
            "answered" | "left" => {}
            code => span.fail(code),
        }
        tracer.offer(span);
    }

    fn lock(&self) -> MutexGuard<'_, Draft> {
        // Attributes are added whole.
        self.draft.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which gateway speaks.
pub(crate) fn resource(config: &GatewayConfig, operator: Address) -> Vec<Attribute> {
    vec![
        Attribute::new("service.name", "peerwatt-gateway"),
        Attribute::new("service.version", env!("CARGO_PKG_VERSION")),
        Attribute::new("service.instance.id", operator.to_string()),
        Attribute::new("peerwatt.network", config.chain_id.to_string()),
    ]
}

/// When something began that began after `began`, which was at `at`.
pub(crate) fn unix_ns(at: TimeMs, began: Instant, then: Instant) -> u64 {
    let later = nanos(then.saturating_duration_since(began));
    at.0.saturating_mul(NS_PER_MS).saturating_add(later)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn nano_usd(amount: Nusd) -> i64 {
    i64::try_from(amount.0).unwrap_or(i64::MAX)
}

fn cut(text: &str) -> String {
    text.chars().take(CHARS_MAX).collect()
}

/// A number that no other span of the trace has. Without randomness spans lose their order, and nothing else.
fn span_id() -> [u8; 8] {
    let mut bytes = [0; 8];
    let _ = getrandom::fill(&mut bytes);
    bytes
}

fn finish_name(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Cancelled => "cancelled",
        FinishReason::Failed => "error",
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Served { .. } | Outcome::ServedWhole => "served",
        Outcome::Failed => "failed",
        Outcome::Cut => "cut",
        Outcome::Untrue => "untrue",
        Outcome::Busy { .. } => "busy",
        Outcome::Neutral => "neutral",
    }
}

/// What a client says of its own trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Parent {
    place: Place,
    sampled: bool,
}

/// Reads `traceparent` (W3C Trace Context, level 1). `None`: it says nothing that can be used, and the request
/// begins a trace of its own.
fn parent(text: &str) -> Option<Parent> {
    let mut parts = text.split('-');
    let mut part = |digits: usize| {
        let part = parts.next()?;
        let is_hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (part.len() == digits && is_hex).then_some(part)
    };
    let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    // What a later version appends is for those who know it.
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let trace: u128 = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    let span: u64 = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    Some(Parent { place: Place { trace: trace.to_be_bytes(), span: span.to_be_bytes() }, sampled })
}

/// Sends spans in batches until told to finish.
async fn export(
    collector: CollectorClient,
    resource: Vec<Attribute>,
    mut items: mpsc::Receiver<Item>,
    lost: Arc<AtomicU64>,
) {
    let mut trouble = Trouble::default();
    let mut finishing = false;
    while !finishing {
        let mut batch = Vec::new();
        let mut next = items.recv().await;
        let sent_at = Instant::now() + BATCH_WAIT;
        loop {
            match next {
                Some(Item::Span(span)) => batch.push(*span),
                Some(Item::Finish) | None => {
                    finishing = true;
                    break;
                }
            }
            if batch.len() >= BATCH_MAX {
                break;
            }
            next = match timeout_at(sent_at, items.recv()).await {
                Ok(next) => next,
                Err(_) => break,
            };
        }
        if batch.is_empty() {
            continue;
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        let request = ExportRequest::new(name, version, resource.clone(), batch);
        let sent = collector.send(&request).await;
        if sent.is_err() {
            lost.fetch_add(count, Ordering::Relaxed);
        }
        let lost = lost.load(Ordering::Relaxed);
        match (trouble.note(lost), sent) {
            (Some(News::Begins), Err(error)) => {
                let error = std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
                tracing::warn!(
                    error,
                    "traces.lost: spans are dropped until the collector takes them"
                );
            }
            (Some(News::Begins), Ok(())) => {
                tracing::warn!(lost, "traces.lost: the collector takes fewer spans than there are");
            }
            (Some(News::Ends), _) => tracing::info!(lost, "traces.sent_again"),
            (None, _) => {}
        }
    }
}

/// Whether spans are being lost: said when it begins and when it ends, and not each time.
#[derive(Debug, Default)]
struct Trouble {
    lost: u64,
    is_on: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    Begins,
    Ends,
}

impl Trouble {
    fn note(&mut self, lost: u64) -> Option<News> {
        let was_on = std::mem::replace(&mut self.is_on, lost > self.lost);
        self.lost = lost;
        match (was_on, self.is_on) {
            (false, true) => Some(News::Begins),
            (true, false) => Some(News::Ends),
            (true, true) | (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_of_a_client_is_read() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parsed = parent(&format!("00-{trace}-00f067aa0ba902b7-01")).unwrap();
        assert_eq!(types::hash::to_hex(&parsed.place.trace), trace);
        assert_eq!(types::hash::to_hex(&parsed.place.span), "00f067aa0ba902b7");
        assert!(parsed.sampled);
        assert!(!parent(&format!("00-{trace}-00f067aa0ba902b7-02")).unwrap().sampled);
        assert!(parent(&format!("01-{trace}-00f067aa0ba902b7-01-more")).is_some());
        for bad in [
            String::new(),
            trace.to_owned(),
            format!("00-{trace}-00f067aa0ba902b7"),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-00f067aa0ba902b7-é1"),
        ] {
            assert_eq!(parent(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_collector_that_is_away_is_said_once() {
        let mut trouble = Trouble::default();
        let said: Vec<_> = [0, 5, 9, 20, 20, 20, 21].map(|lost| trouble.note(lost)).into();
        let (begins, ends) = (Some(News::Begins), Some(News::Ends));
        assert_eq!(said, [None, begins, None, None, ends, None, Some(News::Begins)]);
    }

    #[test]
    fn what_the_queue_does_not_hold_is_dropped_and_counted() {
        let (queue, items) = mpsc::channel(QUEUE_MAX);
        let tracer = Tracer { queue, lost: Arc::default(), exporting: Mutex::default() };
        (0..QUEUE_MAX + 3).for_each(|_| tracer.offer(Span::default()));
        assert_eq!((items.len(), tracer.lost.load(Ordering::Relaxed)), (QUEUE_MAX, 3));
    }
}
