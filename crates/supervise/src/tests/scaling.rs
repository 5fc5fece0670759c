//! Changes of the number of workers.

use super::*;

#[test]
fn more_are_started_beside_those_that_serve() {
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
fn those_that_do_not_serve_yet_are_stopped_first() {
    check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (0, ready(2), "publish", Phase::Running),
        (100, want(1, 1), "terminate 1 Superfluous", Phase::Running),
        (110, crashed(1), "", Phase::Running),
    ]);
}

#[test]
fn a_number_is_taken_again_only_when_its_process_has_gone() {
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
fn more_while_nobody_can_start_are_tried_slowly() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (100, want(1, 3), "spawn 2@1, spawn 3@1", Phase::Running),
        (200, unusable(2), "", Phase::Running),
        (200, unusable(3), "", Phase::BackingOff),
        (1200, Event::Tick, "spawn 2@1", Phase::Running),
    ]);
}
