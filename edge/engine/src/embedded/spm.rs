//! SentencePiece's BPE as llama.cpp runs it (`tokenizer.ggml.model = llama`): merge the neighbours
//! whose joined text has the best score until none is left, then spell what is no token in bytes.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashMap},
};

use super::{
    gguf::{Header, LoadError, field},
    tokenizer::byte_of,
};

/// Stands for a space in the vocabulary.
const SPACE: char = '\u{2581}';

/// The vocabulary with its scores.
pub(super) struct Spm {
    ids: HashMap<String, u32>,
    scores: Vec<f32>,
    /// The token of each byte; the unknown token where the vocabulary has none.
    byte_ids: Vec<u32>,
    add_space_prefix: bool,
}

impl std::fmt::Debug for Spm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spm").field("tokens", &self.ids.len()).finish_non_exhaustive()
    }
}

impl Spm {
    pub(super) fn from_gguf(header: &Header, names: &[&str]) -> Result<Spm, LoadError> {
        let scores = header.floats("tokenizer.ggml.scores").unwrap_or_default();
        if scores.len() != names.len() || scores.iter().any(|score| score.is_nan()) {
            return field("tokenizer.ggml.scores", "is not one number per token");
        }
        let unknown = header.number("tokenizer.ggml.unknown_token_id").unwrap_or(0);
        let unknown = u32::try_from(unknown).unwrap_or(0);
        let mut byte_ids = vec![unknown; 256];
        for (id, name) in (0u32..).zip(names) {
            if let Some(slot) = byte_of(name).and_then(|byte| byte_ids.get_mut(usize::from(byte))) {
                *slot = id;
            }
        }
        Ok(Spm {
            ids: names.iter().map(|name| (*name).to_owned()).zip(0..).collect(),
            scores,
            byte_ids,
            add_space_prefix: header.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true),
        })
    }

    /// What a token's name stands for.
    pub(super) fn decode(name: &str) -> Vec<u8> {
        name.replace(SPACE, " ").into_bytes()
    }

    /// Appends the tokens of `text`, which is not empty. `after_special`: nothing or a special
    /// token stands before it, so that the vocabulary's leading space belongs there.
    pub(super) fn encode(&self, text: &str, after_special: bool, ids: &mut Vec<u32>) {
        let mut escaped = String::with_capacity(text.len() + 16);
        if after_special && self.add_space_prefix {
            escaped.push(SPACE);
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        for part in Merger::new(self, &escaped).run() {
            match self.ids.get(part) {
                Some(id) => ids.push(*id),
                None => ids.extend(
                    part.bytes().filter_map(|byte| self.byte_ids.get(usize::from(byte)).copied()),
                ),
            }
        }
    }
}

/// A stretch of the text that is one symbol so far; empty once it is merged into its left one.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    len: usize,
    prev: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that could become one. The greatest is merged first: best score, then leftmost.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Of both together when the pair was found; another length now means that it is stale.
    len: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        self.score.total_cmp(&other.score).then(Reverse(self.left).cmp(&Reverse(other.left)))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

struct Merger<'a> {
    spm: &'a Spm,
    text: &'a str,
    symbols: Vec<Symbol>,
    pairs: BinaryHeap<Pair>,
}

impl<'a> Merger<'a> {
    fn new(spm: &'a Spm, text: &'a str) -> Merger<'a> {
        let count = text.chars().count();
        let symbol = |(index, (start, c)): (usize, (usize, char))| Symbol {
            start,
            len: c.len_utf8(),
            prev: index.checked_sub(1),
            next: Some(index + 1).filter(|next| *next < count),
        };
        let symbols = text.char_indices().enumerate().map(symbol).collect();
        Merger { spm, text, symbols, pairs: BinaryHeap::new() }
    }

    fn run(mut self) -> Vec<&'a str> {
        for left in 0..self.symbols.len().saturating_sub(1) {
            self.consider(Some(left), Some(left + 1));
        }
        while let Some(pair) = self.pairs.pop() {
            self.merge(&pair);
        }
        let text = self.text;
        let parts = self.symbols.iter().filter(|symbol| symbol.len > 0);
        parts.filter_map(|symbol| text.get(symbol.start..symbol.start + symbol.len)).collect()
    }

    fn consider(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let (Some(a), Some(b)) = (self.symbols.get(left), self.symbols.get(right)) else { return };
        let len = a.len + b.len;
        let joined = self.text.get(a.start..a.start + len);
        let id = joined.and_then(|joined| self.spm.ids.get(joined));
        let score = id.and_then(|id| self.spm.scores.get(usize::try_from(*id).ok()?));
        if let Some(score) = score {
            self.pairs.push(Pair { score: *score, left, right, len });
        }
    }

    fn merge(&mut self, pair: &Pair) {
        let (Some(left), Some(right)) =
            (self.symbols.get(pair.left).copied(), self.symbols.get(pair.right).copied())
        else {
            return;
        };
        if left.len == 0 || right.len == 0 || left.len + right.len != pair.len {
            return;
        }
        let merged = Symbol { len: pair.len, next: right.next, ..left };
        self.set(pair.left, merged);
        self.set(pair.right, Symbol { len: 0, ..right });
        if let Some(next) = right.next.and_then(|next| self.symbols.get_mut(next)) {
            next.prev = Some(pair.left);
        }
        self.consider(merged.prev, Some(pair.left));
        self.consider(Some(pair.left), merged.next);
    }

    fn set(&mut self, index: usize, symbol: Symbol) {
        if let Some(slot) = self.symbols.get_mut(index) {
            *slot = symbol;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::quantized::gguf_file::Value;

    use super::*;

    /// A vocabulary of `<unk>`, the 256 bytes and then `names`, the earlier the better.
    fn vocabulary(names: &[&str]) -> (Spm, Vec<String>) {
        let mut all = vec!["<unk>".to_owned()];
        all.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
        all.extend(names.iter().map(|name| (*name).to_owned()));
        let scores = (0..all.len()).map(|index| Value::F32(-(index as f32))).collect();
        let metadata = HashMap::from([("tokenizer.ggml.scores".to_owned(), Value::Array(scores))]);
        let refs: Vec<&str> = all.iter().map(String::as_str).collect();
        (Spm::from_gguf(&Header::of(metadata), &refs).unwrap(), all)
    }

    fn check(names: &[&str], text: &str, after_special: bool, expected: &[&str]) {
        let (spm, all) = vocabulary(names);
        let mut ids = Vec::new();
        spm.encode(text, after_special, &mut ids);
        let got: Vec<&str> = ids.iter().map(|id| all[*id as usize].as_str()).collect();
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn the_best_score_is_merged_first_and_the_leftmost_of_equals() {
        check(&["ab", "bc", "a", "b", "c"], "abc", false, &["ab", "c"]);
        check(&["bc", "ab", "a", "b", "c"], "abc", false, &["a", "bc"]);
        check(&["aa", "a"], "aaa", false, &["aa", "a"]);
        check(&["abab", "ab", "a", "b"], "ababab", false, &["abab", "ab"]);
    }

    #[test]
    fn a_space_is_a_symbol_and_stands_before_the_first_word() {
        check(&["▁a", "▁", "a"], "a a", true, &["▁a", "▁a"]);
        check(&["▁a", "▁", "a"], "a a", false, &["a", "▁a"]);
        check(&["▁a", "▁", "a"], " a", true, &["▁", "▁a"]);
    }

    #[test]
    fn what_is_no_token_is_spelled_in_bytes() {
        check(&["a"], "aé\n", false, &["a", "<0xC3>", "<0xA9>", "<0x0A>"]);
        check(&["a"], "€", false, &["<0xE2>", "<0x82>", "<0xAC>"]);
    }
}
