//! Tools for tests of the real stack: clients, verified load, and the stack itself.

mod body;
pub mod client;
pub mod connection;
pub mod container;
pub mod containerfile;
pub mod echoes;
pub mod grid;
pub mod interrupt;
pub mod keep_alive;
mod leftovers;
pub mod load;
pub mod log_pipe;
pub mod pattern;
pub mod ports;
pub mod process;
pub mod pythons;
pub mod stack;
pub mod status;
pub mod vassal;
pub mod visit;
pub mod wait;
pub mod websocket;
pub mod wire;

pub use place;
