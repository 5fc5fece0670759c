//! Follows the folder of vassal files, keeps the apps' workers running, and tells frontd about them.
//!
//! [`driver`] owns all state and receives everything as an event: the content of files from [`vassals`],
//! messages of workers, frontd and the operator from [`rpc`], and exits of processes from the kernel.
//! `supervise` decides what to do, and the driver does it, through [`launcher`], [`routes`] and [`state`].
//!
//! **Invariants**
//! - emperord's exit stops no worker. Only a shutdown explicitly stops them first.
//! - A worker is published to frontd only while it is ready, and is told to drain only after it was removed
//!   from the routing table.
//! - A state folder is used by only one emperord.

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
