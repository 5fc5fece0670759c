//! The memory of the stack's processes over time, which must not grow.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ::tests::process::{self, Process};
use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;

const SAMPLES: u32 = 300;
/// Memory that the allocator keeps, and that the first requests allocate, doesn't count as growth.
const SLACK: u64 = 8 * MEGABYTE;
const MEGABYTE: u64 = 1_000_000;

/// The process whose memory was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Frontd,
    Emperord,
    /// The average of all workers, since their number changes.
    Worker,
    /// All workers and templates.
    Workers,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frontd => "frontd",
            Self::Emperord => "emperord",
            Self::Worker => "a worker",
            Self::Workers => "all workers",
        })
    }
}

/// Pss in bytes, by owner, in chronological order.
pub(crate) type Samples = BTreeMap<Owner, Vec<u64>>;

/// Samples the memory until `finish`.
pub(crate) struct Memory {
    stop: watch::Sender<bool>,
    samples: JoinHandle<Samples>,
}

impl Memory {
    /// Samples all processes below `up`, evenly distributed over `length`.
    pub(crate) fn watch(up: u32, length: Duration) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, samples: TaskTracker::new().spawn(look_on(up, length / SAMPLES, stopped)) }
    }

    pub(crate) async fn finish(self) -> anyhow::Result<Samples> {
        self.stop.send_replace(true);
        self.samples.await.context("the look at the memory")
    }
}

async fn look_on(up: u32, gap: Duration, mut stopped: watch::Receiver<bool>) -> Samples {
    let (mut samples, mut ticks) = (Samples::new(), interval(gap));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // A dropped sender also ends the sampling.
            _ = stopped.changed() => return samples,
            _ = ticks.tick() => look(up, &mut samples),
        }
    }
}

fn look(up: u32, samples: &mut Samples) {
    let (mut workers, mut number) = (0, 0);
    for process in Process::descendants(up) {
        // A process that exited meanwhile has no memory.
        let Ok(bytes) = process::pss(process.pid) else { continue };
        match process.command.as_str() {
            "frontd" => samples.entry(Owner::Frontd).or_default().push(bytes),
            "emperord" => samples.entry(Owner::Emperord).or_default().push(bytes),
            _ => (workers, number) = (workers + bytes, number + 1),
        }
    }
    samples.entry(Owner::Workers).or_default().push(workers);
    if let Some(mean) = workers.checked_div(number) {
        samples.entry(Owner::Worker).or_default().push(mean);
    }
}

/// The development over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trend {
    /// The median of the first third.
    pub(crate) first: u64,
    /// The median of the last third.
    pub(crate) last: u64,
    pub(crate) highest: u64,
}

impl Trend {
    /// None if there are no samples.
    pub(crate) fn of(samples: &[u64]) -> Option<Self> {
        let third = samples.len().div_ceil(3);
        let first = median(&samples[..third])?;
        let last = median(&samples[samples.len() - third..])?;
        Some(Self { first, last, highest: *samples.iter().max()? })
    }

    pub(crate) fn is_flat(self) -> bool {
        self.last <= self.first + self.first / 5 + SLACK
    }
}

impl fmt::Display for Trend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, highest } = self;
        let [first, last, highest] = [first, last, highest].map(|bytes| bytes / MEGABYTE);
        write!(f, "{first} MB at first, {last} MB at last, {highest} MB at most")
    }
}

fn median(samples: &[u64]) -> Option<u64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn trend(megabytes: impl IntoIterator<Item = u64>) -> Trend {
        Trend::of(&megabytes.into_iter().map(|it| it * MEGABYTE).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_leak_is_not_flat() {
        assert!(!trend(20..60).is_flat());
        assert!(trend([30; 40]).is_flat());
        assert!(trend((20..60).rev()).is_flat());
        assert!(trend(std::iter::repeat_n(10, 40).chain([90, 90])).is_flat());
    }

    #[test]
    fn a_few_samples() {
        assert_eq!(Trend::of(&[]), None);
        assert_eq!(Trend::of(&[5]), Some(Trend { first: 5, last: 5, highest: 5 }));
    }

    #[test]
    fn a_process_is_not_one_of_its_own_workers() {
        // A separate process, since other tests start children of this one.
        let mut up = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let mut samples = Samples::new();
        look(up.id(), &mut samples);
        drop(up.stdin.take());
        up.wait().unwrap();
        assert_eq!(samples, Samples::from([(Owner::Workers, vec![0])]));
    }
}
