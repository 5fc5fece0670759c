//! From the first process until it serves, or until the supervisor gives up.

use super::*;
use crate::Progress;

#[test]
fn all_start_and_become_ready() {
    let supervisor = check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (10, Event::Attached { number: 1 }, "", Phase::Starting),
        (900, ready(2), "publish", Phase::Running),
        (950, ready(1), "publish", Phase::Running),
        (960, ready(1), "", Phase::Running),
    ]);
    assert_eq!(supervisor.progress(), Progress::Done);
    assert_eq!(supervisor.next_wake(Instant::now()), None);
}

#[test]
fn many_start_a_few_at_a_time() {
    check(&[
        (0, want(1, 6), "spawn 1@1, spawn 2@1, spawn 3@1, spawn 4@1", Phase::Starting),
        (100, ready(1), "publish, spawn 5@1", Phase::Running),
        (100, ready(3), "publish, spawn 6@1", Phase::Running),
        (100, ready(2), "publish", Phase::Running),
    ]);
}

#[test]
fn starts_that_need_an_edit_are_given_up() {
    let supervisor = check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (500, needs_edit(1), "", Phase::Starting),
        (510, needs_edit(2), "publish, give up NeedsEdit", Phase::Failed),
        (60_000, Event::Tick, "", Phase::Failed),
        (60_001, want(1, 5), "", Phase::Failed),
    ]);
    assert_eq!(supervisor.start_failures(), 2);
    assert!(supervisor.awaits_edit() && supervisor.is_failed());
    assert_eq!(supervisor.next_wake(Instant::now()), None);
}

#[test]
fn a_new_generation_is_tried_after_giving_up() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (500, needs_edit(1), "publish, give up NeedsEdit", Phase::Failed),
        (900, want(2, 1), "publish, spawn 1@2", Phase::Starting),
        (999, ready(1), "publish", Phase::Running),
    ]);
}

#[test]
fn starts_are_retried_when_the_apps_files_have_changed() {
    let supervisor = check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (500, needs_edit(1), "", Phase::Starting),
        (510, needs_edit(2), "publish, give up NeedsEdit", Phase::Failed),
        (900, Event::SourcesChanged, "spawn 1@1", Phase::Starting),
        (950, needs_edit(1), "give up NeedsEdit", Phase::Failed),
        (990, Event::SourcesChanged, "spawn 1@1", Phase::Starting),
        (999, ready(1), "publish, spawn 2@1", Phase::Running),
    ]);
    assert!(!supervisor.awaits_edit());
}

/// During the backoff, requests are refused at once, instead of being queued until they time out.
#[test]
fn an_app_whose_imports_fail_refuses_requests_until_a_worker_is_ready() {
    let mut steps = vec![
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (500, unusable(1), "publish", Phase::BackingOff),
        (1500, Event::Tick, "spawn 1@1", Phase::Starting),
    ];
    assert!(check(&steps).is_failed());
    steps.push((1600, ready(1), "publish", Phase::Running));
    assert!(!check(&steps).is_failed());
}

#[test]
fn a_start_that_succeeds_clears_the_doubt() {
    check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (500, unusable(1), "", Phase::Starting),
        (600, ready(2), "publish", Phase::BackingOff),
        (1500, Event::Tick, "spawn 1@1", Phase::Running),
        (1600, ready(1), "publish", Phase::Running),
    ]);
}

#[test]
fn a_start_that_takes_too_long_is_killed_and_retried() {
    check_wake(&[(0, want(1, 1), "spawn 1@1", Phase::Starting)], Some(60_000));
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (59_999, Event::Tick, "", Phase::Starting),
        (60_000, Event::Tick, "publish, kill 1 StartTimeout", Phase::BackingOff),
        (60_001, crashed(1), "", Phase::BackingOff),
        (61_000, Event::Tick, "spawn 1@1", Phase::Starting),
    ]);
}

#[test]
fn crashing_starts_are_retried_one_at_a_time_with_a_backoff() {
    check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (50, crashed(1), "", Phase::Starting),
        (51, crashed(2), "", Phase::BackingOff),
        (149, Event::Tick, "", Phase::BackingOff),
        (150, Event::Tick, "spawn 1@1", Phase::Starting),
        (200, crashed(1), "", Phase::BackingOff),
        (400, Event::Tick, "spawn 1@1", Phase::Starting),
        (450, ready(1), "publish, spawn 2@1", Phase::Running),
    ]);
}

#[test]
fn failed_spawns_are_retried_with_a_backoff() {
    let steps = [
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, Event::SpawnFailed { number: 1 }, "", Phase::BackingOff),
    ];
    check_wake(&steps, Some(100));
    assert!(!check(&steps).is_failed(), "requests wait for the next try");
}

/// For example a missing user. Requests are refused at once, and attempts continue.
#[test]
fn an_app_whose_spawns_are_refused_refuses_requests_until_a_worker_is_ready() {
    let mut steps = vec![
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, Event::SpawnRefused { number: 1 }, "publish", Phase::BackingOff),
        (999, Event::Tick, "", Phase::BackingOff),
        (1000, Event::Tick, "spawn 1@1", Phase::Starting),
        (1000, Event::SpawnRefused { number: 1 }, "", Phase::BackingOff),
        (3000, Event::Tick, "spawn 1@1", Phase::Starting),
    ];
    assert!(check(&steps).is_failed());
    steps.push((3100, ready(1), "publish", Phase::Running));
    assert!(!check(&steps).is_failed());
}

#[test]
fn a_normal_exit_before_ready_is_a_failed_start() {
    check(&[(0, want(1, 1), "spawn 1@1", Phase::Starting), (50, ended(1), "", Phase::BackingOff)]);
}

#[test]
fn events_of_a_worker_that_is_gone_are_ignored() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (1, ready(7), "", Phase::Starting),
        (1, crashed(7), "", Phase::Starting),
        (1, Event::SpawnFailed { number: 7 }, "", Phase::Starting),
        (1, Event::Draining { number: 7 }, "", Phase::Starting),
        (1, Event::Attached { number: 7 }, "", Phase::Starting),
    ]);
}

#[test]
fn a_failing_import_is_retried_forever_with_delays_up_to_a_minute() {
    let mut steps = vec![(0, want(1, 1), "spawn 1@1", Phase::Starting)];
    let mut at = 0;
    for wait in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        steps.push((at, unusable(1), if at == 0 { "publish" } else { "" }, Phase::BackingOff));
        at += wait * 1000;
        steps.push((at - 1, Event::Tick, "", Phase::BackingOff));
        steps.push((at, Event::Tick, "spawn 1@1", Phase::Starting));
    }
    steps.push((at + 10, ready(1), "publish", Phase::Running));
    check(&steps);
}
