//! Compares the clients' outcomes with the workers' journals, and decides which failures are allowed.

mod sessions;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::harm::{Cause, Harm, Harms};
use super::journals::Journals;
use super::ledger::Entry;
use super::outcome::Outcome;
use super::site::{App, LIMIT};
use super::talk::Session;

const SAMPLES: usize = 20;
/// The total number of workers that a safe request is sent to.
const TRIES: usize = 2;

/// The result for all requests.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    pub(crate) asked: u64,
    pub(crate) right: u64,
    /// WebSockets, and those that nothing happened to.
    pub(crate) sockets: (u64, u64),
    /// The messages of all WebSockets.
    pub(crate) messages: u64,
    pub(crate) excused: BTreeMap<Excuse, u64>,
    pub(crate) broken: u64,
    /// Some of the failures, with the broken promise.
    pub(crate) samples: Vec<String>,
    /// By app, the longest time without a correct response.
    pub(crate) pauses: BTreeMap<App, Pause>,
    pub(crate) slowest: Duration,
    pub(crate) exits: usize,
}

/// A period without a correct response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pause {
    /// Since the start of the soak.
    pub(crate) from: Duration,
    pub(crate) length: Duration,
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2?} from {:.1} s on", self.length, self.from.as_secs_f64())
    }
}

/// Why a failure isn't the stack's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Excuse {
    /// 502 for an unsafe request.
    Begun,
    /// 502 for an unsafe request whose worker died after it had reported the start, but before it called the
    /// app.
    Beginning,
    /// 502 for a safe request that was lost with two workers.
    Twice,
    /// The response had started.
    Cut,
    /// 504, since a frozen worker had it.
    Frozen,
    /// The connection was cut, since its frontd was killed.
    LostFrontd,
    /// A WebSocket was closed with 1012, since its worker was killed.
    LostWorker,
    /// A WebSocket was closed with 1001, since its frontd was told to stop.
    GoingAway,
    /// A WebSocket was closed with 1012, since its worker had been replaced, and too many others since.
    KeptTooMany,
}

impl fmt::Display for Excuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begun => "502, an unsafe request begun by a worker that was killed",
            Self::Beginning => "502, an unsafe request that a killed worker was about to begin",
            Self::Twice => "502, a safe request that lost two workers",
            Self::Cut => "cut, as its worker was killed in the middle of the response",
            Self::Frozen => "504, as its worker was frozen",
            Self::LostFrontd => "no or half a response, or a WebSocket cut, as frontd was killed",
            Self::LostWorker => "a WebSocket closed with 1012, as its worker was killed",
            Self::GoingAway => "a WebSocket closed with 1001, as its frontd was stopped",
            Self::KeptTooMany => "a WebSocket closed with 1012, as it kept one of too many old workers",
        })
    }
}

/// The verdict on a request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    Excused(Excuse),
    Broken(&'static str),
}

/// What clients have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) entries: Vec<Entry>,
    pub(crate) sessions: Vec<Session>,
}

/// When something happened, since the start of the soak.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// A frontd was told to stop.
    pub(crate) restarts: Vec<Duration>,
    /// A frontd was killed between the two times.
    pub(crate) crashes: Vec<(Duration, Duration)>,
    /// All workers of the app with WebSockets may have been replaced from the first time to the second.
    pub(crate) replacements: Vec<(Duration, Duration)>,
}

impl Times {
    /// Whether a frontd was killed during that time.
    fn crashed(&self, from: Duration, to: Duration) -> bool {
        self.crashes.iter().any(|(begun, done)| *begun <= to && *done >= from)
    }
}

/// Judges all requests and WebSockets until the time `until`.
pub(crate) fn audit(
    Seen { entries, sessions }: &Seen,
    journals: &Journals,
    harms: &[Harm],
    times: &Times,
    until: Duration,
) -> Audit {
    let exits = exits(entries, journals);
    let mut audit = Audit { exits: exits.len(), pauses: pauses(entries, until), ..Audit::default() };
    let harms = Harms::new(harms.iter().cloned().chain(exits).collect());
    for entry in entries {
        audit.take(entry, journals.begun(entry.id), &harms, times);
    }
    for session in sessions {
        audit.take_session(session, journals.begun(session.id), &harms, times);
    }
    audit
}

impl Audit {
    fn take(&mut self, entry: &Entry, begun: &[u32], harms: &Harms, times: &Times) {
        self.asked += 1;
        match judge(entry, begun, harms, times) {
            Verdict::Right => {
                self.right += 1;
                self.slowest = self.slowest.max(entry.done.saturating_sub(entry.sent));
            }
            Verdict::Excused(excuse) => *self.excused.entry(excuse).or_default() += 1,
            Verdict::Broken(promise) => self.break_promise(promise, entry, begun, &harms.during(entry)),
        }
    }

    fn take_session(&mut self, session: &Session, begun: &[u32], harms: &Harms, times: &Times) {
        self.sockets.0 += 1;
        self.messages += session.messages;
        match sessions::judge(session, begun, harms, times) {
            Verdict::Right => self.sockets.1 += 1,
            Verdict::Excused(excuse) => *self.excused.entry(excuse).or_default() += 1,
            Verdict::Broken(promise) => {
                let harmed = harms.of(session.app, session.sent, session.done);
                self.break_promise(promise, session, begun, &harmed);
            }
        }
    }

    fn break_promise(
        &mut self,
        promise: &str,
        what: &dyn fmt::Display,
        begun: &[u32],
        harmed: &BTreeSet<u32>,
    ) {
        self.broken += 1;
        if self.samples.len() < SAMPLES {
            self.samples.push(format!("{promise}: {what}; begun by {begun:?}, meanwhile {harmed:?} died"));
        }
    }
}

/// Workers that exited because of a request, according to their journals.
fn exits(entries: &[Entry], journals: &Journals) -> Vec<Harm> {
    let deadly = entries.iter().filter(|entry| entry.question.is_deadly());
    let harm = |entry: &Entry, pid: u32| Harm {
        app: entry.app,
        pid,
        cause: Cause::Exited,
        from: entry.sent,
        to: entry.done,
    };
    deadly.flat_map(|entry| journals.begun(entry.id).iter().map(|pid| harm(entry, *pid))).collect()
}

fn judge(entry: &Entry, begun: &[u32], harms: &Harms, times: &Times) -> Verdict {
    if begun.len() > 1 && !entry.question.is_safe() {
        return Verdict::Broken("an unsafe request was begun more than once");
    }
    if begun.len() > TRIES {
        return Verdict::Broken("a request was begun by more workers than it may be given to");
    }
    match &entry.outcome {
        Outcome::Right if begun.is_empty() && !entry.question.has_no_answer() => {
            Verdict::Broken("an answer that no worker has made")
        }
        Outcome::Right => Verdict::Right,
        Outcome::Wrong(_) => Verdict::Broken("a wrong answer"),
        Outcome::NoResponse(_) | Outcome::Cut(_) if times.crashed(entry.sent, entry.done) => {
            Verdict::Excused(Excuse::LostFrontd)
        }
        Outcome::NoResponse(_) => Verdict::Broken("no answer"),
        Outcome::Cut(_) => cut(begun, &harms.during(entry)),
        Outcome::Status(502) if entry.question.is_safe() => safe_and_lost(&harms.during(entry)),
        Outcome::Status(502) => unsafe_and_lost(begun, &harms.during(entry)),
        Outcome::Status(504) => given_up(entry, begun, harms),
        Outcome::Status(_) => Verdict::Broken("a status that was not due"),
    }
}

fn cut(begun: &[u32], harmed: &BTreeSet<u32>) -> Verdict {
    if begun.iter().any(|pid| harmed.contains(pid)) {
        Verdict::Excused(Excuse::Cut)
    } else {
        Verdict::Broken("a response was cut though its worker lived")
    }
}

fn safe_and_lost(harmed: &BTreeSet<u32>) -> Verdict {
    if harmed.len() >= TRIES {
        Verdict::Excused(Excuse::Twice)
    } else {
        Verdict::Broken("a safe request failed that had not lost two workers")
    }
}

fn unsafe_and_lost(begun: &[u32], harmed: &BTreeSet<u32>) -> Verdict {
    match begun {
        [] if !harmed.is_empty() => Verdict::Excused(Excuse::Beginning),
        [pid] if harmed.contains(pid) => Verdict::Excused(Excuse::Begun),
        _ => Verdict::Broken("a request failed though its worker lived"),
    }
}

fn given_up(entry: &Entry, begun: &[u32], harms: &Harms) -> Verdict {
    let harmed = harms.during(entry);
    let waited = entry.done.saturating_sub(entry.sent) >= LIMIT;
    if waited && harms.froze_during(entry) && begun.iter().all(|pid| harmed.contains(pid)) {
        Verdict::Excused(Excuse::Frozen)
    } else {
        Verdict::Broken("a request was given up though its worker was not frozen")
    }
}

/// By app, the longest time between two correct responses.
fn pauses(entries: &[Entry], until: Duration) -> BTreeMap<App, Pause> {
    let apps: BTreeSet<_> = entries.iter().map(|entry| entry.app).collect();
    let of = |app| longest_pause(entries.iter().filter(|entry| entry.app == app), until);
    apps.into_iter().map(|app| (app, of(app))).collect()
}

fn longest_pause<'a>(entries: impl Iterator<Item = &'a Entry>, until: Duration) -> Pause {
    let right = entries.filter(|entry| entry.outcome == Outcome::Right);
    let mut times: Vec<_> = right.map(|entry| entry.done).chain([Duration::ZERO, until]).collect();
    times.sort_unstable();
    let pauses =
        times.windows(2).map(|pair| Pause { from: pair[0], length: pair[1].saturating_sub(pair[0]) });
    pauses.max_by_key(|pause| pause.length).unwrap_or_default()
}

#[cfg(test)]
mod tests;
