//! What a GET asks for: the FHIR version, the format, and search parameters.

use super::Refusal;
use crate::fhir::{Fault, FhirVersion, Issue, IssueCode};
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode, Uri, header};

/// A request for one of the resources that describe this endpoint.
pub(super) struct Asked {
    version: Option<FhirVersion>,
    /// The parameters that are left for a search, in order.
    pub(super) parameters: Vec<(String, String)>,
}

impl Asked {
    /// Reads `Accept`, `_format` and `fhirVersion` (the query wins). Errs with 406 where JSON in a version that Emberpost
    /// speaks is not acceptable, 400 where the query cannot be read.
    pub(super) fn read(headers: &HeaderMap, query: Option<&str>) -> Result<Asked, Refusal> {
        let pairs = pairs(query)?;
        let mut asked = Asked { version: None, parameters: Vec::new() };
        let mut format = None;
        for (name, value) in pairs {
            match name.as_str() {
                "_format" => format = Some(value),
                "fhirVersion" => asked.version = Some(version(&value)?),
                "_pretty" | "mode" => {}
                _ => asked.parameters.push((name, value)),
            }
        }
        let accept: Vec<&str> = match &format {
            Some(format) => vec![format.as_str()],
            None => headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect(),
        };
        let ranges: Vec<&str> = accept.iter().flat_map(|text| text.split(',')).map(str::trim).collect();
        if ranges.is_empty() {
            return Ok(asked);
        }
        let Some(range) = ranges.iter().find(|range| is_json(range)) else {
            let text = "Only application/fhir+json can be given. XML is not built yet.";
            return Err((
                StatusCode::NOT_ACCEPTABLE,
                Issue::error(IssueCode::NotSupported, Fault::SendMediaType, text),
            ));
        };
        if asked.version.is_none() {
            asked.version = parameter(range, "fhirVersion").map(version).transpose()?;
        }
        Ok(asked)
    }

    /// The version asked for; R4 where none was.
    pub(super) fn version(&self) -> FhirVersion {
        self.version.unwrap_or(FhirVersion::R4)
    }
}

fn pairs(query: Option<&str>) -> Result<Vec<(String, String)>, Refusal> {
    let Some(query) = query else { return Ok(Vec::new()) };
    let unreadable = || {
        let text = "The query cannot be read.";
        (StatusCode::BAD_REQUEST, Issue::error(IssueCode::Value, Fault::SendRequest, text))
    };
    let uri: Uri = format!("/?{query}").parse().map_err(|_| unreadable())?;
    Query::try_from_uri(&uri).map(|Query(pairs)| pairs).map_err(|_| unreadable())
}

fn version(text: &str) -> Result<FhirVersion, Refusal> {
    FhirVersion::parse(text).ok_or_else(|| {
        let text = "This fhirVersion is not supported. Ask for 4.0, 4.3 or 5.0.";
        (StatusCode::NOT_ACCEPTABLE, Issue::error(IssueCode::NotSupported, Fault::SendVersion, text))
    })
}

fn is_json(range: &str) -> bool {
    let kind = range.split(';').next().unwrap_or_default().trim();
    let refused = parameter(range, "q").is_some_and(|quality| quality.parse() == Ok(0.0_f32));
    !refused
        && ["*/*", "application/*", "application/json", "application/fhir+json", "json", "text/json"]
            .iter()
            .any(|json| kind.eq_ignore_ascii_case(json))
}

/// The value of a media type's parameter, without quotes.
fn parameter<'r>(range: &'r str, name: &str) -> Option<&'r str> {
    range.split(';').skip(1).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
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
            ("application/fhir+xml", None, Err(406)),
            ("application/json;q=0", None, Err(406)),
            ("", Some("_format=xml"), Err(406)),
            ("", Some("fhirVersion=3.0"), Err(406)),
            ("", Some("_format=application%2Ffhir%2Bjson"), Ok(FhirVersion::R4)),
        ];
        for (accept, query, expected) in cases {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            let got = Asked::read(&headers, *query).map(|asked| asked.version());
            assert_eq!(got.map_err(|(status, _)| status.as_u16()), *expected, "{accept} {query:?}");
        }
    }
}
