//! What a GGUF file says of texts, its vocabulary and its chat template, without the weights: for a server that runs the file
//! and tells neither.

use std::{collections::HashMap, fs::File, io::BufReader, path::Path};

use types::{
    Hash32,
    inference::{ChatMessage, Prompt},
};

use super::{
    chat::ChatTemplate,
    gguf::{Header, LoadError, field, first_line},
    not_a_model, template,
    tokenizer::Tokenizer,
};
use crate::{EngineError, Vocabulary};

/// See the module.
#[derive(Debug)]
pub(crate) struct Texts {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    /// The text of the first token, which whoever reads a prompt adds by itself.
    begin: Option<String>,
    ids: HashMap<Vec<u8>, Told>,
}

/// What bytes say of an id.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// `None`: there are several, or there is none.
    id: Option<u32>,
    /// Another token has these bytes, and then the beginning of a character: cut to whole ones it is told as the same.
    is_beginning: bool,
}

impl Texts {
    /// Blocks while it reads the header of the file, which must have a chat template.
    pub(crate) fn read(path: &Path) -> Result<Texts, EngineError> {
        let read = || {
            let file = File::open(path)?;
            let bytes = file.metadata()?.len();
            let header = Header::read(&mut BufReader::new(file), bytes)?;
            if header.text("tokenizer.chat_template").is_none() {
                return field("tokenizer.chat_template", "is missing");
            }
            let tokenizer = Tokenizer::from_gguf(&header)?;
            let template = template(&header, &tokenizer)?;
            let adds_begin = !tokenizer.encode("").is_empty();
            let begin = Some(tokenizer.bos_text()).filter(|text| adds_begin && !text.is_empty());
            Ok(Texts { ids: ids(&tokenizer), tokenizer, template, begin })
        };
        read().map_err(|error: LoadError| not_a_model(&path.display().to_string(), &error))
    }

    /// The digest that the model's id has of its template.
    pub(crate) fn template_digest(&self) -> Hash32 {
        self.template.digest()
    }

    /// A chat as a prompt.
    pub(crate) fn render(&self, messages: &[ChatMessage]) -> Result<String, EngineError> {
        self.template.render(messages).map_err(|error| {
            let reason = first_line(&error.to_string());
            EngineError::BadRequest { reason: format!("its chat template says: {reason}") }
        })
    }

    /// A prompt without what is added to it when it is read.
    pub(crate) fn without_begin<'p>(&self, prompt: &'p str) -> &'p str {
        let begin = self.begin.as_deref().unwrap_or_default();
        prompt.strip_prefix(begin).unwrap_or(prompt)
    }

    /// The tokens of a prompt as the model reads it.
    pub(crate) fn tokens(&self, prompt: &Prompt) -> Result<Vec<u32>, EngineError> {
        match prompt {
            Prompt::Text(text) => Ok(self.tokenizer.encode(text)),
            Prompt::Chat(messages) => Ok(self.tokenizer.encode(&self.render(messages)?)),
            Prompt::Inputs(_) => Err(EngineError::Unsupported { what: "text of vectors" }),
        }
    }

    pub(crate) fn vocabulary(&self) -> Vocabulary {
        self.tokenizer.vocabulary()
    }

    /// The count of tokens of a prompt as the model reads it.
    pub(crate) fn count(&self, prompt: &str) -> usize {
        self.tokenizer.encode(prompt).len()
    }

    /// The token that delivers these bytes. Of a word and a single byte it is the word: texts that models learn from have the
    /// byte only where there is no word. `None` if that is no token, or more than one.
    pub(crate) fn id(&self, bytes: &[u8]) -> Option<u32> {
        self.ids.get(bytes)?.id
    }

    /// The same of a token that was not delivered, so that nothing but these bytes is known of it.
    pub(crate) fn id_of_alternative(&self, bytes: &[u8]) -> Option<u32> {
        self.ids.get(bytes).filter(|told| !told.is_beginning)?.id
    }
}

fn ids(tokenizer: &Tokenizer) -> HashMap<Vec<u8>, Told> {
    let vocabulary = tokenizer.vocabulary();
    let all = (0u32..).take(vocabulary.size());
    let told = all.filter_map(|id| Some((id, vocabulary.bytes(id).filter(|it| !it.is_empty())?)));
    let (bytes, words): (Vec<_>, Vec<_>) = told.partition(|(id, _)| tokenizer.is_byte(*id));
    let mut ids: HashMap<Vec<u8>, Told> = HashMap::new();
    for (id, word) in &words {
        ids.entry(word.to_vec())
            .and_modify(|told| told.id = None)
            .or_insert(Told { id: Some(*id), is_beginning: false });
    }
    for (_, word) in words {
        if let Err(error) = std::str::from_utf8(word)
            && let Some(whole) = word.get(..error.valid_up_to()).filter(|it| !it.is_empty())
        {
            ids.entry(whole.to_vec()).or_default().is_beginning = true;
        }
    }
    for (id, byte) in bytes {
        ids.entry(byte.to_vec()).or_insert(Told { id: Some(id), is_beginning: false });
    }
    ids
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::gguf_file::Value;

    use super::*;

    /// A vocabulary of tokens with their kinds.
    fn told(model: &str, tokens: &[(&str, i32)]) -> HashMap<Vec<u8>, Told> {
        let text = |text: &str| Value::String(text.to_owned());
        let list = |values: Vec<Value>| Value::Array(values);
        let metadata = HashMap::from(
            [
                ("model", text(model)),
                ("pre", text("gpt-2")),
                ("tokens", list(tokens.iter().map(|(name, _)| text(name)).collect())),
                ("token_type", list(tokens.iter().map(|(_, kind)| Value::I32(*kind)).collect())),
                ("scores", list(tokens.iter().map(|_| Value::F32(0.0)).collect())),
                ("merges", list(Vec::new())),
            ]
            .map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)),
        );
        ids(&Tokenizer::from_gguf(&Header::of(metadata)).unwrap())
    }

    fn check(ids: &HashMap<Vec<u8>, Told>, bytes: &[u8], expected: (Option<u32>, bool)) {
        let told = ids.get(bytes).copied().unwrap_or_default();
        assert_eq!((told.id, told.is_beginning), expected, "{bytes:?}");
    }

    #[test]
    fn a_word_is_told_before_a_byte_and_two_words_are_not() {
        let ids = told(
            "llama",
            &[("<unk>", 2), ("<0x41>", 6), ("A", 1), ("<0x42>", 6), ("▁", 1), ("a", 1), ("a", 1)],
        );
        check(&ids, b"A", (Some(2), false));
        check(&ids, b"B", (Some(3), false));
        check(&ids, b" ", (Some(4), false));
        check(&ids, b"a", (None, false));
        check(&ids, b"<unk>", (None, false));
        check(&ids, b"", (None, false));
    }

    #[test]
    fn what_may_be_cut_from_a_longer_token_is_marked() {
        let ids = told("gpt2", &[("A", 1), ("Ġ", 1), ("Ġð", 1), ("ð", 1)]);
        check(&ids, b" ", (Some(1), true));
        check(&ids, b" \xf0", (Some(2), false));
        check(&ids, b"\xf0", (Some(3), false));
        check(&ids, b"A", (Some(0), false));
    }
}
