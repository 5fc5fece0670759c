//! A real `workerd` with a real Python, between an emperord and a frontd that are played by the tests.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod bodies;
mod descriptors;
mod dispatch;
mod emperor;
mod exit_hooks;
mod front;
mod life;
mod limits;
mod peers;
mod process;
mod requests;
mod sockets;
