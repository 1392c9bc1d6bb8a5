//! `encode`, `decode`, `escape`, `unescape`. None if the encoding is unknown or the text is not valid in it.

use std::fmt::Write;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(super) fn encode(text: &str, encoding: &str) -> Option<String> {
    match encoding {
        "hex" => Some(text.bytes().fold(String::new(), |mut found, byte| {
            // Writing to a String does not fail.
            let _ = write!(found, "{byte:02x}");
            found
        })),
        "base64" => Some(to_base64(text.as_bytes(), BASE64)),
        "urlbase64" => Some(to_base64(text.as_bytes(), BASE64_URL)),
        _ => None,
    }
}

pub(super) fn decode(text: &str, encoding: &str) -> Option<String> {
    let bytes = match encoding {
        "hex" => from_hex(text)?,
        "base64" => from_base64(text, BASE64)?,
        "urlbase64" => from_base64(text, BASE64_URL)?,
        _ => return None,
    };
    String::from_utf8(bytes).ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some((digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?) as u8)).collect()
}

fn to_base64(bytes: &[u8], letters: &[u8; 64]) -> String {
    let mut found = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for position in 0..4 {
            let letter = letters[(bits >> (18 - 6 * position)) as usize % 64];
            found.push(if position <= group.len() { char::from(letter) } else { '=' });
        }
    }
    found
}

fn from_base64(text: &str, letters: &[u8; 64]) -> Option<Vec<u8>> {
    let mut found = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = letters.iter().position(|letter| *letter == byte)?;
        bits = (bits << 6 | value as u32) & 0xFF_FFFF;
        count += 6;
        if count >= 8 {
            count -= 8;
            found.push((bits >> count) as u8);
        }
    }
    Some(found)
}

const ENTITIES: [(&str, &str); 5] = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;"), ("'", "&#39;")];

pub(super) fn escape(text: &str, encoding: &str) -> Option<String> {
    match encoding {
        "html" => Some(ENTITIES.iter().fold(text.to_owned(), |text, (plain, entity)| text.replace(plain, entity))),
        "json" => {
            let quoted = serde_json::to_string(text).ok()?;
            Some(quoted.get(1..quoted.len() - 1)?.to_owned())
        }
        _ => None,
    }
}

pub(super) fn unescape(text: &str, encoding: &str) -> Option<String> {
    match encoding {
        "html" => {
            Some(ENTITIES.iter().rev().fold(text.to_owned(), |text, (plain, entity)| text.replace(entity, plain)))
        }
        "json" => {
            // An unescaped quote stays as it is.
            let mut quoted = String::from("\"");
            let mut escaped = false;
            for letter in text.chars() {
                if letter == '"' && !escaped {
                    quoted.push('\\');
                }
                escaped = letter == '\\' && !escaped;
                quoted.push(letter);
            }
            quoted.push('"');
            serde_json::from_str(&quoted).ok()
        }
        _ => None,
    }
}
