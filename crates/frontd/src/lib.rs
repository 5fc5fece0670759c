//! Placeholder.
pub mod head_guard;
