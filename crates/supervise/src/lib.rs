//! Supervises one app's workers, as a pure state machine: (state, event, now) → (state, actions).
//!
//! A [`Supervisor`] reads no clock, opens no socket and spawns nothing. Its owner tells it what happened
//! ([`Event`]) and when, performs the [`Action`]s that it returns, and sends [`Event::Tick`] at
//! [`Supervisor::next_wake`]. Processes start one by one, in the order of the [`StartQueue`] that all apps
//! share.
//!
//! **Invariants**
//! - A number belongs to at most one process: it is free again only when that process has exited.
//! - A serving worker is stopped only because another is ready to replace it (it runs an older generation, or
//!   is due for recycling), because fewer are wanted, or because it doesn't respond to this emperord.
//! - Open WebSockets keep a worker that is replaced, but neither its successor nor a stop waits for them. At most
//!   twice as many workers as wanted are kept like that: beyond, the oldest have to close theirs.
//! - An app that can't start is never retried in a tight loop: it waits for a growing backoff or, if only an
//!   edit can help, for an edit.
//! - An app never shrinks permanently: a missing worker is replaced, with the last generation that worked.

mod backoff;
mod drain;
mod event;
mod memory_floor;
mod recycle;
mod start_queue;
mod supervisor;
mod worker;

#[cfg(test)]
mod tests;

pub use drain::{Drain, DrainOrder};
pub use event::{Action, Adoption, DrainCause, Event, Exit, KillCause, Limits, StartFailure, TerminateCause};
pub use recycle::{Recycle, RecycleCause, Usage};
pub use start_queue::{Running, StartQueue};
pub use supervisor::{Abandoned, Demand, Outlook, Phase, Progress, Supervisor};
pub use worker::{Stage, Worker};
