//! The metrics of a run, and whether higher values are better.

use std::collections::BTreeMap;

/// A metric, in the order of the report's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// Requests or connections per second.
    Throughput,
    /// Messages or events that clients received per second.
    Messages,
    /// Messages or events per second of CPU time of the whole stack.
    PerCore,
    /// Median latency in microseconds.
    P50,
    /// 99th percentile of the latency in microseconds.
    P99,
    /// Maximum latency in microseconds.
    Longest,
    /// Microseconds from the exit of a worker until all workers serve again.
    Recovery,
    /// CPU time of the front server per request or message, in microseconds.
    FrontCpu,
    /// CPU time of the workers and their supervisor per request or message, in microseconds.
    WorkerCpu,
    /// The sum of both.
    Cpu,
    /// Requests that were refused, lost or got a wrong response.
    Failed,
    /// Memory of all processes in bytes, with shared pages counted once.
    Memory,
    /// Bytes of memory of the front server for each idle connection.
    ConnectionMemory,
    /// Bytes of memory of the whole stack for each idle connection.
    StackMemory,
    /// CPU time of the whole stack while all connections are idle, in microseconds per second.
    IdleCpu,
    /// How often threads of the workers wake up per second while all connections are idle, beyond what they
    /// do without connections.
    WakeUps,
    /// The same of the front server, and beyond two for each ping: one to send it, and one for its answer.
    FrontWakeUps,
    /// Pings that clients received per second.
    Pings,
    /// Microseconds from the start of a worker's process until it serves.
    Start,
}

/// The results of one run.
pub(crate) type Sample = BTreeMap<Metric, f64>;

/// Which values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// How the values of all rounds are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Summary {
    Median,
    Sum,
    Highest,
}

impl Metric {
    /// The title of its column.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Throughput => "requests/s",
            Self::Messages => "messages/s",
            Self::PerCore => "per core",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Longest => "longest",
            Self::Recovery => "recovery",
            Self::FrontCpu => "CPU front",
            Self::WorkerCpu => "workers",
            Self::Cpu => "CPU/request",
            Self::Failed => "failed",
            Self::Memory => "memory",
            Self::ConnectionMemory => "a connection",
            Self::StackMemory => "whole stack",
            Self::IdleCpu => "CPU/s, idle",
            Self::WakeUps => "wake-ups/s",
            Self::FrontWakeUps => "front's",
            Self::Pings => "pings/s",
            Self::Start => "start",
        }
    }

    /// Its name in JSON, including its unit.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Throughput => "requests_per_second",
            Self::Messages => "messages_per_second",
            Self::PerCore => "messages_per_cpu_second",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::Longest => "longest_us",
            Self::Recovery => "recovery_us",
            Self::FrontCpu => "cpu_front_us_per_request",
            Self::WorkerCpu => "cpu_workers_us_per_request",
            Self::Cpu => "cpu_us_per_request",
            Self::Failed => "failed",
            Self::Memory => "pss_bytes",
            Self::ConnectionMemory => "bytes_per_connection",
            Self::StackMemory => "stack_bytes_per_connection",
            Self::IdleCpu => "idle_cpu_us_per_second",
            Self::WakeUps => "idle_wake_ups_per_second",
            Self::FrontWakeUps => "idle_front_wake_ups_per_second",
            Self::Pings => "idle_pings_per_second",
            Self::Start => "start_us",
        }
    }

    pub(crate) fn better(self) -> Better {
        match self {
            Self::Throughput | Self::Messages | Self::PerCore => Better::More,
            _ => Better::Less,
        }
    }

    /// Failures are summed up, so that a median can't hide one.
    pub(crate) fn summary(self) -> Summary {
        match self {
            Self::Failed => Summary::Sum,
            Self::Longest => Summary::Highest,
            _ => Summary::Median,
        }
    }

    /// Formats a value for the report.
    pub(crate) fn show(self, figure: f64) -> String {
        match self {
            Self::Throughput | Self::Messages | Self::PerCore | Self::Failed => thousands(figure),
            Self::WakeUps | Self::FrontWakeUps | Self::Pings => format!("{figure:.1}"),
            Self::Memory => format!("{:.1} MiB", figure / f64::from(1 << 20)),
            Self::ConnectionMemory | Self::StackMemory => format!("{:.1} KiB", figure / 1024.0),
            Self::FrontCpu | Self::WorkerCpu | Self::Cpu => format!("{figure:.1} µs"),
            Self::P50 | Self::P99 | Self::Longest | Self::Recovery | Self::IdleCpu | Self::Start => {
                duration(figure)
            }
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
    fn values_are_formatted() {
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
        check(Metric::ConnectionMemory, 10.25 * 1024.0, "10.2 KiB");
        check(Metric::Start, 62_000.0, "62.00 ms");
        check(Metric::WakeUps, 0.25, "0.2");
    }
}
