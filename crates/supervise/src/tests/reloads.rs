//! New generations.

use super::*;
use crate::Progress;

const SERVING: [Step; 3] = [
    (0, Event::Wanted { generation: 1, workers: 2, limits: LIMITS }, "spawn 1@1, spawn 2@1", Phase::Starting),
    (0, Event::Ready { number: 1 }, "publish", Phase::Running),
    (0, Event::Ready { number: 2 }, "publish", Phase::Running),
];

#[track_caller]
fn check_serving(steps: &[Step]) -> Supervisor {
    check(&[&SERVING, steps].concat())
}

#[test]
fn each_new_one_that_is_ready_drains_an_old_one() {
    let supervisor = check_serving(&[
        (100, want(2, 2), "spawn 3@2, spawn 4@2", Phase::Reloading),
        (200, ready(4), "publish, drain 2", Phase::Reloading),
        (210, ended(2), "", Phase::Reloading),
        (300, ready(3), "publish, drain 1", Phase::Running),
        (310, ended(1), "", Phase::Running),
    ]);
    assert_eq!(supervisor.progress(), Progress::Done);
}

#[test]
fn large_apps_are_replaced_in_steps() {
    let mut steps = vec![(0, want(1, 6), "spawn 1@1, spawn 2@1, spawn 3@1, spawn 4@1", Phase::Starting)];
    steps.push((0, ready(1), "publish, spawn 5@1", Phase::Running));
    steps.push((0, ready(2), "publish, spawn 6@1", Phase::Running));
    steps.extend((3..=6).map(|number| (0, ready(number), "publish", Phase::Running)));
    steps.push((1, want(2, 6), "spawn 7@2, spawn 8@2, spawn 9@2, spawn 10@2", Phase::Reloading));
    steps.push((2, ready(7), "publish, drain 6, spawn 11@2", Phase::Reloading));
    steps.push((3, ended(6), "", Phase::Reloading));
    steps.push((4, ready(8), "publish, drain 5, spawn 6@2", Phase::Reloading));
    check(&steps);
}

#[test]
fn a_new_generation_that_cannot_start_is_abandoned() {
    let supervisor = check_serving(&[
        (100, want(2, 2), "spawn 3@2, spawn 4@2", Phase::Reloading),
        (200, unusable(3), "abandon reload Unusable, terminate 4 Superfluous", Phase::Running),
        (210, ended(4), "", Phase::Running),
        (90_000, Event::Tick, "", Phase::Running),
    ]);
    assert_eq!(supervisor.next_wake(), None);
    assert_eq!(supervisor.start_failures(), 1);
}

#[test]
fn a_new_generation_that_hangs_is_abandoned() {
    check_serving(&[
        (0, want(2, 1), "publish, drain 2, spawn 3@2", Phase::Reloading),
        (10, ended(2), "", Phase::Reloading),
        (60_000, Event::Tick, "kill 3 StartTimeout, abandon reload TimedOut", Phase::Running),
        (60_001, crashed(3), "", Phase::Running),
    ]);
}

#[test]
fn a_new_generation_that_cannot_be_spawned_is_abandoned() {
    check_serving(&[
        (100, want(2, 2), "spawn 3@2, spawn 4@2", Phase::Reloading),
        (
            100,
            Event::SpawnFailed { number: 3 },
            "abandon reload NotSpawned, terminate 4 Superfluous",
            Phase::Running,
        ),
    ]);
}

#[test]
fn after_an_abandoned_reload_a_crash_is_replaced_slowly_with_the_new_one() {
    check_serving(&[
        (100, want(2, 2), "spawn 3@2, spawn 4@2", Phase::Reloading),
        (200, unusable(3), "abandon reload Unusable, terminate 4 Superfluous", Phase::Running),
        (210, ended(4), "", Phase::Running),
        (300, crashed(1), "publish", Phase::BackingOff),
        (1200, Event::Tick, "spawn 1@2", Phase::Running),
        (1300, unusable(1), "", Phase::BackingOff),
        (2300, Event::Tick, "spawn 1@2", Phase::Running),
        // Mended meanwhile: the reload goes on where it was left.
        (2400, ready(1), "publish, spawn 3@2", Phase::Reloading),
        (2500, ready(3), "publish, drain 2", Phase::Running),
    ]);
}

#[test]
fn an_app_with_neither_old_nor_new_is_given_up() {
    check_serving(&[
        (100, want(2, 1), "publish, drain 2, spawn 3@2", Phase::Reloading),
        (200, crashed(1), "publish", Phase::Starting),
        (300, unusable(3), "publish, give up Unusable", Phase::Failed),
    ]);
}

#[test]
fn a_later_failure_does_not_abandon_what_has_begun_to_work() {
    check_serving(&[
        (100, want(2, 2), "spawn 3@2, spawn 4@2", Phase::Reloading),
        (200, ready(3), "publish, drain 2", Phase::Reloading),
        (300, crashed(4), "", Phase::BackingOff),
        (400, Event::Tick, "spawn 4@2", Phase::Reloading),
        (500, ready(4), "publish, drain 1", Phase::Running),
    ]);
}

#[test]
fn a_reload_overtaken_by_another_starts_anew() {
    check_serving(&[
        (100, want(2, 2), "spawn 3@2, spawn 4@2", Phase::Reloading),
        (200, ready(3), "publish, drain 2", Phase::Reloading),
        (300, want(3, 2), "terminate 4 Superfluous, spawn 5@3, spawn 6@3", Phase::Reloading),
        (310, unusable(4), "", Phase::Reloading),
        (400, ready(5), "publish, drain 1", Phase::Reloading),
        (500, ready(6), "publish, drain 3", Phase::Running),
    ]);
}

#[test]
fn more_workers_and_a_new_generation_at_once() {
    check_serving(&[
        (100, want(2, 3), "spawn 3@2, spawn 4@2, spawn 5@2", Phase::Reloading),
        (200, ready(3), "publish", Phase::Reloading),
        (200, ready(4), "publish, drain 2", Phase::Reloading),
        (200, ready(5), "publish, drain 1", Phase::Running),
    ]);
}
