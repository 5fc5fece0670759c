//! What is known about one request.

pub(crate) mod authority;
pub(crate) mod client;
pub(crate) mod early_hints;
pub(crate) mod request_id;
pub(crate) mod url_path;
