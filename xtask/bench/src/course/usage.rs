//! CPU time, memory and wake-ups of processes, according to the kernel.

use std::fs;

use ::tests::process::Process;
use anyhow::Context as _;

use crate::load::float;

/// The CPU time that these processes have used so far, in user and kernel mode, in microseconds.
pub(crate) fn cpu(processes: &[Process]) -> anyhow::Result<f64> {
    let ticks: u64 = processes.iter().filter_map(|process| ticks(&stat(process.pid)?)).sum();
    let ticks = u32::try_from(ticks).context("count ticks of CPU")?;
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).context("length of a tick")?;
    Ok(f64::from(ticks) * 1e6 / f64::from(per_second))
}

/// The memory of these processes in bytes, with shared pages divided among them (Pss).
pub(crate) fn memory(processes: &[Process]) -> anyhow::Result<f64> {
    let kibibytes: u64 = processes.iter().filter_map(|process| pss(&smaps_rollup(process.pid)?)).sum();
    Ok(f64::from(u32::try_from(kibibytes).context("count memory")?) * 1024.0)
}

/// How often threads of these processes have gone to sleep so far, and so have been woken up.
pub(crate) fn wake_ups(processes: &[Process]) -> f64 {
    let tasks = processes.iter().filter_map(|it| fs::read_dir(format!("/proc/{}/task", it.pid)).ok());
    let statuses =
        tasks.flatten().flatten().filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    float(statuses.filter_map(|status| switches(&status)).sum())
}

/// None if the process has exited.
fn stat(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

fn smaps_rollup(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()
}

/// Fields 14 and 15 of proc(5). The second field, the name, may contain any byte, and ends with the last
/// parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, kernel): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + kernel)
}

fn pss(smaps_rollup: &str) -> Option<u64> {
    let line = smaps_rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn switches(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc() {
        let stat = "4785 (uwsgi) w) S 4784 4785 4784 0 -1 4194304 1523 0 0 0 17 25 3 4 20 0 1 0 330912 58580992 5421";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("ended"), None);
        let rollup =
            "55d0-7ffe ---p 0 00:00 0 [rollup]\nRss:   13104 kB\nPss:    5421 kB\nPss_Dirty: 3000 kB\n";
        assert_eq!(pss(rollup), Some(5421));
        let status = "Name:\tuvicorn\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n";
        assert_eq!(switches(status), Some(150));
    }

    #[test]
    fn usage_of_this_process() {
        let this = Process::of(std::process::id()).unwrap();
        assert!(memory(std::slice::from_ref(&this)).unwrap() > 0.0);
        while cpu(std::slice::from_ref(&this)).unwrap() <= 0.0 {}
    }
}
