//! A real `workerd` with a real Python, between an emperord and a frontd that the tests play.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod bodies;
mod dispatch;
mod emperor;
mod front;
mod life;
mod peers;
mod process;
mod requests;
