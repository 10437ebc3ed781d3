//! Byte-level BPE (`tokenizer.ggml.model = gpt2`): Llama 3 and kin.
//!
//! The merging is the `tokenizers` crate's. How text is cut before it follows llama.cpp's rule for
//! the name in `tokenizer.ggml.pre`; a name with another rule is refused, because cut differently
//! the model would read other tokens.

use tokenizers::{
    SplitDelimiterBehavior, Tokenizer,
    models::bpe::BPE,
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::gguf::{Header, LoadError, field, first_line};

const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How text is cut into words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    Gpt2,
    /// Each digit alone, then as `Gpt2`.
    Digits,
    Llama3,
}

impl Cut {
    fn of(pre: &str) -> Option<Cut> {
        match pre {
            "gpt-2" => Some(Cut::Gpt2),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => Some(Cut::Digits),
            "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "smaug-bpe" => Some(Cut::Llama3),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Bpe {
    tokenizer: Tokenizer,
    cut: Cut,
}

impl Bpe {
    pub(super) fn from_gguf(header: &Header, names: &[&str]) -> Result<Bpe, LoadError> {
        let pre = header.text("tokenizer.ggml.pre").unwrap_or("default");
        let Some(cut) = Cut::of(pre) else {
            return Err(LoadError::Unsupported { what: format!("the pre-tokenizer `{pre}`") });
        };
        let merges = header.texts("tokenizer.ggml.merges")?;
        let pair = |merge: &&str| {
            merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned()))
        };
        let Some(merges) = merges.iter().map(pair).collect::<Option<Vec<_>>>() else {
            return field("tokenizer.ggml.merges", "has an entry that is no pair");
        };
        let vocabulary: tokenizers::models::bpe::Vocab =
            names.iter().map(|name| (*name).to_owned()).zip(0..).collect();
        let built = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .ignore_merges(cut == Cut::Llama3 && pre != "smaug-bpe")
            .build();
        let tokenizer = built.and_then(|bpe| with_cut(Tokenizer::new(bpe), cut));
        match tokenizer {
            Ok(tokenizer) => Ok(Bpe { tokenizer, cut }),
            Err(error) => field("tokenizer.ggml.merges", &first_line(&error.to_string())),
        }
    }

    /// Whether such a vocabulary begins a prompt with its first token when the file does not say.
    pub(super) fn adds_bos(&self) -> bool {
        self.cut == Cut::Llama3
    }

    /// What a token's name stands for: each of its characters is one byte.
    pub(super) fn decode(name: &str) -> Vec<u8> {
        let bytes: Option<Vec<u8>> = name.chars().map(byte_of).collect();
        bytes.unwrap_or_else(|| name.as_bytes().to_vec())
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        // Fails only for a vocabulary with an unknown token that it lacks, and none is set here.
        if let Ok(encoding) = self.tokenizer.encode_fast(text, false) {
            ids.extend_from_slice(encoding.get_ids());
        }
    }
}

fn with_cut(mut tokenizer: Tokenizer, cut: Cut) -> tokenizers::Result<Tokenizer> {
    let isolated = |regex: &str| {
        Split::new(SplitPattern::Regex(regex.to_owned()), SplitDelimiterBehavior::Isolated, false)
    };
    let steps = match cut {
        Cut::Gpt2 => vec![ByteLevel::new(false, false, true).into()],
        Cut::Digits => vec![isolated(r"\p{N}")?.into(), ByteLevel::new(false, false, true).into()],
        Cut::Llama3 => vec![isolated(LLAMA3)?.into(), ByteLevel::new(false, false, false).into()],
    };
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    Ok(tokenizer)
}

/// GPT-2's spelling of bytes: printable Latin-1 stands for itself, the others follow from U+0100 on.
fn byte_of(c: char) -> Option<u8> {
    let printable = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = u32::from(c);
    match u8::try_from(code) {
        Ok(byte) => Some(byte).filter(printable),
        Err(_) => {
            let index = usize::try_from(code.checked_sub(0x100)?).ok()?;
            (0..=255u8).filter(|byte| !printable(byte)).nth(index)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::quantized::gguf_file::Value;

    use super::*;

    /// A vocabulary of the 256 bytes and the results of `merges`.
    fn vocabulary(pre: &str, merges: &[&str]) -> (Bpe, Vec<String>) {
        let spell =
            |byte: u8| (0..0x200).filter_map(char::from_u32).find(|c| byte_of(*c) == Some(byte));
        let mut names: Vec<String> = (0..=255).filter_map(spell).map(String::from).collect();
        names.extend(merges.iter().map(|merge| merge.replace(' ', "")));
        let list = merges.iter().map(|merge| Value::String((*merge).to_owned())).collect();
        let metadata = HashMap::from([
            ("tokenizer.ggml.pre".to_owned(), Value::String(pre.to_owned())),
            ("tokenizer.ggml.merges".to_owned(), Value::Array(list)),
        ]);
        let refs: Vec<&str> = names.iter().map(String::as_str).collect();
        (Bpe::from_gguf(&Header::of(metadata), &refs).unwrap(), names)
    }

    fn check(pre: &str, merges: &[&str], text: &str, expected: &[&str]) {
        let (bpe, names) = vocabulary(pre, merges);
        let mut ids = Vec::new();
        bpe.encode(text, &mut ids);
        let got: Vec<&str> = ids.iter().map(|id| names[*id as usize].as_str()).collect();
        assert_eq!(got, expected, "{pre} {text:?}");
        let bytes: Vec<u8> = got.iter().flat_map(|name| Bpe::decode(name)).collect();
        assert_eq!(bytes, text.as_bytes());
    }

    #[test]
    fn words_are_cut_by_the_rule_of_the_vocabulary() {
        let merges = ["1 2", "12 3", "h i", "Ġ hi"];
        check("llama-bpe", &merges, "hi hi1234", &["hi", "Ġhi", "123", "4"]);
        check("smollm", &merges, "hi hi123", &["hi", "Ġhi", "1", "2", "3"]);
        check("gpt-2", &merges, "hi hi1234", &["hi", "Ġhi", "123", "4"]);
    }

    #[test]
    fn every_byte_comes_back() {
        check("gpt-2", &[], "é\n€ \u{7f}", &["Ã", "©", "Ċ", "â", "Ĥ", "¬", "Ġ", "ġ"]);
    }

    #[test]
    fn a_rule_that_is_not_known_is_refused() {
        let pre = Value::String("tekken".to_owned());
        let metadata = HashMap::from([("tokenizer.ggml.pre".to_owned(), pre)]);
        let error = Bpe::from_gguf(&Header::of(metadata), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it uses the pre-tokenizer `tekken`, which candle does not support; serve it with a program that has llama.cpp built in, Ollama or llama-server"
        );
    }
}
