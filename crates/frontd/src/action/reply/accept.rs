//! Selects the format of a built-in page by the `Accept` header (RFC 9110, section 12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

/// The format of a built-in page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// For browsers.
    Html,
    /// For programs: problem details (RFC 9457).
    Json,
    /// For all others, such as curl.
    Text,
}

/// How many media ranges are evaluated.
const RANGES_MAX: usize = 32;

impl Format {
    /// The format that the client prefers among those it lists, the first one if there is no preference. Text
    /// if it lists none of them.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().filter_map(|it| it.to_str().ok());
        let ranges = values.flat_map(|it| it.split(',')).take(RANGES_MAX);
        let mut best = (Self::Text, 0);
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let Some(format) = parts.next().and_then(Self::named) else { continue };
            let quality = parts.find_map(quality).unwrap_or(1000);
            if quality > best.1 {
                best = (format, quality);
            }
        }
        best.0
    }

    fn named(range: &str) -> Option<Self> {
        let is = |name: &str| range.eq_ignore_ascii_case(name);
        if is("text/html") || is("application/xhtml+xml") {
            Some(Self::Html)
        } else if is("application/json") || is("application/problem+json") {
            Some(Self::Json)
        } else if is("text/plain") {
            Some(Self::Text)
        } else {
            None
        }
    }
}

/// The value of a parameter like `q=0.5`, in thousandths. `None` for another parameter. An invalid number
/// disables the format.
fn quality(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, decimals) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let thousandths = format!("{decimals:0<3}").get(..3).and_then(|it| it.parse::<u16>().ok())?;
    Some(if whole == "0" { thousandths } else { 1000 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_html_programs_get_json_and_curl_gets_text() {
        for (accept, expected) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", Format::Html),
            ("application/json", Format::Json),
            ("application/json, text/plain, */*", Format::Json),
            ("Application/Problem+JSON", Format::Json),
            ("text/html;q=0.5, application/json;q=0.9", Format::Json),
            ("text/html;q=0.9;level=1, application/json ; q=0.85", Format::Html),
            ("application/json;version=2", Format::Json),
            ("text/html;q=0, */*", Format::Text),
            ("text/plain", Format::Text),
            ("*/*", Format::Text),
            ("image/webp", Format::Text),
            ("", Format::Text),
            (",;,q=1", Format::Text),
            ("text/html;q=\u{e4}", Format::Text),
        ] {
            let mut headers = HeaderMap::new();
            if let Ok(accept) = accept.parse() {
                headers.insert(ACCEPT, accept);
            }
            assert_eq!(Format::of(&headers), expected, "{accept}");
        }
        assert_eq!(Format::of(&HeaderMap::new()), Format::Text);
    }
}
