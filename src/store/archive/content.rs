//! The content of an archived message: byte for byte as it was received, with its size and hash.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Either `text` or `base64` is there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct Content {
    /// Its size as received.
    bytes: u64,
    sha256: String,
    /// If it is UTF-8 without control characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// The outcome with what it quotes of the message.
    #[serde(skip_serializing_if = "Value::is_null", default)]
    pub outcome: Value,
}

impl Content {
    pub fn new(bytes: &[u8], outcome: Value) -> Content {
        // JSON writes six bytes for a control character, and two for the others that it escapes.
        let is_plain = |text: &&str| !text.contains(|letter: char| letter < ' ' && !"\n\r\t".contains(letter));
        let text = std::str::from_utf8(bytes).ok().filter(is_plain).map(str::to_owned);
        let base64 = text.is_none().then(|| STANDARD.encode(bytes));
        Content { bytes: bytes.len() as u64, sha256: sha256_hex(bytes), text, base64, outcome }
    }

    /// The content as it was received. Errs with what is wrong.
    pub fn into_bytes(self) -> Result<Vec<u8>, &'static str> {
        let bytes = match (self.text, self.base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(base64)) => STANDARD.decode(base64).map_err(|_| "its content is not valid base64")?,
            _ => return Err("it has no content, or two"),
        };
        if bytes.len() as u64 != self.bytes {
            return Err("its content does not have the size that was stored with it");
        }
        if sha256_hex(&bytes) != self.sha256 {
            return Err("its content does not have the hash that was stored with it");
        }
        Ok(bytes)
    }
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_restored_byte_for_byte() {
        for (bytes, is_text) in [
            (&b"{\"a\":\r\n\t\"\xc3\xa4\"}"[..], true),
            (b"", true),
            (b"\xef\xbb\xbf<Bundle/>", true),
            (b"\xff\xfe{", false),
            (b"a\0b\x1b", false),
        ] {
            let content = serde_json::to_string(&Content::new(bytes, Value::Null)).unwrap();
            assert_eq!(content.contains("\"text\""), is_text, "{content}");
            assert_eq!(serde_json::from_str::<Content>(&content).unwrap().into_bytes().unwrap(), bytes);
        }
    }

    #[test]
    fn another_size_or_hash_is_an_error() {
        for change in [("2", "3"), ("ab", "ax"), ("\"text\"", "\"base64\"")] {
            let content = serde_json::to_string(&Content::new(b"ab", Value::Null)).unwrap();
            let changed = content.replacen(change.0, change.1, 1);
            let changed = if change.0 == "ab" { content.replace("\"ab\"", "\"ax\"") } else { changed };
            assert!(serde_json::from_str::<Content>(&changed).unwrap().into_bytes().is_err(), "{changed}");
        }
    }
}
