//! The results of all rounds of a case.

use std::collections::BTreeMap;

use super::metric::{Metric, Sample};
use super::side::Side;
use super::statistics::{self, Ratio};

/// The results of each side by round, and the errors.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    rounds: BTreeMap<Side, Vec<Sample>>,
    errors: Vec<String>,
}

impl Outcome {
    /// Adds a side's next round. A failed one is kept as an empty result, so that the rounds of all sides
    /// correspond.
    pub(crate) fn record(&mut self, side: Side, sample: anyhow::Result<Sample>) {
        let rounds = self.rounds.entry(side).or_default();
        rounds.push(sample.unwrap_or_else(|error| {
            self.errors.push(format!("{side}: {error:#}"));
            Sample::new()
        }));
    }

    /// The sides that took part, in order.
    pub(crate) fn sides(&self) -> impl Iterator<Item = Side> {
        Side::ALL.into_iter().filter(|side| self.rounds.contains_key(side))
    }

    /// The metrics that were measured, in order.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let mut metrics: Vec<_> = self.rounds.values().flatten().flat_map(|it| it.keys().copied()).collect();
        metrics.sort_unstable();
        metrics.dedup();
        metrics
    }

    pub(crate) fn rounds(&self, side: Side) -> &[Sample] {
        self.rounds.get(&side).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn summary(&self, side: Side, metric: Metric) -> Option<f64> {
        statistics::summary(self.rounds(side), metric)
    }

    /// The ratio of Imperium's results to another side's.
    pub(crate) fn ratio(&self, theirs: Side, metric: Metric) -> Option<Ratio> {
        statistics::ratio(self.rounds(Side::Imperium), self.rounds(theirs), metric)
    }

    pub(crate) fn errors(&self) -> &[String] {
        &self.errors
    }
}
