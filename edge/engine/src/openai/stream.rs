//! Chunks of an answer, from server-sent events to what they say.

use types::{
    inference::{Alternative, FinishReason, Span, TokenPiece},
    limits,
};
use wire::upstream::openai::{CallDelta, Chunk, Logprob, ServerError};

use crate::{
    lines::Events,
    remote::{self, Decode, Part, StreamError, chunk_pieces},
};

/// Tokens told of before the text that they make. llama-server holds back at most a stop sequence.
const AHEAD_MAX: usize = 1_024;

/// Understands server-sent events with chunks of an answer.
pub(super) struct OpenAiStream {
    events: Events,
    logprobs: Option<u8>,
    /// Tokens that were told of, and whose text has not come yet.
    ahead: Vec<Logprob>,
    /// A token came that has no bytes, so that it is not delivered: what comes after it cannot be run again by its ids.
    is_lost: bool,
    /// The call that is being made.
    call: Option<Call>,
}

struct Call {
    index: u32,
    id: Option<String>,
    has_arguments: bool,
}

impl Decode for OpenAiStream {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Part>, StreamError> {
        let mut parts = Vec::new();
        // Taken out, for events are given to `self`.
        let mut events = std::mem::take(&mut self.events);
        events.push(bytes, |event| self.event(event, &mut parts))?;
        self.events = events;
        Ok(parts)
    }

    fn finish(&mut self) -> Result<Vec<Part>, StreamError> {
        let mut parts = Vec::new();
        if let Some(event) = self.events.finish()? {
            self.event(&event, &mut parts)?;
        }
        Ok(parts)
    }
}

impl OpenAiStream {
    pub(super) fn new(logprobs: Option<u8>) -> OpenAiStream {
        OpenAiStream {
            events: Events::default(),
            logprobs,
            ahead: Vec::new(),
            is_lost: false,
            call: None,
        }
    }

    fn event(&mut self, event: &[u8], parts: &mut Vec<Part>) -> Result<(), StreamError> {
        if event.trim_ascii() == b"[DONE]" {
            parts.push(Part::End);
            return Ok(());
        }
        self.chunk(serde_json::from_slice(event)?, parts)
    }

    pub(super) fn chunk(&mut self, chunk: Chunk, parts: &mut Vec<Part>) -> Result<(), StreamError> {
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            return Err(StreamError::Told(ServerError::of(&error).message));
        }
        // One choice was asked for.
        if let Some(choice) = chunk.choices.into_iter().next() {
            let (content, calls) =
                choice.delta.map_or((None, None), |delta| (delta.content, delta.tool_calls));
            let text = content.or(choice.text);
            let text = text.unwrap_or_default().into_bytes();
            match self.logprobs {
                // Most of them: the text is the piece.
                None if (1..=limits::TOKEN_BYTES_MAX).contains(&text.len()) => {
                    parts.push(Part::Piece(TokenPiece { bytes: text, ..TokenPiece::default() }));
                }
                None => parts.extend(chunk_pieces(&text).map(Part::Piece)),
                Some(count) => {
                    let tokens = choice.logprobs.map(|logprobs| logprobs.into_tokens());
                    let pieces = self.pieces(text, tokens.unwrap_or_default(), count);
                    parts.extend(pieces.into_iter().map(Part::Piece));
                }
            }
            for call in calls.into_iter().flatten() {
                self.call(call, parts)?;
            }
            if let Some(finish) = choice.finish_reason {
                self.end_call(parts);
                parts.push(Part::Finish(finish_reason(&finish)?));
            }
        }
        if let Some(usage) = chunk.usage {
            let (prompt_tokens, completion_tokens) = (usage.prompt_tokens, usage.completion_tokens);
            parts.push(Part::Usage { prompt_tokens, completion_tokens });
        }
        Ok(())
    }

    fn call(&mut self, delta: CallDelta, parts: &mut Vec<Part>) -> Result<(), StreamError> {
        let function = delta.function.unwrap_or_default();
        let name = function.name.filter(|name| !name.is_empty());
        let current = self.call.as_ref().map(|call| call.index);
        let index = delta.index.or(current).unwrap_or(0);
        let id = delta.id.filter(|id| !id.is_empty() && id.len() <= limits::TOOL_NAME_BYTES_MAX);
        // Some services say no index, or the same of all calls.
        let is_another = name.is_some()
            && self.call.as_ref().is_some_and(|call| {
                call.id.as_ref().zip(id.as_ref()).is_some_and(|(open, new)| open != new)
            });
        if is_another || current.is_none_or(|current| current < index) {
            let name = name.filter(|name| name.len() <= limits::TOOL_NAME_BYTES_MAX);
            let unnamed = || StreamError::Told("a call without the name of a tool".to_owned());
            self.end_call(parts);
            parts.push(Part::Call(name.ok_or_else(unnamed)?));
            self.call = Some(Call { index, id, has_arguments: false });
        } else if current != Some(index) {
            return Err(StreamError::Told("more of a call that had ended".to_owned()));
        }
        if let Some(arguments) = function.arguments.filter(|arguments| !arguments.is_empty()) {
            parts.push(Part::Arguments(arguments));
            if let Some(call) = &mut self.call {
                call.has_arguments = true;
            }
        }
        Ok(())
    }

    /// Some servers say nothing where there are no arguments.
    fn end_call(&mut self, parts: &mut Vec<Part>) {
        if self.call.take().is_some_and(|call| !call.has_arguments) {
            parts.push(Part::Arguments("{}".to_owned()));
        }
    }

    /// A piece per token where the tokens told of so far begin with the text, else the text as it
    /// came, without ids: a token must never be said to have bytes that it has not.
    fn pieces(&mut self, text: Vec<u8>, tokens: Vec<Logprob>, alternatives: u8) -> Vec<TokenPiece> {
        self.ahead.extend(tokens.into_iter().take(AHEAD_MAX.saturating_sub(self.ahead.len())));
        if text.is_empty() {
            return Vec::new();
        }
        let mut rest = text.as_slice();
        let covering = self.ahead.iter().take_while(|token| {
            let begins = !rest.is_empty() && rest.starts_with(token.bytes());
            if begins {
                rest = rest.get(token.bytes().len()..).unwrap_or_default();
            }
            begins
        });
        let covering = covering.count();
        if !rest.is_empty() {
            self.ahead.clear();
            return chunk_pieces(&text).collect();
        }
        let mut pieces = Vec::with_capacity(covering);
        for token in self.ahead.drain(..covering) {
            match piece(&token, alternatives) {
                Some(piece) if self.is_lost => pieces.push(TokenPiece { id: None, ..piece }),
                Some(piece) => pieces.push(piece),
                None => self.is_lost = true,
            }
        }
        pieces
    }
}

/// `None` for a token without bytes, which is none.
fn piece(token: &Logprob, alternatives: u8) -> Option<TokenPiece> {
    let micros = |token: &Logprob| token.logprob.map(remote::to_micros);
    let alternative = |token: &Logprob| {
        let bytes = token.bytes().to_vec();
        Some(Alternative { id: token.id, bytes, logprob_micros: micros(token)? })
    };
    let bytes = token.bytes().to_vec();
    let tops = token.top_logprobs.iter().take(alternatives.into());
    (1..=limits::TOKEN_BYTES_MAX).contains(&bytes.len()).then(|| TokenPiece {
        span: Span::Text,
        id: token.id,
        bytes,
        logprob_micros: micros(token),
        alternatives: tops.filter_map(alternative).collect(),
        projection: None,
    })
}

fn finish_reason(told: &str) -> Result<FinishReason, StreamError> {
    match told {
        "stop" | "eos" | "stop_sequence" | "end_turn" | "tool_calls" | "function_call" => {
            Ok(FinishReason::Stop)
        }
        "length" | "max_tokens" => Ok(FinishReason::Length),
        other => {
            let other: String = other.chars().take(64).collect();
            Err(StreamError::Told(format!("it finished because of `{other}`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::upstream::openai::FunctionDelta;

    use super::*;

    fn token(id: u32, bytes: &[u8]) -> Logprob {
        let token = String::from_utf8_lossy(bytes).into_owned();
        let bytes = Some(bytes.to_vec());
        Logprob { id: Some(id), token, bytes, logprob: Some(-1.0), top_logprobs: Vec::new() }
    }

    /// The text of a chunk, and the tokens that come with it.
    type Step<'a> = (&'a str, &'a [(u32, &'a [u8])]);

    fn check(steps: &[Step<'_>], expected: &[(Option<u32>, &[u8])]) {
        let mut stream = OpenAiStream::new(Some(0));
        let mut got = Vec::new();
        for (text, tokens) in steps {
            let tokens = tokens.iter().map(|(id, bytes)| token(*id, bytes)).collect();
            got.extend(stream.pieces(text.as_bytes().to_vec(), tokens, 0));
        }
        let got: Vec<(Option<u32>, &[u8])> =
            got.iter().map(|piece| (piece.id, piece.bytes.as_slice())).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_token_is_named_only_with_its_own_bytes() {
        check(&[(" a", &[(1, b" a")]), ("b", &[(2, b"b")])], &[(Some(1), b" a"), (Some(2), b"b")]);
        // A character in three byte tokens, whose text comes with the last.
        check(
            &[("", &[(1, b"\xe2")]), ("", &[(2, b"\x82")]), ("€", &[(3, b"\xac")])],
            &[(Some(1), b"\xe2"), (Some(2), b"\x82"), (Some(3), b"\xac")],
        );
        // Text was held back and its tokens were not told.
        check(&[("one", &[(3, b"e")])], &[(None, b"one")]);
        check(&[("a", &[]), ("b", &[(2, b"b")])], &[(None, b"a"), (Some(2), b"b")]);
        // One that is not delivered.
        check(&[("ab", &[(1, b"a"), (2, b""), (3, b"b")])], &[(Some(1), b"a"), (None, b"b")]);
        // A character that was never completed.
        check(&[("\u{fffd}", &[(1, b"\xe2")])], &[(None, "\u{fffd}".as_bytes())]);
    }

    /// Index, id, name and arguments of a part of a call.
    type Told<'a> = (Option<u32>, Option<&'a str>, Option<&'a str>, &'a str);

    #[test]
    fn calls_are_told_apart_by_index_or_id() {
        let check = |deltas: &[Told<'_>], expected: &str| {
            let mut stream = OpenAiStream::new(None);
            let mut parts = Vec::new();
            for (index, id, name, arguments) in deltas {
                let function = FunctionDelta {
                    name: name.map(str::to_owned),
                    arguments: Some((*arguments).to_owned()),
                };
                let (index, id) = (*index, id.map(str::to_owned));
                let delta = CallDelta { index, id, function: Some(function) };
                stream.call(delta, &mut parts).unwrap();
            }
            let told = parts.iter().map(|part| match part {
                Part::Call(name) => format!("[{name}]"),
                Part::Arguments(text) => text.clone(),
                other => format!("{other:?}"),
            });
            assert_eq!(told.collect::<String>(), expected);
        };
        let one = (Some(0), Some("a"), Some("f"), "1");
        check(
            &[one, (Some(0), None, None, "2"), (Some(1), Some("b"), Some("g"), "3")],
            "[f]12[g]3",
        );
        // Without an index, or with the same.
        check(&[(None, Some("a"), Some("f"), "1"), (None, Some("b"), Some("g"), "2")], "[f]1[g]2");
        check(&[one, (Some(0), Some("b"), Some("f"), "2")], "[f]1[f]2");
        // Some say id and name with each part.
        check(&[one, (Some(0), Some("a"), Some("f"), "2")], "[f]12");
        check(&[one, (None, None, None, "2")], "[f]12");
    }

    proptest! {
        #[test]
        fn whatever_is_told_of_tokens_the_text_is_delivered(
            steps in prop::collection::vec(
                ("[ab]{0,3}", prop::collection::vec("[ab]{0,2}", 0..3)), 0..12),
        ) {
            let mut stream = OpenAiStream::new(Some(1));
            let mut delivered = Vec::new();
            for (text, tokens) in &steps {
                let tokens = tokens.iter().map(|text| token(7, text.as_bytes())).collect();
                for piece in stream.pieces(text.clone().into_bytes(), tokens, 1) {
                    prop_assert!(!piece.bytes.is_empty());
                    delivered.extend(piece.bytes);
                }
            }
            let whole: String = steps.iter().map(|(text, _)| text.as_str()).collect();
            prop_assert_eq!(String::from_utf8(delivered).unwrap(), whole);
        }
    }
}
