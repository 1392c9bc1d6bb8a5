//! Removes the content encodings of HTTP and AMQP (RFC 9110, 8.4): one loop for requests, replies, and messages of queues.
//!
//! It stops at the first byte beyond the limit, so a small body cannot expand to gigabytes.

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use std::io::Read;

/// Decompressed before it is counted: each body that is being decompressed has at most this much uncounted memory.
pub const UNPACK_STEP_BYTES: u64 = 64 * 1024;
/// The largest window that a zstd body may require: 8 MiB, as in RFC 9659.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// A way in which a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Gzip,
    /// With the zlib wrapper, as the RFC requires, or without, as some servers send it.
    Deflate,
    Zstd,
}

/// Why a body is not decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnpackError {
    /// It is not compressed in this way.
    OtherEncoding,
    /// It has more bytes than the limit.
    TooLong,
    /// `count` has no room for the next step.
    NoRoom,
}

impl Compression {
    /// The compression that a content encoding names.
    pub fn of_encoding(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Decompresses at most `limit_bytes`. `count` is called with each further step of decompressed bytes and returns whether
    /// there is room for it.
    pub fn unpack(
        self,
        bytes: &[u8],
        limit_bytes: usize,
        count: impl FnMut(u64) -> bool,
    ) -> Result<Bytes, UnpackError> {
        match self {
            Self::Gzip => inflate(MultiGzDecoder::new(bytes), limit_bytes, count),
            Self::Deflate if is_zlib(bytes) => inflate(ZlibDecoder::new(bytes), limit_bytes, count),
            Self::Deflate => inflate(DeflateDecoder::new(bytes), limit_bytes, count),
            Self::Zstd => {
                let decoder = zstd_decoder(bytes).map_err(|_| UnpackError::OtherEncoding)?;
                inflate(decoder, limit_bytes, count)
            }
        }
    }
}

fn zstd_decoder(raw: &[u8]) -> std::io::Result<zstd::Decoder<'_, std::io::BufReader<&[u8]>>> {
    let mut decoder = zstd::Decoder::new(raw)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

/// RFC 1950, 2.2: method 8, and a check value in the second byte.
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [method, flags, ..] if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

fn inflate(
    mut decoder: impl Read,
    limit_bytes: usize,
    mut count: impl FnMut(u64) -> bool,
) -> Result<Bytes, UnpackError> {
    // In steps, because a growing buffer takes up to three times its length whenever it is reallocated.
    let mut steps: Vec<Vec<u8>> = Vec::new();
    let mut length = 0;
    loop {
        let mut step = Vec::new();
        let read = decoder.by_ref().take(UNPACK_STEP_BYTES).read_to_end(&mut step);
        let unpacked = read.map_err(|_| UnpackError::OtherEncoding)?;
        if unpacked == 0 {
            break;
        }
        length += unpacked;
        if length > limit_bytes {
            return Err(UnpackError::TooLong);
        }
        if !count(unpacked as u64) {
            return Err(UnpackError::NoRoom);
        }
        steps.push(step);
    }
    // Each step is freed once it is copied, and untouched pages of the buffer take no memory.
    let mut whole = Vec::with_capacity(length);
    steps.into_iter().for_each(|step| whole.extend_from_slice(&step));
    Ok(whole.into())
}
