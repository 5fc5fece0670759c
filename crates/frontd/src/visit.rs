//! What is known about one request, and about its client.

pub(crate) mod authority;
pub(crate) mod client;
pub(crate) mod early_hints;
pub(crate) mod refusal;
pub(crate) mod request_id;
pub(crate) mod url_path;
pub(crate) mod violation;
