//! What all rounds of one case gave.

use std::collections::BTreeMap;

use super::metric::{Metric, Sample};
use super::side::Side;
use super::statistics::{self, Ratio};

/// The samples of each side by round, and what failed to run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    rounds: BTreeMap<Side, Vec<Sample>>,
    errors: Vec<String>,
}

impl Outcome {
    /// Adds a side's next round. One that failed to run keeps its place, so that the others stay paired.
    pub(crate) fn record(&mut self, side: Side, sample: anyhow::Result<Sample>) {
        let rounds = self.rounds.entry(side).or_default();
        rounds.push(sample.unwrap_or_else(|error| {
            self.errors.push(format!("{side}: {error:#}"));
            Sample::new()
        }));
    }

    /// Who took part, in the order of the turns.
    pub(crate) fn sides(&self) -> impl Iterator<Item = Side> {
        Side::ALL.into_iter().filter(|side| self.rounds.contains_key(side))
    }

    /// What was measured, in order.
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

    /// Ours by theirs.
    pub(crate) fn ratio(&self, theirs: Side, metric: Metric) -> Option<Ratio> {
        statistics::ratio(self.rounds(Side::Imperium), self.rounds(theirs), metric)
    }

    pub(crate) fn errors(&self) -> &[String] {
        &self.errors
    }
}
