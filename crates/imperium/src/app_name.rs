//! Derives the name of an app from a file, a module or a folder.

use api::VassalName;

/// Converts `text` to a valid app name: other characters become `-`. Returns `app` if nothing is left.
pub(crate) fn app_name(text: &str) -> Option<VassalName> {
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_');
    let plain = text.to_lowercase().replace(|c| !allowed(c), "-");
    let name: String = plain.trim_start_matches(['-', '_']).chars().take(64).collect();
    VassalName::parse(if name.is_empty() { "app" } else { &name }).ok()
}
