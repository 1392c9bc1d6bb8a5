//! What `send` prints: a line per message, a progress bar on a terminal, and the summary.

use super::answer::Verdict;
use super::sent::Sent;
use crate::cli::progress;
use crate::cli::table::plain;
use indicatif::ProgressBar;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

/// Counts and prints results. A closed pipe stops the output, not the sending.
pub struct Report<'a> {
    out: &'a mut dyn Write,
    out_closed: bool,
    bar: Option<ProgressBar>,
    started: Instant,
    counts: BTreeMap<Verdict, u64>,
    /// Answer times in microseconds: at most 4 bytes a message.
    durations_us: Vec<u32>,
    gave_up: bool,
    /// Messages without a result when the command was interrupted.
    interrupted: Option<u64>,
}

impl<'a> Report<'a> {
    /// `expected` is the least number of messages, the length of the progress bar on a terminal.
    pub fn new(out: &'a mut dyn Write, is_terminal: bool, expected: u64) -> Self {
        let bar = is_terminal.then(|| progress::messages(expected));
        let started = Instant::now();
        Report {
            out,
            out_closed: false,
            bar,
            started,
            counts: BTreeMap::new(),
            durations_us: Vec::new(),
            gave_up: false,
            interrupted: None,
        }
    }

    pub fn add(&mut self, sent: Sent) {
        if let Some(duration) = sent.duration {
            self.durations_us.push(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX));
        }
        if let Some(bar) = &self.bar {
            bar.inc_length(u64::from(sent.is_further));
            bar.inc(1);
        }
        if self.bar.is_none() || !sent.verdict.is_success() {
            self.line(&line(&sent));
        }
        *self.counts.entry(sent.verdict).or_default() += 1;
    }

    /// Whether at least so many messages could not reach the server, and none did.
    pub fn never_reached(&self, messages: u64) -> bool {
        let unreachable = self.counts.get(&Verdict::Unreachable).copied().unwrap_or(0);
        let nobody = |verdict: &Verdict| matches!(verdict, Verdict::Unreachable | Verdict::Unreadable);
        unreachable >= messages && self.counts.keys().all(nobody)
    }

    /// Records that the remaining messages are not sent.
    pub fn gave_up(&mut self) {
        self.gave_up = true;
    }

    /// Records that the command was interrupted after it had begun to send `started` messages.
    pub fn interrupted(&mut self, started: u64) {
        self.interrupted = Some(started.saturating_sub(self.total()));
    }

    fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Prints the summary and returns the exit code.
    pub fn finish(mut self) -> i32 {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let total = self.total();
        let elapsed = self.started.elapsed().as_secs_f64();
        let counts: Vec<_> = self.counts.iter().map(|(verdict, count)| format!("{count} {}", verdict.name())).collect();
        let counts = if counts.is_empty() { "none sent".into() } else { counts.join(", ") };
        let noun = if total == 1 { "message" } else { "messages" };
        self.line(&format!("{total} {noun} in {elapsed:.2} s: {counts}"));
        if let Some([least, median, p99]) = percentiles(&mut self.durations_us) {
            self.line(&format!("answer times: min {least}, median {median}, p99 {p99}"));
        }
        if self.gave_up {
            self.line("gave up: the server was never reached; the rest was not sent");
        }
        match self.interrupted {
            None => {}
            Some(0) => self.line("interrupted: the rest was not sent"),
            Some(open) => self.line(&format!(
                "interrupted: {open} without an answer, which the server may have received; the rest was not sent"
            )),
        }
        self.exit_code()
    }

    fn exit_code(&self) -> i32 {
        let failed = self.interrupted.is_some() || self.counts.iter().any(|(verdict, _)| !verdict.is_success());
        match (failed, self.never_reached(1)) {
            (true, true) => 3,
            (true, false) => 1,
            (false, _) => 0,
        }
    }

    fn line(&mut self, text: &str) {
        if self.out_closed {
            return;
        }
        let out = &mut *self.out;
        let written = match &self.bar {
            Some(bar) => bar.suspend(|| writeln!(out, "{text}")),
            None => writeln!(out, "{text}"),
        };
        self.out_closed = written.is_err();
    }
}

/// Path, HTTP status and response code (without a status, the verdict), Emberpost's message id, and the reason of a failure.
fn line(sent: &Sent) -> String {
    let mut parts = vec![plain(&sent.label)];
    match (sent.status, &sent.verdict) {
        (None, verdict) => parts.push(verdict.name()),
        (Some(status), Verdict::NotUnderstood) => parts.extend([status.to_string(), "not-understood".into()]),
        (Some(status), verdict) => {
            parts.extend([Some(status.to_string()), verdict.response_code()].into_iter().flatten())
        }
    }
    parts.extend(sent.message_id.as_deref().map(plain));
    if sent.is_repeat {
        parts.push("repeat".into());
    }
    let line = parts.join(" ");
    match &sent.detail {
        Some(detail) => format!("{line}: {}", plain(detail)),
        None => line,
    }
}

fn percentiles(durations_us: &mut [u32]) -> Option<[String; 3]> {
    durations_us.sort_unstable();
    let last = durations_us.len().checked_sub(1)?;
    // Nearest rank: the 99th of 100 answers; the only one of one.
    let rank = |share: usize| (durations_us.len() * share).div_ceil(100).saturating_sub(1).min(last);
    Some([0, rank(50), rank(99)].map(|index| format!("{:.1} ms", f64::from(durations_us[index]) / 1000.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let of = |mut durations: Vec<u32>| percentiles(&mut durations).map(|figures| figures.join(" "));
        assert_eq!(of(vec![]), None);
        assert_eq!(of(vec![1500]).as_deref(), Some("1.5 ms 1.5 ms 1.5 ms"));
        assert_eq!(of((1..=100).rev().map(|n| n * 1000).collect()).as_deref(), Some("1.0 ms 50.0 ms 99.0 ms"));
    }

    #[test]
    fn a_closed_pipe_stops_the_output_but_not_the_counting() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut out = Closed;
        let mut report = Report::new(&mut out, false, 2);
        for verdict in [Verdict::Ok, Verdict::Refused(422)] {
            report.add(Sent {
                label: "a".into(),
                is_further: false,
                verdict,
                status: Some(200),
                message_id: None,
                is_repeat: false,
                detail: None,
                duration: Some(Duration::from_millis(1)),
            });
        }
        assert_eq!(report.finish(), 1);
    }
}
