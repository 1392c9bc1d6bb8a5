//! What a GET for metadata asks for: the FHIR version, the format, and search parameters.

use super::Refusal;
use crate::channel::edge::ALIASES;
use crate::channel::media;
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use fhir::{FhirVersion, Format};

/// A request for one of the resources that describe this endpoint.
pub(super) struct MetadataRequest {
    pub(super) version: FhirVersion,
    /// The version that the path fixes; links use the same alias.
    pub(super) fixed: Option<FhirVersion>,
    /// Whether unsupported parameters are refused (`Prefer: handling=strict`) or ignored.
    pub(super) is_strict: bool,
    pub(super) format: Format,
    /// The parameters that remain for a search, in order.
    pub(super) parameters: Vec<(String, String)>,
}

impl MetadataRequest {
    /// Reads the path's version, `Accept`, `_format`, and `fhirVersion` (the query has priority), and falls back to
    /// `default`. Errs with 406 if no supported format or version is acceptable, 415 if the request names another
    /// version than the path, and 400 if the query cannot be read.
    pub(super) fn read(
        headers: &HeaderMap,
        query: Option<&str>,
        fixed: Option<FhirVersion>,
        default: FhirVersion,
    ) -> Result<MetadataRequest, Refusal> {
        let pairs = pairs(query)?;
        let mut request = MetadataRequest {
            version: default,
            fixed,
            is_strict: is_strict(headers),
            format: Format::Json,
            parameters: Vec::new(),
        };
        let (mut format, mut named) = (None, None);
        for (name, value) in pairs {
            match name.as_str() {
                "_format" => format = Some(value),
                "fhirVersion" => named = Some(media::version(&value).map_err(not_acceptable)?),
                "_pretty" | "mode" => {}
                _ => request.parameters.push((name, value)),
            }
        }
        let accept = format.or_else(|| media::joined(headers, &header::ACCEPT)).unwrap_or_default();
        let (format, accepted) = media::wanted(&accept, Format::Json).map_err(not_acceptable)?;
        request.format = format;
        let named = named.or(accepted);
        if fixed.zip(named).is_some_and(|(fixed, named)| fixed != named) {
            let text = "The fhirVersion differs from the version in the path; send only one of them, or the same";
            let issue = Issue::error(IssueCode::NotSupported, Fault::SendVersion, text).rule("VER-04");
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, issue));
        }
        request.version = fixed.or(named).unwrap_or(default);
        Ok(request)
    }

    /// Emberpost's base as this client addressed it.
    pub(super) fn base(&self, base_url: &str) -> String {
        let alias = self.fixed.and_then(|fixed| ALIASES.into_iter().find(|(_, version)| *version == fixed));
        match alias {
            Some((name, _)) => format!("{base_url}/{name}"),
            None => base_url.to_owned(),
        }
    }
}

/// `Prefer: handling=strict`; `lenient` is the default.
fn is_strict(headers: &HeaderMap) -> bool {
    let preferences = media::joined(headers, &HeaderName::from_static("prefer")).unwrap_or_default();
    preferences.split([',', ';']).any(|preference| preference.trim().eq_ignore_ascii_case("handling=strict"))
}

fn not_acceptable(issue: Issue) -> Refusal {
    (StatusCode::NOT_ACCEPTABLE, issue)
}

fn pairs(query: Option<&str>) -> Result<Vec<(String, String)>, Refusal> {
    let Some(query) = query else { return Ok(Vec::new()) };
    let unreadable = || {
        let text = "The query cannot be read";
        (StatusCode::BAD_REQUEST, Issue::error(IssueCode::Value, Fault::SendRequest, text))
    };
    let uri: Uri = format!("/?{query}").parse().map_err(|_| unreadable())?;
    Query::try_from_uri(&uri).map(|Query(pairs)| pairs).map_err(|_| unreadable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_from_the_query_then_from_accept_then_is_r4() {
        let cases: &[(&str, Option<&str>, Result<FhirVersion, u16>)] = &[
            ("", None, Ok(FhirVersion::R4)),
            ("*/*", None, Ok(FhirVersion::R4)),
            ("application/fhir+json; fhirVersion=5.0", None, Ok(FhirVersion::R5)),
            ("text/html, application/fhir+json;fhirVersion=\"4.3\";q=0.9", None, Ok(FhirVersion::R4B)),
            ("application/fhir+json; fhirVersion=5.0", Some("fhirVersion=4.0"), Ok(FhirVersion::R4)),
            ("application/fhir+xml", Some("_format=json"), Ok(FhirVersion::R4)),
            ("application/fhir+xml; fhirVersion=5.0", None, Ok(FhirVersion::R5)),
            ("application/fhir+turtle", None, Err(406)),
            ("application/json;q=0", None, Err(406)),
            ("", Some("_format=ttl"), Err(406)),
            ("", Some("fhirVersion=3.0"), Err(406)),
            ("", Some("_format=application%2Ffhir%2Bjson"), Ok(FhirVersion::R4)),
        ];
        for (accept, query, expected) in cases {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            let got = MetadataRequest::read(&headers, *query, None, FhirVersion::R4).map(|request| request.version);
            assert_eq!(got.map_err(|(status, _)| status.as_u16()), *expected, "{accept} {query:?}");
        }
    }
}
