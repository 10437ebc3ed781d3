//! Writing JSON straight into a buffer: no tree, no intermediate string, one pass.

use bytes::{BufMut, BytesMut};

/// Bytes that are looked at together.
const STRIDE: usize = 32;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends raw JSON.
pub(crate) fn raw(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Whether JSON may have it in a string as it is.
fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// How many bytes at the beginning need not be looked at one by one. Without a branch for each of them, processors look at many at once.
fn plain_strides(bytes: &[u8]) -> usize {
    let are_plain = |stride: &&[u8]| stride.iter().fold(true, |all, &byte| all & is_plain(byte));
    bytes.chunks_exact(STRIDE).take_while(are_plain).count() * STRIDE
}

/// Appends `text` with what JSON must have escaped, without quotes around it.
pub(crate) fn escaped(out: &mut BytesMut, text: &str) {
    let bytes = text.as_bytes();
    let (mut written, mut at) = (0, 0);
    while at < bytes.len() {
        at += plain_strides(&bytes[at..]);
        let end = bytes.len().min(at.saturating_add(STRIDE));
        for at in at..end {
            let byte = bytes[at];
            if is_plain(byte) {
                continue;
            }
            out.extend_from_slice(&bytes[written..at]);
            written = at + 1;
            match byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                _ => {
                    out.extend_from_slice(b"\\u00");
                    out.put_u8(HEX[usize::from(byte >> 4)]);
                    out.put_u8(HEX[usize::from(byte & 15)]);
                }
            }
        }
        at = end;
    }
    out.extend_from_slice(&bytes[written..]);
}

/// Appends a quoted string.
pub(crate) fn string(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    escaped(out, text);
    out.put_u8(b'"');
}

/// Appends an integer.
pub(super) fn integer(out: &mut BytesMut, value: u64) {
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), value);
    loop {
        at -= 1;
        // A remainder of ten fits a byte.
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends millionths as a decimal number.
pub(super) fn micros(out: &mut BytesMut, value: i32) {
    if value < 0 {
        out.put_u8(b'-');
    }
    let magnitude = value.unsigned_abs();
    integer(out, u64::from(magnitude / 1_000_000));
    raw(out, &format!(".{:06}", magnitude % 1_000_000));
}

/// Appends bytes as a list of numbers.
pub(super) fn byte_list(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u8(b'[');
    for (index, &byte) in bytes.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        integer(out, u64::from(byte));
    }
    out.put_u8(b']');
}

/// Appends a quoted string or null.
pub(super) fn nullable(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => string(out, text),
        None => raw(out, "null"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_back_and_no_more_is_escaped_than_must_be(
            text in "([a-z ]{0,40}|[\\x00-\\x7f]{0,4}|[\"\\\\é😀]{0,3}){0,8}",
        ) {
            let mut out = BytesMut::new();
            string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text.clone());
            let must = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
            let escaped = text.bytes().filter(|byte| must(*byte)).count();
            let most = text.len() + 2 + escaped * 5;
            prop_assert!(out.len() <= most && (escaped > 0 || out.len() == text.len() + 2));
        }
    }
}
