//! What only a running emperord knows of the apps' files: what the machine refuses, such as limits without a cgroup.

use std::path::Path;

use api::admin::App;
use config::{EmperordConfig, Layout, Problem};
use vassal::Vassal;

use super::WORKERD;
use crate::admin::{self, block_on};

/// The apps that emperord runs; None if none runs for `layout`.
pub(super) fn apps(layout: &Layout) -> Option<Vec<App>> {
    let socket = EmperordConfig::load(layout, WORKERD.as_ref()).ok()?.socket;
    Some(block_on(admin::status(&socket)).ok()?.ok()?.apps)
}

/// Why emperord refuses a file without mistakes, if it does.
pub(super) fn refusal(vassal: &Vassal, apps: &[App]) -> Option<Problem> {
    let file = vassal.file.display().to_string();
    let app = apps.iter().find(|it| it.name == vassal.name.as_str() && it.file == file)?;
    // What is said of a line was found here, or the file has changed since.
    let why = app.last_error.lines().find_map(|it| it.strip_prefix(&file)?.strip_prefix(": "))?;
    Some(Problem::of_file(&vassal.file, format!("emperord refuses it: {why}")))
}

/// Whether it depends on emperord's cgroup if the limits of an app can be set, which only emperord can tell.
pub(super) fn has_unknown_limits(vassal: &Vassal, layout: &Layout) -> bool {
    let is_limited = vassal.confinement.memory.is_some() || vassal.confinement.cpu.is_some();
    // The system's workers are units of systemd, which sets any limit.
    let is_systemds = *layout == Layout::system() && Path::new("/run/systemd/system").is_dir();
    is_limited && !is_systemds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vassal() -> Vassal {
        let text = "domains = ['a.example']\napp = 'a'\ndirectory = '/'\nlimits = { memory = '100 MB' }\n";
        Vassal::parse(Path::new("/r/vassals/blog.toml"), text).unwrap()
    }

    #[test]
    fn only_what_is_said_of_the_file_as_a_whole_is_taken_over() {
        let app = |file: &str, last_error: &str| App {
            name: "blog".to_owned(),
            file: file.to_owned(),
            last_error: last_error.to_owned(),
            ..App::default()
        };
        let refused = |app| refusal(&vassal(), &[app]).map(|it| it.to_string());
        let file = "/r/vassals/blog.toml";
        assert_eq!(
            refused(app(file, "/r/vassals/blog.toml: `limits.memory` cannot be applied: no cgroup"))
                .as_deref(),
            Some("/r/vassals/blog.toml: emperord refuses it: `limits.memory` cannot be applied: no cgroup")
        );
        assert_eq!(refused(app("/r/vassals/old.toml", "/r/vassals/blog.toml: no")), None);
        assert_eq!(refused(app(file, "/r/vassals/blog.toml:1:1: unknown key `wokers`")), None);
        assert_eq!(refused(app(file, "worker blog-1 cannot run its app: oh no")), None);
        assert_eq!(refused(app(file, "")), None);
    }

    #[test]
    fn limits_are_unknown_where_emperord_starts_workers_itself() {
        let root = Layout::under(Path::new("/r")).unwrap();
        assert!(has_unknown_limits(&vassal(), &root));
        let text = "domains = ['a.example']\napp = 'a'\ndirectory = '/'\n";
        assert!(!has_unknown_limits(&Vassal::parse(Path::new("/r/a.toml"), text).unwrap(), &root));
    }
}
