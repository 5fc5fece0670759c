//! Which site a request is for.

pub(crate) mod first_table;
pub(crate) mod table;
