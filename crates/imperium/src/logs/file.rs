//! Reads the log file of `imperium up`, across its rotations.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use daemon::logging::copy::previous;

/// Follows a file that grows.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    file: BufReader<File>,
    /// An incomplete last line.
    begun: Vec<u8>,
}

impl Tail {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: BufReader::new(File::open(path)?), begun: Vec::new() })
    }

    /// Returns the last `count` lines that `lines` selects, from the rotated file too.
    pub(super) fn last(&mut self, count: usize, lines: &mut Lines<'_>) -> io::Result<String> {
        let previous = fs::read(previous(&self.path)).unwrap_or_default();
        let previous =
            previous.split_inclusive(|it| *it == b'\n').map(|it| String::from_utf8_lossy(it).into_owned());
        let mut shown = VecDeque::new();
        for line in previous.chain(self.more()?) {
            shown.extend(lines.shown(&line));
            if shown.len() > count {
                shown.pop_front();
            }
        }
        Ok(shown.into_iter().collect())
    }

    /// Returns the complete lines that were added since the last call.
    pub(super) fn more(&mut self) -> io::Result<Vec<String>> {
        let is_former = fs::metadata(&self.path)
            .is_ok_and(|it| self.file.get_ref().metadata().is_ok_and(|this| this.ino() != it.ino()));
        let mut found = self.rest()?;
        if is_former {
            self.file = BufReader::new(File::open(&self.path)?);
            found.extend(self.rest()?);
        }
        Ok(found)
    }

    fn rest(&mut self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        while self.file.read_until(b'\n', &mut self.begun)? > 0 && self.begun.ends_with(b"\n") {
            found.push(String::from_utf8_lossy(&self.begun).into_owned());
            self.begun.clear();
        }
        Ok(found)
    }
}

/// Selects lines in sequence.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    app: Option<&'a str>,
    colors: bool,
    /// Whether the last line that started an event was selected. Lines that follow it, such as a traceback,
    /// belong to it.
    shows: bool,
    /// Whether an event was about the app.
    has_named_app: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn new(app: Option<&'a str>, colors: bool) -> Self {
        Self { app, colors, shows: true, has_named_app: false }
    }

    /// Whether any event so far was about the app that was asked for.
    pub(super) fn have_named_app(&self) -> bool {
        self.has_named_app
    }

    /// Returns the line as it is printed, or None if it isn't selected.
    pub(super) fn shown(&mut self, line: &str) -> Option<String> {
        let plain = plain(line);
        if let Some(app) = self.app
            && let Some(begin) = concerns(&plain, app)
        {
            self.shows = begin;
            self.has_named_app |= begin;
        }
        self.shows.then(|| if self.colors { line.to_owned() } else { plain })
    }
}

/// Whether an event is about an app. None for lines that don't start an event or name no process, such as all
/// lines of `imperium up APP`.
fn concerns(line: &str, app: &str) -> Option<bool> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let is_level = |it: &&str| matches!(*it, "ERROR" | "WARN" | "INFO" | "DEBUG" | "TRACE");
    words.next().filter(is_level)?;
    let process = words.next()?.strip_suffix(':')?;
    let is_worker = |it: &str| {
        it.strip_prefix(app).and_then(|it| it.strip_prefix('-')).is_some_and(|number| {
            number == "template" || !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit())
        })
    };
    let names = |word: &str| {
        word.strip_prefix("app=") == Some(app) || word.strip_prefix("worker=").is_some_and(is_worker)
    };
    Some(is_worker(process) || words.any(names))
}

/// Removes ANSI colours: `ESC [ … m`.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after
            .trim_start_matches(|c: char| c.is_ascii_digit() || c == ';')
            .strip_prefix('m')
            .unwrap_or(after);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const LOG: &str = "\
2026-11-27T20:00:00.000Z  INFO emperord: worker is ready worker=blog-1\n\
2026-11-27T20:00:00.000Z \u{1b}[31mERROR\u{1b}[0m shop-1: the app raised an exception path=/\n\
Traceback (most recent call last):\n\
2026-11-27T20:00:00.000Z  INFO blog-1: hello\n\
2026-11-27T20:00:00.000Z  WARN frontd: a request was not served app=shop\n";

    fn shown(app: Option<&str>) -> String {
        let mut lines = Lines::new(app, false);
        LOG.split_inclusive('\n').filter_map(|it| lines.shown(it)).collect()
    }

    #[test]
    fn lines_of_an_app_include_its_tracebacks() {
        assert_eq!(shown(None), plain(LOG));
        let lines: Vec<_> = plain(LOG).lines().map(str::to_owned).collect();
        assert_eq!(shown(Some("shop")).lines().collect::<Vec<_>>(), [&lines[1], &lines[2], &lines[4]]);
        assert_eq!(shown(Some("blog")).lines().collect::<Vec<_>>(), [&lines[0], &lines[3]]);
        for (app, named) in [("blog", true), ("shop", true), ("other", false)] {
            let mut lines = Lines::new(Some(app), false);
            LOG.lines().for_each(|it| drop(lines.shown(it)));
            assert_eq!(lines.have_named_app(), named, "{app}");
        }
        // Lines that a development server logs name no process.
        let mut alone = Lines::new(Some("app"), false);
        assert_eq!(alone.shown("GET / 200 1.0 ms app-1\n").as_deref(), Some("GET / 200 1.0 ms app-1\n"));
    }

    #[test]
    fn new_lines_are_read_across_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let add = |text: &str| {
            let mut file = File::options().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        fs::write(previous(&path), "1\n2\n").unwrap();
        add("3\n4\nbeg");
        let mut lines = Lines::new(None, false);
        let mut tail = Tail::open(&path).unwrap();
        assert_eq!(tail.last(3, &mut lines).unwrap(), "2\n3\n4\n");
        assert_eq!(tail.more().unwrap(), Vec::<String>::new());
        add("un\n5\n");
        fs::rename(&path, previous(&path)).unwrap();
        add("6\n");
        assert_eq!(tail.more().unwrap(), ["begun\n", "5\n", "6\n"]);
    }
}
