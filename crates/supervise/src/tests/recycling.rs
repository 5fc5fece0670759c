//! Recycling of workers.

use super::*;
use crate::Usage;

const RECYCLE: Recycle =
    Recycle { requests: Some(100), lifetime: Some(Duration::from_secs(60)), memory: Some(1000), jitter: 0 };

fn wanted(generation: u64, workers: u16, recycle: Recycle) -> Event {
    Event::Wanted { generation, workers, limits: Limits { recycle, ..LIMITS } }
}

fn used(number: u16, requests: u64, memory: u64) -> Event {
    Event::Used { number, usage: Usage { requests, memory } }
}

#[track_caller]
fn check_serving(steps: &[Step]) -> Supervisor {
    let serving = [
        (0, wanted(1, 2, RECYCLE), "spawn 1@1, spawn 2@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (0, ready(2), "publish", Phase::Running),
    ];
    check(&[&serving, steps].concat())
}

#[test]
fn the_replacement_is_ready_before_the_old_worker_is_drained() {
    let supervisor = check_serving(&[
        (10, used(1, 99, 1000), "", Phase::Running),
        (20, used(1, 100, 1000), "spawn 3@1", Phase::Running),
        (900, ready(3), "publish, recycle 1: it has answered 100 requests", Phase::Running),
        (950, ended(1), "", Phase::Running),
        (10_960, used(2, 5, 1001), "spawn 1@1", Phase::Running),
        (10_990, ready(1), "publish, recycle 2: it has 1 MB of memory", Phase::Running),
    ]);
    assert!(supervisor.is_at_rest());
}

#[test]
fn the_maximum_age_needs_no_event() {
    let began = [
        (0, wanted(1, 1, RECYCLE), "spawn 1@1", Phase::Starting),
        (500, ready(1), "publish", Phase::Running),
    ];
    check_wake(&began, Some(60_000));
    let ending: [Step; 2] = [
        (60_000, Event::Tick, "spawn 2@1", Phase::Running),
        (60_500, ready(2), "publish, recycle 1: it is 60 s old", Phase::Running),
    ];
    check(&[began, ending].concat());
}

#[test]
fn workers_are_recycled_one_after_another() {
    check_serving(&[
        (10, used(1, 100, 0), "spawn 3@1", Phase::Running),
        (20, used(2, 100, 0), "", Phase::Running),
        (900, ready(3), "publish, recycle 2: it has answered 100 requests, spawn 4@1", Phase::Running),
        (950, ended(2), "", Phase::Running),
        (990, ready(4), "publish, recycle 1: it has answered 100 requests", Phase::Running),
        (999, ended(1), "", Phase::Running),
    ]);
}

#[test]
fn a_replacement_that_cannot_start_leaves_the_old_one_serving() {
    let supervisor = check_serving(&[
        (10, used(1, 100, 0), "spawn 3@1", Phase::Running),
        (20, unusable(3), "", Phase::BackingOff),
        (1020, Event::Tick, "spawn 3@1", Phase::Running),
        (1030, unusable(3), "", Phase::BackingOff),
    ]);
    assert!(!supervisor.is_at_rest());
    assert_eq!(supervisor.ready().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_changed_limit_cancels_recycling_but_shrinking_memory_does_not() {
    check_serving(&[
        (10_010, used(1, 1, 2000), "spawn 3@1", Phase::Running),
        (10_020, used(1, 1, 10), "", Phase::Running),
        (10_030, wanted(1, 2, NO_RECYCLING), "terminate 3 Superfluous", Phase::Running),
    ]);
}

#[test]
fn superfluous_workers_due_for_recycling_are_drained_first() {
    check_serving(&[
        (10, used(1, 100, 0), "spawn 3@1", Phase::Running),
        (
            20,
            wanted(1, 1, RECYCLE),
            "publish, terminate 3 Superfluous, recycle 1: it has answered 100 requests",
            Phase::Running,
        ),
    ]);
}

#[test]
fn a_reload_replaces_workers_due_for_recycling() {
    check_serving(&[
        (10, used(1, 100, 0), "spawn 3@1", Phase::Running),
        (20, wanted(2, 2, RECYCLE), "terminate 3 Superfluous, spawn 4@2, spawn 5@2", Phase::Reloading),
        (30, ready(4), "publish, drain 1", Phase::Reloading),
        (40, ready(5), "publish, drain 2", Phase::Running),
    ]);
}

#[test]
fn a_crash_during_recycling_starts_only_one_replacement() {
    check_serving(&[
        (10, used(1, 100, 0), "spawn 3@1", Phase::Running),
        (20, crashed(1), "publish", Phase::Running),
        (30, ready(3), "publish", Phase::Running),
    ]);
}

#[test]
fn the_age_of_an_adopted_worker_counts_from_its_start() {
    check(&[
        (0, adopted(1, 1), "publish", Phase::Running),
        (0, wanted(1, 1, RECYCLE), "spawn 2@1", Phase::Running),
    ]);
}

/// Each new worker exceeds the limit at once. They are replaced less and less often, and this is reported.
#[test]
fn a_memory_limit_below_the_apps_need_causes_no_loop() {
    let only_memory = Recycle { memory: Some(1000), ..NO_RECYCLING };
    let mut steps = vec![
        (0, wanted(1, 1, only_memory), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
    ];
    let (mut now, mut old, mut new) = (0, 1, 2);
    for age in [5, 10, 20, 40, 80] {
        let at = now + age * 1000;
        steps.push((now + 10, used(old, 0, 2000), "", Phase::Running));
        steps.push((at - 1, used(old, 0, 2000), "", Phase::Running));
        let spawned = if new == 2 { "spawn 2@1" } else { "spawn 1@1" };
        steps.push((at, Event::Tick, spawned, Phase::Running));
        let recycled = match old {
            1 => "publish, recycle 1: it has 1 MB of memory",
            _ => "publish, recycle 2: it has 1 MB of memory",
        };
        steps.push((at, ready(new), recycled, Phase::Running));
        steps.push((at, ended(old), "", Phase::Running));
        now = at;
        (old, new) = (new, old);
    }
    let supervisor = check(&steps);
    assert_eq!(supervisor.memory_limit_is_too_low(), Some(Duration::from_secs(160)));
    // Another limit starts over.
    steps.push((now, wanted(1, 1, NO_RECYCLING), "", Phase::Running));
    assert_eq!(check(&steps).memory_limit_is_too_low(), None);
}

#[test]
fn a_slowly_leaking_app_raises_no_warning() {
    let only_memory = Recycle { memory: Some(1000), ..NO_RECYCLING };
    let supervisor = check(&[
        (0, wanted(1, 1, only_memory), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (60_000, used(1, 0, 1001), "spawn 2@1", Phase::Running),
        (60_100, ready(2), "publish, recycle 1: it has 1 MB of memory", Phase::Running),
    ]);
    assert_eq!(supervisor.memory_limit_is_too_low(), None);
}

#[test]
fn memory_counts_only_from_the_minimum_age() {
    let only_memory = Recycle { memory: Some(1000), ..NO_RECYCLING };
    let steps = [
        (0, wanted(1, 1, only_memory), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (10, used(1, 0, 1001), "", Phase::Running),
    ];
    check_wake(&steps, Some(5000));
}
