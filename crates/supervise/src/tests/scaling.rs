//! Changes of the number of workers.

use super::*;

#[test]
fn additional_workers_start_next_to_serving_ones() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (100, want(1, 3), "spawn 2@1, spawn 3@1", Phase::Running),
        (200, ready(2), "publish", Phase::Running),
    ]);
}

#[test]
fn the_highest_numbers_are_drained_first() {
    check(&[
        (0, want(1, 3), "spawn 1@1, spawn 2@1, spawn 3@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (0, ready(2), "publish", Phase::Running),
        (0, ready(3), "publish", Phase::Running),
        (100, want(1, 1), "publish, drain 3, drain 2", Phase::Running),
        (110, ended(3), "", Phase::Running),
        (120, ended(2), "", Phase::Running),
    ]);
}

#[test]
fn starting_workers_are_stopped_first() {
    check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (0, ready(2), "publish", Phase::Running),
        (100, want(1, 1), "terminate 1 Superfluous", Phase::Running),
        (110, crashed(1), "", Phase::Running),
    ]);
}

#[test]
fn a_number_is_reused_only_after_its_process_has_exited() {
    check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (0, ready(2), "publish", Phase::Running),
        (100, want(1, 1), "publish, drain 2", Phase::Running),
        (110, want(1, 2), "spawn 3@1", Phase::Running),
        (120, ready(3), "publish", Phase::Running),
        (130, ended(2), "", Phase::Running),
        (140, want(1, 3), "spawn 2@1", Phase::Running),
    ]);
}

#[test]
fn additional_workers_are_retried_slowly_while_starts_fail() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (100, want(1, 3), "spawn 2@1, spawn 3@1", Phase::Running),
        (200, unusable(2), "", Phase::Running),
        (200, unusable(3), "", Phase::BackingOff),
        (1200, Event::Tick, "spawn 2@1", Phase::Running),
    ]);
}
