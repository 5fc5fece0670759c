//! The locations of files, and the daemons' configuration files: parsed with exact errors, and resolved.

pub mod diagnostics;
pub mod document;
pub mod emperord;
#[cfg(test)]
mod example;
pub mod frontd;
mod layout;
pub mod schema;
mod source;
pub mod value;

pub use diagnostics::{Diagnostics, Problem, Wrong};
pub use document::{Document, Translate};
pub use emperord::EmperordConfig;
pub use frontd::FrontdConfig;
pub use layout::{Layout, LayoutError, SocketPathError};
pub use schema::{Entries, Key, Keys, Kind, Schema, Table};
pub use source::{MAX_FILE_BYTES, Source};
