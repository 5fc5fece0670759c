//! The trust stores of browsers: Chromium and Chrome share one database, Firefox has one per profile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Authority, Outcome, has_program};

/// Databases of Chromium and Chrome, relative to the home directory.
const SHARED: [&str; 2] = [".pki/nssdb", "snap/chromium/current/.pki/nssdb"];
/// Folders of Firefox profiles, relative to the home directory.
const PROFILES: [&str; 4] = [
    ".mozilla/firefox",
    ".config/mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
];
const CHROMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// The largest number of profiles.
const MOST: usize = 100;

/// Adds the CA to each database below `home`, or removes it.
pub(super) fn change(authority: &Authority, home: &Path, undo: bool) -> Vec<Outcome> {
    let has_chrome = CHROMES.iter().any(|it| has_program(it));
    let mut databases = databases(home);
    let shared = home.join(SHARED[0]);
    if !undo && has_chrome && !databases.contains(&shared) {
        databases.push(shared);
    }
    if databases.is_empty() {
        return Vec::new();
    }
    if !has_program("certutil") {
        let what = "install `certutil` (Debian: libnss3-tools; Fedora: nss-tools), which browsers need, and run this again";
        return vec![Outcome::Left(what.to_owned())];
    }
    databases.iter().map(|it| change_one(authority, it, undo)).collect()
}

fn databases(home: &Path) -> Vec<PathBuf> {
    let profiles = PROFILES.iter().filter_map(|it| fs::read_dir(home.join(it)).ok()).flatten().flatten();
    let profiles = profiles.take(MOST).map(|it| it.path());
    let all = SHARED.iter().map(|it| home.join(it)).chain(profiles);
    all.filter(|it| it.join("cert9.db").is_file()).collect()
}

fn change_one(authority: &Authority, folder: &Path, undo: bool) -> Outcome {
    let shown = folder.display();
    let database = format!("sql:{shown}");
    let name = authority.name.as_str();
    // An existing certificate of this name belongs to a CA that has been replaced.
    let removed = certutil(&["-D", "-d", &database, "-n", name]);
    if undo {
        let what = if removed.is_ok() { "no longer trusts it" } else { "doesn't have it" };
        return Outcome::Done(format!("The browser of {shown} {what}"));
    }
    let path = authority.path.display().to_string();
    let made = match folder.join("cert9.db").is_file() {
        true => Ok(()),
        false => fs::create_dir_all(folder)
            .map_err(|it| it.to_string())
            .and_then(|()| certutil(&["-N", "--empty-password", "-d", &database])),
    };
    match made.and_then(|()| certutil(&["-A", "-d", &database, "-t", "C,,", "-n", name, "-i", &path])) {
        Ok(()) => Outcome::Done(format!("The browser of {shown} trusts it, once it is started again")),
        Err(why) => Outcome::Left(format!("add the CA to {shown}: certutil says: {why}")),
    }
}

fn certutil(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("certutil").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|it| it.to_string())?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(stderr.lines().next().unwrap_or("nothing").to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_of_all_browsers_are_found() {
        let home = tempfile::tempdir().unwrap();
        let make = |it: &str| {
            fs::create_dir_all(home.path().join(it)).unwrap();
            fs::write(home.path().join(it).join("cert9.db"), "").unwrap();
        };
        assert!(databases(home.path()).is_empty());
        make(".pki/nssdb");
        make(".mozilla/firefox/abc.default");
        fs::create_dir_all(home.path().join(".mozilla/firefox/Crash Reports")).unwrap();
        let found = databases(home.path());
        assert_eq!(found, [home.path().join(".pki/nssdb"), home.path().join(".mozilla/firefox/abc.default")]);
    }
}
