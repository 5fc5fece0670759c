//! Logs to stderr, one line per event: `2026-11-22T20:56:41.123Z  INFO frontd: listening address=[::]:443`.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::fmt;
use std::io::{self, Write};
use std::panic;
use std::str::FromStr;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

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

mod console;
pub mod copy;
pub mod output;

/// The target for the output of an app.
pub const APP: &str = "app";
/// The target for the access log.
pub const ACCESS: &str = "access";
/// The target for information that a person at a terminal needs although nothing is wrong.
pub const NOTICE: &str = "notice";

/// How long a process waits for its log to be read before it exits.
const EXIT_FLUSH: Duration = Duration::from_secs(1);
/// How long a panic waits for it, since it may end the process.
const PANIC_FLUSH: Duration = Duration::from_millis(100);

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line, for programs.
    Json,
    /// For a developer's terminal: the app's raw output, its requests, and problems.
    Console,
}

impl Format {
    /// The name, as in `--log-format`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Console => "console",
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "console" => Ok(Self::Console),
            _ => Err(format!("log format `{text}` must be `text`, `json` or `console`")),
        }
    }
}

/// The name and the format of this process's log. Not behind locks, which would be dangerous in a forked
/// process.
static NAME: OnceLock<String> = OnceLock::new();
static NEW_NAME: OnceLock<String> = OnceLock::new();
static FORMAT: OnceLock<Format> = OnceLock::new();

/// Changes the name that this process logs under, after a fork. Only the first call has an effect.
pub fn rename(name: &str) {
    NEW_NAME.get_or_init(|| name.to_owned());
}

fn name() -> &'static str {
    NEW_NAME.get().or_else(|| NAME.get()).map_or("", String::as_str)
}

/// Flushes the log when dropped. To be held by `main`.
#[derive(Debug)]
#[must_use]
pub struct LogGuard(());

impl Drop for LogGuard {
    fn drop(&mut self) {
        flush();
    }
}

/// Waits until all lines are written, for up to one second. For use at the end of a process.
pub fn flush() {
    flush_for(EXIT_FLUSH);
}

fn flush_for(limit: Duration) {
    output::flush(limit);
    copy::flush(limit);
}

/// Sends the logs of this process to stderr, under `name`, and logs panics. `IMPERIUM_LOG` selects what is
/// logged, as in `info,frontd=debug,h2=off`. The default is `info` and above, and `warn` and above in the
/// console format, which also shows requests and the app's output.
///
/// Only the first call has an effect.
pub fn init(name: &str, format: Format) -> LogGuard {
    copy::keep_from_env();
    NAME.get_or_init(|| name.to_owned());
    FORMAT.get_or_init(|| format);
    let wanted = env::var("IMPERIUM_LOG").ok().and_then(|it| it.parse().ok());
    // `EnvFilter` also supports spans and fields, but would add a regular expression engine to every process.
    let filter = wanted.unwrap_or_else(|| match format {
        Format::Text | Format::Json => Targets::new().with_default(Level::INFO),
        Format::Console => console::filter(),
    });
    let events = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Line(Vec::new()));
    let _already = match format {
        Format::Text => {
            let line = TextLine { color: has_color(&io::stderr()) };
            events.with(lines.event_format(line)).try_init()
        }
        Format::Console => {
            let line = console::ConsoleLine { color: has_color(&io::stderr()) };
            events.with(lines.event_format(line)).try_init()
        }
        Format::Json => events.with(lines.json().flatten_event(true).with_current_span(true)).try_init(),
    };
    panic::set_hook(Box::new(log_panic));
    LogGuard(())
}

/// Whether to use colors: on a terminal, unless `NO_COLOR` is set to a non-empty value
/// (<https://no-color.org>).
pub fn has_color(stream: &impl io::IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

/// Replaces the standard library's panic hook, which blocks until stderr is read.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let message = panic.payload_as_str().unwrap_or("no message");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(thread, location, "panic: {message}\n{backtrace}"),
        _ => tracing::error!(thread, location, "panic: {message}"),
    }
    flush_for(PANIC_FLUSH);
}

/// The line that reports dropped lines. Written by hand, since `tracing` takes locks.
pub(crate) fn dropped_line(lines: u64) -> Vec<u8> {
    report_line(lines, "lines of the log were dropped because nothing read it")
}

/// Like `dropped_line`, for the file that `imperium logs` reads.
fn missing_line(lines: u64) -> Vec<u8> {
    report_line(lines, "lines of the log are missing here because the disk was slow")
}

fn report_line(lines: u64, what: &str) -> Vec<u8> {
    let time = OffsetDateTime::now_utc().format(TIME).unwrap_or_default();
    let name = name();
    match FORMAT.get().copied().unwrap_or_default() {
        Format::Text | Format::Console => format!("{time}  WARN {name}: {lines} {what}\n"),
        Format::Json => format!(
            "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"{lines} {what}\",\"lines\":{lines},\
             \"target\":\"daemon::logging\"}}\n"
        ),
    }
    .into_bytes()
}

/// Buffers one event and writes it in one go, so that lines of threads and processes with the same stderr
/// don't mix.
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
        copy::write(&self.0);
        output::stderr().write(std::mem::take(&mut self.0));
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
        let (level, color) = level(*event.metadata().level());
        let name = name();
        match self.color {
            true => write!(out, "\x1b[2m{time}\x1b[0m \x1b[{color}m{level}\x1b[0m {name}: ")?,
            false => write!(out, "{time} {level} {name}: ")?,
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (first, more) = fields.split();
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

/// The name and the color of a level (ECMA-48, section 8.3.117).
fn level(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::ERROR => ("ERROR", "31"),
        Level::WARN => (" WARN", "33"),
        Level::INFO => (" INFO", "32"),
        Level::DEBUG => ("DEBUG", "34"),
        Level::TRACE => ("TRACE", "35"),
    }
}

/// The fields of an event, with the message separately.
#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    /// Splits the message after its first line. What follows is a traceback, or the output of an app.
    fn split(&self) -> (&str, &str) {
        self.message.split_at(self.message.find('\n').unwrap_or(self.message.len()))
    }
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
