//! Writing JSON straight into a buffer: no tree, no intermediate string, one pass.

use bytes::{BufMut, BytesMut};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends raw JSON.
pub(super) fn raw(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends `text` with what JSON must have escaped, without quotes around it.
pub(super) fn escaped(out: &mut BytesMut, text: &str) {
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
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
    out.extend_from_slice(&bytes[written..]);
}

/// Appends a quoted string.
pub(super) fn string(out: &mut BytesMut, text: &str) {
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
