//! Hanging workers: one has a request that doesn't end, another one doesn't respond.

use super::*;
use crate::Usage;

/// Runs a scenario that starts with two serving workers.
#[track_caller]
fn check_two(steps: &[Step]) {
    let begin = [
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (0, ready(2), "publish", Phase::Running),
    ];
    check(&[&begin[..], steps].concat());
}

#[test]
fn a_stuck_worker_is_replaced_then_killed() {
    check_two(&[
        (100, Event::Stuck { number: 1 }, "publish, drain 1, spawn 3@1", Phase::Running),
        (100, Event::Stuck { number: 1 }, "", Phase::Running),
        (200, ready(3), "publish", Phase::Running),
        (10_100, Event::Tick, "terminate 1 GraceOver", Phase::Running),
        (12_100, Event::Tick, "kill 1 Stubborn", Phase::Running),
        (12_200, crashed(1), "", Phase::Running),
    ]);
}

#[test]
fn a_worker_with_all_threads_held_is_drained_once_another_is_ready() {
    check_two(&[
        (100, Event::Held { number: 1 }, "spawn 3@1", Phase::Running),
        (100, Event::Held { number: 1 }, "", Phase::Running),
        (200, Event::Held { number: 2 }, "", Phase::Running),
        (
            900,
            ready(3),
            "publish, recycle 2: each of its threads is blocked by a response that nobody reads, spawn 4@1",
            Phase::Running,
        ),
        (950, ended(2), "", Phase::Running),
        (
            990,
            ready(4),
            "publish, recycle 1: each of its threads is blocked by a response that nobody reads",
            Phase::Running,
        ),
        (995, Event::Held { number: 1 }, "", Phase::Running),
    ]);
}

#[test]
fn a_worker_with_all_threads_held_is_drained_first_whatever_the_limits() {
    let recycle = Recycle { requests: Some(100), ..NO_RECYCLING };
    let limited = Event::Wanted { generation: 1, workers: 2, limits: Limits { recycle, ..LIMITS } };
    let usage = Usage { requests: 100, memory: 0 };
    check_two(&[
        (100, Event::Held { number: 1 }, "spawn 3@1", Phase::Running),
        (110, limited, "", Phase::Running),
        (120, Event::Used { number: 2, usage }, "", Phase::Running),
        (
            200,
            ready(3),
            "publish, recycle 1: each of its threads is blocked by a response that nobody reads, spawn 4@1",
            Phase::Running,
        ),
    ]);
}

#[test]
fn a_frozen_worker_is_replaced_and_killed() {
    check_two(&[
        (100, Event::Detached { number: 2 }, "", Phase::Running),
        (5_099, Event::Tick, "", Phase::Running),
        (5_100, Event::Tick, "publish, terminate 2 Silent, spawn 3@1", Phase::Running),
        (7_100, Event::Tick, "kill 2 Stubborn", Phase::Running),
    ]);
}

#[test]
fn a_worker_that_attaches_again_is_not_frozen() {
    check_two(&[
        (100, Event::Detached { number: 2 }, "", Phase::Running),
        (5_000, Event::Attached { number: 2 }, "", Phase::Running),
        (99_000, Event::Tick, "", Phase::Running),
    ]);
}

#[test]
fn a_draining_worker_need_not_be_attached() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (100, Event::Removed, "publish, drain 1", Phase::Stopping),
        (200, Event::Detached { number: 1 }, "", Phase::Stopping),
        (10_099, Event::Tick, "", Phase::Stopping),
    ]);
}
