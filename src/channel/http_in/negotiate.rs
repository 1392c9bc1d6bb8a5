//! What the request's query and headers ask for: VER-01 to VER-04, MSG-86, MSG-87, MSG-94, ASY-02.

use crate::channel::media::{self, Encoding};
use crate::exchange::Wants;
use crate::fhir::{Fault, FhirVersion, Form, Issue, IssueCode};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};

#[derive(Clone, Debug)]
pub struct Asked {
    /// The form of the body.
    pub form: Form,
    /// The form that the answer is to have.
    pub answer: Form,
    pub version: Option<FhirVersion>,
    pub encoding: Encoding,
    pub wants: Wants,
    pub via: Option<String>,
}

type Problem = (StatusCode, Issue);

/// Errs with 400, 406 or 415 and a sentence that says what to send instead.
pub fn negotiate(query: &str, headers: &HeaderMap) -> Result<Asked, Problem> {
    let (form, version) = media::content_type(header_text(headers, &header::CONTENT_TYPE)).map_err(unsupported)?;
    let mut asked = Asked {
        form,
        answer: form,
        version,
        encoding: media::encoding(header_text(headers, &header::CONTENT_ENCODING)).map_err(unsupported)?,
        wants: if prefers_async(headers) { Wants::AtStatusUrl } else { Wants::OnTheLine },
        via: media::joined(headers, &header::VIA),
    };
    let format = read_query(query, &mut asked)?;
    let accept = format.or_else(|| media::joined(headers, &header::ACCEPT)).unwrap_or_default();
    let (answer, wanted) = media::wanted(&accept, form).map_err(|issue| match issue.fault {
        Fault::SendVersion => (StatusCode::UNSUPPORTED_MEDIA_TYPE, issue),
        _ => (StatusCode::NOT_ACCEPTABLE, issue),
    })?;
    if wanted.zip(version).is_some_and(|(wanted, sent)| wanted != sent) {
        let text = "Content-Type and Accept name different fhirVersions";
        let issue = Issue::error(IssueCode::NotSupported, Fault::SendVersion, text).rule("VER-04");
        return Err((StatusCode::BAD_REQUEST, issue));
    }
    asked.answer = answer;
    Ok(asked)
}

fn read_query(query: &str, asked: &mut Asked) -> Result<Option<String>, Problem> {
    let (mut format, mut asynchronous, mut response_url) = (None, false, None);
    for (name, value) in form_pairs(query) {
        match (name.as_str(), value.as_str()) {
            ("async", "true") => asynchronous = true,
            ("async", "false") => asynchronous = false,
            ("async", _) => return Err(bad_query("async is true or false", "MSG-87")),
            ("response-url", "") => return Err(bad_query("response-url is empty", "MSG-88")),
            ("response-url", _) => response_url = Some(value),
            ("_format", _) => format = Some(value),
            // The specification allows no other parameter (MSG-86); what means nothing here does no harm.
            _ => {}
        }
    }
    if response_url.is_some() && !asynchronous {
        return Err(bad_query("response-url goes with async=true only", "MSG-87"));
    }
    // It wins over `Prefer: respond-async` (design 1.5).
    if asynchronous {
        asked.wants = Wants::Asynchronously { response_url };
    }
    Ok(format)
}

/// Name and value pairs of a query, percent-decoded.
fn form_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decoded(name), percent_decoded(value))
    })
}

fn percent_decoded(text: &str) -> String {
    let hex = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let pair = (bytes.get(index + 1).copied().and_then(hex), bytes.get(index + 2).copied().and_then(hex));
        match (bytes[index], pair) {
            (b'%', (Some(high), Some(low))) => {
                decoded.push(high * 16 + low);
                index += 3;
                continue;
            }
            // `_format=application/fhir+json` is written so by most clients, though `+` stands for a space.
            (byte, _) => decoded.push(byte),
        }
        index += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn header_text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn prefers_async(headers: &HeaderMap) -> bool {
    let preferences = media::joined(headers, &HeaderName::from_static("prefer")).unwrap_or_default();
    preferences.split([',', ';']).any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

fn bad_query(text: &str, rule: &'static str) -> Problem {
    (StatusCode::BAD_REQUEST, Issue::error(IssueCode::Value, Fault::SendRequest, text).rule(rule))
}

fn unsupported(issue: Issue) -> Problem {
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, issue)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), axum::http::HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn status(query: &str, pairs: &[(&'static str, &'static str)]) -> u16 {
        match negotiate(query, &headers(pairs)) {
            Ok(_) => 200,
            Err((status, _)) => status.as_u16(),
        }
    }

    const JSON: (&str, &str) = ("content-type", "application/fhir+json; fhirVersion=4.0");

    #[test]
    fn what_cannot_be_served_is_refused_with_the_status_of_its_kind() {
        type Case = (&'static str, &'static [(&'static str, &'static str)], u16);
        let cases: &[Case] = &[
            ("", &[JSON], 200),
            ("", &[("content-type", "application/json")], 200),
            ("", &[("content-type", "text/plain")], 415),
            ("", &[], 415),
            ("", &[("content-type", "application/fhir+xml")], 200),
            ("", &[("content-type", "application/fhir+turtle")], 415),
            ("", &[("content-type", "application/fhir+json; fhirVersion=3.0")], 415),
            ("", &[("content-type", "application/fhir+json; charset=latin1")], 415),
            ("", &[JSON, ("content-encoding", "br")], 415),
            ("", &[JSON, ("accept", "application/fhir+xml")], 200),
            ("", &[JSON, ("accept", "application/fhir+turtle")], 406),
            ("", &[JSON, ("accept", "application/fhir+xml, */*;q=0.1")], 200),
            ("", &[JSON, ("accept", "application/fhir+json; fhirVersion=5.0")], 400),
            ("_format=json", &[JSON, ("accept", "image/png")], 200),
            ("_format=application/fhir%2Bjson", &[JSON], 200),
            ("_format=ttl", &[JSON], 406),
            ("async=true", &[JSON], 200),
            ("async=yes", &[JSON], 400),
            ("response-url=http%3A%2F%2Fa", &[JSON], 400),
            ("async=true&response-url=http%3A%2F%2Fa", &[JSON], 200),
        ];
        for (query, pairs, expected) in cases {
            assert_eq!(status(query, pairs), *expected, "{query} {pairs:?}");
        }
    }

    #[test]
    fn a_response_url_is_decoded_whole() {
        let asked = negotiate("async=true&response-url=http%3A%2F%2Fa%2Fb%3Fc%3Dd", &headers(&[JSON])).expect("fine");
        assert_eq!(asked.wants, Wants::Asynchronously { response_url: Some("http://a/b?c=d".into()) });
    }

    #[test]
    fn respond_async_is_found_among_other_preferences() {
        let asked = negotiate("", &headers(&[JSON, ("prefer", "return=minimal, respond-async")])).expect("fine");
        assert_eq!(asked.wants, Wants::AtStatusUrl);
    }
}
