//! Follows the folder of vassals and keeps their workers alive.

pub mod launcher;
pub mod lock;
pub mod process;
mod readiness;
pub mod routes;
pub mod state;
pub mod vassals;
