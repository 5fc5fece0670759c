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

    /// A CA that nobody has the key of.
    const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBiDCCAS2gAwIBAgIUOvUjzMvaXrzQXpGoBYjLiXvLAykwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNSW1wZXJpdW0gdGVzdDAgFw0yNjExMjgwMDM5MTBaGA8yMTI2
MTEwNDAwMzkxMFowGDEWMBQGA1UEAwwNSW1wZXJpdW0gdGVzdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABEbU+j6TAKEhnH3R9rGNCH/7rpQP5qh6k/+yY/YDu2No
gJ7rWjOtYVUagkn50VdcnNgYRaa5D1XUxfwpjLdqyxKjUzBRMB0GA1UdDgQWBBRc
Trb84VQqJWE26HZ40CKjEhEIKDAfBgNVHSMEGDAWgBRcTrb84VQqJWE26HZ40CKj
EhEIKDAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQCSw+LSffs9
VTHxWjhGHJIOTWNztIv3bTHLCdFNvpFLHQIhANWtqsP4qd2pdWDgFjIHECOj8LSB
ujjfh+2sBHFtrZve
-----END CERTIFICATE-----
";

    /// Firefox's profile and Chromium's database, as the browsers make them.
    #[test]
    fn browsers_trust_the_authority_until_that_is_undone() {
        skip::needs_program!("certutil");
        let home = tempfile::tempdir().unwrap();
        let folders = [".mozilla/firefox/abc.default-esr", ".pki/nssdb"].map(|it| home.path().join(it));
        for folder in &folders {
            fs::create_dir_all(folder).unwrap();
            certutil(&["-N", "--empty-password", "-d", &format!("sql:{}", folder.display())]).unwrap();
        }
        let path = home.path().join("ca.pem");
        fs::write(&path, AUTHORITY).unwrap();
        let authority = Authority { path, name: "imperium-00000001".to_owned() };
        let listed = |folder: &Path| {
            let database = format!("sql:{}", folder.display());
            let output = Command::new("certutil").args(["-L", "-d", &database]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        // Twice, as after a new CA.
        for _ in 0..2 {
            let outcomes = change(&authority, home.path(), false);
            assert!(
                outcomes.len() == 2 && outcomes.iter().all(|it| matches!(it, Outcome::Done(_))),
                "{outcomes:?}"
            );
            for folder in &folders {
                let listed = listed(folder);
                let lines: Vec<_> = listed.lines().filter(|it| it.contains("imperium-00000001")).collect();
                assert!(lines.len() == 1 && lines[0].trim_end().ends_with("C,,"), "{listed}");
            }
        }
        change(&authority, home.path(), true);
        for folder in &folders {
            assert!(!listed(folder).contains("imperium"), "{}", listed(folder));
        }
        let outcomes = change(&authority, home.path(), true);
        assert!(
            outcomes.iter().all(|it| matches!(it, Outcome::Done(what) if what.contains("doesn't have it"))),
            "{outcomes:?}"
        );
    }
}
