//! Removes the content encodings of a receiver's reply (RFC 9110, 8.4), within a bound.

use crate::channel::media::zstd_decoder;
use crate::offload::offload;
use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use std::io::Read;

/// The encodings that a receiver may use.
pub(super) const ACCEPTED: &str = "gzip, deflate, zstd, identity";
/// A body with more encodings on top of each other is left as it is.
const ENCODINGS_LIMIT: usize = 4;

/// The decompressed reply exceeds the bound.
#[derive(Debug, PartialEq)]
pub(super) struct TooLong;

/// The body without its encodings. If it is not encoded as `content_encoding` says, or in a way that was not requested,
/// it is returned unchanged. At most `limit_bytes` are decompressed, so a small body cannot expand to gigabytes.
pub(super) fn unpacked(body: Bytes, content_encoding: &str, limit_bytes: usize) -> Result<Bytes, TooLong> {
    let names = content_encoding.split(',').map(|name| name.trim().to_ascii_lowercase());
    let names: Vec<String> = names.filter(|name| !name.is_empty() && name != "identity").collect();
    if names.is_empty() || names.len() > ENCODINGS_LIMIT || body.is_empty() {
        return Ok(body);
    }
    // Decompressed data may be a hundred times as long as the input.
    offload(body.len().saturating_mul(100), || {
        let mut bytes = body.clone();
        for name in names.iter().rev() {
            match without(&bytes, name, limit_bytes) {
                Some(unpacked) if unpacked.len() > limit_bytes => return Err(TooLong),
                Some(unpacked) => bytes = unpacked.into(),
                None => return Ok(body.clone()),
            }
        }
        Ok(bytes)
    })
}

/// One byte more than the limit if it is longer; None if it is not encoded this way.
fn without(bytes: &[u8], name: &str, limit_bytes: usize) -> Option<Vec<u8>> {
    match name {
        "gzip" | "x-gzip" => read(MultiGzDecoder::new(bytes), limit_bytes),
        // With the zlib wrapper, as the RFC requires, or without, as some servers send it.
        "deflate" if is_zlib(bytes) => read(ZlibDecoder::new(bytes), limit_bytes),
        "deflate" => read(DeflateDecoder::new(bytes), limit_bytes),
        "zstd" => read(zstd_decoder(bytes).ok()?, limit_bytes),
        _ => None,
    }
}

fn read(decoder: impl Read, limit_bytes: usize) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    decoder.take(limit_bytes as u64 + 1).read_to_end(&mut whole).ok()?;
    Some(whole)
}

/// RFC 1950, 2.2: method 8, and a check value in the second byte.
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [method, flags, ..] if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write;

    const TEXT: &[u8] = br#"{"resourceType":"OperationOutcome","issue":[]}"#;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    #[test]
    fn each_encoding_is_removed_and_what_is_not_encoded_as_it_says_stays_as_it_is() {
        for (encoding, body, wanted) in [
            ("", TEXT.to_vec(), TEXT),
            ("identity", TEXT.to_vec(), TEXT),
            ("gzip", gzip(TEXT), TEXT),
            ("X-GZIP", gzip(TEXT), TEXT),
            ("deflate", zlib(TEXT), TEXT),
            ("deflate", raw_deflate(TEXT), TEXT),
            ("zstd", zstd(TEXT), TEXT),
            ("deflate, gzip", gzip(&zlib(TEXT)), TEXT),
            ("gzip, identity, zstd", zstd(&gzip(TEXT)), TEXT),
            ("gzip", TEXT.to_vec(), TEXT),
            ("zstd", TEXT.to_vec(), TEXT),
            ("br", TEXT.to_vec(), TEXT),
            ("gzip", Vec::new(), b""),
        ] {
            let unpacked = unpacked(body.into(), encoding, 1024).unwrap();
            assert_eq!(unpacked, wanted, "{encoding}");
        }
    }

    #[test]
    fn a_body_that_unpacks_beyond_the_limit_is_too_long_whatever_its_encodings() {
        let long = vec![b' '; 100_000];
        for (encoding, body) in [
            ("gzip", gzip(&long)),
            ("deflate", zlib(&long)),
            ("deflate", raw_deflate(&long)),
            ("zstd", zstd(&long)),
            ("gzip, gzip", gzip(&gzip(&long))),
        ] {
            assert!(body.len() < 1024, "the test needs a small body");
            assert_eq!(unpacked(body.clone().into(), encoding, 99_999), Err(TooLong), "{encoding}");
            assert_eq!(unpacked(body.into(), encoding, 100_000).unwrap().len(), 100_000, "{encoding}");
        }
    }
}
