//! The tests that were skipped, with the reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Packages and names of tests, by reason.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Skipped<'a>(BTreeMap<&'a str, BTreeSet<(&'a str, &'a str)>>);

impl<'a> Skipped<'a> {
    /// Parses the output of [`skip::record`].
    pub(crate) fn parse(text: &'a str) -> Self {
        let mut skipped = BTreeMap::new();
        for line in text.lines() {
            if let [package, test, reason] = *line.splitn(3, '\t').collect::<Vec<_>>() {
                skipped.entry(reason).or_insert_with(BTreeSet::new).insert((package, test));
            }
        }
        Self(skipped)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them was skipped only because it didn't run as root.
    pub(crate) fn needs_root(&self) -> bool {
        self.0.contains_key(skip::NEEDS_ROOT)
    }

    /// The names of all tests.
    pub(crate) fn tests(&self) -> impl Iterator<Item = &'a str> {
        self.all().map(|(_, test)| test)
    }

    /// A nextest filter for all tests.
    pub(crate) fn filter(&self) -> String {
        let each = self.all().map(|(package, test)| format!("(package(={package}) & test(={test}))"));
        each.collect::<Vec<_>>().join(" | ")
    }

    fn all(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.values().flatten().copied()
    }
}

impl fmt::Display for Skipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.all().count() {
            0 => f.write_str("no test"),
            1 => f.write_str("1 test"),
            count => write!(f, "{count} tests"),
        }?;
        for (reason, tests) in &self.0 {
            write!(f, "\n  {reason}:")?;
            tests.iter().try_for_each(|(package, test)| write!(f, "\n    {package} {test}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "b\tm::one\tneeds root\na\tm::two\tneeds root\nb\tm::one\tneeds root\na\tthree\tno fuse\n";

    #[test]
    fn each_test_is_listed_once_below_its_reason() {
        let actual = Skipped::parse(TEXT).to_string();
        assert_eq!(actual, "3 tests\n  needs root:\n    a m::two\n    b m::one\n  no fuse:\n    a three");
        assert_eq!(Skipped::parse("").to_string(), "no test");
    }

    #[test]
    fn tests_that_need_root_are_distinguished() {
        assert!(Skipped::parse(TEXT).needs_root());
        assert!(!Skipped::parse("a\tthree\tneeds root and /dev/fuse\n").needs_root());
    }

    #[test]
    fn skipped_tests_can_be_selected() {
        let skipped = Skipped::parse(TEXT);
        assert_eq!(skipped.tests().collect::<Vec<_>>(), ["m::two", "m::one", "three"]);
        let filter =
            "(package(=a) & test(=m::two)) | (package(=b) & test(=m::one)) | (package(=a) & test(=three))";
        assert_eq!(skipped.filter(), filter);
    }
}
