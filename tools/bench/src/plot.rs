//! Plots of a report as SVG files: times by percentile, and rates and CPU times beside their baselines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::report::{Case, Medians, Report, median};

const WIDTH: u32 = 900;
const HEIGHT: u32 = 480;
/// Colors that people with color blindness can distinguish (Okabe and Ito).
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

/// Draws the report into `folder` as `NAME-latency.svg`, `NAME-rate.svg`, and `NAME-cpu.svg`; returns their paths.
pub fn draw(report: &Report, folder: &Path, name: &str) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = |part: &str| folder.join(format!("{name}-{part}.svg"));
    let medians = report.medians();
    let paths = [path("latency"), path("rate"), path("cpu")];
    latency(report, &paths[0]).map_err(|error| anyhow!("cannot draw {}: {error}", paths[0].display()))?;
    let rate = Bars { title: "Messages per second", of: |line| line.messages_per_second };
    rate.draw(&medians, &paths[1]).map_err(|error| anyhow!("cannot draw {}: {error}", paths[1].display()))?;
    let cpu = Bars {
        title: "CPU time of the server per message, in microseconds",
        of: |line| line.server_cpu_us_per_message,
    };
    cpu.draw(&medians, &paths[2]).map_err(|error| anyhow!("cannot draw {}: {error}", paths[2].display()))?;
    Ok(paths.into())
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

/// Times by percentile, one line for each case, both axes logarithmic: the further right, the rarer.
fn latency<'a>(report: &Report, path: &'a Path) -> Drawn<'a> {
    let area = area(path)?;
    let curves: Vec<_> = report.cases.iter().map(|case| (label(case), curve(case))).collect();
    let times = || curves.iter().flat_map(|(_, curve)| curve.iter().map(|(_, ms)| *ms));
    let (least, most) = (times().fold(f64::MAX, f64::min).max(0.001), times().fold(0.01, f64::max));
    let mut chart = ChartBuilder::on(&area)
        .caption("Time of a reply by percentile, in milliseconds", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d((1f64..10_000f64).log_scale(), (least..most * 1.2).log_scale())?;
    let percentile = |odds: &f64| format!("{}", 100.0 - 100.0 / odds);
    chart.configure_mesh().x_label_formatter(&percentile).x_desc("percentile").y_desc("ms").draw()?;
    for (number, (name, curve)) in curves.into_iter().enumerate() {
        let color = COLORS[number % COLORS.len()];
        let line = LineSeries::new(curve, color.stroke_width(2));
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2));
        chart.draw_series(line)?.label(name).legend(legend);
    }
    let labels = &mut chart.configure_series_labels();
    labels
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()
}

/// The medians of a case's percentiles, as pairs of odds (99 % is 1 in 100) and milliseconds.
fn curve(case: &Case) -> Vec<(f64, f64)> {
    let points = case.samples.first().map_or(0, |sample| sample.latency.curve.len());
    let at = |point: usize| {
        let (percentile, _) = *case.samples.first()?.latency.curve.get(point)?;
        let times = case.samples.iter().filter_map(|sample| sample.latency.curve.get(point));
        let ms = median(times.map(|(_, us)| *us as f64 / 1e3))?.max(0.001);
        (percentile < 100.0).then(|| (100.0 / (100.0 - percentile), ms))
    };
    (0..points).filter_map(at).collect()
}

fn label(case: &Case) -> String {
    let rate = case.rate.map(|rate| format!(", {rate:.0}/s offered")).unwrap_or_default();
    format!("{}, {} senders, {} bytes{rate}", case.scenario, case.senders, case.size_bytes)
}

/// One bar for each case.
struct Bars {
    title: &'static str,
    of: fn(&Medians) -> f64,
}

impl Bars {
    fn draw<'a>(&self, medians: &[Medians], path: &'a Path) -> Drawn<'a> {
        let area = area(path)?;
        let most = medians.iter().map(self.of).fold(1.0, f64::max);
        let count = medians.len().max(1);
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(24)
            .y_label_area_size(230)
            .build_cartesian_2d(0f64..most * 1.15, 0f64..count as f64)?;
        let name = |at: &f64| {
            let line = medians.get(count.saturating_sub(1).saturating_sub(at.floor() as usize));
            line.map_or_else(String::new, |line| {
                format!("{}, {} x {} bytes", line.scenario, line.senders, line.size_bytes)
            })
        };
        chart.configure_mesh().disable_y_mesh().y_labels(0).draw()?;
        for (number, line) in medians.iter().enumerate() {
            let (value, top) = ((self.of)(line), (count - number) as f64);
            let color = COLORS[color_of(&line.scenario) % COLORS.len()];
            chart.draw_series([Rectangle::new([(0.0, top - 0.85), (value, top - 0.15)], color.filled())])?;
            let text = format!("{value:.0}");
            chart.draw_series([Text::new(text, (value + most * 0.01, top - 0.35), ("sans-serif", 12))])?;
            let place = chart.backend_coord(&(0.0, top - 0.35));
            area.draw_text(&name(&(top - 1.0)), &("sans-serif", 12).into(), (14, place.1))?;
        }
        area.present()
    }
}

/// Cases of one scenario share a color.
fn color_of(scenario: &str) -> usize {
    scenario.bytes().map(usize::from).sum()
}

fn area(path: &Path) -> Result<DrawingArea<SVGBackend<'_>, Shift>, DrawingAreaErrorKind<std::io::Error>> {
    let area = SVGBackend::new(path, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    Ok(area)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latencies;
    use crate::report::tests::case;
    use std::time::Duration;

    #[test]
    fn a_report_is_drawn_as_three_files_with_the_names_of_its_cases() {
        let folder = tempfile::tempdir().unwrap();
        let mut latencies = Latencies::new().unwrap();
        (1..1_000).for_each(|us| latencies.record(Duration::from_micros(us)));
        let mut report = Report::begin(1, 1, false);
        report.cases = vec![case("relay", &[1_000.0]), case("inout", &[400.0])];
        report.cases.iter_mut().for_each(|case| case.samples[0].latency = latencies.summary());
        for path in draw(&report, folder.path(), "http").unwrap() {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{}", path.display());
            assert!(text.contains("inout, 64"), "{}", path.display());
        }
    }
}
