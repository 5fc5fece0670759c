//! Shared by the project's commands: the set-up, and the display of progress.

pub mod setup;
pub mod step;

pub use place::root;
