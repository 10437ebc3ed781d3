//! Spans as a collector of OpenTelemetry takes them: OTLP over HTTP with protobuf bodies
//! (<https://opentelemetry.io/docs/specs/otlp/>), as much of it as a gateway says. The field numbers are those of
//! `opentelemetry/proto/trace/v1/trace.proto`; the fixture in the tests was read by the official crate.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use prost::Message;
use reqwest::{
    Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};

/// A collector that takes longer is one that is away.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Where spans go.
#[derive(Clone, PartialEq, Eq)]
pub struct Collector {
    url: Url,
    headers: HeaderMap,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("host", &self.host()).finish_non_exhaustive()
    }
}

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    #[error("a collector has an address such as http://127.0.0.1:4318")]
    Url,
    #[error("headers for the collector are written NAME=VALUE, with commas between them")]
    Headers,
    #[error("cannot prepare the HTTP client")]
    Client { source: reqwest::Error },
    #[error("the collector is not reached")]
    Send { source: reqwest::Error },
    #[error("the collector answers {status}")]
    Answer { status: u16 },
}

impl Collector {
    /// `url` is the collector's, to which `/v1/traces` is added; `headers` are `NAME=VALUE,…`, values
    /// percent-encoded where needed, as the specification has them for `OTEL_EXPORTER_OTLP_HEADERS`.
    pub fn new(url: &str, headers: Option<&str>) -> Result<Collector, OtlpError> {
        let bad = || OtlpError::Url;
        let base = format!("{}/v1/traces", url.trim_end_matches('/'));
        let url = Url::parse(&base).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad());
        }
        let mut map = HeaderMap::new();
        let given = headers.unwrap_or_default().split(',').map(str::trim);
        for header in given.filter(|header| !header.is_empty()) {
            let (name, value) = header.split_once('=').ok_or(OtlpError::Headers)?;
            let name = HeaderName::try_from(name.trim()).map_err(|_| OtlpError::Headers)?;
            let value = percent_decode_str(value.trim()).decode_utf8();
            let value = value.map_err(|_| OtlpError::Headers)?;
            let mut value = HeaderValue::from_str(&value).map_err(|_| OtlpError::Headers)?;
            value.set_sensitive(true);
            map.insert(name, value);
        }
        map.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        Ok(Collector { url, headers: map })
    }

    /// Where it is, without what may be secret: a password in its address, its headers.
    pub fn host(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// A client that sends there.
    pub fn client(self) -> Result<CollectorClient, OtlpError> {
        let http = crate::http_client_builder()
            .timeout(SEND_TIMEOUT)
            .build()
            .map_err(|source| OtlpError::Client { source })?;
        Ok(CollectorClient { collector: self, http })
    }
}

/// Sends spans to one collector.
#[derive(Clone, Debug)]
pub struct CollectorClient {
    collector: Collector,
    http: reqwest::Client,
}

impl CollectorClient {
    pub async fn send(&self, request: &ExportRequest) -> Result<(), OtlpError> {
        let Collector { url, headers } = &self.collector;
        let sent = self.http.post(url.clone()).headers(headers.clone());
        let answer = sent.body(request.encode_to_vec()).send().await;
        let status = answer.map_err(|source| OtlpError::Send { source })?.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(OtlpError::Answer { status: status.as_u16() })
        }
    }
}

/// What one HTTP request carries: spans of one process.
#[derive(Clone, PartialEq, Message)]
pub struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

impl ExportRequest {
    /// `name` and `version` are of the program that made the spans, `resource` says which one it is.
    pub fn new(name: &str, version: &str, resource: Vec<Attribute>, spans: Vec<Span>) -> Self {
        let scope = Some(Scope { name: name.to_owned(), version: version.to_owned() });
        ExportRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes: resource }),
                scope_spans: vec![ScopeSpans { scope, spans }],
            }],
        }
    }

    /// As a collector reads it.
    pub fn read(body: &[u8]) -> Option<ExportRequest> {
        ExportRequest::decode(body).ok()
    }

    pub fn resource(&self) -> impl Iterator<Item = &Attribute> {
        self.resource_spans.iter().flat_map(|of| &of.resource).flat_map(|it| &it.attributes)
    }

    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        self.resource_spans.iter().flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans)
    }
}

/// Something that took time.
#[derive(Clone, PartialEq, Message)]
pub struct Span {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// Empty: it is the root.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(enumeration = "SpanKind", tag = "6")]
    pub kind: i32,
    #[prost(fixed64, tag = "7")]
    pub start_unix_ns: u64,
    #[prost(fixed64, tag = "8")]
    pub end_unix_ns: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<Attribute>,
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<SpanEvent>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<SpanStatus>,
}

impl Span {
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.attributes.push(Attribute::new(key, value));
    }

    pub fn fail(&mut self, error_type: &str) {
        self.set("error.type", error_type);
        self.status = Some(SpanStatus { code: STATUS_ERROR });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum SpanKind {
    Unspecified = 0,
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// Something that happened on the way.
#[derive(Clone, PartialEq, Message)]
pub struct SpanEvent {
    #[prost(fixed64, tag = "1")]
    pub unix_ns: u64,
    #[prost(string, tag = "2")]
    pub name: String,
}

const STATUS_ERROR: i32 = 2;

#[derive(Clone, PartialEq, Message)]
pub struct SpanStatus {
    /// 0 unset, 1 ok, 2 error.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

impl Attribute {
    pub fn new(key: &str, value: impl Into<Value>) -> Attribute {
        Attribute { key: key.to_owned(), value: Some(AnyValue { value: Some(value.into()) }) }
    }

    pub fn value(&self) -> Option<&Value> {
        self.value.as_ref()?.value.as_ref()
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4, 5")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    List(Values),
}

#[derive(Clone, PartialEq, Message)]
pub struct Values {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Value {
        Value::Int(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Double(value)
    }
}

impl<const N: usize> From<[&str; N]> for Value {
    fn from(texts: [&str; N]) -> Value {
        let values = texts.map(|text| AnyValue { value: Some(text.into()) });
        Value::List(Values { values: values.into() })
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Text(text) => write!(f, "{text}"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Double(value) => write!(f, "{value:?}"),
            Value::List(Values { values }) => {
                let texts: Vec<String> =
                    values.iter().flat_map(|it| &it.value).map(Value::to_string).collect();
                write!(f, "[{}]", texts.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `opentelemetry-proto` 0.33.1 read this, found nothing that it does not know, and wrote the same bytes.
    const FIXTURE: &str = "\
        0a8a020a240a220a0c736572766963652e6e616d6512120a1070656572776174742d6761746577617912e1010a100a07\
        676174657761791205302e312e3012cc010a100101010101010101010101010101010112080202020202020202220803\
        030303030303032a0663686174206d30023905000000000000004106000000000000004a0b0a047465787412030a0161\
        4a0a0a04626f6f6c120210014a120a03696e74120b18f9ffffffffffffffff014a130a06646f75626c65120921000000\
        000000e03f4a140a046c697374120c2a0a0a030a01780a030a01794a140a0a6572726f722e7479706512060a04626f6f\
        6d5a16090900000000000000120b66697273745f746f6b656e7a021802";

    #[test]
    fn spans_are_written_as_collectors_read_them() {
        let mut span = Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            parent_span_id: vec![3; 8],
            name: "chat m".into(),
            kind: SpanKind::Server.into(),
            start_unix_ns: 5,
            end_unix_ns: 6,
            ..Span::default()
        };
        span.set("text", "a");
        span.set("bool", true);
        span.set("int", -7_i64);
        span.set("double", 0.5);
        span.set("list", ["x", "y"]);
        span.events.push(SpanEvent { unix_ns: 9, name: "first_token".into() });
        span.fail("boom");
        let resource = vec![Attribute::new("service.name", "peerwatt-gateway")];
        let request = ExportRequest::new("gateway", "0.1.0", resource, vec![span]);
        let bytes = request.encode_to_vec();
        assert_eq!(types::hash::to_hex(&bytes), FIXTURE);
        assert_eq!(ExportRequest::read(&bytes), Some(request));
    }

    #[test]
    fn a_collector_is_an_address_and_headers() {
        let collector =
            Collector::new("https://example.org/otlp/", Some("a=b%20c, d = e")).unwrap();
        assert_eq!(collector.url.as_str(), "https://example.org/otlp/v1/traces");
        assert_eq!(collector.headers["a"], "b c");
        assert_eq!(collector.headers["d"], "e");
        let secret = Collector::new("http://me:word@example.org:4318", Some("a=word")).unwrap();
        assert_eq!(secret.host(), "http://example.org:4318");
        assert!(!format!("{secret:?}").contains("word"));
        for bad in ["", "localhost:4318", "ftp://example.org"] {
            assert!(matches!(Collector::new(bad, None), Err(OtlpError::Url)), "{bad}");
        }
        for bad in ["a", "a b=c", "a=%0a"] {
            let refused = Collector::new("http://127.0.0.1:4318", Some(bad));
            assert!(matches!(refused, Err(OtlpError::Headers)), "{bad}");
        }
    }
}
