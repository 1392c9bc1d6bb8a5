//! Text output for people: aligned columns, times, and foreign text without control characters.

use crate::delivery::DeliveryKind;
use fhir::Event;
use serde_json::Value;
use std::io::{self, Write};

/// Rows under headings, every column as wide as its widest cell. Cells are never truncated.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(headings: &[&str]) -> Self {
        Table { rows: vec![headings.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row; an empty cell is shown as `-`.
    pub fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|cell| if cell.is_empty() { "-".into() } else { plain(&cell) }).collect());
    }

    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column| self.rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in &self.rows {
            let padded: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
            writeln!(out, "{}", padded.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// `name: value` lines, aligned; empty values are omitted.
pub fn write_fields(out: &mut dyn Write, fields: &[(&str, String)]) -> io::Result<()> {
    let width = fields.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(out, "{:<width$}  {}", format!("{name}:"), plain(value))?;
    }
    Ok(())
}

/// Replaces control characters by spaces: foreign text must not control the terminal or break a row.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The text of a member of any JSON type; empty if it is null or absent.
pub fn cell(item: &Value, name: &str) -> String {
    text(&item[name])
}

/// A value for people: strings without quotes, lists joined by commas, null as an empty text.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Microseconds since 1970 as RFC 3339 in UTC with milliseconds; empty for null.
pub fn instant(value: &Value) -> String {
    match value.as_i64().map(jiff::Timestamp::from_microsecond) {
        Some(Ok(instant)) => format!("{instant:.3}"),
        _ => text(value),
    }
}

/// An event as in the configuration: `system|code` or a URI.
pub fn event(value: &Value) -> String {
    serde_json::from_value::<Event>(value.clone()).map_or_else(|_| text(value), |event| event.to_string())
}

/// An identifier as `system|value`.
pub fn identifier(value: &Value) -> String {
    match (value["system"].as_str(), value["value"].as_str()) {
        (Some(system), Some(value)) => format!("{system}|{value}"),
        (None, Some(value)) => value.into(),
        _ => text(value),
    }
}

/// The kind of a delivery in one word.
pub fn kind(value: &Value) -> String {
    match serde_json::from_value(value.clone()) {
        Ok(DeliveryKind::Request) => "request".into(),
        Ok(DeliveryKind::Answer) => "answer".into(),
        Ok(DeliveryKind::Callback { .. }) => "callback".into(),
        Ok(DeliveryKind::Replay { .. }) => "replay".into(),
        Ok(DeliveryKind::Reply(_)) => "reply".into(),
        Err(_) => text(value),
    }
}

/// The issues of an OperationOutcome, or of a stored outcome, one line each.
pub fn issues(outcome: &Value) -> Vec<String> {
    let issues = outcome["issue"].as_array().or_else(|| outcome["issues"].as_array());
    issues.into_iter().flatten().map(issue).collect()
}

fn issue(issue: &Value) -> String {
    let codings = issue["details"]["coding"].as_array();
    let coding = |system: &str| {
        codings.into_iter().flatten().find(|coding| coding["system"] == system).map(|coding| cell(coding, "code"))
    };
    let fault = coding("urn:emberpost:fault").unwrap_or_else(|| cell(issue, "fault"));
    let expression = issue["expression"].get(0).unwrap_or(&issue["expression"]);
    let said = [cell(issue, "diagnostics"), cell(&issue["details"], "text")].into_iter().find(|said| !said.is_empty());
    let mut line = format!("{} {}", cell(issue, "severity"), cell(issue, "code"));
    // Stored outcomes have the rule in a member; OperationOutcomes have it in the diagnostics.
    for part in [fault, cell(issue, "rule"), text(expression)].into_iter().filter(|part| !part.is_empty()) {
        line.push(' ');
        line.push_str(&part);
    }
    plain(&format!("{line}: {}", said.unwrap_or_else(|| "no diagnostics".into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_foreign_text_cannot_control_the_terminal() {
        let mut table = Table::new(&["ID", "EVENT"]);
        table.push(vec!["a-long-id".into(), "x\u{1b}[2J\ny".into()]);
        table.push(vec!["b".into(), String::new()]);
        let mut out = Vec::new();
        table.write(&mut out).expect("memory");
        assert_eq!(String::from_utf8_lossy(&out), "ID         EVENT\na-long-id  x [2J y\nb          -\n");
    }

    #[test]
    fn values_are_shown_for_people() {
        assert_eq!(instant(&json!(1_700_000_000_123_456_i64)), "2023-11-14T22:13:20.123Z");
        assert_eq!(instant(&Value::Null), "");
        assert_eq!(event(&json!({"Coding": {"system": "urn:s", "code": "c"}})), "urn:s|c");
        assert_eq!(event(&json!("urn:s|c")), "urn:s|c");
        assert_eq!(kind(&json!({"Callback": {"url": "http://x"}})), "callback");
        assert_eq!(text(&json!(["a", 2])), "a, 2");
    }

    #[test]
    fn issues_of_both_kinds_of_outcome_are_printed() {
        let ours = crate::outcome::Outcome::from(
            crate::outcome::Issue::error(
                crate::outcome::IssueCode::Required,
                crate::fault::Fault::SendStructure,
                "No source.",
            )
            .rule("MSG-11")
            .at("Bundle.entry[0]"),
        );
        let kept = issues(&serde_json::to_value(&ours).expect("outcome"));
        assert_eq!(kept, ["error required SEND_STRUCTURE MSG-11 Bundle.entry[0]: No source."]);
        assert_eq!(issues(&ours.to_resource()), ["error required SEND_STRUCTURE Bundle.entry[0]: No source. [MSG-11]"]);
    }
}
