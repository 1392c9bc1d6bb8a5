//! The report: medians over the runs of each case, as a table or as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::proc;

/// All measurements, and the state of the machine.
#[derive(Debug, Serialize)]
pub struct Report {
    version: &'static str,
    cores: usize,
    load_average_at_start: String,
    load_average_at_end: String,
    seconds: u64,
    runs: u32,
    fsyncs_by: FsyncsBy,
    /// What a reader must know to interpret the figures.
    pub notes: Vec<String>,
    pub cases: Vec<Case>,
}

/// The source of the figures of fsyncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FsyncsBy {
    /// Counted in a short pass of its own.
    Strace,
    /// Approximated by the commits that the router counts on `/metrics`.
    Commits,
}

/// One case: its scenario, number of senders, and size of messages.
#[derive(Debug, Serialize)]
pub struct Case {
    pub scenario: String,
    pub senders: usize,
    pub size_bytes: usize,
    /// Counted per commit in a pass of its own, times commits per message; `None` if they were not counted.
    pub fsyncs_per_message: Option<f64>,
    pub samples: Vec<Sample>,
}

/// The result of one run. The server is the router, the relay, or the process that commits to SQLite; the total
/// includes the senders and the receiver.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sample {
    pub messages_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub server_cpu_us_per_message: f64,
    pub total_cpu_us_per_message: f64,
    pub written_bytes_per_message: f64,
    pub commits_per_message: Option<f64>,
    pub unexpected_replies: u64,
    pub first_unexpected: Option<String>,
}

/// The medians of a case, as printed.
#[derive(Debug, Serialize)]
struct Line<'a> {
    scenario: &'a str,
    senders: usize,
    size_bytes: usize,
    messages_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    server_cpu_us_per_message: f64,
    total_cpu_us_per_message: f64,
    fsyncs_per_message: Option<f64>,
    written_bytes_per_message: f64,
    /// The ratio to the relay's rate with the same senders and size: the median over adjacent runs.
    share_of_relay: Option<f64>,
    unexpected_replies: u64,
}

impl Report {
    /// An empty report that records the current load of the machine.
    pub fn begin(seconds: u64, runs: u32, fsyncs_by: FsyncsBy) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            cores: proc::cores(),
            load_average_at_start: proc::load_average(),
            load_average_at_end: String::new(),
            seconds,
            runs,
            fsyncs_by,
            notes: Vec::new(),
            cases: Vec::new(),
        }
    }

    /// Notes by how much a slow receiver changes the median time of the others: the median over adjacent runs.
    pub fn note_slow(&mut self, cases: &[Case]) {
        let named = |name: &str| cases.iter().find(|case| case.scenario == name);
        let (Some(alone), Some(beside)) = (named("inout"), named("slow")) else { return };
        let ratios = alone.samples.iter().zip(&beside.samples).map(|(alone, beside)| beside.p50_ms / alone.p50_ms);
        let Some(ratio) = median(ratios) else { return };
        let change = (ratio - 1.0) * 100.0;
        let (senders, size) = (alone.senders, alone.size_bytes);
        let text = format!(
            "{senders} senders, {size} bytes: a receiver that takes 30 s per message changes the others' p50 by {change:+.1} %"
        );
        self.notes.push(text);
    }

    /// Closes the report.
    pub fn end(&mut self) {
        self.load_average_at_end = proc::load_average();
    }

    pub fn unexpected_replies(&self) -> u64 {
        self.cases.iter().map(Case::unexpected_replies).sum()
    }

    /// The report as a table, one line per case.
    pub fn table(&self) -> String {
        let mut table = format!(
            "emberpost {}, {} cores, load average {} at start, {} at end, medians of {} runs of {} s\n\n",
            self.version, self.cores, self.load_average_at_start, self.load_average_at_end, self.runs, self.seconds
        );
        table += "scenario         senders   bytes  messages/s   p50 ms   p99 ms  cpu us: server   total  fsyncs/msg  written/msg  of relay\n";
        for line in self.lines() {
            let _ = writeln!(
                table,
                "{:<16} {:>7} {:>7} {:>11.0} {:>8.2} {:>8.2} {:>15.1} {:>7.1} {:>11} {:>12.0} {:>9}",
                line.scenario,
                line.senders,
                line.size_bytes,
                line.messages_per_second,
                line.p50_ms,
                line.p99_ms,
                line.server_cpu_us_per_message,
                line.total_cpu_us_per_message,
                line.fsyncs_per_message.map_or("-".to_owned(), |fsyncs| format!("{fsyncs:.3}")),
                line.written_bytes_per_message,
                line.share_of_relay.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0)),
            );
        }
        table += match self.fsyncs_by {
            FsyncsBy::Strace => {
                "\nfsyncs: those of a commit, counted by strace in a short pass of their own, times the commits of the other runs.\n"
            }
            FsyncsBy::Commits => "\nfsyncs are approximated by the store's commits (strace cannot be used here).\n",
        };
        for note in &self.notes {
            let _ = writeln!(table, "note: {note}");
        }
        for case in self.cases.iter().filter(|case| case.unexpected_replies() > 0) {
            let first = case.samples.iter().find_map(|sample| sample.first_unexpected.as_deref()).unwrap_or_default();
            let Case { scenario, senders, size_bytes, .. } = case;
            let count = case.unexpected_replies();
            let _ = writeln!(
                table,
                "{scenario}, {senders} senders, {size_bytes} bytes: {count} unexpected, first: {first}"
            );
        }
        table
    }

    /// The report as JSON: the same medians under `medians`, and each run under `cases`.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            report: &'a Report,
            medians: Vec<Line<'a>>,
        }
        // Structs with string keys can always be written as JSON, so the fallback is never used.
        serde_json::to_string_pretty(&Whole { report: self, medians: self.lines() }).unwrap_or_default()
    }

    fn lines(&self) -> Vec<Line<'_>> {
        self.cases.iter().map(|case| case.line(self.relay_beside(case))).collect()
    }

    fn relay_beside(&self, case: &Case) -> Option<&Case> {
        let same = |other: &&Case| other.senders == case.senders && other.size_bytes == case.size_bytes;
        let relay = match case.scenario.as_str() {
            "accept" | "inout" => "relay",
            "amqp-inout" => "amqp-relay",
            _ => return None,
        };
        self.cases.iter().filter(same).find(|other| other.scenario == relay)
    }
}

impl Case {
    pub fn new(scenario: String, senders: usize, size_bytes: usize) -> Case {
        Case { scenario, senders, size_bytes, fsyncs_per_message: None, samples: Vec::new() }
    }

    /// The store's commits per message, the median over runs.
    pub fn commits_per_message(&self) -> Option<f64> {
        median(self.samples.iter().filter_map(|sample| sample.commits_per_message))
    }

    fn unexpected_replies(&self) -> u64 {
        self.samples.iter().map(|sample| sample.unexpected_replies).sum()
    }

    fn line(&self, relay: Option<&Case>) -> Line<'_> {
        let of = |value: fn(&Sample) -> f64| median(self.samples.iter().map(value)).unwrap_or_default();
        let shares = |relay: &Case| {
            let pairs = self.samples.iter().zip(&relay.samples);
            median(pairs.map(|(own, relay)| own.messages_per_second / relay.messages_per_second.max(1.0)))
        };
        Line {
            scenario: &self.scenario,
            senders: self.senders,
            size_bytes: self.size_bytes,
            messages_per_second: of(|sample| sample.messages_per_second),
            p50_ms: of(|sample| sample.p50_ms),
            p99_ms: of(|sample| sample.p99_ms),
            server_cpu_us_per_message: of(|sample| sample.server_cpu_us_per_message),
            total_cpu_us_per_message: of(|sample| sample.total_cpu_us_per_message),
            fsyncs_per_message: self.fsyncs_per_message.or_else(|| self.commits_per_message()),
            written_bytes_per_message: of(|sample| sample.written_bytes_per_message),
            share_of_relay: relay.and_then(shares),
            unexpected_replies: self.unexpected_replies(),
        }
    }
}

/// The middle value, or the mean of the two in the middle. `None` if there are no values.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[half]),
        _ => Some((values[half - 1] + values[half]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(scenario: &str, rates: &[f64]) -> Case {
        let sample = |rate: &f64| Sample { messages_per_second: *rate, ..Sample::default() };
        Case { samples: rates.iter().map(sample).collect(), ..Case::new(scenario.to_owned(), 64, 2_048) }
    }

    #[test]
    fn the_share_of_the_relay_is_the_median_of_runs_made_next_to_each_other() {
        let mut report = Report::begin(1, 3, FsyncsBy::Strace);
        // The machine's speed halves in the middle: the medians of the rates would give 60 %, each pair gives 50 %.
        report.cases = vec![case("relay", &[1000.0, 500.0, 1000.0]), case("inout", &[500.0, 250.0, 600.0])];
        let lines = report.lines();
        assert_eq!(lines[0].share_of_relay, None);
        assert_eq!(lines[1].share_of_relay, Some(0.5));
        assert_eq!(lines[1].messages_per_second, 500.0);
    }

    #[test]
    fn the_table_has_a_line_for_each_case_and_names_what_was_unexpected() {
        let mut report = Report::begin(1, 1, FsyncsBy::Commits);
        report.cases = vec![case("accept", &[10.0])];
        report.cases[0].samples[0].unexpected_replies = 2;
        report.cases[0].samples[0].first_unexpected = Some("status 503".to_owned());
        report.end();
        let table = report.table();
        assert!(table.contains("accept                64    2048          10"), "{table}");
        assert!(table.contains("2 unexpected, first: status 503"), "{table}");
        assert_eq!(report.unexpected_replies(), 2);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&report.json()).unwrap()["medians"][0]["senders"], 64);
    }

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
