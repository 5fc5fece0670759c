//! The report for the terminal: a block for each case, and a summary of the targets.

use std::fmt::Write as _;

use crate::cases::Case;
use crate::metric::Metric;
use crate::outcome::Outcome;
use crate::side::Side;
use crate::target::{Target, Verdict};

const NAME: usize = 17;
const CELL: usize = 13;

/// The results of each side, their ratios, and the case's targets.
pub(crate) fn block(case: &Case, outcome: &Outcome) -> String {
    let metrics = outcome.metrics();
    let mut text = format!("{} ({})\n", case.title, case.name);
    if !metrics.is_empty() {
        row(&mut text, "", metrics.iter().map(|metric| metric.title().to_owned()));
    }
    for side in outcome.sides() {
        let figures = metrics.iter().map(|metric| figure(outcome, side, *metric));
        row(&mut text, &side.to_string(), figures);
        if side == Side::Imperium {
            let baseline = case.baseline();
            let ratios = metrics.iter().map(|metric| ratio(outcome, baseline, *metric));
            row(&mut text, &format!("÷ {baseline}"), ratios);
        }
    }
    for target in &case.targets {
        let _never = writeln!(text, "  {}", verdict(target, outcome));
    }
    for error in outcome.errors() {
        let _never = writeln!(text, "  error: {error}");
    }
    text
}

/// How many targets were met, and which weren't.
pub(crate) fn summary(cases: &[(Case, Outcome)]) -> String {
    let all: Vec<_> =
        cases.iter().flat_map(|(case, it)| case.targets.iter().map(move |t| (case, it, t))).collect();
    let met = all.iter().filter(|(_, outcome, target)| is_met(target, outcome)).count();
    let mut text = format!("{met} of {} targets are met\n", all.len());
    for (case, outcome, target) in all.iter().filter(|(_, outcome, target)| !is_met(target, outcome)) {
        let _never = writeln!(text, "  {}: {}", case.name, verdict(target, outcome));
    }
    text
}

fn is_met(target: &Target, outcome: &Outcome) -> bool {
    matches!(target.judge(outcome), Verdict::Met(_))
}

fn verdict(target: &Target, outcome: &Outcome) -> String {
    let verdict = target.judge(outcome);
    let word = match verdict {
        Verdict::Met(_) => "met",
        Verdict::NotMet(_) => "NOT MET",
        Verdict::Unknown => "not measured",
    };
    let reached = verdict.reached().map(|it| format!(": {}", it.show(target.metric))).unwrap_or_default();
    format!("{word}: {target}{reached}")
}

fn row(text: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let mut line = format!("  {name:<NAME$}");
    for cell in cells {
        let _never = write!(line, "{cell:>CELL$}");
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

fn figure(outcome: &Outcome, side: Side, metric: Metric) -> String {
    outcome.summary(side, metric).map_or_else(|| "–".to_owned(), |figure| metric.show(figure))
}

fn ratio(outcome: &Outcome, baseline: Side, metric: Metric) -> String {
    outcome.ratio(baseline, metric).map(|it| format!("{:.2} ×", it.median)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::chosen;
    use crate::metric::Sample;

    fn one_case() -> (Case, Outcome) {
        let case = chosen(&["static-10m-tls".to_owned()]).unwrap().remove(0);
        let mut outcome = Outcome::default();
        for (side, rounds) in [(Side::UWSGI, [100.0, 120.0]), (Side::Imperium, [110.0, 120.0])] {
            for figure in rounds {
                let sample = Sample::from([
                    (Metric::Throughput, figure),
                    (Metric::P50, figure * 10.0),
                    (Metric::Failed, 0.0),
                ]);
                outcome.record(side, Ok(sample));
            }
        }
        (case, outcome)
    }

    #[test]
    fn a_block() {
        let (case, mut outcome) = one_case();
        outcome.record(Side::UWSGI, Err(anyhow::anyhow!("start nginx: no such file")));
        let expected = "\
static 10 MiB, TLS, 8 connections (static-10m-tls)
                      requests/s          p50       failed
  nginx + uWSGI              110      1.10 ms            0
  Imperium                   115      1.15 ms            0
  ÷ nginx + uWSGI         1.05 ×       1.05 ×
  NOT MET: requests/s ≥ 1.1 × nginx + uWSGI: 1.05 × (1.00–1.10)
  met: failed ≤ 0: 0
  error: nginx + uWSGI: start nginx: no such file
";
        assert_eq!(block(&case, &outcome), expected);
    }

    #[test]
    fn the_summary() {
        let expected = "\
1 of 2 targets are met
  static-10m-tls: NOT MET: requests/s ≥ 1.1 × nginx + uWSGI: 1.05 × (1.00–1.10)
";
        assert_eq!(summary(&[one_case()]), expected);
    }
}
