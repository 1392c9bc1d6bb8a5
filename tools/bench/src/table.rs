//! The report as text: a table of rates and times, and one of costs per message.

use std::fmt::Write;

use super::report::{Medians, Report};

/// The whole report, for a terminal.
pub fn text(report: &Report) -> String {
    let medians = report.medians();
    let mut text = format!(
        "emberpost {}, {} cores, load average {} at start, {} at end, medians of {} runs of {} s\n\n",
        report.version,
        report.cores,
        report.load_average_at_start,
        report.load_average_at_end,
        report.runs,
        report.seconds
    );
    text += &speed(&medians);
    text += "\nPer message, of the server:\n\n";
    text += &costs(&medians);
    text += if report.counted {
        "\nfsyncs are those of a commit in a traced pass, times the commits of the other runs; log and db are pages of 4 KiB \
         written into SQLite's log and from it into the database; system calls were counted in a pass of their own; switches \
         are voluntary context switches of the thread named, which has the most.\n"
    } else {
        "\nfsyncs are approximated by the store's commits (system calls were not counted).\n"
    };
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for case in report.cases.iter().filter(|case| case.unexpected_replies() > 0) {
        let first = case.samples.iter().find_map(|sample| sample.first_unexpected.as_deref()).unwrap_or_default();
        let (scenario, senders, size, count) =
            (&case.scenario, case.senders, case.size_bytes, case.unexpected_replies());
        let _ = writeln!(text, "{scenario}, {senders} senders, {size} bytes: {count} unexpected, first: {first}");
    }
    text
}

fn speed(medians: &[Medians]) -> String {
    let mut table = String::from(
        "scenario         senders   bytes  offered/s  messages/s  of base   p50 ms   p90 ms   p99 ms  p99.9 ms   max ms\n",
    );
    for line in medians {
        let _ = writeln!(
            table,
            "{:<16} {:>7} {:>7} {:>10} {:>11.0} {:>8} {:>8.2} {:>8.2} {:>8.2} {:>9.2} {:>8.1}",
            line.scenario,
            line.senders,
            line.size_bytes,
            line.rate.map_or("-".to_owned(), |rate| format!("{rate:.0}")),
            line.messages_per_second,
            line.share_of_baseline.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0)),
            line.p50_ms,
            line.p90_ms,
            line.p99_ms,
            line.p999_ms,
            line.max_ms,
        );
    }
    for line in medians.iter().filter(|line| line.unsent > 0) {
        let _ = writeln!(
            table,
            "{}, {} senders: {} messages were due and not sent; the rate is beyond what it sustains",
            line.scenario, line.senders, line.unsent
        );
    }
    table
}

fn costs(medians: &[Medians]) -> String {
    let mut table = String::from(
        "scenario         senders   bytes   cpu us  of base  all cpu us  written  fsyncs  log  db   calls  random  allocations  most switches\n",
    );
    for line in medians {
        let number =
            |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        let most = line.switches_per_message.iter().max_by(|(_, one), (_, other)| one.total_cmp(other));
        let _ = writeln!(
            table,
            "{:<16} {:>7} {:>7} {:>8.1} {:>8} {:>11.1} {:>8.0} {:>7} {:>4} {:>3} {:>7} {:>7} {:>12}  {}",
            line.scenario,
            line.senders,
            line.size_bytes,
            line.server_cpu_us_per_message,
            line.cpu_of_baseline.map_or("-".to_owned(), |ratio| format!("{ratio:.2} x")),
            line.total_cpu_us_per_message,
            line.written_bytes_per_message,
            number(line.fsyncs_per_message, 3),
            number(line.log_pages_per_message, 1),
            number(line.database_pages_per_message, 1),
            number(line.system_calls_per_message, 1),
            number(line.random_calls_per_message, 1),
            number(line.allocations_per_message, 0),
            most.map_or("-".to_owned(), |(name, count)| format!("{count:.2} {name}")),
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::case;

    #[test]
    fn the_table_has_a_line_for_each_case_and_names_what_was_unexpected() {
        let mut report = Report::begin(1, 1, false);
        report.cases = vec![case("accept", &[10.0])];
        report.cases[0].samples[0].unexpected_replies = 2;
        report.cases[0].samples[0].first_unexpected = Some("status 503".to_owned());
        report.end();
        let text = text(&report);
        assert!(text.contains("accept                64    2048          -          10"), "{text}");
        assert!(text.contains("2 unexpected, first: status 503"), "{text}");
        assert_eq!(report.unexpected_replies(), 2);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&report.json()).unwrap()["medians"][0]["senders"], 64);
    }
}
