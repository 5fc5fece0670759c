//! Renders built-in pages in the format that the client prefers.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};

use super::accept::Format;
use crate::body::Body;
use crate::visit::RequestInfo;
use crate::visit::request_id::RequestId;

/// Pages only use inline styles, and may not be framed.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Maximum number of sites that a page lists.
const SITES_MAX: usize = 100;

/// The content of a page.
#[derive(Debug, Default)]
pub(super) struct Page<'a> {
    pub(super) status: StatusCode,
    /// What happened, in one sentence.
    pub(super) text: &'a str,
    pub(super) more: Details,
}

/// Content that only some pages have.
#[derive(Debug, Default)]
pub(crate) enum Details {
    #[default]
    Nothing,
    /// The configured sites, for developers.
    Sites(Vec<SiteLink>),
    /// The URL that the client should have used.
    Url(String),
    /// Why the app failed, for developers.
    Failure { what: Cow<'static, str>, traceback: String },
}

/// A site, and where to find it.
#[derive(Debug)]
pub(crate) struct SiteLink {
    /// The host or host pattern, and the path.
    pub(crate) name: String,
    /// `None` for a pattern.
    pub(crate) url: Option<String>,
}

/// A page with the header and footer that all pages share.
macro_rules! page {
    ($name:literal) => {
        concat!(
            include_str!("pages/top.html"),
            include_str!(concat!("pages/", $name, ".html")),
            include_str!("pages/bottom.html")
        )
    };
}

/// The format that the client accepts. A client whose head couldn't be read gets HTML.
fn format(head: &Parts) -> Format {
    if head.uri == "*" { Format::Html } else { Format::of(&head.headers) }
}

impl Page<'_> {
    pub(super) fn write(&self, info: &RequestInfo<'_>) -> Response<Body> {
        let format = format(info.head);
        let (kind, body) = match format {
            Format::Html => ("text/html; charset=utf-8", self.html(info.id)),
            Format::Json => ("application/problem+json", self.json(info.id)),
            Format::Text => ("text/plain; charset=utf-8", self.plain(info.id)),
        };
        let length = HeaderValue::from(body.len());
        let mut response = Response::new(Body::full(body.into()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if format == Format::Html {
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        }
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn html(&self, id: RequestId) -> String {
        let mut more = String::new();
        match &self.more {
            Details::Nothing => {}
            Details::Url(url) => {
                let url = escape(url);
                let _ = writeln!(more, "<p><a href=\"{url}\">{url}</a></p>");
            }
            Details::Failure { what, traceback } => {
                let _ = writeln!(more, "<p>{}</p>\n<pre>{}</pre>", escape(what), escape(traceback));
            }
            Details::Sites(sites) if sites.is_empty() => more.push_str("<p>No app is configured yet.</p>\n"),
            Details::Sites(sites) => {
                more.push_str("<h2>Sites on this server</h2>\n<ul>\n");
                for SiteLink { name, url } in sites.iter().take(SITES_MAX) {
                    let name = escape(name);
                    let _ = match url {
                        Some(url) => writeln!(more, "<li><a href=\"{}\">{name}</a></li>", escape(url)),
                        None => writeln!(more, "<li>{name}</li>"),
                    };
                }
                more.push_str("</ul>\n");
                if sites.len() > SITES_MAX {
                    let _ = writeln!(more, "<p>and {} more</p>", sites.len() - SITES_MAX);
                }
            }
        }
        let template = match self.more {
            Details::Failure { .. } => page!("failure"),
            Details::Nothing | Details::Sites(_) | Details::Url(_) => template(self.status),
        };
        let (id, status) = (id.to_string(), self.status.as_str());
        fill(template, &[("text", &escape(self.text)), ("more", &more), ("id", &id), ("status", status)])
    }

    fn plain(&self, id: RequestId) -> String {
        let mut page = format!("{}\n\n{}\n", self.status, self.text);
        match &self.more {
            Details::Nothing => {}
            Details::Url(url) => {
                let _ = writeln!(page, "{url}");
            }
            Details::Failure { what, traceback } => {
                let _ = writeln!(page, "{what}\n\n{traceback}");
            }
            Details::Sites(sites) if sites.is_empty() => page.push_str("No app is configured yet.\n"),
            Details::Sites(sites) => {
                page.push_str("\nSites on this server:\n");
                for SiteLink { name, url } in sites.iter().take(SITES_MAX) {
                    let _ = writeln!(page, "  {}", url.as_ref().unwrap_or(name));
                }
            }
        }
        let _ = writeln!(page, "\nRequest ID: {id}");
        page
    }

    fn json(&self, id: RequestId) -> String {
        let title = self.status.canonical_reason().unwrap_or_default();
        let mut page = format!(
            "{{\"type\":\"about:blank\",\"title\":{},\"status\":{},\"detail\":{},\"request_id\":\"{id}\"",
            quote(title),
            self.status.as_u16(),
            quote(self.text),
        );
        match &self.more {
            Details::Nothing => {}
            Details::Url(url) => {
                let _ = write!(page, ",\"url\":{}", quote(url));
            }
            Details::Failure { traceback, .. } => {
                let _ = write!(page, ",\"traceback\":{}", quote(traceback));
            }
            Details::Sites(sites) => {
                let sites = sites.iter().take(SITES_MAX).map(|it| quote(it.url.as_ref().unwrap_or(&it.name)));
                let _ = write!(page, ",\"sites\":[{}]", sites.collect::<Vec<_>>().join(","));
            }
        }
        page.push_str("}\n");
        page
    }
}

/// The template for a status, with placeholders in braces.
fn template(status: StatusCode) -> &'static str {
    match status.as_u16() {
        403 => page!("403"),
        404 => page!("404"),
        405 => page!("405"),
        408 => page!("408"),
        412 => page!("412"),
        413 => page!("413"),
        414 => page!("414"),
        416 => page!("416"),
        429 => page!("429"),
        431 => page!("431"),
        501 => page!("501"),
        502 => page!("502"),
        503 => page!("503"),
        504 => page!("504"),
        505 => page!("505"),
        400..=499 => page!("400"),
        _ => page!("500"),
    }
}

/// Replaces each `{name}` in `template`, in a single pass: inserted values aren't expanded again.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut page = String::with_capacity(template.len() + 256);
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        page.push_str(before);
        let value = from.find('}').and_then(|close| {
            let value = values.iter().find(|(name, _)| *name == &from[1..close]);
            value.map(|(_, value)| (*value, close + 1))
        });
        match value {
            Some((value, end)) => {
                page.push_str(value);
                rest = &from[end..];
            }
            None => {
                page.push('{');
                rest = &from[1..];
            }
        }
    }
    page.push_str(rest);
    page
}

/// Escapes text for HTML content and attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(char),
        }
    }
    escaped
}

/// Encodes a JSON string.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(char));
            }
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}
