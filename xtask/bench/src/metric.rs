//! What is measured of a run, and which way is better.

use std::collections::BTreeMap;

/// One figure of a run; the order is that of the report's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// Requests, or connections, that were answered in a second.
    Throughput,
    /// Microseconds that half of the requests took at most.
    P50,
    /// Microseconds that 99 of 100 requests took at most.
    P99,
    /// Microseconds that the slowest request took.
    Longest,
    /// Microseconds from the death of a worker until all workers serve again.
    Recovery,
    /// Microseconds of CPU a request, of the front server.
    FrontCpu,
    /// Microseconds of CPU a request, of the workers and their supervisor.
    WorkerCpu,
    /// Both together.
    Cpu,
    /// Requests that were refused, lost or answered wrong.
    Failed,
    /// Bytes of memory of all processes, what they share counted once.
    Memory,
}

/// What one run gave.
pub(crate) type Sample = BTreeMap<Metric, f64>;

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// What stands for the figures of all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Summary {
    Median,
    Sum,
    Highest,
}

impl Metric {
    /// The head of its column.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Throughput => "requests/s",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Longest => "longest",
            Self::Recovery => "recovery",
            Self::FrontCpu => "CPU front",
            Self::WorkerCpu => "workers",
            Self::Cpu => "CPU/request",
            Self::Failed => "failed",
            Self::Memory => "memory",
        }
    }

    /// Its name in JSON, with its unit.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Throughput => "requests_per_second",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::Longest => "longest_us",
            Self::Recovery => "recovery_us",
            Self::FrontCpu => "cpu_front_us_per_request",
            Self::WorkerCpu => "cpu_workers_us_per_request",
            Self::Cpu => "cpu_us_per_request",
            Self::Failed => "failed",
            Self::Memory => "pss_bytes",
        }
    }

    pub(crate) fn better(self) -> Better {
        if self == Self::Throughput { Better::More } else { Better::Less }
    }

    /// One failed request in all rounds is one too many; no median may hide it.
    pub(crate) fn summary(self) -> Summary {
        match self {
            Self::Failed => Summary::Sum,
            Self::Longest => Summary::Highest,
            _ => Summary::Median,
        }
    }

    /// A figure as people read it.
    pub(crate) fn show(self, figure: f64) -> String {
        match self {
            Self::Throughput | Self::Failed => thousands(figure),
            Self::Memory => format!("{:.1} MiB", figure / f64::from(1 << 20)),
            Self::FrontCpu | Self::WorkerCpu | Self::Cpu => format!("{figure:.1} µs"),
            Self::P50 | Self::P99 | Self::Longest | Self::Recovery => duration(figure),
        }
    }
}

fn duration(microseconds: f64) -> String {
    if microseconds < 1000.0 {
        format!("{microseconds:.0} µs")
    } else if microseconds < 100_000.0 {
        format!("{:.2} ms", microseconds / 1000.0)
    } else {
        format!("{:.0} ms", microseconds / 1000.0)
    }
}

fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_as_people_read_them() {
        let check = |metric: Metric, figure, expected| assert_eq!(metric.show(figure), expected);
        check(Metric::Throughput, 7.4, "7");
        check(Metric::Throughput, 43_370.6, "43 371");
        check(Metric::Throughput, 1_000_000.0, "1 000 000");
        check(Metric::Failed, 0.0, "0");
        check(Metric::P50, 305.2, "305 µs");
        check(Metric::P99, 4_140.0, "4.14 ms");
        check(Metric::Longest, 1_300_000.0, "1300 ms");
        check(Metric::Cpu, 38.04, "38.0 µs");
        check(Metric::Memory, 62.5 * 1024.0 * 1024.0, "62.5 MiB");
    }
}
