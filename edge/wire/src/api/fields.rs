//! Reading the fields of requests, alike in all dialects.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use types::inference::{AnswerForm, InferenceRequest};

use super::BadRequest;

/// Reads a whole document; what does not fit is named by its place.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, BadRequest> {
    let mut parser = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
        let path = error.path().to_string();
        let param = (path != ".").then_some(path);
        refusal(param, &error.into_inner())
    })?;
    parser.end().map_err(|error| refusal(None, &error))?;
    Ok(value)
}

/// What the client is told about an error of the parser at this place.
pub(super) fn refusal(param: Option<String>, error: &serde_json::Error) -> BadRequest {
    let text = error.to_string();
    let message = if error.is_data() {
        // The place in the document is known; line and column help nobody.
        let problem = text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
        // The names of all that there is would be a long list.
        let problem = match problem.split_once(", expected") {
            Some((unknown, _)) if unknown.starts_with("unknown field") => unknown,
            _ => problem,
        };
        match &param {
            Some(param) => format!("{param}: {problem}"),
            None => problem.to_owned(),
        }
    } else {
        format!("the body is not valid JSON: {text}")
    };
    BadRequest { param, message }
}

/// A field that cannot be honoured: only a value that asks for nothing is taken.
#[derive(Debug, Default)]
pub(super) struct Unsupported;

impl<'de> Deserialize<'de> for Unsupported {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unsupported, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let asks_for_nothing = match &value {
            serde_json::Value::Null => true,
            serde_json::Value::Bool(value) => !value,
            serde_json::Value::String(text) => text.is_empty(),
            serde_json::Value::Array(list) => list.is_empty(),
            serde_json::Value::Object(map) => map.is_empty(),
            serde_json::Value::Number(_) => false,
        };
        if asks_for_nothing { Ok(Unsupported) } else { Err(D::Error::custom("not supported here")) }
    }
}

/// A field about how the machine runs or who asks, with which nothing is done.
#[derive(Debug, Default)]
pub(super) struct Unused;

impl<'de> Deserialize<'de> for Unused {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unused, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Unused)
    }
}

/// A number as millionths. Whether it is in its range is for the request's own check, which knows
/// the ranges; here it only has to fit.
pub(super) fn micros<T: TryFrom<i64>>(
    field: &str,
    value: Option<f64>,
) -> Result<Option<T>, BadRequest> {
    let Some(value) = value else { return Ok(None) };
    let scaled = (value * 1e6).round();
    // Far above every range and far below where a conversion could go wrong.
    let fits = scaled.abs() <= 1e12;
    #[expect(clippy::cast_possible_truncation, reason = "at most 10^12 in magnitude")]
    let fixed = fits.then_some(scaled as i64).and_then(|fixed| T::try_from(fixed).ok());
    fixed.map(Some).ok_or_else(|| BadRequest::field(field, "out of range"))
}

/// How many of the likeliest tokens a draw is among; -1 is some servers' way to say all.
pub(super) fn top_k(field: &str, value: Option<i64>) -> Result<Option<u32>, BadRequest> {
    let count = value.filter(|count| *count != -1).map(u32::try_from).transpose();
    count.map_err(|_| BadRequest::field(field, "out of range"))
}

/// The name of a model, which every dialect wants.
pub(super) fn model(name: Option<String>) -> Result<String, BadRequest> {
    name.filter(|name| !name.is_empty()).ok_or_else(|| {
        BadRequest::field("model", "give the name of a model; GET /v1/models lists them")
    })
}

/// A request within all limits. `names` are the dialect's names of fields that it calls otherwise.
pub(super) fn checked(
    request: InferenceRequest,
    names: &[(&'static str, &'static str)],
) -> Result<InferenceRequest, BadRequest> {
    match request.check() {
        Ok(()) => Ok(request),
        Err(error) => {
            let renamed = names.iter().find(|(ours, _)| *ours == error.field);
            let field = renamed.map_or(error.field, |(_, theirs)| theirs);
            Err(BadRequest::field(field, error.problem))
        }
    }
}

/// OpenAI's wish for the form of an answer. The schema lies in `json_schema` or, in the newer API, beside
/// the type. Its name and description are for the model's eyes, and engines show it neither.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FormWish {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<SchemaWish>,
    schema: Option<serde_json::Value>,
    #[serde(default, rename = "name")]
    _name: Unused,
    #[serde(default, rename = "description")]
    _description: Unused,
    /// Answers always fit.
    #[serde(default, rename = "strict")]
    _strict: Unused,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaWish {
    schema: Option<serde_json::Value>,
    #[serde(default, rename = "name")]
    _name: Unused,
    #[serde(default, rename = "description")]
    _description: Unused,
    #[serde(default, rename = "strict")]
    _strict: Unused,
}

impl FormWish {
    /// The form, or what is wrong with the wish.
    pub(super) fn form(self) -> Result<Option<AnswerForm>, &'static str> {
        let schema = self.schema.or_else(|| self.json_schema.and_then(|wish| wish.schema));
        match (self.kind.as_str(), schema) {
            ("text", None) => Ok(None),
            ("json_object", None) => Ok(Some(AnswerForm::Json)),
            ("json_schema", Some(schema)) => form_of(&schema).map(Some),
            ("json_schema", None) => Err("give the schema"),
            ("text" | "json_object", Some(_)) => Err("a schema goes with the type json_schema"),
            _ => Err("its type is text, json_object or json_schema"),
        }
    }
}

/// A JSON Schema as a form.
pub(super) fn form_of(schema: &serde_json::Value) -> Result<AnswerForm, &'static str> {
    if schema.is_object() {
        Ok(AnswerForm::Schema(schema.to_string()))
    } else {
        Err("a JSON Schema is an object")
    }
}

/// A string or a list of strings.
#[derive(Debug, Default)]
pub(super) struct Texts(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a string or a list of strings")]
        enum Given {
            One(String),
            Several(Vec<String>),
        }
        Ok(Texts(match Given::deserialize(deserializer)? {
            Given::One(text) => vec![text],
            Given::Several(texts) => texts,
        }))
    }
}

/// The text of a message: a string, or a list of parts that are all text.
#[derive(Debug, Default)]
pub(super) struct Content(pub(super) String);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Content, D::Error> {
        struct Parts;
        impl<'de> serde::de::Visitor<'de> for Parts {
            type Value = String;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or a list of text parts")
            }

            fn visit_str<E>(self, text: &str) -> Result<String, E> {
                Ok(text.to_owned())
            }

            fn visit_string<E>(self, text: String) -> Result<String, E> {
                Ok(text)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut parts: A,
            ) -> Result<String, A::Error> {
                let mut whole = String::new();
                while let Some(Part { kind, text }) = parts.next_element()? {
                    match (kind.as_str(), text) {
                        ("text" | "input_text" | "output_text", Some(text)) => whole += &text,
                        ("text" | "input_text" | "output_text", None) => {
                            return Err(A::Error::missing_field("text"));
                        }
                        _ => return Err(A::Error::custom("only text parts are supported here")),
                    }
                }
                Ok(whole)
            }
        }
        deserializer.deserialize_any(Parts).map(Content)
    }
}

/// A part of a message. What else it says (where a cache may cut it, what it quotes) changes no answer.
#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}
