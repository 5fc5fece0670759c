//! What came out: for the terminal, as JSON, and as a chart.

pub(crate) mod json;
pub(crate) mod svg;
pub(crate) mod terminal;
