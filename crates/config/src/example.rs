//! Reads the example files as an operator would have them who takes every `#` away.

/// The text with each key that is commented out, which has no space after its `#`.
pub(crate) fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(char::is_alphabetic) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}
