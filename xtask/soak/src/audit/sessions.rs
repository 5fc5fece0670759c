//! Decides which ends of WebSockets are allowed. docs/failures.md has the table.

use tests::echoes::Ended;

use super::super::harm::Harms;
use super::super::talk::{Fate, Session};
use super::{Excuse, TRIES, Times, Verdict};

/// Old workers are kept for twice as many workers as are wanted. So two replacements of all workers close no WebSocket.
const REPLACEMENTS: usize = 3;

/// Judges a WebSocket, whose handshake was begun by these workers.
pub(super) fn judge(session: &Session, begun: &[u32], harms: &Harms, times: &Times) -> Verdict {
    if begun.len() > TRIES {
        return Verdict::Broken("a handshake was begun by more workers than it may be given to");
    }
    let harmed = harms.of(session.app, session.sent, session.done);
    let lost_worker = begun.iter().any(|pid| harmed.contains(pid));
    let lost_frontd = times.restarts.iter().any(|time| (session.sent..=session.done).contains(time));
    let meanwhile =
        times.replacements.iter().filter(|(from, to)| *from <= session.done && *to >= session.sent);
    let kept_too_long = meanwhile.count() >= REPLACEMENTS;
    let crashed = times.crashed(session.sent, session.done);
    match &session.fate {
        Fate::NoResponse(_) | Fate::Opened(Ended::Cut(_)) if crashed => Verdict::Excused(Excuse::LostFrontd),
        Fate::Opened(_) if begun.is_empty() => Verdict::Broken("a WebSocket that no worker has accepted"),
        Fate::Opened(Ended::Complete) => Verdict::Right,
        Fate::Opened(Ended::Closed(Some(1001))) if lost_frontd => Verdict::Excused(Excuse::GoingAway),
        Fate::Opened(Ended::Closed(Some(1012))) if lost_worker => Verdict::Excused(Excuse::LostWorker),
        Fate::Opened(Ended::Closed(Some(1012))) if kept_too_long => Verdict::Excused(Excuse::KeptTooMany),
        Fate::Opened(Ended::Closed(_)) => {
            Verdict::Broken("a WebSocket was closed though nothing happened to it")
        }
        Fate::Opened(Ended::Wrong(_)) => Verdict::Broken("a message was lost, repeated or changed"),
        Fate::Opened(Ended::Cut(_)) => Verdict::Broken("a WebSocket was cut without a close frame"),
        Fate::Opened(Ended::Silent) => Verdict::Broken("a message was not returned"),
        Fate::Refused(502) if harmed.len() >= TRIES => Verdict::Excused(Excuse::Twice),
        Fate::Refused(502) => Verdict::Broken("a handshake failed that had not lost two workers"),
        Fate::Refused(504) if harms.froze(session.app, session.sent, session.done) => {
            Verdict::Excused(Excuse::Frozen)
        }
        Fate::Refused(_) => Verdict::Broken("a handshake was refused"),
        Fate::NoResponse(_) => Verdict::Broken("a handshake without a response"),
    }
}
