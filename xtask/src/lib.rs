//! What the project's commands share: the set-up, and how they show what they do.

pub mod setup;
pub mod step;

pub use place::root;
