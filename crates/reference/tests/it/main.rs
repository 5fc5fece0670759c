//! Compares the documentation of files with their parsers.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod bounds;
mod environment;
mod reference_pages;
mod schemas;
mod specification;
