//! What the documentation says of files, and what the parsers do.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod bounds;
mod reference_pages;
mod schemas;
mod specification;
