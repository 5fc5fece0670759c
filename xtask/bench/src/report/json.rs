//! The results in JSON.

use serde_json::{Map, Value, json};

use crate::cases::Case;
use crate::machine::Machine;
use crate::metric::Metric;
use crate::outcome::Outcome;
use crate::side::Side;
use crate::statistics::{Ratio, figures};
use crate::target::{Bound, Of, Reached, Target, Verdict};

/// The machine, and all results of all rounds.
pub(crate) fn document(machine: &Machine, cases: &[(Case, Outcome)]) -> Value {
    json!({
        "machine": machine.json(),
        "cases": cases.iter().map(|(case, outcome)| self::case(case, outcome)).collect::<Vec<_>>(),
    })
}

fn case(case: &Case, outcome: &Outcome) -> Value {
    let sides = || outcome.sides();
    let of_sides = sides().map(|side| (side.key(), side_figures(outcome, side))).collect::<Map<_, _>>();
    let peers = sides().filter(|side| *side != Side::Imperium);
    let ratios = peers.map(|side| (side.key(), side_ratios(outcome, side))).collect::<Map<_, _>>();
    json!({
        "name": case.name,
        "title": case.title,
        "sides": of_sides,
        "imperium_to": ratios,
        "targets": case.targets.iter().map(|it| target(it, outcome)).collect::<Vec<_>>(),
        "errors": outcome.errors(),
    })
}

fn side_figures(outcome: &Outcome, side: Side) -> Value {
    let figures = |metric: Metric| {
        let summary = outcome.summary(side, metric)?;
        let rounds = figures(outcome.rounds(side), metric);
        Some((metric.key().to_owned(), json!({ "figure": summary, "rounds": rounds })))
    };
    Value::Object(outcome.metrics().into_iter().filter_map(figures).collect())
}

fn side_ratios(outcome: &Outcome, side: Side) -> Value {
    let ratio = |metric: Metric| {
        let Ratio { median, low, high } = outcome.ratio(side, metric)?;
        Some((metric.key().to_owned(), json!({ "median": median, "low": low, "high": high })))
    };
    Value::Object(outcome.metrics().into_iter().filter_map(ratio).collect())
}

fn target(target: &Target, outcome: &Outcome) -> Value {
    let bound = match target.bound {
        Bound::AtLeast(_) => "at_least",
        Bound::AtMost(_) => "at_most",
    };
    let of = match target.of {
        Of::RatioTo(side) => side.key(),
        Of::Figure => "figure".to_owned(),
    };
    let verdict = target.judge(outcome);
    let met = match verdict {
        Verdict::Met(_) => Some(true),
        Verdict::NotMet(_) => Some(false),
        Verdict::Unknown => None,
    };
    let reached = verdict.reached().map(Reached::value);
    json!({ "metric": target.metric.key(), "of": of, bound: target.bound.value(), "reached": reached, "met": met })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::chosen;
    use crate::metric::Sample;

    #[test]
    fn a_case() {
        let case = chosen(&["handshakes".to_owned()]).unwrap().remove(0);
        let mut outcome = Outcome::default();
        for (side, figure) in [(Side::UWSGI, 100.0), (Side::Imperium, 150.0)] {
            outcome.record(side, Ok(Sample::from([(Metric::Throughput, figure)])));
        }
        let expected = json!({
            "name": "handshakes",
            "title": "TLS connections, a full handshake each",
            "sides": {
                "nginx_uwsgi": { "requests_per_second": { "figure": 100.0, "rounds": [100.0] } },
                "imperium": { "requests_per_second": { "figure": 150.0, "rounds": [150.0] } },
            },
            "imperium_to": {
                "nginx_uwsgi": { "requests_per_second": { "median": 1.5, "low": 1.5, "high": 1.5 } },
            },
            "targets": [
                { "metric": "requests_per_second", "of": "nginx_uwsgi", "at_least": 1.0, "reached": 1.5, "met": true },
                { "metric": "failed", "of": "figure", "at_most": 0.0, "reached": null, "met": null },
            ],
            "errors": [],
        });
        assert_eq!(super::case(&case, &outcome), expected);
    }
}
