//! Scenarios: at which time, which event, and the expected actions.

mod adoption;
mod crashes;
mod queue;
mod recycling;
mod reloads;
mod scaling;
mod sockets;
mod starts;
mod stops;
mod stuck;

use std::time::{Duration, Instant};

use crate::{Action, Adoption, DrainCause, Event, Exit, Limits, Phase, Recycle, Supervisor};

/// A minute to start, a grace period of ten seconds, and a hundred seconds for WebSockets.
const LIMITS: Limits = Limits {
    start: Duration::from_secs(60),
    grace: Duration::from_secs(10),
    websocket_drain: Duration::from_secs(100),
    recycle: NO_RECYCLING,
};

const NO_RECYCLING: Recycle = Recycle { requests: None, lifetime: None, memory: None, jitter: 0 };

/// Milliseconds since the beginning, the event, the expected actions as text, and the phase after them.
type Step = (u64, Event, &'static str, Phase);

/// Runs a scenario, starting with a supervisor that knows nothing.
#[track_caller]
fn check(steps: &[Step]) -> Supervisor {
    let began = Instant::now();
    let mut supervisor = Supervisor::new(LIMITS);
    for (at, event, expected, phase) in steps {
        let now = began + Duration::from_millis(*at);
        let mut actions = supervisor.handle(*event, now);
        while supervisor.demand(now).is_some() {
            actions.extend(supervisor.handle(Event::MayStart, now));
        }
        let actions: Vec<String> = actions.iter().map(text).collect();
        assert_eq!(actions.join(", "), *expected, "at {at} ms, {event:?}: {supervisor:#?}");
        assert_eq!(supervisor.phase(now), *phase, "at {at} ms, {event:?}: {supervisor:#?}");
    }
    supervisor
}

/// Checks when the supervisor wants to be woken after a scenario, in milliseconds after its last step.
#[track_caller]
fn check_wake(steps: &[Step], expected: Option<u64>) {
    let before = Instant::now();
    let supervisor = check(steps);
    let slack = before.elapsed();
    let at = steps.last().map_or(0, |(at, ..)| *at);
    let wake = supervisor.next_wake(before + Duration::from_millis(at)).map(|it| it - before);
    let exact = expected.map(Duration::from_millis);
    let matches = match (wake, exact) {
        (Some(wake), Some(exact)) => wake >= exact && wake <= exact + slack,
        (None, None) => true,
        _ => false,
    };
    assert!(matches, "woken after {wake:?}, not {exact:?}");
}

fn text(action: &Action) -> String {
    match action {
        Action::Publish => "publish".into(),
        Action::Spawn { number, generation } => format!("spawn {number}@{generation}"),
        Action::Drain { number, cause: DrainCause::Recycled(cause) } => format!("recycle {number}: {cause}"),
        Action::Drain { number, cause: DrainCause::TooManyKept } => format!("close sockets of {number}"),
        Action::Drain { number, .. } => format!("drain {number}"),
        Action::Terminate { number, cause } => format!("terminate {number} {cause:?}"),
        Action::Kill { number, cause } => format!("kill {number} {cause:?}"),
        Action::GiveUp { failure } => format!("give up {failure:?}"),
        Action::AbandonReload { failure } => format!("abandon reload {failure:?}"),
    }
}

fn want(generation: u64, workers: u16) -> Event {
    Event::Wanted { generation, workers, limits: LIMITS }
}

fn ready(number: u16) -> Event {
    Event::Ready { number }
}

fn crashed(number: u16) -> Event {
    Event::Exited { number, exit: Exit::Crashed }
}

fn unusable(number: u16) -> Event {
    Event::Exited { number, exit: Exit::Unusable }
}

fn needs_edit(number: u16) -> Event {
    Event::Exited { number, exit: Exit::NeedsEdit }
}

fn ended(number: u16) -> Event {
    Event::Exited { number, exit: Exit::Orderly }
}

fn adopted(number: u16, generation: u64) -> Event {
    adopted_as(number, generation, Adoption::Ready)
}

fn adopted_as(number: u16, generation: u64, stage: Adoption) -> Event {
    Event::Adopted { number, generation, stage, age: Duration::from_secs(60) }
}
