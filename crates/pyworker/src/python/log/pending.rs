//! Joins what one thread prints into events: lines, and the lines of a traceback.

/// How much incomplete text is kept, in bytes.
pub(super) const LIMIT: usize = 64 << 10;

/// The start of a traceback, and what Python prints before those of uncaught exceptions.
const TRACEBACK: &str = "Traceback (most recent call last):";
const PREFACES: [&str; 2] = ["Exception in thread ", "Exception ignored in"];
/// What Python prints between chained exceptions.
const LINKS: [&str; 2] =
    ["During handling of the above exception", "The above exception was the direct cause"];

/// Text that isn't an event yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    text: Vec<u8>,
    /// Whether `tick` has seen it since text was added.
    is_old: bool,
}

/// How much of an event a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// More will follow.
    Part,
    /// A whole traceback, which another one may follow.
    Traceback,
    /// Whole lines.
    Lines,
}

impl Pending {
    /// Adds what was written in one call, and returns the events that are complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut events = Vec::new();
        if self.extent() == Extent::Traceback && !goes_on(bytes) {
            events.extend(self.settle());
        }
        let is_first = self.text.is_empty();
        self.text.extend_from_slice(bytes);
        self.is_old = false;
        let is_whole = match self.extent() {
            Extent::Lines => true,
            // Python writes chained exceptions together.
            Extent::Traceback => is_first,
            Extent::Part => self.text.len() > LIMIT,
        };
        if is_whole {
            events.extend(self.settle());
        }
        events
    }

    /// Returns the text, complete or not. None if it is blank.
    pub(super) fn settle(&mut self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.text).trim_end().to_owned();
        self.text.clear();
        Some(text).filter(|it| !it.is_empty())
    }

    /// Like `settle`, unless the last line is incomplete.
    pub(super) fn settle_lines(&mut self) -> Option<String> {
        if self.text.ends_with(b"\n") { self.settle() } else { None }
    }

    /// Returns text that nothing was added to since the last tick. An incomplete line is kept.
    pub(super) fn tick(&mut self) -> Option<String> {
        if std::mem::replace(&mut self.is_old, true) { self.settle_lines() } else { None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    fn extent(&self) -> Extent {
        if !self.text.ends_with(b"\n") {
            return Extent::Part;
        }
        let text = String::from_utf8_lossy(&self.text);
        let mut extent = Extent::Lines;
        for line in text.lines() {
            let begins = line == TRACEBACK || PREFACES.iter().any(|it| line.starts_with(it));
            if begins || extent == Extent::Traceback && LINKS.iter().any(|it| line.starts_with(it)) {
                extent = Extent::Part;
            } else if extent == Extent::Part && !line.is_empty() && !line.starts_with(' ') {
                extent = Extent::Traceback;
            }
        }
        extent
    }
}

/// Whether the text may belong to the preceding exception.
fn goes_on(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    text.is_empty() || LINKS.iter().any(|it| text.starts_with(it.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &str = "  File \"a.py\", line 1, in f\n    g()\n";
    const LINK: &str = "\nDuring handling of the above exception, another exception occurred:\n\n";

    #[test]
    fn related_lines_are_one_event() {
        let traceback = format!("{TRACEBACK}\n{FRAME}ValueError: x");
        let both = format!("{traceback}\n{LINK}{TRACEBACK}\n{FRAME}KeyError: y");
        let (begin, thread) = (format!("{TRACEBACK}\n"), format!("Exception in thread T:\n{traceback}"));
        for (writes, expected) in [
            (&["one\n"][..], &["one"][..]),
            (&["one", "\n"], &["one"]),
            (&["one\ntwo\n"], &["one\ntwo"]),
            (&["one\ntwo", "\n"], &["one\ntwo"]),
            (&["one\n", "two\n"], &["one", "two"]),
            (&["\n", " \n"], &[]),
            (&["  indented\r\n"], &["  indented"]),
            (&[&format!("{traceback}\n")], &[&traceback]),
            (&[&format!("failed\n{both}\n"), "next\n"], &[&format!("failed\n{both}"), "next"]),
            (&[&begin, FRAME, "ValueError: x\n", "next\n"], &[&traceback, "next"]),
            (
                &[&begin, FRAME, "ValueError: x\n", LINK, &begin, FRAME, "KeyError: y\n", "next\n"],
                &[&both, "next"],
            ),
            (
                &[&begin, FRAME, "ValueError: x\n", &begin, FRAME, "ValueError: x\n", "."],
                &[&traceback, &traceback],
            ),
            (&["Exception in thread T:\n", &begin, FRAME, "ValueError: x\n", "next\n"], &[&thread, "next"]),
        ] {
            let mut pending = Pending::default();
            let got: Vec<_> = writes.iter().flat_map(|it| pending.push(it.as_bytes())).collect();
            assert_eq!(got, expected, "{writes:?}");
        }
    }

    #[test]
    fn a_complete_traceback_is_logged_after_a_tick_but_not_an_incomplete_line() {
        let mut pending = Pending::default();
        for write in [TRACEBACK, "\n", FRAME] {
            assert!(pending.push(write.as_bytes()).is_empty());
        }
        assert_eq!(pending.tick(), None);
        assert!(pending.push(b"ValueError: x\n").is_empty());
        assert_eq!(pending.tick(), None);
        assert!(pending.tick().is_some_and(|it| it.ends_with("ValueError: x")));
        assert!(pending.push(b"a line").is_empty());
        assert_eq!((pending.tick(), pending.tick()), (None, None));
        assert_eq!(pending.settle().as_deref(), Some("a line"));
        assert!(pending.is_empty());
    }

    #[test]
    fn endless_text_is_bounded() {
        let mut pending = Pending::default();
        let half = vec![b'x'; LIMIT / 2 + 1];
        assert!(pending.push(&half).is_empty());
        assert_eq!(pending.push(&half).concat().len(), 2 * half.len());
    }
}
