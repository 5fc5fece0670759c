//! What a case is to reach, and whether it did.

use std::fmt;

use super::metric::Metric;
use super::outcome::Outcome;
use super::side::Side;
use super::statistics::Ratio;

/// A figure to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) metric: Metric,
    pub(crate) bound: Bound,
    pub(crate) of: Of,
}

/// How far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// What the bound is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// The median of our figure by that side's, round by round.
    RatioTo(Side),
    /// Our own figure.
    Figure,
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    Met(Reached),
    NotMet(Reached),
    /// One of the two was not measured.
    Unknown,
}

/// How far it got.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reached {
    Ratio(Ratio),
    Figure(f64),
}

impl Target {
    /// No request may fail.
    pub(crate) const NONE_FAILED: Self =
        Self { metric: Metric::Failed, bound: Bound::AtMost(0.0), of: Of::Figure };

    pub(crate) fn ratio(metric: Metric, bound: Bound, side: Side) -> Self {
        Self { metric, bound, of: Of::RatioTo(side) }
    }

    pub(crate) fn judge(&self, outcome: &Outcome) -> Verdict {
        let reached = match self.of {
            Of::RatioTo(side) => outcome.ratio(side, self.metric).map(Reached::Ratio),
            Of::Figure => outcome.summary(Side::Imperium, self.metric).map(Reached::Figure),
        };
        match reached {
            None => Verdict::Unknown,
            Some(reached) if self.bound.holds(reached.value()) => Verdict::Met(reached),
            Some(reached) => Verdict::NotMet(reached),
        }
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    pub(crate) fn value(self) -> f64 {
        match self {
            Self::AtLeast(value) | Self::AtMost(value) => value,
        }
    }
}

impl Reached {
    pub(crate) fn value(self) -> f64 {
        match self {
            Self::Ratio(ratio) => ratio.median,
            Self::Figure(figure) => figure,
        }
    }

    /// As people read it.
    pub(crate) fn show(self, metric: Metric) -> String {
        match self {
            Self::Ratio(ratio) => ratio.to_string(),
            Self::Figure(figure) => metric.show(figure),
        }
    }
}

impl Verdict {
    pub(crate) fn reached(self) -> Option<Reached> {
        match self {
            Self::Met(reached) | Self::NotMet(reached) => Some(reached),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} × ({:.2}–{:.2})", self.median, self.low, self.high)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if matches!(self.bound, Bound::AtLeast(_)) { '≥' } else { '≤' };
        let title = self.metric.title();
        match self.of {
            Of::RatioTo(side) => write!(f, "{title} {sign} {:?} × {side}", self.bound.value()),
            Of::Figure => write!(f, "{title} {sign} {}", self.metric.show(self.bound.value())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metric::Sample;
    use super::*;

    fn outcome(ours: f64, theirs: f64) -> Outcome {
        let mut outcome = Outcome::default();
        for (side, figure) in [(Side::Imperium, ours), (Side::UWSGI, theirs)] {
            outcome.record(side, Ok(Sample::from([(Metric::Throughput, figure), (Metric::Failed, 0.0)])));
        }
        outcome
    }

    #[test]
    fn a_bound_includes_its_end() {
        let target = Target::ratio(Metric::Throughput, Bound::AtLeast(2.0), Side::UWSGI);
        assert!(matches!(target.judge(&outcome(200.0, 100.0)), Verdict::Met(_)));
        assert!(matches!(target.judge(&outcome(199.0, 100.0)), Verdict::NotMet(_)));
        assert_eq!(target.judge(&Outcome::default()), Verdict::Unknown);
        let against_nobody = Target::ratio(Metric::Throughput, Bound::AtLeast(1.0), Side::GRANIAN);
        assert_eq!(against_nobody.judge(&outcome(1.0, 1.0)), Verdict::Unknown);
        assert!(matches!(Target::NONE_FAILED.judge(&outcome(1.0, 1.0)), Verdict::Met(_)));
    }

    #[test]
    fn targets_as_people_read_them() {
        let throughput = Target::ratio(Metric::Throughput, Bound::AtLeast(2.0), Side::UWSGI);
        assert_eq!(throughput.to_string(), "requests/s ≥ 2.0 × nginx + uWSGI");
        let above_granian = Target::ratio(Metric::Throughput, Bound::AtLeast(1.15), Side::GRANIAN);
        assert_eq!(above_granian.to_string(), "requests/s ≥ 1.15 × nginx + granian");
        assert_eq!(Target::NONE_FAILED.to_string(), "failed ≤ 0");
        let longest = Target { metric: Metric::Longest, bound: Bound::AtMost(50_000.0), of: Of::Figure };
        assert_eq!(longest.to_string(), "longest ≤ 50.00 ms");
    }
}
