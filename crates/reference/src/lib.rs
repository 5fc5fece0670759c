//! Writes the parts of the documentation that come from the code, and checks that they are up to date.
//!
//! Tests call [`Page::is`] and [`Page::has`] with what the code says. They fail if the page says something else, and with
//! `IMPERIUM_DOCS=write`, as in `cargo xtask docs --write`, they write it.

mod command;
mod example;
mod json_schema;
mod keys;
pub mod links;
mod page;

pub use command::command;
pub use example::example;
pub use json_schema::{json_schema, of_value};
pub use keys::{keys, kind};
pub use page::{Page, repository};
