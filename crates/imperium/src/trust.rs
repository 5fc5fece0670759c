//! `imperium trust`: adds the local CA to the trust stores of the system and the browsers, so that HTTPS
//! works without a warning.

mod nss;
mod system;

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use config::{FrontdConfig, Layout};
use miette::{Diagnostic, IntoDiagnostic as _};

use crate::at::root_from_env;
use crate::refused::Refused;

/// The largest size of a certificate file, in bytes.
const LONGEST: u64 = 64 << 10;

/// Make this system and its browsers trust the local CA, which is used in development
///
/// The first `imperium up` creates the CA. This command adds it to the system's certificates, which needs root (it runs
/// `sudo`), and to those of Chromium, Chrome and Firefox, which needs `certutil`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove the CA again
    #[arg(long)]
    undo: bool,
    /// The folder that was given to `imperium up --root` [default: $IMPERIUM_ROOT, or the CA of `imperium up APP`]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error, Diagnostic)]
enum TrustError {
    #[error("read the CA {}: there is none yet", .0.display())]
    #[diagnostic(help("{}", hint(env::var_os("SUDO_USER").as_deref())))]
    NoAuthority(PathBuf),
    #[error("read the CA {}: {why}", path.display())]
    Read { path: PathBuf, why: String },
    #[error("there is no local CA: the development CA is off (`tls.development` in frontd.toml)")]
    Off,
    #[error("find the CA of `imperium up APP`: there is neither XDG_DATA_HOME nor a home directory")]
    NoHome,
}

/// With `sudo`, the home directory is usually root's.
fn hint(sudo_user: Option<&OsStr>) -> &'static str {
    match sudo_user.is_some_and(|it| !it.is_empty() && it != "root") {
        true => "run it without `sudo`, as the user who runs `imperium up`: it asks for the password itself",
        false => "`imperium up` makes it when it starts: run that once, or name its folder: --root DIR",
    }
}

/// A CA certificate, and its name in the trust stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) path: PathBuf,
    /// Such as `imperium-1f2e3d4c`. It depends on the path of the CA.
    pub(super) name: String,
}

/// The result for one trust store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done(String),
    /// It failed. The text says what to do.
    Left(String),
}

/// Adds the CA to all trust stores or removes it from them, and prints the results.
pub(crate) fn run(args: &Args) -> miette::Result<ExitCode> {
    let authority = Authority::at(path(args.root.clone().or_else(root_from_env))?, args.undo)?;
    let home = env::home_dir().unwrap_or_default();
    let mut outcomes = vec![system::change(&authority, args.undo)];
    outcomes.extend(nss::change(&authority, &home, args.undo));
    let mut out = io::stdout().lock();
    writeln!(out, "CA  {}", authority.path.display()).into_diagnostic()?;
    for outcome in &outcomes {
        match outcome {
            Outcome::Done(what) => writeln!(out, "{what}"),
            Outcome::Left(what) => writeln!(out, "Still to do: {what}"),
        }
        .into_diagnostic()?;
    }
    let is_done = outcomes.iter().all(|it| matches!(it, Outcome::Done(_)));
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn path(root: Option<PathBuf>) -> miette::Result<PathBuf> {
    let folder = match root {
        Some(root) => {
            let layout = Layout::under(&root).into_diagnostic()?;
            let config = FrontdConfig::load(&layout).map_err(|it| Refused::new("frontd.toml", it))?;
            config.tls.development.ok_or(TrustError::Off)?
        }
        None => kept().ok_or(TrustError::NoHome)?,
    };
    Ok(folder.join("ca.pem"))
}

/// The folder of the CA that `imperium up APP` uses.
pub(crate) fn kept() -> Option<PathBuf> {
    let data = env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|it| it.is_absolute());
    let data = data.or_else(|| Some(env::home_dir()?.join(".local/share")));
    Some(data?.join("imperium/tls"))
}

impl Authority {
    fn at(path: PathBuf, undo: bool) -> Result<Self, TrustError> {
        let path = path.canonicalize().unwrap_or(path);
        if !undo || path.exists() {
            check(&path)?;
        }
        let name = format!("imperium-{:08x}", hash(path.as_os_str().as_encoded_bytes()));
        Ok(Self { path, name })
    }
}

/// Checks that the file contains a certificate and nothing else, since root will install it.
fn check(path: &Path) -> Result<(), TrustError> {
    let failed = |why: String| TrustError::Read { path: path.to_owned(), why };
    let mut text = String::new();
    match File::open(path).and_then(|it| it.take(LONGEST).read_to_string(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(TrustError::NoAuthority(path.to_owned()));
        }
        read => read.map_err(|it| failed(it.to_string()))?,
    };
    match text.matches("-----BEGIN ").count() {
        1 if text.contains("-----BEGIN CERTIFICATE-----") => Ok(()),
        _ => Err(failed("it must hold one certificate, and nothing else".to_owned())),
    }
}

/// FNV-1a, which is the same on all machines and in all versions.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

pub(super) fn has_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|it| fs::metadata(it.join(name)).is_ok_and(|it| it.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_is_discouraged_if_there_is_no_ca() {
        assert!(hint(Some("me".as_ref())).contains("without `sudo`"));
        for it in [None, Some("root".as_ref()), Some("".as_ref())] {
            assert!(hint(it).contains("run that once"), "{it:?}");
        }
    }

    #[test]
    fn only_a_certificate_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(matches!(check(&path), Err(TrustError::NoAuthority(_))));
        let certificate = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        fs::write(&path, certificate).unwrap();
        assert!(check(&path).is_ok());
        for more in ["-----BEGIN PRIVATE KEY-----\n", certificate] {
            fs::write(&path, format!("{certificate}{more}")).unwrap();
            assert!(matches!(check(&path), Err(TrustError::Read { .. })));
        }
        fs::write(&path, "").unwrap();
        assert!(check(&path).is_err());
        // A CA whose file is gone can still be removed.
        fs::remove_file(&path).unwrap();
        assert!(Authority::at(path, true).unwrap().name.starts_with("imperium-"));
    }
}
