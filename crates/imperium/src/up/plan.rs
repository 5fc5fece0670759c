//! Reads and checks everything that `up` needs before it binds or starts anything.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use config::{EmperordConfig, FrontdConfig, Layout};
use daemon::output;
use miette::{Diagnostic, IntoDiagnostic as _, WrapErr as _};
use tempfile::TempDir;
use tracing::warn;
use vassal::Vassal;

use super::late_virtualenv::LateVirtualenv;
use super::listen::Listen;
use super::one_app::OneRoot;
use super::programs::Programs;
use super::{Args, one_app};
use crate::at::root_from_env;
use crate::refused::Refused;

/// What to run, fully checked.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) layout: Layout,
    pub(crate) frontd: FrontdConfig,
    pub(crate) emperord: EmperordConfig,
    pub(crate) programs: Programs,
    /// The line to print before anything starts: what runs, or what was made.
    pub(crate) greeting: Option<String>,
    /// Where a virtualenv may appear, if the one app has none.
    pub(crate) late_virtualenv: Option<LateVirtualenv>,
    /// Removed when everything has exited.
    _temporary: Option<TempDir>,
    /// Held while this process runs.
    _lock: File,
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum PlanError {
    #[error("nothing to run")]
    #[diagnostic(help(
        "`imperium up --root DIR` runs the apps of DIR/vassals/, `imperium up app.py` runs one"
    ))]
    Nothing,
    #[error("run {}: another `imperium up` is already running it", .0.display())]
    #[diagnostic(help("stop that one, or choose another folder"))]
    Runs(PathBuf),
    #[error("run {}: there is no folder {}", root.display(), parent.display())]
    #[diagnostic(help("check the path: `imperium up` creates the folder itself, but not those above it"))]
    NoParent { root: PathBuf, parent: PathBuf },
    #[error("no address to listen on: HTTP and HTTPS are both off")]
    #[diagnostic(help("omit `--http off` or `--https off`"))]
    Off,
}

impl Plan {
    /// Reads the files of the daemons and the apps. An invalid app file is reported, but doesn't stop the
    /// others.
    pub(crate) fn read(args: &Args) -> miette::Result<Self> {
        let Root { layout, temporary, greeting, late_virtualenv } = root(args)?;
        let programs = Programs::of_this()?;
        let (mut frontd, emperord) = load(&layout, &programs)?;
        args.override_addresses(&mut frontd);
        if frontd.http.is_empty() && frontd.https.is_empty() {
            return Err(PlanError::Off.into());
        }
        make_folders(&layout, &emperord)?;
        let lock = lock(&layout)?;
        let _temporary = temporary;
        let plan =
            Self { layout, frontd, emperord, programs, greeting, late_virtualenv, _temporary, _lock: lock };
        plan.check_apps()?;
        Ok(plan)
    }

    /// How long emperord may take to stop all workers, according to the apps' current files.
    pub(crate) fn longest_stop(&self) -> Duration {
        let vassals = vassal_files(&self.emperord.vassals).unwrap_or_default();
        let stops = vassals.iter().filter_map(|it| Some(Vassal::load(it).ok()?.timeouts.stop));
        stops.max().unwrap_or_default()
    }

    /// The addresses to listen on.
    pub(crate) fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let named =
            |name, addresses: &[SocketAddr]| addresses.iter().map(move |it| (name, *it)).collect::<Vec<_>>();
        let Self { frontd, .. } = self;
        [named("http", &frontd.http), named("https", &frontd.https), named("admin", &[frontd.admin])].concat()
    }

    /// The certificate of the local CA, if it is used.
    pub(crate) fn authority(&self) -> Option<PathBuf> {
        Some(self.frontd.tls.development.as_ref()?.join("ca.pem")).filter(|_| !self.frontd.https.is_empty())
    }

    fn check_apps(&self) -> miette::Result<()> {
        let folder = &self.emperord.vassals;
        let files =
            vassal_files(folder).into_diagnostic().wrap_err_with(|| format!("read {}", folder.display()))?;
        if files.is_empty() {
            tell_how_to_begin(folder);
        }
        Ok(())
    }
}

struct Root {
    layout: Layout,
    temporary: Option<TempDir>,
    greeting: Option<String>,
    late_virtualenv: Option<LateVirtualenv>,
}

fn root(args: &Args) -> miette::Result<Root> {
    if let Some(app) = &args.one_app.app {
        let OneRoot { root: temporary, greeting, late_virtualenv } = args.one_app.root(app)?;
        let layout = Layout::under(temporary.path()).into_diagnostic()?;
        if args.https != Some(Listen::Off)
            && let Err(error) = one_app::keep_authority(&layout)
        {
            warn!(%error, "the CA can't be kept: browsers have to trust a new one after each start");
        }
        return Ok(Root { layout, temporary: Some(temporary), greeting: Some(greeting), late_virtualenv });
    }
    let root = args.root.clone().or_else(root_from_env).ok_or(PlanError::Nothing)?;
    let greeting = make_root(&root)?;
    let layout = Layout::under(&root).into_diagnostic()?;
    Ok(Root { layout, temporary: None, greeting, late_virtualenv: None })
}

/// Creates the folder if it doesn't exist, and returns a line that says so. A folder above it is missing only if the path
/// is mistaken.
fn make_root(root: &Path) -> miette::Result<Option<String>> {
    if root.exists() {
        return Ok(None);
    }
    let path = absolute(root).into_diagnostic()?;
    let parent = path.parent().unwrap_or(Path::new("/"));
    if !parent.exists() {
        return Err(PlanError::NoParent { root: root.to_owned(), parent: parent.to_owned() }.into());
    }
    fs::create_dir(&path)
        .into_diagnostic()
        .wrap_err_with(|| format!("make the folder {}", path.display()))?;
    Ok(Some(format!(
        "Made the folder {}, with an empty folder vassals for the apps' files\n",
        path.display()
    )))
}

/// Loads the daemons' files, and reports all problems at once.
fn load(layout: &Layout, programs: &Programs) -> Result<(FrontdConfig, EmperordConfig), Refused> {
    let both = (FrontdConfig::load(layout), EmperordConfig::load(layout, &programs.workerd));
    match both {
        (Ok(frontd), Ok(emperord)) => Ok((frontd, emperord)),
        (frontd, emperord) => {
            let wrong = [frontd.err(), emperord.err()].into_iter().flatten().flatten();
            Err(Refused::new("the daemons' configuration", wrong))
        }
    }
}

fn make_folders(layout: &Layout, emperord: &EmperordConfig) -> miette::Result<()> {
    let make = |folder: &Path, mode| {
        let made = DirBuilder::new().recursive(true).mode(mode).create(folder);
        made.into_diagnostic().wrap_err_with(|| format!("make the folder {}", folder.display()))
    };
    make(&emperord.vassals, 0o777)?;
    [&layout.run, &layout.state, &emperord.run].into_iter().try_for_each(|it| make(it, 0o700))
}

fn lock(layout: &Layout) -> miette::Result<File> {
    let path = layout.run.join("up.lock");
    // Only this user can open the file, and thus lock it, although others may pass the folder to connect to
    // emperord.
    let made = File::options().create(true).truncate(true).write(true).mode(0o600).open(&path);
    let made = made.and_then(|file| {
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(file)
    });
    let file = made.into_diagnostic().wrap_err_with(|| format!("make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(PlanError::Runs(layout.etc.clone()).into()),
        Err(TryLockError::Error(error)) => {
            Err(error).into_diagnostic().wrap_err_with(|| format!("lock {}", path.display()))
        }
    }
}

/// Lists the apps' files by name.
fn vassal_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<_> = fs::read_dir(folder)?
        .filter_map(|it| Some(it.ok()?.path()))
        .filter(|it| vassal::name_of(it).is_some())
        .collect();
    files.sort();
    Ok(files)
}

fn tell_how_to_begin(folder: &Path) {
    let file = folder.join("blog.toml");
    let text = format!(
        "There is no app yet. Write one into {}, at any time:\n\n\
         \x20   domains   = [\"blog.localhost\"]\n\
         \x20   app       = \"blog.wsgi:application\"\n\
         \x20   directory = \"/srv/blog\"\n",
        file.display()
    );
    output::stderr().write(text.into_bytes());
}

/// Whether the address is in use, for example by another `imperium up`.
fn is_taken(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

impl Args {
    fn override_addresses(&self, frontd: &mut FrontdConfig) {
        let one_app = self.one_app.app.is_some();
        let instead = |of: &mut Vec<SocketAddr>, by: Option<Listen>| {
            if let Some(listen) = by {
                *of = listen.addresses();
            }
        };
        let port = self.port.map(|port| Listen::At((Ipv4Addr::LOCALHOST, port).into()));
        instead(&mut frontd.http, port.or(self.http).or(one_app.then_some(Listen::At(one_app::HTTP))));
        if one_app {
            frontd.https.iter_mut().filter(|it| is_taken(**it)).for_each(|it| it.set_port(0));
        }
        instead(&mut frontd.https, self.https);
        frontd.admin = self.admin.or(one_app.then_some(one_app::ADMIN)).unwrap_or(frontd.admin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_folder_itself_is_made() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(make_root(folder.path()).unwrap(), None);
        let root = folder.path().join("site");
        let told = make_root(&root).unwrap().unwrap();
        assert!(root.is_dir() && told.starts_with(&format!("Made the folder {},", root.display())), "{told}");
        let error = make_root(&folder.path().join("no/such")).unwrap_err().to_string();
        assert!(error.ends_with(&format!("there is no folder {}/no", folder.path().display())), "{error}");
        assert!(!folder.path().join("no").exists());
    }
}
