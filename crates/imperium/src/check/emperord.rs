//! What only a running emperord knows of the apps' files: what the machine refuses, such as limits without a cgroup.

use std::io;
use std::path::Path;
use std::time::Duration;

use api::admin::App;
use config::{EmperordConfig, Layout, Problem};
use vassal::Vassal;

use super::WORKERD;
use crate::admin::{self, AdminError, block_on};

/// How often emperord is asked again whether it refuses a file that may have changed a moment ago, and the interval. It
/// waits until an edit is complete before it reads a file.
const MORE_TRIES: u32 = 10;
const INTERVAL: Duration = Duration::from_millis(100);

/// Returns the apps that an installation's emperord runs.
///
/// # Errors
/// Why emperord can't be asked.
pub(super) fn apps(layout: &Layout) -> Result<Vec<App>, String> {
    // Mistakes in the file are reported elsewhere.
    let config = EmperordConfig::load(layout, WORKERD.as_ref())
        .map_err(|_| "emperord.toml, which names emperord's socket, can't be used".to_owned())?;
    let status = block_on(admin::status(&config.socket)).map_err(|error| error.to_string())?;
    status.map(|it| it.apps).map_err(|error| why(&error))
}

fn why(error: &AdminError) -> String {
    match error {
        AdminError::Unreachable { source, .. } if source.kind() != io::ErrorKind::PermissionDenied => {
            "emperord, which can tell whether they can be set, doesn't run".to_owned()
        }
        AdminError::Unreachable { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}

/// Returns what emperord refuses of files without mistakes. `again` asks it again: what it refused may be the previous
/// version of the file.
pub(super) fn refusals(
    vassals: &[&Vassal],
    apps: &[App],
    mut again: impl FnMut() -> Option<Vec<App>>,
) -> Vec<Problem> {
    let of = |apps: &[App]| vassals.iter().filter_map(|it| refusal(it, apps)).collect::<Vec<_>>();
    let mut refused = of(apps);
    for _ in 0..MORE_TRIES {
        if refused.is_empty() {
            break;
        }
        let Some(apps) = again() else { break };
        refused = of(&apps);
    }
    refused
}

#[expect(clippy::disallowed_methods, reason = "emperord doesn't say which version of a file it has read")]
pub(super) fn pause() {
    std::thread::sleep(INTERVAL);
}

/// Returns why emperord refuses a file, if it does.
fn refusal(vassal: &Vassal, apps: &[App]) -> Option<Problem> {
    let app = entry(vassal, apps)?;
    // What is said of a line was found here, or the file has changed since.
    let why = app.last_error.lines().find_map(|it| it.strip_prefix(&app.file)?.strip_prefix(": "))?;
    Some(Problem::of_file(&vassal.file, format!("emperord refuses it: {why}")))
}

/// Returns the app of a file, if emperord has read that file.
pub(super) fn entry<'a>(vassal: &Vassal, apps: &'a [App]) -> Option<&'a App> {
    let is_same = |file: &Path| {
        let canonical = |it: &Path| it.canonicalize().ok();
        file == vassal.file || canonical(file).is_some_and(|it| canonical(&vassal.file) == Some(it))
    };
    apps.iter().find(|it| it.name == vassal.name.as_str() && is_same(it.file.as_ref()))
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

    const FILE: &str = "/r/vassals/blog.toml";
    const REFUSED: &str = "/r/vassals/blog.toml: `limits.memory` cannot be applied: no cgroup";

    fn vassal() -> Vassal {
        let text = "domains = ['a.example']\napp = 'a'\ndirectory = '/'\nlimits = { memory = '100 MB' }\n";
        Vassal::parse(Path::new(FILE), text).unwrap()
    }

    fn app(file: &str, last_error: &str) -> App {
        App {
            name: "blog".to_owned(),
            file: file.to_owned(),
            last_error: last_error.to_owned(),
            ..App::default()
        }
    }

    #[test]
    fn only_what_is_said_of_the_file_as_a_whole_is_taken_over() {
        let refused = |app| refusal(&vassal(), &[app]).map(|it| it.to_string());
        assert_eq!(
            refused(app(FILE, REFUSED)).as_deref(),
            Some("/r/vassals/blog.toml: emperord refuses it: `limits.memory` cannot be applied: no cgroup")
        );
        assert_eq!(refused(app("/r/vassals/old.toml", "/r/vassals/blog.toml: no")), None);
        assert_eq!(refused(app(FILE, "/r/vassals/blog.toml:1:1: unknown key `wokers`")), None);
        assert_eq!(refused(app(FILE, "worker blog-1 cannot run its app: oh no")), None);
        assert_eq!(refused(app(FILE, "")), None);
    }

    #[test]
    fn a_refusal_of_the_previous_version_of_the_file_is_not_reported() {
        let vassal = vassal();
        let refused = |mut then: Vec<&str>| {
            let mut asked = 0;
            let again = || {
                asked += 1;
                Some(vec![app(FILE, if then.len() > 1 { then.remove(0) } else { then[0] })])
            };
            let refused = refusals(&[&vassal], &[app(FILE, REFUSED)], again);
            (refused.len(), asked)
        };
        assert_eq!(refused(vec![""]), (0, 1));
        assert_eq!(refused(vec![REFUSED, REFUSED, ""]), (0, 3));
        assert_eq!(refused(vec![REFUSED]), (1, MORE_TRIES));
        assert_eq!(refusals(&[&vassal], &[app(FILE, "")], || unreachable!()).len(), 0);
    }

    #[test]
    fn limits_are_unknown_where_emperord_starts_workers_itself() {
        let root = Layout::under(Path::new("/r")).unwrap();
        assert!(has_unknown_limits(&vassal(), &root));
        let text = "domains = ['a.example']\napp = 'a'\ndirectory = '/'\n";
        assert!(!has_unknown_limits(&Vassal::parse(Path::new("/r/a.toml"), text).unwrap(), &root));
    }
}
