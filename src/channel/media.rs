//! Media types, FHIR versions, and content encodings, for all channels (VER-01 to VER-04).

use super::unpack::{Compression, UnpackError};
use crate::fault::Fault;
use crate::offload::offload;
use crate::outcome::{Issue, IssueCode};
use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use fhir::{FhirVersion, Format};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// The format of a message, and the version that its media type names. Errs with `not-supported`.
pub fn content_type(text: &str) -> Result<(Format, Option<FhirVersion>), Issue> {
    let media = MediaType::parse(text);
    let format = match (Format::of_media_type(&media.essence), media.essence.as_str()) {
        (Some(format), essence) if essence.contains('/') => format,
        (_, "") => {
            let text = "The content type is missing; send application/fhir+json or application/fhir+xml";
            return Err(unsupported(Fault::SendMediaType, text));
        }
        _ => {
            let text = "The content type is not FHIR's; send application/fhir+json or application/fhir+xml";
            return Err(unsupported(Fault::SendMediaType, text));
        }
    };
    if media.parameter("charset").is_some_and(|charset| !charset.eq_ignore_ascii_case("utf-8")) {
        return Err(unsupported(Fault::SendMediaType, "FHIR is UTF-8 (VER-02); send charset=utf-8 or none"));
    }
    Ok((format, version_of(&media)?))
}

/// The version in the parameter `fhirVersion`.
pub fn version_of(media: &MediaType) -> Result<Option<FhirVersion>, Issue> {
    media.parameter("fhirversion").map(version).transpose()
}

/// A version as messages spell it, `4.0` or `4.0.1`. Errs with `not-supported`.
pub fn version(text: &str) -> Result<FhirVersion, Issue> {
    FhirVersion::parse(text).ok_or_else(|| {
        let text = "fhirVersion is not one of the supported versions 4.0, 4.3, and 5.0";
        Issue::error(IssueCode::NotSupported, Fault::SendVersion, text).rule("VER-04")
    })
}

/// The encoding in a list of content encodings; `identity` entries are ignored. Errs with `not-supported` if it is
/// unknown or there is more than one.
pub fn encoding(list: &str) -> Result<Encoding, Issue> {
    let mut found = Encoding::Identity;
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let next = match name.to_ascii_lowercase().as_str() {
            "identity" => continue,
            "gzip" | "x-gzip" => Encoding::Gzip,
            "zstd" => Encoding::Zstd,
            _ => return Err(unsupported(Fault::SendMediaType, "The content encoding must be gzip, zstd, or none")),
        };
        if found != Encoding::Identity {
            return Err(unsupported(
                Fault::SendMediaType,
                "The body is encoded more than once; send gzip, zstd, or none",
            ));
        }
        found = next;
    }
    Ok(found)
}

pub fn unsupported(fault: Fault, text: &str) -> Issue {
    Issue::error(IssueCode::NotSupported, fault, text.to_owned()).rule("VER-03")
}

/// Removes the content encoding. `count` is called with each further step of decompressed bytes and returns whether
/// there is room; it is not called for a body without an encoding. Errs with `too-long` beyond the limit, before or
/// after, with `structure` if the body is not encoded as declared, and with `transient` if `count` refuses.
/// Decompression stops at the error, so a small body cannot expand to gigabytes.
pub fn decode(
    raw: &Bytes,
    encoding: Encoding,
    limit_bytes: usize,
    count: impl FnMut(u64) -> bool,
) -> Result<Bytes, Issue> {
    if raw.len() > limit_bytes {
        return Err(too_large(limit_bytes));
    }
    let compression = match encoding {
        Encoding::Identity => return Ok(raw.clone()),
        Encoding::Gzip => Compression::Gzip,
        Encoding::Zstd => Compression::Zstd,
    };
    // Decompressed data may be a hundred times as long as the input.
    let unpacked = offload(raw.len().saturating_mul(100), || compression.unpack(raw, limit_bytes, count));
    unpacked.map_err(|error| match error {
        UnpackError::OtherEncoding => badly_encoded(),
        UnpackError::TooLong => too_large(limit_bytes),
        UnpackError::NoRoom => too_many_bytes(),
    })
}

pub fn too_large(limit_bytes: usize) -> Issue {
    let text = format!("The body is larger than {limit_bytes} bytes, the limit");
    Issue::error(IssueCode::TooLong, Fault::SendTooLarge, text)
}

pub fn too_many_bytes() -> Issue {
    let text = "The router, or one sender's share of it, is at its limit of bytes in flight; send again later";
    Issue::error(IssueCode::Transient, Fault::RouteBusy, text)
}

fn badly_encoded() -> Issue {
    let text = "The body does not match its content encoding";
    Issue::error(IssueCode::Structure, Fault::SendMediaType, text)
}

/// All values of a header, joined as one list.
pub fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// The format of an answer, and the version that is requested with it. `accept`: `_format`, which overrides `Accept`
/// (VER-03), otherwise `Accept`; if it is empty, the answer has the format of the request, `sent`. Among several
/// formats the greatest weight decides, then the order. Errs with `not-supported` if none is supported.
pub fn wanted(accept: &str, sent: Format) -> Result<(Format, Option<FhirVersion>), Issue> {
    if accept.trim().is_empty() {
        return Ok((sent, None));
    }
    let mut best: Option<(MediaType, Format)> = None;
    for media in accept.split(',').map(MediaType::parse).filter(|media| media.weight() > 0.0) {
        let format = match media.essence.as_str() {
            "*/*" | "application/*" => Some(sent),
            essence => Format::of_media_type(essence),
        };
        if let Some(format) = format.filter(|_| best.as_ref().is_none_or(|(best, _)| media.weight() > best.weight())) {
            best = Some((media, format));
        }
    }
    let Some((media, format)) = best else {
        let text = "Answers are available as application/fhir+json or application/fhir+xml; accept one of them";
        return Err(unsupported(Fault::SendMediaType, text));
    };
    Ok((format, version_of(&media)?))
}

/// The format that `Accept` or `_format` names explicitly, with the greatest weight; None for wildcards and other
/// types.
pub fn named(accept: &str) -> Option<Format> {
    let mut best: Option<(f32, Format)> = None;
    for media in accept.split(',').map(MediaType::parse).filter(|media| media.weight() > 0.0) {
        let better = best.is_none_or(|(weight, _)| media.weight() > weight);
        if let Some(format) = Format::of_media_type(&media.essence).filter(|_| better) {
            best = Some((media.weight(), format));
        }
    }
    best.map(|(_, format)| format)
}

/// Name and value pairs of a query, percent-decoded.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decoded(name), percent_decoded(value))
    })
}

fn percent_decoded(text: &str) -> String {
    // Most clients write `_format=application/fhir+json` without encoding the `+`, so it is not read as a space.
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// A media type with its parameters; names in lower case.
pub struct MediaType {
    pub essence: String,
    parameters: Vec<(String, String)>,
}

impl MediaType {
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split(';');
        // A `+` that a query decoder turned into a space is restored.
        let essence = parts.next().unwrap_or("").trim().to_ascii_lowercase().replace(' ', "+");
        let parameters = parts
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_string()))
            .collect();
        MediaType { essence, parameters }
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn weight(&self) -> f32 {
        self.parameter("q").and_then(|text| text.parse().ok()).unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::unpack::UNPACK_STEP_BYTES;
    use std::io::Read;

    #[test]
    fn a_zstd_frame_that_asks_for_a_huge_window_is_refused_and_an_ordinary_one_is_read() {
        let text = vec![b' '; 100_000];
        for (window_log, wanted) in [(20, Ok(100_000)), (27, Err(IssueCode::Structure))] {
            let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
            encoder.window_log(window_log).unwrap();
            std::io::copy(&mut &text[..], &mut encoder).unwrap();
            let packed = encoder.finish().unwrap().into();
            let read = decode(&packed, Encoding::Zstd, 1024 * 1024, |_| true);
            assert_eq!(read.map(|bytes| bytes.len()).map_err(|issue| issue.code), wanted, "{window_log}");
        }
    }

    #[test]
    fn unpacking_counts_step_by_step_and_stops_at_the_first_step_that_has_no_room() {
        let text: Vec<u8> = (0..1_000_000_u32).map(|number| (number / 1000) as u8).collect();
        let packed: [(Encoding, Bytes); 2] = [
            (Encoding::Zstd, zstd::encode_all(&text[..], 3).unwrap().into()),
            (Encoding::Gzip, {
                let mut gzip = flate2::read::GzEncoder::new(&text[..], flate2::Compression::default());
                let mut packed = Vec::new();
                gzip.read_to_end(&mut packed).unwrap();
                packed.into()
            }),
        ];
        for (encoding, packed) in packed {
            let mut counted = Vec::new();
            let whole = decode(&packed, encoding, text.len(), |bytes| {
                counted.push(bytes);
                true
            });
            assert_eq!(whole.unwrap(), text, "{encoding:?}");
            assert_eq!(counted.iter().sum::<u64>(), 1_000_000);
            assert!(counted.iter().all(|bytes| *bytes <= UNPACK_STEP_BYTES), "{counted:?}");

            let (mut room, mut asked) = (300_000_u64, 0);
            let refused = decode(&packed, encoding, text.len(), |bytes| {
                asked += 1;
                room.checked_sub(bytes).map(|left| room = left).is_some()
            });
            assert_eq!(refused.unwrap_err().cause, Fault::RouteBusy, "{encoding:?}");
            assert_eq!(asked, 300_000 / UNPACK_STEP_BYTES + 1, "nothing is unpacked after a refusal");
        }
    }
}
