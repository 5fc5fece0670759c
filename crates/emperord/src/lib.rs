//! Follows the folder of vassal files, keeps the apps' workers running, and tells frontd about them.
//!
//! [`driver`] owns all state and receives everything as an event of [`messages`]: the content of files from
//! [`vassals`], messages of workers, frontd and the operator from [`rpc`], and exits of processes from the kernel
//! ([`pidfd`]). `supervise` decides what to do, and the driver does it, through [`launch`], [`routes`] and [`state`].
//!
//! **Invariants**
//! - emperord's exit stops no worker. Only a shutdown explicitly stops them first.
//! - A worker is published to frontd only while it is ready, and is told to drain only after it was removed
//!   from the routing table.
//! - A state folder is used by only one emperord.

pub mod driver;
pub mod launch;
pub mod lock;
pub mod messages;
pub mod pidfd;
mod readiness;
pub mod routes;
pub mod rpc;
mod run;
mod sources;
mod spec;
pub mod state;
pub mod vassals;

pub use run::{Launch, run};
