//! Which action answers which paths of a site.

use crate::action::Action;

/// An action, and the paths that it answers.
#[derive(Debug)]
pub(crate) struct Rule {
    prefix: Box<str>,
    action: Action,
}

impl Rule {
    /// A rule for the path `prefix` and, if that ends with a slash, for all paths below it.
    pub(super) fn new(prefix: Box<str>, action: Action) -> Self {
        Self { prefix, action }
    }

    /// A rule for all paths.
    pub(super) fn for_all(action: Action) -> Self {
        Self::new("/".into(), action)
    }

    pub(super) fn action(&self) -> &Action {
        &self.action
    }

    /// The part of a path after the prefix, if the rule is for it.
    pub(super) fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(&*self.prefix)?;
        (rest.is_empty() || self.prefix.ends_with('/')).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::action::files::{StaticFolder, Symlinks};

    fn check(prefix: &str, path: &str, expected: Option<&str>) {
        let folder = StaticFolder::new(prefix, Path::new("/srv"), Symlinks::Inside);
        let rule = Rule::new(prefix.into(), Action::Files(Arc::new(folder)));
        assert_eq!(rule.rest(path), expected, "{path}");
    }

    #[test]
    fn a_prefix_with_a_slash_is_for_all_paths_below_it_and_another_only_for_itself() {
        check("/static/", "/static/a/b.css", Some("a/b.css"));
        check("/static/", "/static/", Some(""));
        check("/static/", "/static", None);
        check("/favicon.ico", "/favicon.ico", Some(""));
        for other in ["/favicon.icon", "/favicon.ico/", "/favicon.ico/a", "/favicon", "/"] {
            check("/favicon.ico", other, None);
        }
    }
}
