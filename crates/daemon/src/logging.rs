//! Logs to stderr, a line an event: `2026-11-22T20:56:41.123Z  INFO frontd: listening address=[::]:443`.

use std::env;
use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::str::FromStr;
use std::sync::{PoisonError, RwLock};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// A JSON object a line, for machines.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("log format `{text}` is neither `text` nor `json`")),
        }
    }
}

/// What this process is called in its logs.
static NAME: RwLock<String> = RwLock::new(String::new());

/// This process logs under another name from here on: it was forked, and is another one.
pub fn rename(name: &str) {
    name.clone_into(&mut NAME.write().unwrap_or_else(PoisonError::into_inner));
}

/// Logs of this process go to stderr from here on, under `name`. `IMPERIUM_LOG` chooses what is logged, as in
/// `info,frontd=debug,h2=off`; without it, all from `info` up.
///
/// A second call changes nothing.
pub fn init(name: &str, format: Format) {
    rename(name);
    let wanted = env::var("IMPERIUM_LOG").ok().and_then(|it| it.parse().ok());
    // `EnvFilter` knows spans and fields too, and has an engine of regular expressions in every process for it.
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(Level::INFO));
    let events = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Line(Vec::new()));
    let _already = match format {
        Format::Text => {
            let line = TextLine { color: io::stderr().is_terminal() };
            events.with(lines.event_format(line)).try_init()
        }
        Format::Json => events.with(lines.json().flatten_event(true).with_current_span(true)).try_init(),
    };
}

/// Collects one event and writes it with one call, so that the lines of processes that share a stderr
/// do not mix.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _nobody_left_to_tell = io::stderr().lock().write_all(&self.0);
    }
}

/// The text format.
struct TextLine {
    color: bool,
}

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let time = OffsetDateTime::now_utc().format(TIME).map_err(|_| fmt::Error)?;
        let (level, color) = match *event.metadata().level() {
            Level::ERROR => ("ERROR", "31"),
            Level::WARN => (" WARN", "33"),
            Level::INFO => (" INFO", "32"),
            Level::DEBUG => ("DEBUG", "34"),
            Level::TRACE => ("TRACE", "35"),
        };
        let name = NAME.read().unwrap_or_else(PoisonError::into_inner);
        match self.color {
            true => write!(out, "\x1b[2m{time}\x1b[0m \x1b[{color}m{level}\x1b[0m {name}: ")?,
            false => write!(out, "{time} {level} {name}: ")?,
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        // The first line says what it is about; what follows is a traceback, or what an app printed.
        let (first, more) =
            fields.message.split_at(fields.message.find('\n').unwrap_or(fields.message.len()));
        out.write_str(first)?;
        out.write_str(&fields.rest)?;
        for span in ctx.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                write!(out, " {fields}")?;
            }
        }
        writeln!(out, "{more}")
    }
}

/// The fields of one event, the message apart.
#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        use fmt::Write as _;
        let _infallible = match field.name() {
            "message" => write!(self.message, "{value}"),
            name if value.contains([' ', '"', '\n', '=']) || value.is_empty() => {
                write!(self.rest, " {name}={value:?}")
            }
            name => write!(self.rest, " {name}={value}"),
        };
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        let _infallible = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.rest, " {name}={value:?}"),
        };
    }
}
