//! Drains, removals, and processes that don't exit.

use super::*;

#[test]
fn a_removed_app_is_drained_and_gone() {
    let supervisor = check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (100, Event::Removed, "publish, drain 1, terminate 2 Superfluous", Phase::Stopping),
        (110, crashed(2), "", Phase::Stopping),
        (120, ended(1), "", Phase::Stopping),
    ]);
    assert!(supervisor.is_gone());
    assert_eq!(supervisor.next_wake(Instant::now()), None);
}

#[test]
fn an_app_that_comes_back_while_it_drains_starts_over() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (100, Event::Removed, "publish, drain 1", Phase::Stopping),
        (150, want(2, 1), "spawn 2@2", Phase::Starting),
        (160, ended(1), "", Phase::Starting),
        (200, ready(2), "publish", Phase::Running),
    ]);
}

#[test]
fn a_drain_beyond_its_grace_is_terminated_then_killed() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (100, Event::Removed, "publish, drain 1", Phase::Stopping),
        (10_099, Event::Tick, "", Phase::Stopping),
        (10_100, Event::Tick, "terminate 1 GraceOver", Phase::Stopping),
        (12_099, Event::Tick, "", Phase::Stopping),
        (12_100, Event::Tick, "kill 1 Stubborn", Phase::Stopping),
        (99_999, Event::Tick, "", Phase::Stopping),
        (99_999, crashed(1), "", Phase::Stopping),
    ]);
}

#[test]
fn draining_and_killed_processes_are_awaited() {
    let drained = [
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (100, Event::Removed, "publish, drain 1", Phase::Stopping),
    ];
    check_wake(&drained, Some(10_100));
    let terminated = (10_100, Event::Tick, "terminate 1 GraceOver", Phase::Stopping);
    check_wake(&[&drained[..], &[terminated]].concat(), Some(12_100));
    let killed = (12_100, Event::Tick, "kill 1 Stubborn", Phase::Stopping);
    check_wake(&[&drained[..], &[terminated, killed]].concat(), None);
}

#[test]
fn a_worker_that_drains_on_its_own_is_replaced() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (100, Event::Draining { number: 1 }, "publish, spawn 2@1", Phase::Starting),
        (110, ready(1), "", Phase::Starting),
        (120, ended(1), "", Phase::Starting),
        (200, ready(2), "publish", Phase::Running),
    ]);
}
