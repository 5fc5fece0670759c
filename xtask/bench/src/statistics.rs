//! Medians, ratios and their spread, so that a single noisy round doesn't decide.

use super::metric::{Metric, Sample, Summary};

/// The ratio of two sides: one value per round, in which both ran right after each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    /// The median of the rounds' ratios.
    pub(crate) median: f64,
    /// The smallest ratio.
    pub(crate) low: f64,
    /// The largest ratio.
    pub(crate) high: f64,
}

/// The values of a metric in all rounds that measured it.
pub(crate) fn figures(rounds: &[Sample], metric: Metric) -> Vec<f64> {
    rounds.iter().filter_map(|sample| sample.get(&metric).copied()).collect()
}

/// The combined value of all rounds.
pub(crate) fn summary(rounds: &[Sample], metric: Metric) -> Option<f64> {
    let figures = figures(rounds, metric);
    match metric.summary() {
        Summary::Median => median(figures),
        Summary::Sum => (!figures.is_empty()).then(|| figures.iter().sum()),
        Summary::Highest => figures.into_iter().reduce(f64::max),
    }
}

/// The ratios of our values to theirs, over the rounds in which both were measured.
pub(crate) fn ratio(ours: &[Sample], theirs: &[Sample], metric: Metric) -> Option<Ratio> {
    let pair = |(ours, theirs): (&Sample, &Sample)| Some((*ours.get(&metric)?, *theirs.get(&metric)?));
    let pairs = ours.iter().zip(theirs).filter_map(pair).filter(|(_, theirs)| *theirs > 0.0);
    let ratios: Vec<_> = pairs.map(|(ours, theirs)| ours / theirs).collect();
    Some(Ratio {
        low: ratios.iter().copied().reduce(f64::min)?,
        high: ratios.iter().copied().reduce(f64::max)?,
        median: median(ratios)?,
    })
}

/// The middle value, or the mean of the two middle values.
pub(crate) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = *figures.get(middle)?;
    Some(if figures.len().is_multiple_of(2) { f64::midpoint(figures[middle - 1], upper) } else { upper })
}

/// The smallest value that isn't exceeded by `percent` percent of the values (nearest rank).
pub(crate) fn percentile(figures: &mut [u64], percent: usize) -> Option<u64> {
    let rank = (figures.len() * percent).div_ceil(100).max(1);
    let (_, figure, _) = (rank <= figures.len()).then(|| figures.select_nth_unstable(rank - 1))?;
    Some(*figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(metric: Metric, figures: &[f64]) -> Vec<Sample> {
        figures.iter().map(|figure| Sample::from([(metric, *figure)])).collect()
    }

    #[test]
    fn medians() {
        let check = |figures: &[f64], expected| assert_eq!(median(figures.to_vec()), expected);
        check(&[], None);
        check(&[7.0], Some(7.0));
        check(&[3.0, 1.0], Some(2.0));
        check(&[9.0, 1.0, 2.0], Some(2.0));
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let check = |count: u64, percent, expected| {
            let mut figures: Vec<_> = (1..=count).rev().collect();
            assert_eq!(percentile(&mut figures, percent), expected);
        };
        check(0, 50, None);
        check(1, 50, Some(1));
        check(1, 99, Some(1));
        check(4, 50, Some(2));
        check(100, 99, Some(99));
        check(1000, 99, Some(990));
    }

    #[test]
    fn rounds_are_compared_one_by_one() {
        let ours = rounds(Metric::Throughput, &[20.0, 60.0, 30.0]);
        let theirs = rounds(Metric::Throughput, &[10.0, 20.0, 20.0]);
        let expected = Ratio { median: 2.0, low: 1.5, high: 3.0 };
        assert_eq!(ratio(&ours, &theirs, Metric::Throughput), Some(expected));
        assert_eq!(ratio(&ours, &theirs, Metric::P50), None);
    }

    #[test]
    fn an_incomplete_round_is_left_out() {
        let ours = rounds(Metric::P50, &[2.0, 4.0, 100.0]);
        let mut theirs = rounds(Metric::P50, &[2.0, 2.0]);
        theirs[0].clear();
        let expected = Ratio { median: 2.0, low: 2.0, high: 2.0 };
        assert_eq!(ratio(&ours, &theirs, Metric::P50), Some(expected));
    }

    #[test]
    fn failures_are_summed_up() {
        assert_eq!(summary(&rounds(Metric::Failed, &[0.0, 0.0, 3.0]), Metric::Failed), Some(3.0));
        assert_eq!(summary(&rounds(Metric::Longest, &[5.0, 90.0, 7.0]), Metric::Longest), Some(90.0));
        assert_eq!(summary(&rounds(Metric::P99, &[5.0, 90.0, 7.0]), Metric::P99), Some(7.0));
        assert_eq!(summary(&[], Metric::Failed), None);
    }
}
