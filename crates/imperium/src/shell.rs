//! Quotes words of the commands that messages suggest.

use std::borrow::Cow;

/// Returns the word as a POSIX shell has to be given it.
pub(crate) fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "_./:-".contains(it);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_the_quoted_word() {
        assert_eq!(quoted("/srv/blog-2/app.py:create_app"), "/srv/blog-2/app.py:create_app");
        assert_eq!(quoted("web:create_app()"), "'web:create_app()'");
        for word in ["", "my site", "web:create_app(\"a\", b='c')", "$HOME", "~", "a\nb", "ä;b", "it's"] {
            let script = format!("printf %s {}", quoted(word));
            let output = Command::new("sh").arg("-c").arg(&script).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word, "{script}");
        }
    }
}
