//! Why a request was refused before hyper saw it.

use http::StatusCode;

/// Maximum number of header lines in a request: as many as hyper parses without an allocation.
pub(crate) const FIELDS_MAX: usize = 100;

/// Why a request was refused. The text is sent to the client and logged, the name is used in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// RFC 9112, section 2.2 allows recipients to accept it as a line end, but not all of them do.
    #[error("a line ends with a bare LF")]
    BareLf,
    /// The request line isn't `METHOD TARGET VERSION`.
    #[error("the request line isn't a method, a target and a version, separated by single spaces")]
    RequestLine,
    /// RFC 9110, section 9.1.
    #[error("the method isn't a valid token")]
    Method,
    /// A space, a control character, or none of the forms of RFC 9112, section 3.2.
    #[error("the request target is invalid, or contains a space or a control character")]
    Target,
    /// RFC 9112, section 3.2: targets have no fragment.
    #[error("the request target contains a fragment: write # as %23")]
    Fragment,
    /// Longer than hyper can parse.
    #[error("the request target is too long")]
    TargetTooLong,
    /// RFC 9110, section 15.6.6.
    #[error("the version isn't HTTP/1.0 or HTTP/1.1")]
    Version,
    /// The request line and the headers exceed `limits.header`.
    #[error("the request line and the headers are too long")]
    HeadTooLong,
    /// More header lines than hyper accepts.
    #[error("more than {FIELDS_MAX} header lines")]
    TooManyFields,
    /// RFC 9112, section 5. Includes obs-fold, and whitespace before the colon.
    #[error("a header line isn't a name, a colon and a value")]
    FieldName,
    /// RFC 9110, section 5.5.
    #[error("a header value contains a control character")]
    FieldValue,
    /// The head didn't arrive within `limits.header_timeout`.
    #[error("the request took too long to arrive")]
    HeadTimeout,
    /// RFC 9112, section 6.3: even if they are equal.
    #[error("more than one Content-Length")]
    RepeatedContentLength,
    /// Not a plain decimal number that fits into 63 bits.
    #[error("the Content-Length is invalid")]
    InvalidContentLength,
    /// RFC 9112, section 6.1.
    #[error("both Content-Length and Transfer-Encoding are present")]
    TwoFramings,
    /// RFC 9112, section 6.1: unsupported codings.
    #[error("the only supported Transfer-Encoding is chunked")]
    UnknownTransferEncoding,
    /// RFC 9112, section 6.3: the end of the body can't be determined.
    #[error("chunked isn't the last Transfer-Encoding, or HTTP/1.0 has one")]
    InvalidTransferEncoding,
    /// RFC 9112, section 3.2.
    #[error("more than one Host")]
    RepeatedHost,
    /// RFC 9112, section 7.1.
    #[error("the chunked body is malformed")]
    MalformedChunk,
    /// More than 16 KiB of chunk extensions and trailers.
    #[error("chunk extensions or trailers are too long")]
    ChunkExtraTooLong,
}

impl Violation {
    /// The response status.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLong | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnknownTransferEncoding => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::BareLf => "bare_lf",
            Self::RequestLine => "request_line",
            Self::Method => "method",
            Self::Target => "target",
            Self::Fragment => "fragment",
            Self::TargetTooLong => "target_too_long",
            Self::Version => "version",
            Self::HeadTooLong => "head_too_long",
            Self::TooManyFields => "too_many_fields",
            Self::FieldName => "field_name",
            Self::FieldValue => "field_value",
            Self::HeadTimeout => "head_timeout",
            Self::RepeatedContentLength => "repeated_content_length",
            Self::InvalidContentLength => "invalid_content_length",
            Self::TwoFramings => "two_framings",
            Self::UnknownTransferEncoding => "unknown_transfer_encoding",
            Self::InvalidTransferEncoding => "invalid_transfer_encoding",
            Self::RepeatedHost => "repeated_host",
            Self::MalformedChunk => "malformed_chunk",
            Self::ChunkExtraTooLong => "chunk_extra_too_long",
        }
    }
}
