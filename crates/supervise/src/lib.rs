//! The life and death of one app's workers, decided purely: (state, event, now) → (state, actions).
//!
//! A [`Supervisor`] reads no clock, opens no socket and spawns nothing. Who owns it tells it what
//! happened ([`Event`]) and when, performs the [`Action`]s that it answers with, and sends
//! [`Event::Tick`] at [`Supervisor::next_wake`]. Processes start one by one, when [`StartQueue`], which all apps
//! share, says whose turn it is.
//!
//! **Invariants**
//! - A number names at most one process: it is free again only when that process has exited.
//! - A worker that serves is stopped only because another is ready in its place (it runs something
//!   older, or has done enough), because fewer are wanted, or because it does not answer to this emperord.
//! - An app that cannot start is never tried in a loop: it waits for a backoff that grows, or, where only an edit
//!   helps, for that.
//! - An app never shrinks for good: a place that is empty is filled with the generation that worked last.

mod backoff;
mod event;
mod memory_floor;
mod plan;
mod recycle;
mod start_queue;
mod supervisor;
mod trust;
mod view;
mod worker;

#[cfg(test)]
mod tests;

pub use event::{Action, Adoption, DrainCause, Event, Exit, KillCause, Limits, StartFailure, TerminateCause};
pub use recycle::{Recycle, RecycleCause, Usage};
pub use start_queue::{Running, StartQueue};
pub use supervisor::Supervisor;
pub use view::{Abandoned, Demand, Outlook, Phase, Progress};
pub use worker::{Stage, Worker};
