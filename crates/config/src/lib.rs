//! Where everything lies, and the daemons' own files: read with exact errors, resolved to what runs.

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
