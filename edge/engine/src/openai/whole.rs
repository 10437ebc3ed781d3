//! An answer that is not streamed: one document, read when all of it is there.

use wire::upstream::openai::Chunk;

use super::OpenAiStream;
use crate::remote::{ANSWER_BYTES_MAX, Decode, Part, StreamError};

/// See the module.
#[derive(Default)]
pub(super) struct WholeAnswer(Vec<u8>);

impl Decode for WholeAnswer {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Part>, StreamError> {
        if self.0.len().saturating_add(bytes.len()) > ANSWER_BYTES_MAX {
            return Err(StreamError::TooLarge);
        }
        self.0.extend_from_slice(bytes);
        Ok(Vec::new())
    }

    fn finish(&mut self) -> Result<Vec<Part>, StreamError> {
        let mut parts = Vec::new();
        let mut chunk: Chunk = serde_json::from_slice(&self.0)?;
        let is_counted = chunk.usage.is_some_and(|usage| usage.completion_tokens.is_some());
        if let Some(choice) = chunk.choices.first_mut() {
            choice.delta = choice.message.take();
            let delta = choice.delta.as_mut();
            let calls = delta.and_then(|delta| delta.tool_calls.as_mut()).into_iter().flatten();
            for (index, call) in (0..).zip(calls) {
                call.index = Some(index);
            }
            if !is_counted {
                let content = choice.delta.as_mut().and_then(|delta| delta.content.take());
                let text = content.or(choice.text.take()).unwrap_or_default();
                parts.push(Part::Text(text));
            }
        }
        OpenAiStream::new(None).chunk(chunk, &mut parts)?;
        parts.push(Part::End);
        Ok(parts)
    }
}
