//! The URL to which a delivery is posted (MSG-86 to MSG-88).

use super::{Channel, DeliveryKind, Metadata};

const OPERATION: &str = "/$process-message";
const ASYNC: &str = "async=true";

/// The URL of this delivery; None if the participant has no HTTP channel and the delivery names no URL. Responses and
/// callbacks get `async=true`; a `response-url` is otherwise used as it is.
pub(super) fn target(kind: &DeliveryKind, metadata: &Metadata, channel: Option<&Channel>) -> Option<String> {
    if let DeliveryKind::Callback { url } = kind {
        return Some(with_async(url));
    }
    let Some(Channel::Http { url, asynchronous }) = channel else { return None };
    let response = matches!(kind, DeliveryKind::Answer | DeliveryKind::Reply(_)) || metadata.response.is_some();
    let url = with_operation(url.expose());
    Some(if response || *asynchronous { with_async(&url) } else { url })
}

/// A FHIR base with the operation's path appended, unless it already ends with it.
fn with_operation(base: &str) -> String {
    let base = base.split_once('#').map_or(base, |(base, _)| base);
    let (path, query) = base.split_once('?').map_or((base, None), |(path, query)| (path, Some(query)));
    let path = path.trim_end_matches('/');
    let operation = if path.ends_with(OPERATION) { "" } else { OPERATION };
    match query {
        Some(query) => format!("{path}{operation}?{query}"),
        None => format!("{path}{operation}"),
    }
}

fn with_async(url: &str) -> String {
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    match url.split_once('?') {
        Some((_, query)) if query.split('&').any(|pair| pair == ASYNC) => url.to_owned(),
        Some((_, query)) if query.is_empty() || query.ends_with('&') => format!("{url}{ASYNC}"),
        Some(_) => format!("{url}&{ASYNC}"),
        None => format!("{url}?{ASYNC}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operation_is_appended_once_and_a_query_stays_behind_it() {
        for (base, wanted) in [
            ("http://lab/fhir", "http://lab/fhir/$process-message"),
            ("http://lab/fhir/", "http://lab/fhir/$process-message"),
            ("http://lab", "http://lab/$process-message"),
            ("http://lab/fhir/$process-message", "http://lab/fhir/$process-message"),
            ("http://lab/fhir?unit=1", "http://lab/fhir/$process-message?unit=1"),
        ] {
            assert_eq!(with_operation(base), wanted);
        }
    }

    #[test]
    fn a_callback_url_is_used_as_it_is_plus_async() {
        for (url, wanted) in [
            ("http://ward/anything", "http://ward/anything?async=true"),
            ("http://ward/anything?unit=1", "http://ward/anything?unit=1&async=true"),
            ("http://ward/anything?", "http://ward/anything?async=true"),
            ("http://ward/a?async=true", "http://ward/a?async=true"),
            ("http://ward/a?unit=1#top", "http://ward/a?unit=1&async=true"),
        ] {
            assert_eq!(with_async(url), wanted);
        }
    }
}
