//! The content encodings of a receiver's reply (RFC 9110, 8.4), removed within a bound.

use crate::channel::unpack::{Compression, UnpackError};
use crate::offload::offload;
use bytes::Bytes;

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
    let names = content_encoding.split(',').map(str::trim);
    let names: Vec<&str> = names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity")).collect();
    if names.is_empty() || names.len() > ENCODINGS_LIMIT || body.is_empty() {
        return Ok(body);
    }
    // Decompressed data may be a hundred times as long as the input.
    offload(body.len().saturating_mul(100), || {
        let mut bytes = body.clone();
        for name in names.iter().rev() {
            let Some(compression) = Compression::of_encoding(name) else { return Ok(body.clone()) };
            match compression.unpack(&bytes, limit_bytes, |_| true) {
                Ok(unpacked) => bytes = unpacked,
                Err(UnpackError::TooLong) => return Err(TooLong),
                Err(UnpackError::OtherEncoding | UnpackError::NoRoom) => return Ok(body.clone()),
            }
        }
        Ok(bytes)
    })
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
