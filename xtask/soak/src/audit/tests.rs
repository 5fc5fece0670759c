//! Each allowed failure, and similar ones that aren't allowed.

use ::tests::client::Protocol;
use ::tests::echoes::Ended;

use super::super::question::Question;
use super::super::talk::{Fate, Talk};
use super::*;

const KILLED: u32 = 7;
const FROZEN: u32 = 8;
const WELL: u32 = 9;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn harm(pid: u32, cause: Cause, from: u64, to: u64) -> Harm {
    Harm { app: App::Single, pid, cause, from: seconds(from), to: seconds(to) }
}

fn harms() -> Harms {
    Harms::new(vec![harm(KILLED, Cause::Killed, 10, 10), harm(FROZEN, Cause::Frozen, 20, 30)])
}

fn times() -> Times {
    Times {
        restarts: vec![seconds(15)],
        crashes: vec![(seconds(70), seconds(71))],
        replacements: [40, 50, 60].map(|it| (seconds(it), seconds(it + 2))).into(),
    }
}

fn entry(question: Question, [sent, done]: [u64; 2], outcome: Outcome) -> Entry {
    Entry { id: 1, app: App::Single, question, sent: seconds(sent), done: seconds(done), outcome }
}

#[track_caller]
fn check(question: Question, span: [u64; 2], outcome: Outcome, begun: &[u32], expected: &Verdict) {
    assert_eq!(&judge(&entry(question, span, outcome), begun, &harms(), &times()), expected);
}

#[track_caller]
fn broken(question: Question, span: [u64; 2], outcome: Outcome, begun: &[u32]) {
    let verdict = judge(&entry(question, span, outcome), begun, &harms(), &times());
    assert!(matches!(verdict, Verdict::Broken(_)), "{verdict:?}");
}

use Outcome::{Right, Status};
use Question::{Deadly, Echo, EchoBody, Stream, TooLong};
use Verdict::Excused;

fn cut() -> Outcome {
    Outcome::Cut("cut".into())
}

fn stream() -> Question {
    let mut random = fastrand::Rng::with_seed(3);
    std::iter::repeat_with(|| Question::any(App::Single, &mut random))
        .find(|it| matches!(it, Stream(_)))
        .unwrap()
}

#[test]
fn answered() {
    check(Echo, [1, 2], Right, &[WELL], &Verdict::Right);
    check(Echo, [9, 11], Right, &[KILLED, WELL], &Verdict::Right);
    check(TooLong, [20, 24], Right, &[], &Verdict::Right);
    broken(Echo, [1, 2], Right, &[]);
    broken(Echo, [1, 2], Right, &[KILLED, FROZEN, WELL]);
    broken(EchoBody, [9, 11], Right, &[KILLED, WELL]);
    broken(EchoBody, [1, 2], Outcome::Wrong("other".into()), &[WELL]);
}

#[test]
fn an_unsafe_request_may_fail_only_with_its_worker() {
    check(EchoBody, [9, 11], Status(502), &[KILLED], &Excused(Excuse::Begun));
    check(EchoBody, [9, 11], Status(502), &[], &Excused(Excuse::Beginning));
    broken(EchoBody, [9, 11], Status(502), &[WELL]);
    broken(EchoBody, [11, 12], Status(502), &[KILLED]);
    broken(EchoBody, [1, 2], Status(502), &[]);
    broken(EchoBody, [9, 11], Status(503), &[KILLED]);
    broken(EchoBody, [9, 11], Outcome::NoResponse("reset".into()), &[KILLED]);
}

#[test]
fn a_safe_request_may_fail_only_with_two_workers() {
    broken(Echo, [9, 11], Status(502), &[KILLED]);
    check(Echo, [9, 21], Status(502), &[KILLED], &Excused(Excuse::Twice));
}

#[test]
fn a_response_may_be_cut_only_with_its_worker() {
    check(stream(), [9, 11], cut(), &[KILLED], &Excused(Excuse::Cut));
    broken(stream(), [9, 11], cut(), &[WELL]);
    broken(stream(), [1, 2], cut(), &[KILLED]);
}

#[test]
fn a_killed_frontd_cuts_connections() {
    check(EchoBody, [69, 71], Outcome::NoResponse("reset".into()), &[WELL], &Excused(Excuse::LostFrontd));
    check(stream(), [71, 72], cut(), &[WELL], &Excused(Excuse::LostFrontd));
    broken(stream(), [72, 73], cut(), &[WELL]);
    broken(EchoBody, [69, 71], Status(502), &[WELL]);
}

#[test]
fn a_frozen_worker_keeps_its_requests() {
    check(Echo, [20, 24], Status(504), &[], &Excused(Excuse::Frozen));
    check(EchoBody, [19, 24], Status(504), &[FROZEN], &Excused(Excuse::Frozen));
    broken(Echo, [20, 22], Status(504), &[FROZEN]);
    broken(Echo, [20, 24], Status(504), &[WELL]);
    broken(Echo, [8, 12], Status(504), &[KILLED]);
}

#[test]
fn a_worker_that_exits_is_harmed_by_its_request() {
    let mut journals = Journals::default();
    journals.note(WELL, "1\n2\n").unwrap();
    let deadly = entry(Deadly, [1, 3], Right);
    let neighbour = Entry { id: 2, ..entry(EchoBody, [1, 3], Status(502)) };
    let seen = Seen { entries: vec![deadly, neighbour], sessions: Vec::new() };
    let audit = audit(&seen, &journals, &[], &Times::default(), seconds(5));
    assert_eq!((audit.right, audit.exits, audit.broken), (1, 1, 0), "{audit:?}");
    assert_eq!(audit.excused, BTreeMap::from([(Excuse::Begun, 1)]));
}

#[test]
fn a_pause_is_a_time_without_a_correct_response() {
    let entries = [[0, 2], [0, 3], [2, 9]].map(|span| entry(Echo, span, Right));
    let failed = entry(Echo, [3, 5], Status(502));
    let pauses = pauses(&[&entries[..], &[failed]].concat(), seconds(11));
    assert_eq!(pauses[&App::Single], Pause { from: seconds(3), length: seconds(6) });
    assert!(!pauses.contains_key(&App::Forked));
}

#[track_caller]
fn check_socket(talk: Talk, [sent, done]: [u64; 2], fate: Fate, begun: &[u32], expected: Option<Verdict>) {
    let (sent, done, protocol) = (seconds(sent), seconds(done), Protocol::Plain);
    let session = Session { id: 1, app: App::Single, protocol, talk, sent, done, messages: 0, fate };
    let verdict = sessions::judge(&session, begun, &harms(), &times());
    match expected {
        Some(expected) => assert_eq!(verdict, expected),
        None => assert!(matches!(verdict, Verdict::Broken(_)), "{verdict:?}"),
    }
}

#[test]
fn a_websocket_may_only_be_closed_with_its_worker_or_its_frontd() {
    let echo = |span, ended, begun: &[u32], expected| {
        check_socket(Talk::Echo(1), span, Fate::Opened(ended), begun, expected);
    };
    let closed = |code| Ended::Closed(Some(code));
    echo([9, 11], Ended::Complete, &[KILLED], Some(Verdict::Right));
    echo([9, 11], Ended::Complete, &[], None);
    echo([9, 11], closed(1012), &[KILLED], Some(Excused(Excuse::LostWorker)));
    echo([9, 11], closed(1012), &[WELL], None);
    echo([1, 2], closed(1012), &[KILLED], None);
    echo([9, 11], closed(1011), &[KILLED], None);
    echo([14, 16], closed(1001), &[WELL], Some(Excused(Excuse::GoingAway)));
    echo([16, 17], closed(1001), &[WELL], None);
    echo([14, 16], closed(1012), &[WELL], None);
    echo([9, 16], Ended::Cut("cut".into()), &[KILLED], None);
    echo([69, 71], Ended::Cut("cut".into()), &[WELL], Some(Excused(Excuse::LostFrontd)));
    echo([9, 16], Ended::Silent, &[KILLED], None);
    echo([9, 16], Ended::Wrong("2".into()), &[KILLED], None);
    echo([39, 61], closed(1012), &[WELL], Some(Excused(Excuse::KeptTooMany)));
    echo([43, 61], closed(1012), &[WELL], None);
}

#[test]
fn a_handshake_may_fail_like_a_get() {
    let check = |span, status, begun: &[u32], expected| {
        check_socket(Talk::Echo(1), span, Fate::Refused(status), begun, expected);
    };
    check([9, 21], 502, &[KILLED], Some(Excused(Excuse::Twice)));
    check([9, 11], 502, &[KILLED], None);
    check([20, 24], 504, &[], Some(Excused(Excuse::Frozen)));
    check([9, 11], 504, &[], None);
    check([9, 21], 503, &[], None);
    check_socket(Talk::Echo(1), [9, 21], Fate::NoResponse("reset".into()), &[], None);
}
