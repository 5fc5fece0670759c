//! What only a running emperord knows of the apps' files: what the machine refuses, such as limits without a cgroup.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::admin::App;
use config::{EmperordConfig, Layout, Problem};
use vassal::Vassal;

use super::WORKERD;
use crate::admin::{self, AdminError, block_on};

/// How often emperord is asked again if it hasn't read a file, and the interval. It waits until an edit is complete
/// before it reads a file.
const MORE_TRIES: u32 = 20;
const INTERVAL: Duration = Duration::from_millis(100);

/// Files, with the digests of their texts.
pub(super) type Digests = BTreeMap<PathBuf, String>;

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

/// Asks emperord until it has read the current texts of the files in its folder, and has decided about them.
///
/// # Errors
/// Why emperord can't be asked.
pub(super) fn settled(
    files: &Digests,
    folder: &Path,
    mut ask: impl FnMut() -> Result<Vec<App>, String>,
) -> Result<Vec<App>, String> {
    let mut apps = ask()?;
    for _ in 0..MORE_TRIES {
        if !files.keys().any(|it| is_unread(it, files, folder, &apps)) {
            break;
        }
        pause();
        // It has just been stopped: its first answer is still the best one.
        let Ok(later) = ask() else { break };
        apps = later;
    }
    Ok(apps)
}

#[expect(clippy::disallowed_methods, reason = "emperord doesn't notify this command")]
fn pause() {
    std::thread::sleep(INTERVAL);
}

/// Whether a file is in emperord's folder, and emperord hasn't read its current text.
pub(super) fn is_unread(file: &Path, files: &Digests, folder: &Path, apps: &[App]) -> bool {
    let is_in = |file: &Path| file.parent().is_some_and(|it| is_same(it, folder));
    let is_it = |app: &&App| {
        let its = Path::new(&app.file);
        its.file_name() == file.file_name() && is_in(its)
    };
    match apps.iter().find(is_it) {
        _ if !is_in(file) => false,
        // An emperord of an earlier version doesn't tell.
        Some(App { file_digest: None, .. }) => false,
        Some(App { file_digest, .. }) => file_digest.as_ref() != files.get(file),
        None => true,
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let canonical = |it: &Path| it.canonicalize().ok();
    one == other || canonical(one).is_some_and(|it| canonical(other) == Some(it))
}

/// Returns why emperord refuses a file, if it does.
pub(super) fn refusal(vassal: &Vassal, apps: &[App]) -> Option<Problem> {
    let app = entry(vassal, apps)?;
    // What is said of a line was found here, or the file has changed since.
    let why = app.last_error.lines().find_map(|it| it.strip_prefix(&app.file)?.strip_prefix(": "))?;
    Some(Problem::of_file(&vassal.file, format!("emperord refuses it: {why}")))
}

/// Returns the app of a file, if emperord has read that file.
pub(super) fn entry<'a>(vassal: &Vassal, apps: &'a [App]) -> Option<&'a App> {
    apps.iter().find(|it| it.name == vassal.name.as_str() && is_same(it.file.as_ref(), &vassal.file))
}

/// Whether it depends on emperord's cgroup if the limits of an app can be set, which only emperord can tell.
pub(super) fn has_unknown_limits(vassal: &Vassal, layout: &Layout) -> bool {
    let is_limited = vassal.confinement.memory.is_some() || vassal.confinement.cpu.is_some();
    // The system's workers are units of systemd, which sets any limit.
    let is_systemds = *layout == Layout::system() && Path::new("/run/systemd/system").is_dir();
    is_limited && !is_systemds
}

/// Whether emperord runs the app as the owner of its `directory`, which it may refuse. Only root chooses users.
pub(super) fn determines_user(vassal: &Vassal, layout: &Layout) -> bool {
    let is_roots = *layout == Layout::system() || rustix::process::geteuid().is_root();
    vassal.confinement.user.is_none() && is_roots
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
    fn emperord_is_asked_until_it_has_read_the_file() {
        let files = Digests::from([(FILE.into(), "new".to_owned())]);
        let settle = |file: &str, digests: &[Option<&str>]| {
            let mut asked = 0;
            let apps = settled(&files, Path::new("/r/vassals"), || {
                let digest = digests.get(asked).or(digests.last()).copied().flatten();
                asked += 1;
                let app = App { file_digest: digest.map(str::to_owned), ..app(file, "") };
                Ok(vec![app])
            });
            (is_unread(FILE.as_ref(), &files, Path::new("/r/vassals"), &apps.unwrap()), asked)
        };
        assert_eq!(settle(FILE, &[Some("new")]), (false, 1));
        assert_eq!(settle(FILE, &[Some("old"), Some(""), Some("new")]), (false, 3));
        assert_eq!(settle(FILE, &[None]), (false, 1), "an earlier version of emperord doesn't tell");
        assert_eq!(settle("/r/vassals/shop.toml", &[Some("new")]), (true, 1 + MORE_TRIES as usize));
        // Files elsewhere are never read.
        assert!(!is_unread(FILE.as_ref(), &files, Path::new("/other"), &[]));
        let error = settled(&files, Path::new("/r/vassals"), || Err("away".to_owned()));
        assert_eq!(error, Err("away".to_owned()));
    }

    #[test]
    fn limits_are_unknown_where_emperord_starts_workers_itself() {
        let root = Layout::under(Path::new("/r")).unwrap();
        assert!(has_unknown_limits(&vassal(), &root));
        let text = "domains = ['a.example']\napp = 'a'\ndirectory = '/'\n";
        assert!(!has_unknown_limits(&Vassal::parse(Path::new("/r/a.toml"), text).unwrap(), &root));
    }
}
