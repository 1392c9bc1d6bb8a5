//! The time of a list's first page, for each filter of the admin API.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::super::message::{RECEIVER_ADDRESS, SENDER_ADDRESS};
use super::super::report::median;
use super::super::router::get;

/// The time of one filter's first page.
#[derive(Debug, Serialize)]
pub struct ListTime {
    pub filter: String,
    pub median_ms: f64,
    pub entries: usize,
}

/// Asks for each list in turns, `runs` times.
pub fn measure(address: &str, runs: u32) -> Result<Vec<ListTime>> {
    let sample = page(address, "messages?limit=1")?;
    let message = sample["items"].get(0).context("the store lists no message")?;
    let filters = filters(message);
    let mut times = vec![Vec::new(); filters.len()];
    let mut entries = vec![0; filters.len()];
    for _ in 0..runs {
        for (number, filter) in filters.iter().enumerate() {
            let begun = Instant::now();
            let page = page(address, filter)?;
            times[number].push(begun.elapsed().as_secs_f64() * 1e3);
            entries[number] = page["items"].as_array().map_or(0, Vec::len);
        }
    }
    let of = |((filter, times), entries): ((String, Vec<f64>), usize)| ListTime {
        filter,
        median_ms: median(times.into_iter()).unwrap_or_default(),
        entries,
    };
    Ok(filters.into_iter().zip(times).zip(entries).map(of).collect())
}

/// Each filter alone, with a value that many messages have, that one has, and that none has; and those that are
/// usual together.
fn filters(message: &Value) -> Vec<String> {
    let text = |key: &str| encoded(message[key].as_str().unwrap_or_default());
    let received = encoded(&received_at(message));
    let (source, receiver) = (encoded(&format!("{SENDER_ADDRESS}7")), encoded(RECEIVER_ADDRESS));
    let mut filters = vec![
        "messages".to_owned(),
        format!("messages?id={}", text("id")),
        format!("messages?header_id={}", text("header_id")),
        format!("messages?bundle_id={}", text("bundle_id")),
        "messages?bundle_identifier=none".to_owned(),
        "messages?event=observation-provide".to_owned(),
        "messages?event=none".to_owned(),
        format!("messages?source={source}"),
        format!("messages?destination={receiver}"),
        "messages?destination=none".to_owned(),
        "messages?sender=senders".to_owned(),
        "messages?state=accepted".to_owned(),
        "messages?state=refused".to_owned(),
        "messages?response_code=ok".to_owned(),
        "messages?response_code=fatal-error".to_owned(),
        "messages?ambiguous=true".to_owned(),
        "messages?further=true".to_owned(),
        format!("messages?since={received}"),
        format!("messages?until={received}"),
        "messages?until=2020-01-01T00:00:00Z".to_owned(),
        "messages?fault=SEND_UNKNOWN_EVENT".to_owned(),
        "messages?issue=required".to_owned(),
        "messages?rule=MSG-04".to_owned(),
        format!("messages?event=observation-provide&since={received}"),
        format!("messages?source={source}&until={received}"),
        format!("messages?destination={receiver}&until={received}"),
    ];
    for state in ["waiting", "delivered", "answered", "dead", "discarded"] {
        filters.push(format!("deliveries?state={state}"));
    }
    filters.push("deliveries?participant=down".to_owned());
    filters.push("deliveries?participant=receiver&state=dead".to_owned());
    filters
}

/// When the message was received, in RFC 3339.
fn received_at(message: &Value) -> String {
    let us = message["received_at_us"].as_i64().unwrap_or_default();
    jiff::Timestamp::from_microsecond(us).unwrap_or_default().to_string()
}

/// A value in a query: everything but letters, digits, and a few marks is percent-encoded.
fn encoded(value: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    value.bytes().map(byte).collect()
}

fn page(address: &str, filter: &str) -> Result<Value> {
    let (status, body) = get(address, &format!("/admin/v1/{filter}"))?;
    if status != 200 {
        bail!("the list {filter} was answered with status {status}");
    }
    serde_json::from_str(&body).with_context(|| format!("the list {filter} is not JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_for_a_query() {
        assert_eq!(encoded("2026-01-01T10:00:00+01:00"), "2026-01-01T10%3A00%3A00%2B01%3A00");
    }
}
