//! What clients can hold, per address and in total.

pub(crate) mod clients;
pub(crate) mod descriptors;
pub(crate) mod quota;
