//! Processes of an earlier emperord.

use super::*;

#[test]
fn serving_workers_are_kept_and_missing_ones_are_started() {
    check(&[
        (0, adopted(1, 4), "publish", Phase::Running),
        (0, adopted(3, 4), "publish", Phase::Running),
        (0, want(4, 3), "spawn 2@4", Phase::Running),
        (50, Event::Attached { number: 1 }, "", Phase::Running),
        (60, Event::Attached { number: 3 }, "", Phase::Running),
        (900, ready(2), "publish", Phase::Running),
        (30_000, Event::Tick, "", Phase::Running),
    ]);
}

#[test]
fn an_adopted_worker_that_does_not_attach_is_replaced() {
    check(&[
        (0, adopted(1, 4), "publish", Phase::Running),
        (0, want(4, 1), "", Phase::Running),
        (9_999, Event::Tick, "", Phase::Running),
        (10_000, Event::Tick, "publish, terminate 1 Silent, spawn 2@4", Phase::Starting),
        (12_000, Event::Tick, "kill 1 Stubborn", Phase::Starting),
    ]);
}

#[test]
fn workers_of_a_changed_file_are_replaced_one_by_one() {
    check(&[
        (0, adopted(1, 4), "publish", Phase::Running),
        (0, want(5, 1), "spawn 2@5", Phase::Reloading),
        (50, Event::Attached { number: 1 }, "", Phase::Reloading),
        (900, ready(2), "publish, drain 1", Phase::Running),
    ]);
}

#[test]
fn workers_of_a_deleted_file_are_drained() {
    let supervisor = check(&[
        (0, adopted(1, 4), "publish", Phase::Running),
        (0, Event::Removed, "publish, drain 1", Phase::Stopping),
        (50, ended(1), "", Phase::Stopping),
    ]);
    assert!(supervisor.is_gone());
}

#[test]
fn starting_and_draining_workers_continue() {
    let starting = adopted_as(1, 4, Adoption::Starting);
    let draining = adopted_as(2, 4, Adoption::Draining);
    check(&[
        (0, starting, "", Phase::Starting),
        (0, draining, "", Phase::Starting),
        (0, want(4, 1), "", Phase::Starting),
        (50, Event::Attached { number: 1 }, "", Phase::Starting),
        (60, ready(1), "publish", Phase::Running),
        (70, ended(2), "", Phase::Running),
    ]);
}

#[test]
fn a_worker_that_crashed_before_the_file_was_read_is_replaced_afterwards() {
    check(&[
        (0, adopted(1, 4), "publish", Phase::Running),
        (1, crashed(1), "publish", Phase::Starting),
        (2, want(4, 1), "spawn 1@4", Phase::Starting),
    ]);
}

#[test]
fn adopted_code_is_known_to_start() {
    check(&[
        (0, adopted(1, 4), "publish", Phase::Running),
        (0, adopted(2, 5), "publish", Phase::Running),
        (0, want(5, 2), "spawn 3@5", Phase::Reloading),
        (1, Event::Attached { number: 1 }, "", Phase::Reloading),
        (1, Event::Attached { number: 2 }, "", Phase::Reloading),
        (100, unusable(3), "", Phase::BackingOff),
        (1100, Event::Tick, "spawn 3@5", Phase::Reloading),
    ]);
}

#[test]
fn a_worker_restarted_by_the_operator_keeps_its_number() {
    check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (500, ready(1), "publish", Phase::Running),
        (500, ready(2), "publish", Phase::Running),
        (900, Event::Draining { number: 1 }, "publish, spawn 3@1", Phase::Running),
        (950, ended(1), "", Phase::Running),
        (960, adopted_as(1, 1, Adoption::Starting), "terminate 3 Superfluous", Phase::Running),
        (1_000, ended(3), "", Phase::Running),
        (1_400, ready(1), "publish", Phase::Running),
    ]);
}
