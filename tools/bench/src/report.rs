//! The report: each run of each case, and the medians over the runs.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::Serialize;

use super::latency::Summary;
use super::plan::{Load, Scenario};
use super::proc;
use super::roles::Measured;
use super::trace::Writes;

/// All measurements, and the state of the machine.
#[derive(Debug, Serialize)]
pub struct Report {
    pub version: &'static str,
    pub cores: usize,
    pub load_average_at_start: String,
    pub load_average_at_end: String,
    pub seconds: u64,
    pub runs: u32,
    /// Whether system calls were counted. If not, fsyncs are approximated by commits.
    pub counted: bool,
    /// What a reader must know to interpret the figures.
    pub notes: Vec<String>,
    pub cases: Vec<Case>,
}

/// One case: its scenario and load.
#[derive(Debug, Serialize)]
pub struct Case {
    pub scenario: String,
    pub senders: usize,
    pub size_bytes: usize,
    /// Messages per second of an open loop; `None` for a closed one.
    pub rate: Option<f64>,
    /// Counted in passes of their own.
    pub counts: Option<Counts>,
    pub samples: Vec<Sample>,
}

/// The result of one run. The server is the router, the relay, or the process that commits to SQLite; the total
/// includes the senders and the receiver.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sample {
    pub messages_per_second: f64,
    pub latency: Summary,
    pub server_cpu_us_per_message: f64,
    pub total_cpu_us_per_message: f64,
    pub written_bytes_per_message: f64,
    /// Voluntary context switches of the server's threads; of several threads with one name, of the busiest.
    pub switches_per_message: BTreeMap<String, f64>,
    pub commits_per_message: Option<f64>,
    /// What the log of PostgreSQL grew by, with images of full pages, and how often it was flushed to disk.
    pub wal_bytes_per_message: Option<f64>,
    pub full_page_images_per_message: Option<f64>,
    pub wal_fsyncs_per_message: Option<f64>,
    /// Messages that were due in an open loop, and not sent before it ended.
    pub unsent: u64,
    pub unexpected_replies: u64,
    pub first_unexpected: Option<String>,
}

/// The result of one run: the senders' figures, and what the processes serving them used, the server first.
pub(super) struct Run {
    pub measured: Measured,
    pub used: Vec<proc::Usage>,
}

impl Run {
    pub fn sample(self) -> Sample {
        let messages = self.measured.messages.max(1) as f64;
        let server = self.used.first().cloned().unwrap_or_default();
        let served_us: u64 = self.used.iter().map(|usage| usage.cpu_us).sum();
        let switches = server.switches_by_thread().into_iter().map(|(name, count)| (name, count as f64 / messages));
        Sample {
            messages_per_second: self.measured.messages as f64 * 1e6 / self.measured.elapsed_us.max(1) as f64,
            latency: self.measured.latency,
            server_cpu_us_per_message: server.cpu_us as f64 / messages,
            total_cpu_us_per_message: (served_us + self.measured.cpu_us) as f64 / messages,
            written_bytes_per_message: server.written_bytes as f64 / messages,
            switches_per_message: switches.collect(),
            commits_per_message: None,
            wal_bytes_per_message: None,
            full_page_images_per_message: None,
            wal_fsyncs_per_message: None,
            unsent: self.measured.unsent,
            unexpected_replies: self.measured.unexpected,
            first_unexpected: self.measured.first_unexpected,
        }
    }

    /// `count` for each message of the whole run, the warm-up included.
    pub fn per_message_in_all(&self, count: f64) -> Option<f64> {
        (self.measured.messages_in_all > 0).then(|| count / self.measured.messages_in_all as f64)
    }
}

/// Counts of a traced server for each message.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Those of a commit, times the commits of the untraced runs.
    pub fsyncs: Option<f64>,
    pub log_pages: Option<f64>,
    pub database_pages: Option<f64>,
    pub allocations: Option<f64>,
    /// What the log of PostgreSQL grew by, without images of full pages.
    pub wal_bytes: Option<f64>,
    /// By name.
    pub system_calls: BTreeMap<String, f64>,
}

/// The medians of a case.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Medians {
    pub scenario: String,
    pub senders: usize,
    pub size_bytes: usize,
    pub rate: Option<f64>,
    pub messages_per_second: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    pub server_cpu_us_per_message: f64,
    pub total_cpu_us_per_message: f64,
    pub written_bytes_per_message: f64,
    pub fsyncs_per_message: Option<f64>,
    pub log_pages_per_message: Option<f64>,
    pub database_pages_per_message: Option<f64>,
    pub system_calls_per_message: Option<f64>,
    pub random_calls_per_message: Option<f64>,
    pub allocations_per_message: Option<f64>,
    pub switches_per_message: BTreeMap<String, f64>,
    /// The ratio to the baseline's rate with the same load: the median over adjacent runs.
    pub share_of_baseline: Option<f64>,
    /// The ratio to the baseline's CPU time of its server: the median over adjacent runs.
    pub cpu_of_baseline: Option<f64>,
    pub unsent: u64,
    pub unexpected_replies: u64,
}

impl Report {
    /// An empty report that records the current load of the machine.
    pub fn begin(seconds: u64, runs: u32, counted: bool) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            cores: proc::cores(),
            load_average_at_start: proc::load_average(),
            load_average_at_end: String::new(),
            seconds,
            runs,
            counted,
            notes: Vec::new(),
            cases: Vec::new(),
        }
    }

    /// Adds a note unless the report has it.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Notes by how much a slow receiver changes the median time of the others: the median over adjacent runs.
    pub fn note_slow(&mut self, cases: &[Case]) {
        let named = |name: &str| cases.iter().find(|case| case.scenario == name);
        let (Some(alone), Some(beside)) = (named("inout"), named("slow")) else { return };
        let p50 = |sample: &Sample| sample.latency.p50_us.max(1) as f64;
        let ratios = alone.samples.iter().zip(&beside.samples).map(|(alone, beside)| p50(beside) / p50(alone));
        let Some(ratio) = median(ratios) else { return };
        let change = (ratio - 1.0) * 100.0;
        let (senders, size) = (alone.senders, alone.size_bytes);
        self.note(format!(
            "{senders} senders, {size} bytes: a receiver that takes 30 s per message changes the others' p50 by {change:+.1} %"
        ));
    }

    /// Notes what each message costs PostgreSQL.
    pub fn note_wal(&mut self, cases: &[Case]) {
        for case in cases {
            let of = |value: fn(&Sample) -> Option<f64>| median(case.samples.iter().filter_map(value));
            let (Some(bytes), Some(images)) =
                (of(|sample| sample.wal_bytes_per_message), of(|sample| sample.full_page_images_per_message))
            else {
                continue;
            };
            let fsyncs = of(|sample| sample.wal_fsyncs_per_message).unwrap_or_default();
            let without = case.counts.as_ref().and_then(|counts| counts.wal_bytes);
            let without = without
                .map_or(String::new(), |bytes| format!(", {bytes:.0} bytes in a run without images of full pages"));
            let (scenario, senders, size) = (&case.scenario, case.senders, case.size_bytes);
            self.note(format!(
                "{scenario}, {senders} senders, {size} bytes: per message the WAL grows by {bytes:.0} bytes with {images:.2} images \
                 of full pages{without}, and is flushed {fsyncs:.3} times"
            ));
        }
    }

    /// Closes the report.
    pub fn end(&mut self) {
        self.load_average_at_end = proc::load_average();
    }

    pub fn unexpected_replies(&self) -> u64 {
        self.cases.iter().map(Case::unexpected_replies).sum()
    }

    /// The report as JSON: the medians under `medians`, and each run under `cases`.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            report: &'a Report,
            medians: Vec<Medians>,
        }
        // Structs with string keys can always be written as JSON, so the fallback is never used.
        serde_json::to_string_pretty(&Whole { report: self, medians: self.medians() }).unwrap_or_default()
    }

    /// The medians of each case.
    pub fn medians(&self) -> Vec<Medians> {
        self.cases.iter().map(|case| case.medians(self.baseline_of(case))).collect()
    }

    fn baseline_of(&self, case: &Case) -> Option<&Case> {
        let name = Scenario::from_str(&case.scenario, false).ok()?.baseline()?.name();
        let is_same =
            |other: &&Case| (other.senders, other.size_bytes, other.rate) == (case.senders, case.size_bytes, case.rate);
        self.cases.iter().filter(is_same).find(|other| other.scenario == name)
    }
}

impl Case {
    pub fn new(scenario: String, load: Load) -> Case {
        let Load { senders, size_bytes, rate, .. } = load;
        Case { scenario, senders, size_bytes, rate, counts: None, samples: Vec::new() }
    }

    /// The store's commits per message, the median over runs.
    fn commits_per_message(&self) -> Option<f64> {
        median(self.samples.iter().filter_map(|sample| sample.commits_per_message))
    }

    pub fn unexpected_replies(&self) -> u64 {
        self.samples.iter().map(|sample| sample.unexpected_replies).sum()
    }

    fn medians(&self, baseline: Option<&Case>) -> Medians {
        let of = |value: fn(&Sample) -> f64| median(self.samples.iter().map(value)).unwrap_or_default();
        let ratio = |value: fn(&Sample) -> f64| {
            let pairs = self.samples.iter().zip(&baseline?.samples);
            median(pairs.map(|(own, base)| value(own) / value(base).max(f64::MIN_POSITIVE)))
        };
        let counts = self.counts.clone().unwrap_or_default();
        let calls = |wanted: fn(&str) -> bool| {
            let is_counted = !counts.system_calls.is_empty();
            let chosen = counts.system_calls.iter().filter(|(name, _)| wanted(name));
            is_counted.then(|| chosen.map(|(_, calls)| calls).sum())
        };
        Medians {
            scenario: self.scenario.clone(),
            senders: self.senders,
            size_bytes: self.size_bytes,
            rate: self.rate,
            messages_per_second: of(|sample| sample.messages_per_second),
            p50_ms: of(|sample| sample.latency.p50_us as f64 / 1e3),
            p90_ms: of(|sample| sample.latency.p90_us as f64 / 1e3),
            p99_ms: of(|sample| sample.latency.p99_us as f64 / 1e3),
            p999_ms: of(|sample| sample.latency.p999_us as f64 / 1e3),
            max_ms: of(|sample| sample.latency.max_us as f64 / 1e3),
            server_cpu_us_per_message: of(|sample| sample.server_cpu_us_per_message),
            total_cpu_us_per_message: of(|sample| sample.total_cpu_us_per_message),
            written_bytes_per_message: of(|sample| sample.written_bytes_per_message),
            fsyncs_per_message: counts.fsyncs.or_else(|| self.commits_per_message()),
            log_pages_per_message: counts.log_pages,
            database_pages_per_message: counts.database_pages,
            system_calls_per_message: calls(|_| true),
            random_calls_per_message: calls(|name| name == "getrandom"),
            allocations_per_message: counts.allocations,
            switches_per_message: self.switches(),
            share_of_baseline: ratio(|sample| sample.messages_per_second),
            cpu_of_baseline: ratio(|sample| sample.server_cpu_us_per_message),
            unsent: self.samples.iter().map(|sample| sample.unsent).sum(),
            unexpected_replies: self.unexpected_replies(),
        }
    }

    /// The medians of each thread's switches.
    fn switches(&self) -> BTreeMap<String, f64> {
        let names = self.samples.iter().flat_map(|sample| sample.switches_per_message.keys());
        let of = |name: &String| {
            let values = self.samples.iter().filter_map(|sample| sample.switches_per_message.get(name).copied());
            (name.clone(), median(values).unwrap_or_default())
        };
        names.map(of).collect()
    }
}

impl Counts {
    /// Adds what the traced router wrote in its lifetime, in which it took the messages of `run` in `commits`.
    /// Tracing slows the router down, so that fewer messages share a commit; fsyncs are those of a commit times the
    /// commits of the case's other runs.
    pub fn add_writes(&mut self, writes: Option<Writes>, run: &Run, commits: Option<f64>, case: &Case) {
        let Some(writes) = writes else { return };
        let per_commit = commits.filter(|commits| *commits > 0.0).map(|commits| writes.fsyncs as f64 / commits);
        self.fsyncs = per_commit.zip(case.commits_per_message()).map(|(fsyncs, commits)| fsyncs * commits);
        self.log_pages = run.per_message_in_all(writes.log_pages as f64);
        self.database_pages = run.per_message_in_all(writes.database_pages as f64);
    }

    /// Adds the calls that were counted while `run` was measured.
    pub fn add_calls(&mut self, calls: BTreeMap<String, u64>, run: &Run) {
        let messages = run.measured.messages.max(1) as f64;
        self.system_calls = calls.into_iter().map(|(name, count)| (name, count as f64 / messages)).collect();
    }
}

/// The middle value, or the mean of the two in the middle. `None` if there are no values.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
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
pub(super) mod tests {
    use super::*;

    pub fn case(scenario: &str, rates: &[f64]) -> Case {
        let sample = |rate: &f64| Sample {
            messages_per_second: *rate,
            server_cpu_us_per_message: 1e6 / rate,
            ..Sample::default()
        };
        let load = Load { senders: 64, size_bytes: 2_048, seconds: 1, warm_ms: 0, rate: None };
        Case { samples: rates.iter().map(sample).collect(), ..Case::new(scenario.to_owned(), load) }
    }

    #[test]
    fn the_share_of_the_relay_is_the_median_of_runs_made_next_to_each_other() {
        let mut report = Report::begin(1, 3, true);
        // The machine's speed halves in the middle: the medians of the rates would give 60 %, each pair gives 50 %.
        report.cases = vec![case("relay", &[1000.0, 500.0, 1000.0]), case("inout", &[500.0, 250.0, 600.0])];
        let medians = report.medians();
        assert_eq!(medians[0].share_of_baseline, None);
        assert_eq!(medians[1].share_of_baseline, Some(0.5));
        assert_eq!(medians[1].cpu_of_baseline, Some(2.0));
        assert_eq!(medians[1].messages_per_second, 500.0);
    }

    #[test]
    fn each_thread_has_the_median_of_its_switches() {
        let mut case = case("accept", &[1.0, 1.0, 1.0]);
        for (sample, count) in case.samples.iter_mut().zip([0.1, 0.3, 0.2]) {
            sample.switches_per_message.insert("store".to_owned(), count);
        }
        assert_eq!(case.switches(), [("store".to_owned(), 0.2)].into());
    }

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
