//! Serving workers that exit unexpectedly.

use super::*;

#[test]
fn the_first_crashed_worker_is_replaced_at_once() {
    check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (100, ready(1), "publish", Phase::Running),
        (100, ready(2), "publish", Phase::Running),
        (5000, crashed(1), "publish, spawn 1@1", Phase::Running),
        (5100, ready(1), "publish", Phase::Running),
    ]);
}

#[test]
fn delays_grow_with_repeated_crashes() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (0, crashed(1), "publish, spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (0, crashed(1), "publish", Phase::BackingOff),
        (100, Event::Tick, "spawn 1@1", Phase::Starting),
        (100, ready(1), "publish", Phase::Running),
        (100, crashed(1), "publish", Phase::BackingOff),
        (299, Event::Tick, "", Phase::BackingOff),
        (300, Event::Tick, "spawn 1@1", Phase::Starting),
    ]);
}

#[test]
fn the_delay_is_reset_after_a_worker_ran_well() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (0, crashed(1), "publish, spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (0, crashed(1), "publish", Phase::BackingOff),
        (100, Event::Tick, "spawn 1@1", Phase::Starting),
        (100, ready(1), "publish", Phase::Running),
        (10_100, crashed(1), "publish, spawn 1@1", Phase::Starting),
    ]);
}

#[test]
fn workers_that_ran_well_and_are_killed_together_are_replaced_at_once() {
    check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (0, ready(2), "publish", Phase::Running),
        (60_000, crashed(1), "publish, spawn 1@1", Phase::Running),
        (60_000, crashed(2), "publish, spawn 2@1", Phase::Starting),
    ]);
}

#[test]
fn a_worker_that_exits_normally_without_being_told_is_replaced() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (50, ended(1), "publish, spawn 1@1", Phase::Starting),
    ]);
}

#[test]
fn code_that_broke_while_workers_serve_is_retried_slowly() {
    check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (0, ready(2), "publish", Phase::Running),
        (500, crashed(1), "publish, spawn 1@1", Phase::Running),
        (600, unusable(1), "", Phase::BackingOff),
        (1599, Event::Tick, "", Phase::BackingOff),
        (1600, Event::Tick, "spawn 1@1", Phase::Running),
        (1700, unusable(1), "", Phase::BackingOff),
        (3699, Event::Tick, "", Phase::BackingOff),
        (3700, Event::Tick, "spawn 1@1", Phase::Running),
        (3800, ready(1), "publish", Phase::Running),
    ]);
}

#[test]
fn broken_code_is_given_up_once_no_worker_serves() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (500, crashed(1), "publish, spawn 1@1", Phase::Starting),
        (600, needs_edit(1), "publish, give up NeedsEdit", Phase::Failed),
    ]);
}

/// For example a database that was late. Such failures don't cause delays once the app has run.
#[test]
fn starts_that_failed_before_a_worker_ran_well_are_forgotten() {
    let mut steps = vec![(0, want(1, 1), "spawn 1@1", Phase::Starting)];
    let mut at = 0;
    for wait in [1, 2, 4, 8, 16, 32, 60] {
        steps.push((at, unusable(1), if at == 0 { "publish" } else { "" }, Phase::BackingOff));
        at += wait * 1000;
        steps.push((at, Event::Tick, "spawn 1@1", Phase::Starting));
    }
    steps.push((at, ready(1), "publish", Phase::Running));
    let mut early = steps.clone();
    // A start fails next to a serving worker.
    for (steps, serves_for, wait) in [(&mut steps, 10_000, 1000), (&mut early, 9000, 60_000)] {
        let at = at + serves_for;
        steps.push((at, want(1, 2), "spawn 2@1", Phase::Running));
        steps.push((at, unusable(2), "", Phase::BackingOff));
        steps.push((at + wait - 1, Event::Tick, "", Phase::BackingOff));
        steps.push((at + wait, Event::Tick, "spawn 2@1", Phase::Running));
        check(steps);
    }
}

/// A worker that has served for long doesn't reset the backoff of starts that fail next to it.
#[test]
fn delays_grow_while_starts_fail_next_to_a_serving_worker() {
    let mut steps = vec![
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (60_000, want(1, 2), "spawn 2@1", Phase::Running),
    ];
    let mut at = 60_000;
    for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
        steps.push((at, unusable(2), "", Phase::BackingOff));
        at += wait * 1000;
        steps.push((at - 1, Event::Tick, "", Phase::BackingOff));
        steps.push((at, Event::Tick, "spawn 2@1", Phase::Running));
    }
    check(&steps);
}
