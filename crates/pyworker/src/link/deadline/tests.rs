//! Timelines of one request, second by second.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const EXPIRED: Found = Found::Expired(Cause::Request);
const IDLE: Found = Found::Expired(Cause::Idle);

fn deadline(request: u32, idle: u32) -> Deadline {
    Deadline::new(Limits::new(request * 1000, idle * 1000))
}

fn look(deadline: &Deadline, second: u32) -> Found {
    deadline.look(SECOND * second, Client::Waits)
}

#[test]
fn each_limit_is_reported_once_and_counts_from_the_first_look() {
    let deadline = deadline(60, 60);
    for (second, found) in [
        (100, Found::Nothing),
        (159, Found::Nothing),
        (160, EXPIRED),
        (164, Found::Nothing),
        (165, Found::Stuck),
        (1000, Found::Nothing),
    ] {
        assert_eq!(look(&deadline, second), found, "after {second} s");
    }
    assert_eq!(deadline.age(SECOND * 170), SECOND * 70);
    assert!(deadline.is_stuck());
}

#[test]
fn the_grace_period_is_at_most_the_limit() {
    let deadline = deadline(1, 0);
    let looks = [0, 1, 2].map(|second| look(&deadline, second));
    assert_eq!(looks, [Found::Nothing, EXPIRED, Found::Stuck]);
}

#[test]
fn a_response_that_started_in_time_may_continue() {
    let deadline = deadline(1, 0);
    assert_eq!(look(&deadline, 1), Found::Nothing);
    assert_eq!((deadline.answer(), deadline.answer()), (Ok(()), Ok(())));
    assert_eq!(look(&deadline, 9), Found::Nothing);
    assert!(!deadline.leave());
}

#[test]
fn a_late_response_does_not_start() {
    let deadline = deadline(1, 60);
    assert_eq!((look(&deadline, 1), look(&deadline, 2)), (Found::Nothing, EXPIRED));
    assert_eq!(deadline.answer(), Err(TooLate));
    assert!(deadline.is_to_be_raised() && !deadline.is_to_be_raised(), "raised once");
    assert!(deadline.is_over() && deadline.leave() && !deadline.is_over());
    assert_eq!(look(&deadline, 9), Found::Nothing, "a request that has left isn't stuck");
}

#[test]
fn without_limits_nothing_expires() {
    let deadline = deadline(0, 0);
    assert_eq!((look(&deadline, 1), look(&deadline, 9999)), (Found::Nothing, Found::Nothing));
    assert_eq!(deadline.answer(), Ok(()));
    assert_eq!((look(&deadline, 10_000), look(&deadline, 99_999)), (Found::Nothing, Found::Nothing));
    assert_eq!(deadline.token(), None);
}

#[test]
fn each_chunk_restarts_the_idle_limit() {
    let deadline = deadline(100, 10);
    assert_eq!(look(&deadline, 1), Found::Nothing);
    deadline.answer().unwrap();
    assert_eq!((look(&deadline, 50), look(&deadline, 59)), (Found::Nothing, Found::Nothing));
    drop(deadline.wait_for_client());
    assert_eq!((look(&deadline, 60), look(&deadline, 69)), (Found::Nothing, Found::Nothing));
    assert_eq!((look(&deadline, 70), look(&deadline, 74)), (IDLE, Found::Nothing));
    assert_eq!((deadline.cause(), deadline.limit()), (Cause::Idle, SECOND * 10));
    assert_eq!(look(&deadline, 75), Found::Stuck);
}

#[test]
fn an_unread_response_only_costs_its_capacity_if_python_runs() {
    for (client, cause, second) in [(Client::Waits, Cause::Idle, 11), (Client::Gone, Cause::ClientGone, 6)] {
        for (reached, found) in [(true, Found::Held), (false, Found::Stuck)] {
            let deadline = deadline(100, 10);
            deadline.answer().unwrap();
            let looks = [1, second].map(|it| deadline.look(SECOND * it, client));
            assert_eq!(looks, [Found::Nothing, Found::Expired(cause)]);
            if reached {
                deadline.reach();
            }
            assert_eq!(deadline.look(SECOND * (second + 5), client), found, "{cause:?}, {reached}");
            assert!(deadline.is_stuck() && deadline.leave());
        }
    }
}

#[test]
fn a_stuck_request_with_a_waiting_client_costs_the_worker() {
    let deadline = deadline(1, 10);
    assert_eq!((look(&deadline, 1), look(&deadline, 2)), (Found::Nothing, EXPIRED));
    deadline.reach();
    assert_eq!(look(&deadline, 3), Found::Stuck);
}

#[test]
fn a_gone_client_is_noticed_without_an_idle_limit() {
    let deadline = deadline(100, 0);
    deadline.answer().unwrap();
    let looks = [1, 6].map(|it| deadline.look(SECOND * it, Client::Gone));
    assert_eq!(looks, [Found::Nothing, Found::Expired(Cause::ClientGone)]);
}

#[test]
fn waiting_for_a_slow_client_is_not_idle() {
    let deadline = deadline(100, 10);
    deadline.answer().unwrap();
    let waiting = deadline.wait_for_client();
    let looks = [1, 10, 11, 12, 21].map(|second| look(&deadline, second));
    let nothing = Found::Nothing;
    assert_eq!(looks, [nothing, nothing, Found::Unread, nothing, Found::Unread]);
    drop(waiting);
    assert!(!deadline.is_over());
    assert_eq!((look(&deadline, 22), look(&deadline, 32)), (nothing, IDLE));
}

#[test]
fn reading_the_body_does_not_extend_the_limit_of_the_request() {
    let deadline = deadline(10, 10);
    assert_eq!(look(&deadline, 1), Found::Nothing);
    drop(deadline.wait_for_client());
    assert_eq!(look(&deadline, 9), Found::Nothing);
    let reading = deadline.wait_for_client();
    assert_eq!(look(&deadline, 11), EXPIRED);
    drop(reading);
}

#[test]
fn two_waits_for_the_client_are_not_idle() {
    let deadline = deadline(100, 10);
    deadline.answer().unwrap();
    let (reading, writing) = (deadline.wait_for_client(), deadline.wait_for_client());
    assert_eq!((look(&deadline, 1), look(&deadline, 11)), (Found::Nothing, Found::Unread));
    drop(reading);
    assert_eq!((look(&deadline, 12), look(&deadline, 22)), (Found::Nothing, Found::Unread));
    drop(writing);
    assert_eq!((look(&deadline, 23), look(&deadline, 33)), (Found::Nothing, IDLE));
}

#[test]
fn closing_the_response_has_the_idle_limit_too() {
    let deadline = deadline(100, 10);
    deadline.answer().unwrap();
    assert_eq!(look(&deadline, 1), Found::Nothing);
    deadline.close();
    assert_eq!((look(&deadline, 9), look(&deadline, 18)), (Found::Nothing, Found::Nothing));
    assert_eq!(look(&deadline, 19), IDLE);
}

#[test]
fn only_responses_in_progress_are_interrupted_without_a_client() {
    let gone = |deadline: &Deadline, second| deadline.look(SECOND * second, Client::Gone);
    let answering = || {
        let deadline = deadline(100, 60);
        deadline.answer().unwrap();
        deadline
    };
    let deadline = deadline(100, 60);
    assert_eq!((gone(&deadline, 1), gone(&deadline, 99)), (Found::Nothing, Found::Nothing));
    let deadline = answering();
    assert_eq!(
        (look(&deadline, 1), gone(&deadline, 8), gone(&deadline, 12)),
        (Found::Nothing, Found::Nothing, Found::Nothing)
    );
    assert_eq!(gone(&deadline, 13), Found::Expired(Cause::ClientGone));
    assert_eq!((gone(&deadline, 17), gone(&deadline, 18)), (Found::Nothing, Found::Stuck));
    let deadline = answering();
    assert_eq!(gone(&deadline, 1), Found::Nothing);
    deadline.close();
    assert_eq!(gone(&deadline, 9), Found::Nothing, "the exception was raised, and the app cleans up");
}

/// Only what the app takes after the last wait for the client counts.
#[test]
fn the_time_that_a_client_takes_for_its_body_does_not_count() {
    let uploaded = deadline(60, 60);
    uploaded.follow_upload();
    assert_eq!(look(&uploaded, 100), Found::Nothing);
    let waits = uploaded.wait_for_client();
    assert_eq!(look(&uploaded, 200), Found::Nothing);
    drop(waits);
    assert_eq!(look(&uploaded, 259), Found::Nothing);
    assert_eq!(look(&uploaded, 260), EXPIRED);
    // A complete body waits at frontd.
    let complete = deadline(60, 60);
    let _waits = complete.wait_for_client();
    assert_eq!([100, 160].map(|second| look(&complete, second)), [Found::Nothing, EXPIRED]);
}
