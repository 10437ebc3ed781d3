//! What the tests of all dialects share.

use bytes::BytesMut;
use expect_test::Expect;
use types::{
    Address, ModelId, Nusd, RequestId, TimeMs,
    inference::{Alternative, FinishReason, Span, TokenPiece},
};

use super::{Answer, ApiError, BadRequest, Billing, Dialect, Head, StreamWriter, Usage};

pub(super) static BILLING: Billing = Billing {
    request_id: RequestId([0xab; 16]),
    cost: Nusd(1_234),
    provider: Address([1; 20]),
    upstream: None,
    earlier: Vec::new(),
    model: ModelId([2; 32]),
};
pub(super) const AWKWARD: &str = "a\"b\\c\n\r\t\u{1}ü😀\u{2028}";

pub(super) fn check(dialect: Dialect, body: &str, expect: Expect) {
    let shown = match dialect.parse(body.as_bytes()) {
        Ok(request) => format!("{request:#?}"),
        Err(BadRequest { param, message }) => {
            format!("param {}: {message}", param.as_deref().unwrap_or("-"))
        }
    };
    expect.assert_eq(&shown);
}

/// What is said about each body, a line each.
pub(super) fn refused(dialect: Dialect, bodies: &[&str], expect: Expect) {
    let mut lines = String::new();
    for body in bodies {
        match dialect.parse(body.as_bytes()) {
            Ok(_) => lines += &format!("accepted: {body}\n"),
            Err(BadRequest { param, message }) => {
                lines += &format!("{}: {message}\n", param.as_deref().unwrap_or("-"));
            }
        }
    }
    expect.assert_eq(&lines);
}

pub(super) fn head() -> Head<'static> {
    Head { id: RequestId([0xab; 16]), created: TimeMs(1_700_000_000_000), model: "llama \"8b\"" }
}

pub(super) fn piece(bytes: &[u8], logprob_micros: i32) -> TokenPiece {
    let other = Alternative { id: Some(9), bytes: b"other".to_vec(), logprob_micros: -12_345_678 };
    TokenPiece {
        span: Span::Text,
        id: Some(1),
        bytes: bytes.to_vec(),
        logprob_micros: Some(logprob_micros),
        alternatives: vec![other],
        projection: None,
    }
}

pub(super) fn answer<'a>(
    text: &'a str,
    pieces: Option<&'a [TokenPiece]>,
    finish: FinishReason,
) -> Answer<'a> {
    Answer {
        text,
        pieces,
        calls: &[],
        finish,
        usage: Usage { prompt_tokens: 12, completion_tokens: 3 },
        billing: &BILLING,
        first_token_ms: 20,
        total_ms: 150,
    }
}

/// The text must be JSON that any parser reads, and is shown as it is.
pub(super) fn check_json(body: &[u8], expect: Expect) {
    let text = std::str::from_utf8(body).unwrap();
    serde_json::from_str::<serde_json::Value>(text).unwrap();
    expect.assert_eq(text);
}

/// A whole stream: its beginning, two texts, its end.
pub(super) fn streamed(dialect: Dialect, finish: FinishReason) -> String {
    let mut writer = StreamWriter::new(dialect, head(), true);
    let mut out = BytesMut::new();
    writer.begin(&mut out);
    writer.text(&mut out, AWKWARD, None);
    writer.text(&mut out, "b", Some(&[piece(b"b", -7)]));
    writer.end(&mut out, &answer("", None, finish));
    String::from_utf8(out.to_vec()).unwrap()
}

/// A stream that fails at once.
pub(super) fn failed(dialect: Dialect) -> String {
    let mut writer = StreamWriter::new(dialect, head(), true);
    let mut out = BytesMut::new();
    writer.fail(&mut out, &error(502), &BILLING);
    String::from_utf8(out.to_vec()).unwrap()
}

pub(super) fn error(status: u16) -> ApiError {
    ApiError {
        status,
        message: "no \"x\"".into(),
        kind: "server_error",
        param: None,
        code: Some("provider_failed"),
        retry_after_ms: None,
    }
}
