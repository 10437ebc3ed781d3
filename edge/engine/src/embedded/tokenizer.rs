//! Text to token ids and back, as llama.cpp does it, from the vocabulary in a GGUF file.
//!
//! Texts of special tokens (`<s>`, `<|eot_id|>`) are recognised anywhere in a prompt, because a
//! rendered chat is one text; everything between them goes to the vocabulary's own algorithm.

use std::collections::{HashMap, HashSet};

use types::limits;

use super::{
    bpe::Bpe,
    gguf::{Header, LoadError, field},
    spm::Spm,
};
use crate::Vocabulary;
#[cfg(feature = "llama")]
use crate::llama;

/// Texts that end an answer in some vocabulary although the file may not say so; llama.cpp's list.
pub(crate) const END_TEXTS: [&str; 10] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "<｜end▁of▁sentence｜>",
];

/// What a token is, by the numbers of GGUF's `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Text,
    /// Stands for nothing that is delivered: `<unk>`, `<s>`, turn markers.
    Special,
    /// Recognised whole in a prompt, and delivered.
    UserDefined,
    Byte,
}

#[derive(Debug)]
struct Token {
    kind: Kind,
    /// What it stands for; for a special token its name.
    bytes: Vec<u8>,
}

/// The algorithm for text between special tokens.
#[derive(Debug)]
enum Algorithm {
    Spm(Spm),
    Bpe(Box<Bpe>),
    /// llama.cpp's own, which finds the special tokens too: the text goes to it as one part.
    #[cfg(feature = "llama")]
    Llama(std::sync::Arc<llama::Model>),
}

/// A vocabulary and its algorithm.
#[derive(Debug)]
pub(super) struct Tokenizer {
    tokens: Vec<Token>,
    algorithm: Algorithm,
    /// Texts recognised whole, by first byte, longest first.
    whole: HashMap<u8, Vec<(String, u32)>>,
    ends: HashSet<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
    token_bytes_max: usize,
}

impl Tokenizer {
    pub(super) fn from_gguf(header: &Header) -> Result<Tokenizer, LoadError> {
        let names = header.texts("tokenizer.ggml.tokens")?;
        let kinds = kinds(header, names.len())?;
        let (algorithm, add_bos) = match header.text("tokenizer.ggml.model") {
            Some("llama") => (Algorithm::Spm(Spm::from_gguf(header, &names)?), true),
            Some("gpt2") => {
                let bpe = Bpe::from_gguf(header, &names)?;
                let add_bos = bpe.adds_bos();
                (Algorithm::Bpe(Box::new(bpe)), add_bos)
            }
            other => {
                let what = format!("the tokenizer `{}`", other.unwrap_or("none"));
                return Err(LoadError::Unsupported { what });
            }
        };
        let is_spm = matches!(algorithm, Algorithm::Spm(_));
        let token = |(name, kind): (&&str, &Kind)| Token {
            kind: *kind,
            bytes: match kind {
                Kind::Special => name.as_bytes().to_vec(),
                Kind::Byte => byte_of(name).map_or(name.as_bytes().to_vec(), |b| vec![b]),
                Kind::Text | Kind::UserDefined if is_spm => Spm::decode(name),
                Kind::Text => Bpe::decode(name),
                Kind::UserDefined => name.as_bytes().to_vec(),
            },
        };
        let id = |key: &str| {
            let id = header.number(key).and_then(|id| u32::try_from(id).ok());
            id.filter(|id| (*id as usize) < names.len())
        };
        Tokenizer {
            whole: whole(&names, &kinds),
            ends: ends(header, &names),
            bos: id("tokenizer.ggml.bos_token_id"),
            eos: id("tokenizer.ggml.eos_token_id"),
            add_bos: header.flag("tokenizer.ggml.add_bos_token").unwrap_or(add_bos),
            tokens: names.iter().zip(&kinds).map(token).collect(),
            algorithm,
            token_bytes_max: 0,
        }
        .measured()
    }

    /// As llama.cpp reads it, in a model that it has loaded.
    #[cfg(feature = "llama")]
    pub(super) fn from_llama(model: std::sync::Arc<llama::Model>) -> Result<Tokenizer, LoadError> {
        let infos = model.tokens();
        let ends = (0u32..).zip(&infos).filter(|(_, info)| info.ends).map(|(id, _)| id).collect();
        let token = |info: llama::TokenInfo| Token {
            kind: match info {
                llama::TokenInfo { is_special: true, .. } => Kind::Special,
                llama::TokenInfo { is_user_defined: true, .. } => Kind::UserDefined,
                llama::TokenInfo { is_byte: true, .. } => Kind::Byte,
                _ => Kind::Text,
            },
            bytes: info.bytes,
        };
        let tokens: Vec<Token> = infos.into_iter().map(token).collect();
        let (bos, eos, add_bos) = model.bos_eos();
        Tokenizer {
            whole: HashMap::new(),
            ends,
            bos,
            eos,
            add_bos,
            tokens,
            algorithm: Algorithm::Llama(model),
            token_bytes_max: 0,
        }
        .measured()
    }

    fn measured(self) -> Result<Tokenizer, LoadError> {
        let token_bytes_max = self.tokens.iter().map(|token| token.bytes.len()).max().unwrap_or(0);
        if token_bytes_max > limits::TOKEN_BYTES_MAX {
            return field("tokenizer.ggml.tokens", "has a token that is too long");
        }
        Ok(Tokenizer { token_bytes_max, ..self })
    }

    /// The tokens of a prompt, begun as the model expects it: with its first token, unless `text`
    /// begins with that already, as chat templates write it.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut after_special = true;
        for part in self.parts(text) {
            match part {
                Part::Whole(id) => ids.push(id),
                Part::Text(text) => match &self.algorithm {
                    Algorithm::Spm(spm) => spm.encode(text, after_special, &mut ids),
                    Algorithm::Bpe(bpe) => bpe.encode(text, &mut ids),
                    #[cfg(feature = "llama")]
                    Algorithm::Llama(model) => ids.extend(model.encode(text)),
                },
            }
            after_special = matches!(part, Part::Whole(_));
        }
        if let Some(bos) = self.bos
            && self.add_bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        ids
    }

    /// A lower bound on the tokens that `bytes` of text make.
    pub(super) fn tokens_min(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.token_bytes_max.max(1))
    }

    /// The bytes that a token delivers: none for a special one or an unknown id.
    pub(super) fn delivered(&self, id: u32) -> &[u8] {
        match self.token(id) {
            Some(Token { kind: Kind::Special, .. }) | None => &[],
            Some(token) => &token.bytes,
        }
    }

    /// The bytes that a token stands for, or the name of a special one.
    pub(super) fn name(&self, id: u32) -> &[u8] {
        self.token(id).map_or(&[], |token| &token.bytes)
    }

    /// Whether it is a single byte, for what no word has.
    pub(super) fn is_byte(&self, id: u32) -> bool {
        self.token(id).is_some_and(|token| token.kind == Kind::Byte)
    }

    /// Tokens that deliver no text and end nothing.
    pub(super) fn silent(&self) -> impl Iterator<Item = u32> + '_ {
        let ids = (0u32..).take(self.tokens.len());
        ids.filter(|id| self.delivered(*id).is_empty() && !self.is_end(*id))
    }

    /// What all ids stand for.
    pub(super) fn vocabulary(&self) -> Vocabulary {
        let ids = (0u32..).take(self.tokens.len());
        let tokens = ids.map(|id| self.delivered(id).to_vec()).collect();
        Vocabulary::new(tokens, self.ends.iter().copied())
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.token(id).is_some()
    }

    /// Whether the answer ends with this token.
    pub(super) fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    pub(super) fn bos_text(&self) -> String {
        self.bos.map(|id| String::from_utf8_lossy(self.name(id)).into_owned()).unwrap_or_default()
    }

    pub(super) fn eos_text(&self) -> String {
        self.eos.map(|id| String::from_utf8_lossy(self.name(id)).into_owned()).unwrap_or_default()
    }

    fn token(&self, id: u32) -> Option<&Token> {
        self.tokens.get(usize::try_from(id).ok()?)
    }

    fn parts<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let mut from = 0;
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            match self.whole_at(rest) {
                Some((length, id)) => {
                    parts
                        .extend(text.get(from..at).filter(|part| !part.is_empty()).map(Part::Text));
                    parts.push(Part::Whole(id));
                    at += length;
                    from = at;
                }
                None => at += rest.chars().next().map_or(1, char::len_utf8),
            }
        }
        parts.extend(text.get(from..).filter(|part| !part.is_empty()).map(Part::Text));
        parts
    }

    fn whole_at(&self, rest: &str) -> Option<(usize, u32)> {
        let candidates = self.whole.get(rest.as_bytes().first()?)?;
        let found = candidates.iter().find(|(name, _)| rest.starts_with(name));
        found.map(|(name, id)| (name.len(), *id))
    }
}

enum Part<'a> {
    Text(&'a str),
    Whole(u32),
}

fn kinds(header: &Header, count: usize) -> Result<Vec<Kind>, LoadError> {
    let Some(numbers) = header.numbers("tokenizer.ggml.token_type") else {
        return Ok(vec![Kind::Text; count]);
    };
    if numbers.len() != count {
        return field("tokenizer.ggml.token_type", "has another length than the vocabulary");
    }
    let kind = |number: &u64| match number {
        2 | 3 => Kind::Special,
        4 => Kind::UserDefined,
        6 => Kind::Byte,
        _ => Kind::Text,
    };
    Ok(numbers.iter().map(kind).collect())
}

fn whole(names: &[&str], kinds: &[Kind]) -> HashMap<u8, Vec<(String, u32)>> {
    let mut whole: HashMap<u8, Vec<(String, u32)>> = HashMap::new();
    for ((id, name), kind) in (0u32..).zip(names).zip(kinds) {
        if matches!(kind, Kind::Special | Kind::UserDefined)
            && let Some(first) = name.as_bytes().first()
        {
            whole.entry(*first).or_default().push(((*name).to_owned(), id));
        }
    }
    for candidates in whole.values_mut() {
        candidates.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    }
    whole
}

fn ends(header: &Header, names: &[&str]) -> HashSet<u32> {
    let keys = ["eos", "eot", "eom"].map(|key| format!("tokenizer.ggml.{key}_token_id"));
    let said = keys.iter().filter_map(|key| u32::try_from(header.number(key)?).ok());
    let known = (0u32..).zip(names).filter(|(_, name)| END_TEXTS.contains(name)).map(|(id, _)| id);
    said.chain(known).collect()
}

/// The byte that a name such as `<0x0A>` stands for.
pub(super) fn byte_of(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}
