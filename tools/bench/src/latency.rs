//! Times of replies: recorded in an HDR histogram, summarized as percentiles.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest time that is distinguished; longer ones count as this one.
const LONGEST_US: u64 = 120_000_000;
/// Three significant digits: a percentile is within 0.1 % of the time that was recorded.
const DIGITS: u8 = 3;
/// Percentiles of the curve in reports and plots.
const CURVE: [f64; 12] = [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0];

/// The times of one run.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn new() -> Result<Latencies> {
        Ok(Latencies(Histogram::new_with_bounds(1, LONGEST_US, DIGITS)?))
    }

    pub fn record(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(LONGEST_US);
        self.0.saturating_record(us.clamp(1, LONGEST_US));
    }

    /// The number of times recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    pub fn summary(&self) -> Summary {
        let at = |percentile| self.0.value_at_percentile(percentile);
        Summary {
            p50_us: at(50.0),
            p90_us: at(90.0),
            p99_us: at(99.0),
            p999_us: at(99.9),
            max_us: self.0.max(),
            curve: CURVE.map(|percentile| (percentile, at(percentile))).to_vec(),
        }
    }
}

/// Percentiles of one run, in microseconds; all zero if nothing was recorded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    /// Pairs of a percentile and its time, ascending.
    pub curve: Vec<(f64, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_thousandth_of_what_was_recorded() {
        let mut latencies = Latencies::new().unwrap();
        for ms in 1..=1_000 {
            latencies.record(Duration::from_millis(ms));
        }
        let summary = latencies.summary();
        for (percentile, want_us) in [
            (summary.p50_us, 500_000),
            (summary.p90_us, 900_000),
            (summary.p99_us, 990_000),
            (summary.max_us, 1_000_000),
        ] {
            assert!(percentile.abs_diff(want_us) <= want_us / 1_000, "{percentile} instead of {want_us}");
        }
        assert_eq!(latencies.count(), 1_000);
    }

    #[test]
    fn times_beyond_the_bounds_count_as_the_bounds() {
        let mut latencies = Latencies::new().unwrap();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_secs(100_000));
        assert_eq!(latencies.count(), 2);
        assert!(latencies.summary().max_us >= LONGEST_US);
    }

    #[test]
    fn a_run_without_replies_has_zeros() {
        assert_eq!(Latencies::new().unwrap().summary().p99_us, 0);
    }
}
