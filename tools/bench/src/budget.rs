//! The budgets of a message: what it may cost at most, and what a report shows.

use std::fmt::Write;

use super::report::Medians;

/// The messages for which the budgets hold.
pub const SENDERS: usize = 64;
pub const SIZE_BYTES: usize = 2_048;

/// One budget and what was reached.
struct Budget {
    what: String,
    wanted: String,
    reached: Option<f64>,
    is_met: fn(reached: f64, limit: f64) -> bool,
    limit: f64,
    digits: usize,
    unit: &'static str,
}

const AT_MOST: fn(f64, f64) -> bool = |reached, limit| reached <= limit;
const AT_LEAST: fn(f64, f64) -> bool = |reached, limit| reached >= limit;

/// The budgets as a Markdown table.
pub fn table(medians: &[Medians]) -> String {
    let mut table = String::from("| budget | wanted | reached | met |\n|---|---|---|---|\n");
    for budget in all(medians) {
        let (what, wanted, digits, unit) = (&budget.what, &budget.wanted, budget.digits, budget.unit);
        let (reached, met) = match budget.reached {
            Some(reached) => {
                // As shown: a call at the start, for thousands of messages, is none for each.
                let scale = 10_f64.powi(digits as i32);
                let is_met = (budget.is_met)((reached * scale).round() / scale, budget.limit);
                let met = if is_met { "yes" } else { "no" };
                (format!("{reached:.digits$}{unit}"), met)
            }
            None => ("not measured".to_owned(), "-"),
        };
        let _ = writeln!(table, "| {what} | {wanted} | {reached} | {met} |");
    }
    table
}

fn all(medians: &[Medians]) -> Vec<Budget> {
    let line = |scenario: &str, senders: usize| {
        let is_it = |line: &&Medians| {
            line.scenario == scenario
                && line.senders == senders
                && line.rate.is_none()
                && (line.size_bytes == SIZE_BYTES || scenario == "disk")
        };
        medians.iter().find(is_it)
    };
    let (accept, inout) = (line("accept", SENDERS), line("inout", SENDERS));
    let percent = |line: Option<&Medians>| line.and_then(|line| line.share_of_baseline).map(|share| share * 100.0);
    let switches = inout.and_then(|line| line.switches_per_message.values().copied().reduce(f64::max));
    let at_most = |what: &str, limit: f64, unit: &'static str, digits: usize, reached: Option<f64>| Budget {
        what: what.to_owned(),
        wanted: format!("at most {limit}{unit}"),
        reached,
        is_met: AT_MOST,
        limit,
        digits,
        unit,
    };
    let share = |what: String, limit: f64, reached: Option<f64>| Budget {
        what,
        wanted: format!("at least {limit} %"),
        reached,
        is_met: AT_LEAST,
        limit,
        digits: 1,
        unit: " %",
    };
    let mut budgets = vec![
        at_most("CPU of the router, of the relay's", 4.0, " x", 2, inout.and_then(|line| line.cpu_of_baseline)),
        at_most("bytes written", 12_000.0, "", 0, inout.map(|line| line.written_bytes_per_message)),
        at_most("fsyncs", 0.1, "", 3, inout.and_then(|line| line.fsyncs_per_message)),
        at_most("voluntary switches of any thread", 0.3, "", 2, switches),
        at_most("system calls for random numbers", 0.0, "", 2, inout.and_then(|line| line.random_calls_per_message)),
        at_most("p99, in to out", 50.0, " ms", 1, inout.map(|line| line.p99_ms)),
        share("accept only, rate of the relay's".to_owned(), 60.0, percent(accept)),
        share("in to out, rate of the relay's".to_owned(), 35.0, percent(inout)),
    ];
    for in_flight in [64, 256] {
        let what = format!("AMQP to AMQP, {in_flight} in flight, rate of the bare relay's");
        budgets.push(share(what, 60.0, percent(line("amqp-inout", in_flight))));
    }
    let two_fsyncs_ms = line("disk", 1).map(|line| 2.0 * line.p50_ms + 0.3);
    budgets.push(Budget {
        wanted: two_fsyncs_ms
            .map_or("two fsyncs and 0.3 ms".to_owned(), |ms| format!("two fsyncs and 0.3 ms: {ms:.2} ms")),
        ..at_most(
            "one sender alone, p50",
            two_fsyncs_ms.unwrap_or(0.0),
            " ms",
            2,
            line("inout", 1).map(|line| line.p50_ms),
        )
    });
    budgets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_met_missed_or_not_measured() {
        let line = |scenario: &str, cpu, share| Medians {
            scenario: scenario.to_owned(),
            senders: SENDERS,
            size_bytes: SIZE_BYTES,
            cpu_of_baseline: Some(cpu),
            share_of_baseline: Some(share),
            ..Medians::default()
        };
        let table = table(&[line("inout", 5.0, 0.4)]);
        assert!(table.contains("| CPU of the router, of the relay's | at most 4 x | 5.00 x | no |"), "{table}");
        assert!(table.contains("| in to out, rate of the relay's | at least 35 % | 40.0 % | yes |"), "{table}");
        assert!(table.contains("| accept only, rate of the relay's | at least 60 % | not measured | - |"), "{table}");
    }
}
