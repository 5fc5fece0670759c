//! What became of a request, from the client's view.

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The expected status and content.
    Right,
    /// An unexpected status.
    Status(u16),
    /// The expected status with unexpected content.
    Wrong(Box<str>),
    /// The response was cut off after its head.
    Cut(Box<str>),
    /// There was no response.
    NoResponse(Box<str>),
}
