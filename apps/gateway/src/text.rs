//! From the bytes of tokens to text: a token may end in the middle of a character.

/// Assembles characters. What was not a whole character yet is held back.
#[derive(Debug, Default)]
pub(crate) struct TextAssembler {
    held: Vec<u8>,
}

impl TextAssembler {
    /// Appends to `text` every character that `bytes` completes. Bytes that can never become one
    /// appear as U+FFFD.
    pub(crate) fn push(&mut self, bytes: &[u8], text: &mut String) {
        if self.held.is_empty()
            && let Ok(whole) = std::str::from_utf8(bytes)
        {
            text.push_str(whole);
            return;
        }
        self.held.extend_from_slice(bytes);
        let mut from = 0;
        loop {
            match std::str::from_utf8(&self.held[from..]) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.held.clear();
                    return;
                }
                Err(error) => {
                    let valid = from + error.valid_up_to();
                    // The bytes up to there were just found valid.
                    text.push_str(&String::from_utf8_lossy(&self.held[from..valid]));
                    let Some(bad) = error.error_len() else {
                        self.held.drain(..valid);
                        return;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    from = valid + bad;
                }
            }
        }
    }

    /// Bytes of a character that has begun and not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.held.len()
    }

    /// What is left at the end of an answer.
    pub(crate) fn finish(&mut self, text: &mut String) {
        if !self.held.is_empty() {
            self.held.clear();
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assemble<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut assembler = TextAssembler::default();
        let mut texts: Vec<String> = pieces
            .into_iter()
            .map(|piece| {
                let mut text = String::new();
                assembler.push(piece, &mut text);
                text
            })
            .collect();
        let mut rest = String::new();
        assembler.finish(&mut rest);
        texts.push(rest);
        texts
    }

    #[test]
    fn a_character_appears_when_its_last_byte_comes() {
        let [a, b, c, d] = [0xf0, 0x9f, 0x98, 0x80];
        assert_eq!(assemble([&[a][..], &[b, c], &[d, b'!']]), ["", "", "😀!", ""]);
        assert_eq!(assemble([&[a, b][..]]), ["", "\u{fffd}"]);
        assert_eq!(assemble([&[b'a', 0xff, b'b'][..]]), ["a\u{fffd}b", ""]);
        assert_eq!(assemble([&[a][..], b"x"]), ["", "\u{fffd}x", ""]);
    }

    proptest! {
        #[test]
        fn text_cut_anywhere_is_put_together_again(text: String, cut in 1_usize..5) {
            let parts: String = assemble(text.as_bytes().chunks(cut)).concat();
            prop_assert_eq!(parts, text);
        }

        #[test]
        fn any_bytes_give_what_they_give_as_a_whole(bytes: Vec<u8>, cut in 1_usize..5) {
            let parts: String = assemble(bytes.chunks(cut)).concat();
            prop_assert_eq!(parts, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
