//! Replaced workers that open WebSockets keep.

use super::*;

fn sockets(number: u16, open: u32) -> Event {
    Event::Sockets { number, open }
}

/// One worker with three WebSockets, which a new generation replaces after 100 ms.
const REPLACED: [Step; 5] = [
    (0, Event::Wanted { generation: 1, workers: 1, limits: LIMITS }, "spawn 1@1", Phase::Starting),
    (0, Event::Ready { number: 1 }, "publish", Phase::Running),
    (50, Event::Sockets { number: 1, open: 3 }, "", Phase::Running),
    (100, Event::Wanted { generation: 2, workers: 1, limits: LIMITS }, "spawn 2@2", Phase::Reloading),
    (200, Event::Ready { number: 2 }, "publish, drain 1", Phase::Running),
];

#[track_caller]
fn check_replaced(steps: &[Step]) -> Supervisor {
    check(&[&REPLACED, steps].concat())
}

#[test]
fn open_websockets_keep_a_replaced_worker_for_their_own_time() {
    check_wake(&REPLACED, Some(110_200));
    let supervisor = check_replaced(&[
        (10_300, Event::Tick, "", Phase::Running),
        (100_200, Event::Tick, "", Phase::Running),
        // It should have closed them by then, and the app gets the usual time.
        (110_199, Event::Tick, "", Phase::Running),
        (110_200, Event::Tick, "terminate 1 GraceOver", Phase::Running),
        (112_200, Event::Tick, "kill 1 Stubborn", Phase::Running),
    ]);
    assert_eq!(supervisor.progress(), crate::Progress::Done);
}

#[test]
fn the_order_has_the_rest_of_both_times() {
    let began = Instant::now();
    let supervisor = check_replaced(&[]);
    let order = supervisor.drain_order(1, began + Duration::from_secs(5)).unwrap();
    assert!(order.grace > Duration::from_secs(4) && order.grace < Duration::from_secs(6), "{order:?}");
    assert!(order.sockets > Duration::from_secs(94) && order.sockets < Duration::from_secs(96), "{order:?}");
    assert!(supervisor.sockets_end(1, began).is_some_and(|it| it > Duration::from_secs(99)));
    assert_eq!((supervisor.drain_order(2, began), supervisor.sockets_end(2, began)), (None, None));
    let order = supervisor.drain_order(1, began + Duration::from_secs(3600)).unwrap();
    assert_eq!((order.grace, order.sockets), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn a_worker_whose_last_websocket_is_closed_gets_the_usual_time_to_end() {
    check_replaced(&[
        (50_000, sockets(1, 1), "", Phase::Running),
        (60_000, sockets(1, 0), "", Phase::Running),
        (69_999, Event::Tick, "", Phase::Running),
        (70_000, Event::Tick, "terminate 1 GraceOver", Phase::Running),
    ]);
    check_replaced(&[(60_000, sockets(1, 0), "", Phase::Running), (60_100, ended(1), "", Phase::Running)]);
    // One that never had any, or lost them in time, isn't kept longer than others.
    check_replaced(&[
        (201, sockets(1, 0), "", Phase::Running),
        (10_201, Event::Tick, "terminate 1 GraceOver", Phase::Running),
    ]);
}

#[test]
fn websockets_that_are_reported_during_the_drain_count() {
    check(&[
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (100, want(2, 1), "spawn 2@2", Phase::Reloading),
        (200, ready(2), "publish, drain 1", Phase::Running),
        (300, sockets(1, 1), "", Phase::Running),
        (20_000, Event::Tick, "", Phase::Running),
        (110_200, Event::Tick, "terminate 1 GraceOver", Phase::Running),
    ]);
}

#[test]
fn another_limit_applies_to_workers_that_drain() {
    let limits = Limits { websocket_drain: Duration::from_secs(20), ..LIMITS };
    check_replaced(&[
        (1000, Event::Wanted { generation: 2, workers: 1, limits }, "", Phase::Running),
        (30_199, Event::Tick, "", Phase::Running),
        (30_200, Event::Tick, "terminate 1 GraceOver", Phase::Running),
    ]);
}

#[test]
fn a_frozen_worker_is_not_kept_by_its_websockets() {
    check_replaced(&[
        (1_000, Event::Detached { number: 1 }, "", Phase::Running),
        (10_999, Event::Tick, "", Phase::Running),
        (11_000, Event::Tick, "terminate 1 Silent", Phase::Running),
        (13_000, Event::Tick, "kill 1 Stubborn", Phase::Running),
    ]);
    check_replaced(&[
        (1_000, Event::Detached { number: 1 }, "", Phase::Running),
        (3_000, Event::Attached { number: 1 }, "", Phase::Running),
        (99_000, Event::Tick, "", Phase::Running),
    ]);
}

#[test]
fn a_removed_app_waits_for_no_websocket() {
    let supervisor = check_replaced(&[
        (300, sockets(2, 5), "", Phase::Running),
        (1000, Event::Removed, "publish, drain 1, drain 2", Phase::Stopping),
        (1001, Event::Tick, "", Phase::Stopping),
        (11_000, Event::Tick, "terminate 1 GraceOver, terminate 2 GraceOver", Phase::Stopping),
    ]);
    assert!(!supervisor.is_gone());
    let began = Instant::now();
    let supervisor = check_replaced(&[(1000, Event::Removed, "publish, drain 1, drain 2", Phase::Stopping)]);
    for number in [1, 2] {
        let order = supervisor.drain_order(number, began + Duration::from_secs(1)).unwrap();
        assert!(order.grace > Duration::from_secs(8), "{order:?}");
        assert_eq!(order.sockets, Duration::from_secs(1));
        assert_eq!(supervisor.sockets_end(number, began), None);
    }
}

#[test]
fn a_worker_that_drains_on_its_own_or_is_stuck_has_no_time_for_websockets() {
    for event in [Event::Draining { number: 1 }, Event::Stuck { number: 1 }] {
        let actions = if event == (Event::Stuck { number: 1 }) {
            "publish, drain 1, spawn 2@1"
        } else {
            "publish, spawn 2@1"
        };
        check(&[
            (0, want(1, 1), "spawn 1@1", Phase::Starting),
            (0, ready(1), "publish", Phase::Running),
            (50, sockets(1, 3), "", Phase::Running),
            (100, event, actions, Phase::Starting),
            (10_100, Event::Tick, "terminate 1 GraceOver", Phase::Starting),
        ]);
    }
}

#[test]
fn workers_beyond_the_wanted_number_keep_their_websockets() {
    check(&[
        (0, want(1, 2), "spawn 1@1, spawn 2@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (0, ready(2), "publish", Phase::Running),
        (50, sockets(2, 3), "", Phase::Running),
        (100, want(1, 1), "publish, drain 2", Phase::Running),
        (20_000, Event::Tick, "", Phase::Running),
    ]);
}

#[test]
fn too_many_kept_workers_close_the_websockets_of_the_oldest() {
    let mut steps = vec![
        (0, want(1, 1), "spawn 1@1", Phase::Starting),
        (0, ready(1), "publish", Phase::Running),
        (0, sockets(1, 1), "", Phase::Running),
    ];
    let reload = |at, number: u16, replaced: &'static str, spawned: &'static str| {
        [
            (at, want(number.into(), 1), spawned, Phase::Reloading),
            (at + 1, ready(number), replaced, Phase::Running),
            (at + 2, sockets(number, 1), "", Phase::Running),
        ]
    };
    steps.extend(reload(1000, 2, "publish, drain 1", "spawn 2@2"));
    steps.extend(reload(2000, 3, "publish, drain 2", "spawn 3@3"));
    steps.extend(reload(3000, 4, "publish, drain 3, close sockets of 1", "spawn 4@4"));
    steps.push((13_000, Event::Tick, "", Phase::Running));
    steps.push((13_001, Event::Tick, "terminate 1 GraceOver", Phase::Running));
    steps.push((13_002, ended(1), "", Phase::Running));
    steps.push((102_000, Event::Tick, "", Phase::Running));
    check(&steps);
}

#[test]
fn an_adopted_worker_that_drains_reports_its_websockets_again() {
    let limits = Limits { grace: Duration::ZERO, ..LIMITS };
    check(&[
        (0, adopted_as(1, 1, Adoption::Draining), "", Phase::Starting),
        (0, Event::Wanted { generation: 2, workers: 1, limits }, "spawn 2@2", Phase::Starting),
        (1000, Event::Attached { number: 1 }, "", Phase::Starting),
        (2000, sockets(1, 3), "", Phase::Starting),
        (60_000 - 1, ready(2), "publish", Phase::Running),
        (100_000, Event::Tick, "terminate 1 GraceOver", Phase::Running),
    ]);
}
