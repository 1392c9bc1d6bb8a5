//! Text output for people: aligned columns, times, and foreign text without control characters.

use crate::delivery::DeliveryKind;
use crate::outcome::{Issue, Outcome};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Display;
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

/// A value for people: strings without quotes, lists joined by commas, null as an empty text.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// The value, or an empty text.
pub fn optional(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A code as the admin API writes it.
pub fn code(value: impl Serialize) -> String {
    serde_json::to_value(value).map(|value| text(&value)).unwrap_or_default()
}

/// Microseconds since 1970 as RFC 3339 in UTC with milliseconds; empty for None.
pub fn instant(at_us: impl Into<Option<i64>>) -> String {
    let Some(at_us) = at_us.into() else { return String::new() };
    jiff::Timestamp::from_microsecond(at_us).map_or_else(|_| at_us.to_string(), |instant| format!("{instant:.3}"))
}

/// The kind of a delivery in one word.
pub fn kind(kind: &DeliveryKind) -> &'static str {
    match kind {
        DeliveryKind::Request => "request",
        DeliveryKind::Answer => "answer",
        DeliveryKind::Callback { .. } => "callback",
        DeliveryKind::Replay { .. } => "replay",
        DeliveryKind::Reply(_) => "reply",
    }
}

/// The issues of a stored outcome, one line each.
pub fn stored_issues(outcome: &Outcome) -> Vec<String> {
    let line = |issue: &Issue| {
        let place = [Some(issue.cause.code()), issue.rule.as_deref(), issue.expression.as_deref()];
        issue_line(&code(issue.severity), &code(issue.code), place.into_iter().flatten(), &issue.diagnostics)
    };
    outcome.issues.iter().map(line).collect()
}

/// The issues of an OperationOutcome, one line each.
pub fn issues(outcome: &Value) -> Vec<String> {
    outcome["issue"].as_array().into_iter().flatten().map(issue).collect()
}

fn issue(issue: &Value) -> String {
    let member = |name: &str| issue[name].as_str().unwrap_or_default();
    let codings = issue["details"]["coding"].as_array();
    let fault = codings.into_iter().flatten().find(|coding| coding["system"] == "urn:emberpost:fault");
    let expression = &issue["expression"][0];
    let place = [fault.and_then(|fault| fault["code"].as_str()), expression.as_str()];
    let said = [member("diagnostics"), issue["details"]["text"].as_str().unwrap_or_default()];
    let said = said.into_iter().find(|said| !said.is_empty()).unwrap_or_default();
    issue_line(member("severity"), member("code"), place.into_iter().flatten(), said)
}

fn issue_line<'i>(severity: &str, code: &str, place: impl Iterator<Item = &'i str>, said: &str) -> String {
    let mut line = format!("{severity} {code}");
    for part in place {
        line.push(' ');
        line.push_str(part);
    }
    plain(&format!("{line}: {}", if said.is_empty() { "no diagnostics" } else { said }))
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
        assert_eq!(instant(1_700_000_000_123_456), "2023-11-14T22:13:20.123Z");
        assert_eq!(instant(None), "");
        assert_eq!(kind(&DeliveryKind::Callback { url: "http://x".into() }), "callback");
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
        let kept = stored_issues(&ours);
        assert_eq!(kept, ["error required SEND_STRUCTURE MSG-11 Bundle.entry[0]: No source."]);
        assert_eq!(issues(&ours.to_resource()), ["error required SEND_STRUCTURE Bundle.entry[0]: No source. [MSG-11]"]);
    }
}
