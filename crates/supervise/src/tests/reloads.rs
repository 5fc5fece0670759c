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
fn each_ready_worker_drains_an_old_one() {
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
fn a_new_generation_that_cannot_start_is_abandoned_and_retried_slowly() {
    let supervisor = check_serving(&[
        (100, want(2, 2), "spawn 3@2, spawn 4@2", Phase::Reloading),
        (200, unusable(3), "abandon reload Unusable, terminate 4 Superfluous", Phase::Running),
        (210, ended(4), "", Phase::Running),
        (1199, Event::Tick, "", Phase::Running),
        (1200, Event::Tick, "spawn 3@2", Phase::Running),
        (1300, unusable(3), "", Phase::Running),
        (3300, Event::Tick, "spawn 3@2", Phase::Running),
        // The cause of the failure is gone: the reload continues.
        (3400, ready(3), "publish, drain 2, spawn 4@2", Phase::Reloading),
        (3500, ready(4), "publish, drain 1", Phase::Running),
    ]);
    assert_eq!(supervisor.start_failures(), 2);
}

#[test]
fn a_new_generation_that_needs_an_edit_is_retried_after_one() {
    let mut steps = vec![
        (100, want(2, 2), "spawn 3@2, spawn 4@2", Phase::Reloading),
        (200, needs_edit(3), "abandon reload NeedsEdit, terminate 4 Superfluous", Phase::Running),
        (210, ended(4), "", Phase::Running),
        (90_000, Event::Tick, "", Phase::Running),
    ];
    assert_eq!(check_serving(&steps).next_wake(Instant::now()), None);
    assert!(check_serving(&steps).awaits_edit());
    steps.push((90_001, Event::SourcesChanged, "spawn 3@2", Phase::Running));
    steps.push((90_100, ready(3), "publish, drain 2, spawn 4@2", Phase::Reloading));
    check_serving(&steps);
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

/// The first missing worker is replaced at once. After the next crash, there is a delay as usual.
#[test]
fn after_an_abandoned_reload_killed_workers_are_replaced_with_the_working_version() {
    let supervisor = check_serving(&[
        (100, want(2, 2), "spawn 3@2, spawn 4@2", Phase::Reloading),
        (200, needs_edit(3), "abandon reload NeedsEdit, terminate 4 Superfluous", Phase::Running),
        (210, ended(4), "", Phase::Running),
        (300, crashed(1), "publish, spawn 1@1", Phase::Running),
        (400, ready(1), "publish", Phase::Running),
        (500, crashed(1), "publish", Phase::BackingOff),
        (600, Event::Tick, "spawn 1@1", Phase::Running),
        (700, ready(1), "publish", Phase::Running),
        (60_000, crashed(1), "publish, spawn 1@1", Phase::Running),
        (60_000, crashed(2), "publish", Phase::Starting),
        (60_100, ready(1), "publish, spawn 2@1", Phase::Running),
        (60_200, ready(2), "publish", Phase::Running),
    ]);
    assert!(supervisor.is_full());
    assert_eq!(supervisor.progress(), Progress::Underway);
}

#[test]
fn missing_workers_after_an_abandoned_reload_are_reported() {
    let began = Instant::now();
    let supervisor = check_serving(&[
        (100, want(2, 2), "spawn 3@2, spawn 4@2", Phase::Reloading),
        (200, unusable(3), "abandon reload Unusable, terminate 4 Superfluous", Phase::Running),
        (210, ended(4), "", Phase::Running),
        (300, crashed(1), "publish, spawn 1@1", Phase::Running),
        (400, unusable(1), "", Phase::BackingOff),
    ]);
    let outlook = supervisor.outlook(began + Duration::from_millis(400));
    assert_eq!((outlook.missing, outlook.abandoned.map(|it| it.serving)), (1, Some(1)));
    let waits = [outlook.next_start, outlook.abandoned.and_then(|it| it.next_trial)];
    assert!(waits.iter().all(|it| it.is_some_and(|it| it > Duration::from_millis(500))), "{waits:?}");
}

/// If no worker serves any more, the version that worked is retried again and again.
#[test]
fn a_reload_is_abandoned_for_the_old_version_if_its_workers_die() {
    check_serving(&[
        (100, want(2, 1), "publish, drain 2, spawn 3@2", Phase::Reloading),
        (200, crashed(1), "publish", Phase::Starting),
        (300, needs_edit(3), "abandon reload NeedsEdit, spawn 1@1", Phase::Starting),
        (400, unusable(1), "publish", Phase::BackingOff),
        (1400, Event::Tick, "spawn 1@1", Phase::Starting),
        (1500, ready(1), "publish", Phase::Running),
    ]);
}

#[test]
fn fewer_and_more_workers_after_an_abandoned_reload() {
    check_serving(&[
        (100, want(2, 2), "spawn 3@2, spawn 4@2", Phase::Reloading),
        (200, needs_edit(3), "abandon reload NeedsEdit, terminate 4 Superfluous", Phase::Running),
        (300, want(2, 3), "spawn 3@1", Phase::Running),
        (400, want(2, 2), "terminate 3 Superfluous", Phase::Running),
        (500, want(2, 1), "publish, drain 2", Phase::Running),
    ]);
}

#[test]
fn a_reload_after_an_abandoned_one_falls_back_to_the_same_version() {
    check_serving(&[
        (100, want(2, 2), "spawn 3@2, spawn 4@2", Phase::Reloading),
        (200, needs_edit(3), "abandon reload NeedsEdit, terminate 4 Superfluous", Phase::Running),
        (210, ended(4), "", Phase::Running),
        (300, want(3, 2), "spawn 3@3, spawn 4@3", Phase::Reloading),
        (400, crashed(3), "abandon reload Exited, terminate 4 Superfluous", Phase::Running),
        (410, ended(4), "", Phase::Running),
        (500, crashed(1), "publish, spawn 1@1", Phase::Running),
    ]);
}

#[test]
fn a_later_failure_does_not_abandon_a_working_generation() {
    check_serving(&[
        (100, want(2, 2), "spawn 3@2, spawn 4@2", Phase::Reloading),
        (200, ready(3), "publish, drain 2", Phase::Reloading),
        (300, crashed(4), "", Phase::BackingOff),
        (400, Event::Tick, "spawn 4@2", Phase::Reloading),
        (500, ready(4), "publish, drain 1", Phase::Running),
    ]);
}

#[test]
fn a_reload_during_a_reload_starts_over() {
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
