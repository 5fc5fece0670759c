//! Follows the folder of vassals, keeps their workers alive, and tells frontd who they are.
//!
//! [`driver`] owns all state and is told of everything as an event: by [`vassals`] what files say, by
//! [`rpc`] what workers, frontd and the operator say, and by the kernel which processes have ended. What to
//! do about it is decided by `supervise`; the driver does it, through [`launcher`], [`routes`] and
//! [`state`].
//!
//! **Invariants**
//! - No worker is stopped by emperord's own end; only a shutdown, which says so, stops them first.
//! - A worker is published to frontd only while it is ready, and is told to drain only after it was
//!   taken out.
//! - One emperord alone works with a state folder.

pub mod driver;
pub mod launcher;
pub mod lock;
pub mod process;
mod readiness;
pub mod routes;
pub mod rpc;
mod run;
mod scale;
mod sources;
pub mod state;
mod template;
pub mod vassals;

pub use run::{Launch, run};
