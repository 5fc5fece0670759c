//! Generates the parts of the documentation that come from code, and checks that they are up to date.
//!
//! Tests call [`Page::is`] and [`Page::has`] with the generated text. They fail if the page differs. With
//! `IMPERIUM_DOCS=write`, as set by `cargo xtask docs --write`, they update the page instead.

mod badge;
mod command;
mod example;
mod json_schema;
mod keys;
pub mod links;
mod page;

pub use badge::badge;
pub use command::command;
pub use example::example;
pub use json_schema::{json_schema, of_value};
pub use keys::{keys, kind};
pub use page::{Page, repository};
