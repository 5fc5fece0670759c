//! Load generators, and their result.

pub(crate) mod echo;
pub(crate) mod fan_out;
pub(crate) mod h2load;
pub(crate) mod handshakes;
pub(crate) mod slow_and_quick;
pub(crate) mod socket;
pub(crate) mod wrk;

use std::time::Duration;

use super::metric::{Metric, Sample};
use super::statistics::percentile;

/// The requests or messages of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    /// Requests that got a response, with any status, or messages that arrived.
    pub(crate) answered: u64,
    pub(crate) per_second: f64,
    /// In microseconds.
    pub(crate) p50: f64,
    /// In microseconds.
    pub(crate) p99: f64,
    /// Requests that were refused, lost or cut off.
    pub(crate) failed: u64,
}

impl Load {
    /// Computes the result from the latencies of successful requests, in microseconds.
    pub(crate) fn of(mut latencies: Vec<u64>, failed: u64, lasted: Duration) -> Option<Self> {
        let answered = latencies.len() as u64;
        Some(Self {
            answered,
            per_second: float(answered) / lasted.as_secs_f64(),
            p50: float(percentile(&mut latencies, 50)?),
            p99: float(percentile(&mut latencies, 99)?),
            failed,
        })
    }

    /// Its figures, with the rate as this metric.
    pub(crate) fn sample(&self, rate: Metric) -> Sample {
        let Self { per_second, p50, p99, failed, .. } = *self;
        Sample::from([
            (rate, per_second),
            (Metric::P50, p50),
            (Metric::P99, p99),
            (Metric::Failed, float(failed)),
        ])
    }
}

/// Converts counts and microseconds, which are far below the limit of exact floats.
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
pub(crate) fn float(figure: u64) -> f64 {
    figure as f64
}
