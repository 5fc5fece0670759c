//! Reads `.env` files, which contain environment variables.
//!
//! A line is empty, a comment that starts with `#`, or `NAME=value`, optionally after `export`. A value is
//!
//! - unquoted, up to a `#` after whitespace, with surrounding whitespace removed;
//! - in single quotes, taken literally;
//! - in double quotes, with the escapes `\n`, `\r`, `\t`, `\"`, `\\` and `\$`.
//!
//! There is no expansion: `$HOME` stays as it is. A value can't span lines. If a name occurs more than once,
//! the last value wins.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Maximum size of a file, in bytes.
const MAX_BYTES: u64 = 256 << 10;
/// Maximum number of variables in a file.
const MAX_VARIABLES: usize = 1000;

/// Why a file can't be used. Contains nothing from the file's content, which may be secret.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file can't be opened or read.
    #[error("read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the kernel, or that the content isn't UTF-8.
        error: io::Error,
    },
    /// It is a folder, a pipe or a device.
    #[error("{} isn't a file", .0.display())]
    NoFile(PathBuf),
    /// The file is too long.
    #[error("{} has more than {} KiB", .0.display(), MAX_BYTES >> 10)]
    TooLong(PathBuf),
    /// A line is invalid.
    #[error(
        "line {number} of {} {why}: write each line as NAME=value, NAME='value' or NAME=\"value\"",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The line number, starting at 1.
        number: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BadLine {
    number: usize,
    why: &'static str,
}

/// Reads the variables in the file `path`. Opening a pipe doesn't block.
///
/// # Errors
///
/// Returns an error if the file can't be read, is too long, or contains an invalid line.
pub fn read(path: &Path) -> Result<BTreeMap<String, String>, ReadError> {
    let failed = |error| ReadError::Read { path: path.to_owned(), error };
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(ReadError::NoFile(path.to_owned()));
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLong(path.to_owned()));
    }
    parse(&text).map_err(|BadLine { number, why }| ReadError::Line { path: path.to_owned(), number, why })
}

fn parse(text: &str) -> Result<BTreeMap<String, String>, BadLine> {
    let mut found = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (at, line) in text.lines().enumerate() {
        let bad = |why| BadLine { number: at + 1, why };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export").filter(|it| it.starts_with([' ', '\t'])).unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(bad("has no `=`"))?;
        let name = name.trim();
        let is_name = |it: char| it == '_' || it.is_ascii_alphanumeric();
        if name.is_empty() || name.starts_with(|it: char| it.is_ascii_digit()) || !name.chars().all(is_name) {
            return Err(bad("doesn't begin with the name of a variable"));
        }
        let value = parse_value(value.trim()).map_err(bad)?;
        if value.contains('\0') {
            return Err(bad("has a zero byte"));
        }
        if found.insert(name.to_owned(), value).is_none() && found.len() > MAX_VARIABLES {
            return Err(bad("is the 1001st variable, but only 1000 are allowed"));
        }
    }
    Ok(found)
}

fn parse_value(text: &str) -> Result<String, &'static str> {
    let (value, rest) = match text.chars().next() {
        Some('\'') => {
            let (value, rest) = text[1..].split_once('\'').ok_or("has no closing quote")?;
            (value.to_owned(), rest)
        }
        Some('"') => double_quoted(&text[1..])?,
        _ => {
            let comment = text
                .char_indices()
                .zip(text.chars().skip(1))
                .find(|((_, a), b)| a.is_whitespace() && *b == '#');
            let end = comment.map_or(text.len(), |((at, _), _)| at);
            let value = if text.starts_with('#') { "" } else { text[..end].trim_end() };
            return Ok(value.to_owned());
        }
    };
    match rest.trim_start() {
        rest if rest.is_empty() || rest.starts_with('#') => Ok(value),
        _ => Err("has text after the closing quote"),
    }
}

fn double_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match rest.next().map(|it| it.1) {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(c @ ('"' | '\\' | '$')) => c,
                Some(_) => return Err("has an unsupported escape sequence"),
                None => return Err("has no closing quote"),
            }),
            c => value.push(c),
        }
    }
    Err("has no closing quote")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (line, expected) in [
            ("A=b", "b"),
            ("export A=b", "b"),
            ("  A = b c  # comment", "b c"),
            ("A=b#c", "b#c"),
            ("A=", ""),
            ("A=# comment", ""),
            ("A='b # \\n \"c\"' # comment", "b # \\n \"c\""),
            ("A=\"b\\n\\\"\\$HOME\\\\\"", "b\n\"$HOME\\"),
            ("A=$HOME", "$HOME"),
            ("A=a=b==", "a=b=="),
            ("A=é", "é"),
            ("A=1\nA=2", "2"),
            ("\u{feff}# comment\r\n\r\nA=b\r\n", "b"),
        ] {
            assert_eq!(parse(line).unwrap()["A"], expected, "{line}");
        }
        assert!(parse("\n# A=b\n").unwrap().is_empty());
    }

    #[test]
    fn an_invalid_line_is_reported_by_number_without_its_text() {
        for (text, why) in [
            ("A=b\nsecret", "line 2 has no `=`"),
            ("1A=secret", "line 1 doesn't begin with the name of a variable"),
            ("A B=secret", "line 1 doesn't begin with the name of a variable"),
            ("=secret", "line 1 doesn't begin with the name of a variable"),
            ("A='secret", "line 1 has no closing quote"),
            ("A=\"secret\\\"", "line 1 has no closing quote"),
            ("A=\"secret\\x\"", "line 1 has an unsupported escape sequence"),
            ("A='secret'x", "line 1 has text after the closing quote"),
            ("A=secret\0", "line 1 has a zero byte"),
        ] {
            let BadLine { number, why: message } = parse(text).unwrap_err();
            assert_eq!(format!("line {number} {message}"), why);
        }
    }

    #[test]
    fn files_are_bounded_and_pipes_do_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        let message = || read(&path).unwrap_err().to_string();
        assert!(message().contains(".env: No such file"), "{}", message());
        assert!(read(folder.path()).unwrap_err().to_string().ends_with(" isn't a file"));
        std::fs::write(&path, "A=".to_owned() + &"b".repeat(300_000)).unwrap();
        assert!(message().ends_with("has more than 256 KiB"), "{}", message());
        std::fs::write(&path, (0..=MAX_VARIABLES).map(|it| format!("A{it}=\n")).collect::<String>()).unwrap();
        assert!(
            message().contains("line 1001 of ") && message().contains(" is the 1001st variable"),
            "{}",
            message()
        );
        std::fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        assert!(message().ends_with(" isn't a file"), "{}", message());
    }
}
