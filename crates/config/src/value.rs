//! Parses values in notations for people: durations, sizes, addresses, paths.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml_edit::Value;

use crate::diagnostics::Wrong;

/// Parses a string.
///
/// # Errors
///
/// Returns an error if the value isn't a string, or contains a zero byte.
pub fn text(value: &Value) -> Result<&str, Wrong> {
    match value.as_str() {
        Some(text) if text.contains('\0') => Err(Wrong::new("must not contain a zero byte")),
        Some(text) => Ok(text),
        None => {
            let hint = format!("write \"{}\"", value.to_string().trim());
            let wrong = Wrong::new(format!("must be a string, not {}", kind(value)));
            Err(if is_scalar(value) { wrong.hint(hint) } else { wrong })
        }
    }
}

/// Describes why a secret value isn't a valid string, as in [`text`], without showing it.
pub(crate) fn secret(value: &Value) -> Wrong {
    match value.as_str() {
        Some(_) => Wrong::new("must not contain a zero byte"),
        None => {
            Wrong::new(format!("must be a string, not {}", kind(value))).hint("write the value in quotes")
        }
    }
}

/// Parses `true` or `false`.
///
/// # Errors
///
/// Returns an error if the value is anything else.
pub fn boolean(value: &Value) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| {
        let wrong = Wrong::new(format!("must be true or false, not {}", shown(value)));
        match value.as_str() {
            Some(text @ ("true" | "false")) => wrong.hint(format!("write {text} without quotes")),
            _ => wrong,
        }
    })
}

/// Parses a percentage in a range, such as `"10%"`.
pub fn percent<T: TryFrom<u32>>(bounds: RangeInclusive<u32>) -> impl FnOnce(&Value) -> Result<T, Wrong> {
    move |value| {
        let parsed = value.as_str().and_then(|text| text.trim().strip_suffix('%')?.trim_end().parse().ok());
        let percent = parsed.filter(|percent| bounds.contains(percent)).and_then(|it| T::try_from(it).ok());
        percent.ok_or_else(|| {
            let (min, max) = (bounds.start(), bounds.end());
            Wrong::new(format!("must be a percentage from {min}% to {max}%, not {}", shown(value)))
                .hint("write for example \"10%\"")
        })
    }
}

/// Parses a whole number in a range.
pub fn integer<T: TryFrom<i64>>(bounds: RangeInclusive<i64>) -> impl FnOnce(&Value) -> Result<T, Wrong> {
    move |value| {
        let wrong = || {
            let (min, max) = (bounds.start(), bounds.end());
            let quoted = value.as_str().and_then(|text| text.trim().parse::<i64>().ok());
            let wrong =
                Wrong::new(format!("must be a whole number from {min} to {max}, not {}", shown(value)));
            match quoted {
                Some(number) => wrong.hint(format!("write {number} without quotes")),
                None => wrong,
            }
        };
        let number = value.as_integer().filter(|number| bounds.contains(number)).ok_or_else(wrong)?;
        T::try_from(number).map_err(|_| wrong())
    }
}

/// Parses a duration in a range, such as `"30s"`. A number without a unit is seconds.
pub fn duration(bounds: RangeInclusive<Duration>) -> impl FnOnce(&Value) -> Result<Duration, Wrong> {
    move |value| {
        let parsed = match value {
            Value::String(text) => quantity(text.value(), DURATIONS),
            other => number(other).map(|seconds| seconds * 1000.0),
        };
        let milliseconds = parsed.ok_or_else(|| {
            Wrong::new(format!("must be a duration, not {}", shown(value))).hint(
                "write for example \"30s\", \"500ms\", \"2m\" or \"1h\"; a number without a unit is seconds",
            )
        })?;
        let duration = Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or(Duration::MAX);
        if bounds.contains(&duration) {
            return Ok(duration);
        }
        let (min, max) = (show_duration(*bounds.start()), show_duration(*bounds.end()));
        Err(Wrong::new(format!("must be from {min} to {max}, not {}", shown(value))))
    }
}

/// Parses a size in a range, in bytes, such as `"300 MB"` or `"64 KiB"`. A number without a unit is bytes.
pub fn size(bounds: RangeInclusive<u64>) -> impl FnOnce(&Value) -> Result<u64, Wrong> {
    move |value| {
        let parsed = match value {
            Value::String(text) => quantity(text.value(), SIZES),
            other => number(other),
        };
        let bytes = parsed.ok_or_else(|| {
            Wrong::new(format!("must be a size, not {}", shown(value)))
                .hint("write for example \"300 MB\" or \"64 KiB\"; a number without a unit is bytes")
        })?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates, then come the bounds"
        )]
        let bytes = bytes.round() as u64;
        if bounds.contains(&bytes) {
            return Ok(bytes);
        }
        let (min, max) = (show_size(*bounds.start()), show_size(*bounds.end()));
        Err(Wrong::new(format!("must be from {min} to {max}, not {}", shown(value))))
    }
}

/// Parses a path. Relative paths start from `folder`.
pub fn path(folder: PathBuf) -> impl Fn(&Value) -> Result<PathBuf, Wrong> {
    move |value| match text(value)? {
        "" => Err(Wrong::new("must not be empty").hint("write \".\" for the folder of this file")),
        text if text == "~" || text.starts_with("~/") => {
            Err(Wrong::new("begins with `~`, which is only expanded by shells").hint("write the whole path"))
        }
        text => Ok(folder.join(text).components().filter(|part| part.as_os_str() != ".").collect()),
    }
}

/// Parses an address to listen on.
///
/// # Errors
///
/// Returns an error if it isn't an IP address with a port.
pub fn address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok()).unwrap_or("8080");
        Wrong::new(format!("must be an IP address with a port, not \"{text}\"")).hint(format!(
            "write \"[::]:{port}\" to listen on all interfaces, \"127.0.0.1:{port}\" for this machine only"
        ))
    })
}

/// The units of a duration, in milliseconds.
pub const DURATIONS: &[(&str, f64)] =
    &[("ms", 1.0), ("s", 1e3), ("m", 60e3), ("min", 60e3), ("h", 3600e3), ("d", 86_400e3)];

/// The units of a size, in bytes.
pub const SIZES: &[(&str, f64)] = &[
    ("B", 1.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
];

/// Parses a number with a unit, in the smallest of the units.
fn quantity(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    Some(number.parse::<f64>().ok()? * factor)
}

#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 it is out of all bounds")]
fn number(value: &Value) -> Option<f64> {
    value.as_integer().map(|it| it as f64).or(value.as_float()).filter(|it| *it >= 0.0)
}

fn is_scalar(value: &Value) -> bool {
    !value.is_array() && !value.is_inline_table()
}

/// How an error shows a value: the value itself if it is short, otherwise its kind.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    let text = text.trim();
    if is_scalar(value) && text.chars().count() <= 40 { text.to_owned() } else { kind(value).to_owned() }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a float",
        Value::Boolean(_) => "a boolean",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "an array",
        Value::InlineTable(_) => "a table",
    }
}

/// Formats a duration for people, such as `30s`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let unit = units.iter().find(|(factor, _)| milliseconds > 0 && milliseconds.is_multiple_of(*factor));
    unit.map_or("0s".to_owned(), |(factor, name)| format!("{}{name}", milliseconds / factor))
}

/// Formats a size for people, such as `64 KiB`.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let units: [(u64, &str); 9] = [
        (1 << 40, "TiB"),
        (1_000_000_000_000, "TB"),
        (1 << 30, "GiB"),
        (1_000_000_000, "GB"),
        (1 << 20, "MiB"),
        (1_000_000, "MB"),
        (1 << 10, "KiB"),
        (1000, "kB"),
        (1, "B"),
    ];
    let unit = units.iter().find(|(factor, _)| bytes > 0 && bytes.is_multiple_of(*factor));
    unit.map_or("0 B".to_owned(), |(factor, name)| format!("{} {name}", bytes / factor))
}

#[cfg(test)]
mod tests;
