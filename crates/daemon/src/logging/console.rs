//! The format of `imperium up app.py`: the app's output as is, one line per request, and problems.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::{ACCESS, APP, Fields, NOTICE};

/// Maximum number of bytes shown of a request's target.
const LONGEST_TARGET: usize = 200;

/// What is shown unless `IMPERIUM_LOG` is set.
pub(super) fn filter() -> Targets {
    let shown = [APP, ACCESS, NOTICE].map(|target| (target, Level::INFO));
    Targets::new().with_default(Level::WARN).with_targets(shown)
}

/// The format for a developer's terminal.
pub(super) struct ConsoleLine {
    pub(super) color: bool,
}

impl<S, N> FormatEvent<S, N> for ConsoleLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        match event.metadata().target() {
            ACCESS => {
                let mut request = Request::default();
                event.record(&mut request);
                request.write(self.color, &mut out)
            }
            target => {
                let mut fields = Fields::default();
                event.record(&mut fields);
                if target == APP {
                    return writeln!(out, "{}", fields.message);
                }
                if target != NOTICE {
                    self.write_level(*event.metadata().level(), &mut out)?;
                }
                let (first, more) = fields.split();
                match self.color && target == NOTICE && *event.metadata().level() == Level::ERROR {
                    true => writeln!(out, "\x1b[31m{first}\x1b[0m{}{more}", fields.rest),
                    false => writeln!(out, "{first}{}{more}", fields.rest),
                }
            }
        }
    }
}

impl ConsoleLine {
    fn write_level(&self, level: Level, out: &mut Writer<'_>) -> fmt::Result {
        let (name, color) = super::level(level);
        let (name, process) = (name.trim_start(), super::name());
        match self.color {
            true => write!(out, "\x1b[{color}m{name}\x1b[0m {process}: "),
            false => write!(out, "{name} {process}: "),
        }
    }
}

/// The fields of a request that are shown.
#[derive(Default)]
struct Request {
    method: String,
    target: String,
    status: u64,
    milliseconds: f64,
    worker: String,
}

impl Request {
    fn write(&self, color: bool, out: &mut impl fmt::Write) -> fmt::Result {
        let Self { method, target, status, milliseconds, worker } = self;
        let end = target.floor_char_boundary(LONGEST_TARGET);
        let (shown, cut) = (&target[..end], if end < target.len() { "…" } else { "" });
        let time = match milliseconds {
            ..10.0 => format!("{milliseconds:.1} ms"),
            10.0..1000.0 => format!("{milliseconds:.0} ms"),
            _ => format!("{:.2} s", milliseconds / 1000.0),
        };
        let status_color = match status {
            ..300 => "32",
            300..400 => "36",
            400..500 => "33",
            _ => "31",
        };
        match color {
            true => writeln!(
                out,
                "\x1b[1m{method}\x1b[0m {shown}{cut} \x1b[{status_color}m{status}\x1b[0m \x1b[2m{time} {worker}\x1b[0m"
            ),
            false => writeln!(out, "{method} {shown}{cut} {status} {time} {worker}"),
        }
    }
}

impl Visit for Request {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "milliseconds" {
            self.milliseconds = value;
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "status" {
            self.status = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "target" => value.clone_into(&mut self.target),
            "worker" => value.clone_into(&mut self.worker),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "method" {
            self.method = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(status: u64, milliseconds: f64, color: bool) -> String {
        let request = Request {
            method: "GET".to_owned(),
            target: "/a?b=c".to_owned(),
            status,
            milliseconds,
            worker: "app-1".to_owned(),
        };
        let mut line = String::new();
        request.write(color, &mut line).unwrap();
        line
    }

    #[test]
    fn a_request_is_one_line() {
        assert_eq!(line(200, 0.42, false), "GET /a?b=c 200 0.4 ms app-1\n");
        assert_eq!(line(404, 12.6, false), "GET /a?b=c 404 13 ms app-1\n");
        assert_eq!(line(504, 1234.0, false), "GET /a?b=c 504 1.23 s app-1\n");
        let colored = line(500, 3.0, true);
        assert_eq!(
            colored,
            "\u{1b}[1mGET\u{1b}[0m /a?b=c \u{1b}[31m500\u{1b}[0m \u{1b}[2m3.0 ms app-1\u{1b}[0m\n"
        );
    }

    #[test]
    fn a_long_target_is_shortened() {
        let request = Request { target: "/ä".repeat(5000), ..Request::default() };
        let mut line = String::new();
        request.write(false, &mut line).unwrap();
        assert!(line.len() < LONGEST_TARGET + 30 && line.contains('…'), "{line}");
    }
}
