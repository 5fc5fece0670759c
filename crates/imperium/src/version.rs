//! The output of `imperium --version`.

/// The version, with commit and kind of build if known: `0.1.0 (1a2b3c4d5e 2026-11-27, release,
/// x86_64-linux)`.
pub(crate) const LONG: &str = env!("IMPERIUM_VERSION");
/// Only the version.
pub(crate) const SHORT: &str = env!("CARGO_PKG_VERSION");
