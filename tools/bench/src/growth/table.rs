//! The figures of a full store as JSON and as a Markdown table.

use std::fmt::Write;

use super::super::report::{Sample, median};
use super::Growth;

impl Growth {
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The figures as a Markdown table, each with its baseline.
    pub fn table(&self) -> String {
        let of = |samples: &[Sample], value: fn(&Sample) -> f64| median(samples.iter().map(value)).unwrap_or_default();
        let ratio = |some: &[Sample], base: &[Sample], value: fn(&Sample) -> f64| {
            median(some.iter().zip(base).map(|(one, base)| value(one) / value(base).max(1e-9))).unwrap_or_default()
        };
        let rate: fn(&Sample) -> f64 = |sample| sample.messages_per_second;
        let p99: fn(&Sample) -> f64 = |sample| sample.latency.p99_us as f64 / 1e3;
        let written: fn(&Sample) -> f64 = |sample| sample.written_bytes_per_message;
        let mut table = format!(
            "{} stored messages, {} open deliveries, database of {:.0} MB, filled at {:.0} messages/s\n\n| what | empty store | full store | ratio |\n|---|---|---|---|\n",
            self.messages,
            self.open_deliveries,
            self.database_bytes as f64 / 1e6,
            self.filled_per_second
        );
        for (name, value, digits) in [
            ("accept, messages/s", rate, 0),
            ("accept, p99 ms", p99, 1),
            ("accept, bytes written per message", written, 0),
        ] {
            let (empty, full) = (of(&self.empty, value), of(&self.full, value));
            let ratio = ratio(&self.full, &self.empty, value);
            let _ = writeln!(table, "| {name} | {empty:.digits$} | {full:.digits$} | {ratio:.2} |");
        }
        let images: fn(&Sample) -> f64 = |sample| sample.full_page_images_per_message.unwrap_or_default();
        if self.full.iter().any(|sample| sample.full_page_images_per_message.is_some()) {
            let (empty, full) = (of(&self.empty, images), of(&self.full, images));
            let _ = writeln!(table, "| among them images of full pages | {empty:.2} | {full:.2} | |");
        }
        for (name, value, digits) in [("during retention, messages/s", rate, 0), ("during retention, p99 ms", p99, 1)] {
            let (empty, full) = (of(&self.empty_beside_retention, value), of(&self.during_retention, value));
            let ratio = ratio(&self.during_retention, &self.empty_beside_retention, value);
            let _ = writeln!(table, "| {name} | {empty:.digits$} | {full:.digits$} | {ratio:.2} |");
        }
        let _ = writeln!(
            table,
            "\n| restart to ready | memory after the restart | memory at most | old messages left after {:.0} s of retention |\n|---|---|---|---|\n| {:.0} ms | {:.0} MB | {:.0} MB | {} of {} |",
            self.retention_seconds,
            self.restart_ms,
            self.memory_bytes_at_rest as f64 / 1e6,
            self.memory_bytes_at_most as f64 / 1e6,
            self.left_after_retention,
            self.old_before_retention,
        );
        table += "\n| list of | first page, ms | entries |\n|---|---|---|\n";
        for list in &self.lists {
            let _ = writeln!(table, "| `{}` | {:.1} | {} |", list.filter, list.median_ms, list.entries);
        }
        table
    }
}
