//! Checks whether frontd will be able to read its certificates.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use config::Problem;

/// How much of a file is read, in bytes.
const LONGEST: u64 = 1 << 20;
const CHAIN: &str = "-----BEGIN CERTIFICATE-----";
const KEY: &str = "PRIVATE KEY-----";
/// The extended attribute that holds a file's ACL. If there is one, the mode doesn't tell everything.
const ACL: &str = "system.posix_acl_access";

/// The user who will read the files, if it isn't this process.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    uid: u32,
    groups: Vec<u32>,
}

/// A certificate chain, and the file that its key is in if the chain's file has none.
struct Pair {
    chain: PathBuf,
    key: PathBuf,
}

/// Returns the problems of a folder. frontd's log reports whether a certificate is valid and matches its key.
pub(super) fn check(folder: &Path, reader: Option<&Reader>) -> Vec<Problem> {
    let pairs = match pairs(folder) {
        Ok(pairs) => pairs,
        Err(error) => return vec![Problem::of_file(folder, format!("cannot be read: {error}"))],
    };
    let checked = pairs.iter().map(|it| it.check(reader));
    checked.filter_map(Result::err).collect()
}

/// Lists the files that frontd reads: `NAME.pem`, `NAME.crt` with `NAME.key`, and certbot's
/// `NAME/fullchain.pem`.
fn pairs(folder: &Path) -> io::Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|it| it.as_encoded_bytes().starts_with(b"."));
        let chain = path.join("fullchain.pem");
        match path.extension().and_then(|it| it.to_str()) {
            _ if hidden => {}
            _ if chain.symlink_metadata().is_ok() => {
                pairs.push(Pair { chain, key: path.join("privkey.pem") });
            }
            Some("pem" | "crt" | "cer") if !path.is_dir() => {
                pairs.push(Pair { key: path.with_extension("key"), chain: path });
            }
            _ => {}
        }
    }
    pairs.sort_by(|a, b| a.chain.cmp(&b.chain));
    Ok(pairs)
}

impl Pair {
    fn check(&self, reader: Option<&Reader>) -> Result<(), Problem> {
        let chain = read(&self.chain, reader)?;
        if !chain.contains(CHAIN) {
            return Err(Problem::of_file(&self.chain, format!("holds no certificate: no line is `{CHAIN}`")));
        }
        if chain.contains(KEY) {
            return Ok(());
        }
        let key = read(&self.key, reader)?;
        let what = format!("holds no private key, and neither does {}", self.chain.display());
        if key.contains(KEY) { Ok(()) } else { Err(Problem::of_file(&self.key, what)) }
    }
}

fn read(path: &Path, reader: Option<&Reader>) -> Result<String, Problem> {
    let failed = |error: io::Error| Problem::of_file(path, format!("cannot be read: {error}"));
    let file = File::open(path).map_err(failed)?;
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).map_err(failed)?;
    match reader {
        Some(reader) if !reader.may_read(path) => Err(Problem::of_file(
            path,
            "cannot be read by frontd's user: give it to the group frontd (`chgrp frontd`, `chmod 640`)",
        )),
        _ => Ok(String::from_utf8_lossy(&text).into_owned()),
    }
}

impl Reader {
    /// The user that the systemd unit runs frontd as, if it exists on this machine.
    pub(super) fn of_unit() -> Option<Self> {
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        let mut fields = passwd.lines().find_map(|it| it.strip_prefix("frontd:"))?.split(':').skip(1);
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        let more = groups.lines().filter_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, gid, members] = fields.as_slice() else { return None };
            let is_in = *name == "imperium" || members.split(',').any(|it| it == "frontd");
            is_in.then(|| gid.parse().ok())?
        });
        Some(Self { uid, groups: more.chain([gid]).collect() })
    }

    fn may_read(&self, path: &Path) -> bool {
        let Ok(found) = path.metadata() else { return false };
        if rustix::fs::getxattr(path, ACL, &mut [0_u8; 0][..]).is_ok_and(|length| length > 0) {
            return true;
        }
        let bit = match found.uid() == self.uid {
            true => 0o400,
            false if self.groups.contains(&found.gid()) => 0o040,
            false => 0o004,
        };
        found.mode() & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn unreadable_certificates_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        let both = format!("{CHAIN}\n-----BEGIN {KEY}\n");
        write("a.pem", &both);
        write("b.crt", CHAIN);
        write("b.key", &format!("-----BEGIN {KEY}"));
        write("README", "");
        fs::create_dir(folder.path().join("site")).unwrap();
        write("site/fullchain.pem", &both);
        let problems = |reader: Option<&Reader>| {
            let problems = check(folder.path(), reader).into_iter();
            problems
                .map(|it| it.to_string().replace(&format!("{}/", folder.path().display()), ""))
                .collect::<Vec<_>>()
        };
        assert_eq!(problems(None), Vec::<String>::new());
        write("c.pem", "no PEM");
        write("d.pem", CHAIN);
        symlink("/no/such/chain.pem", folder.path().join("e.pem")).unwrap();
        let missing = "cannot be read: No such file or directory (os error 2)";
        assert_eq!(
            problems(None),
            [
                "c.pem: holds no certificate: no line is `-----BEGIN CERTIFICATE-----`".to_owned(),
                format!("d.key: {missing}"),
                format!("e.pem: {missing}"),
            ]
        );
        // Another user may read none of them.
        let nobody = Reader { uid: 65_534, groups: vec![65_534] };
        assert!(problems(Some(&nobody))[0].starts_with("a.pem: cannot be read by frontd's user: "));
        let owner = folder.path().metadata().unwrap();
        assert_eq!(problems(Some(&Reader { uid: owner.uid(), groups: Vec::new() })), problems(None));
        let gone = check(Path::new("/no/such"), None);
        assert_eq!(gone[0].to_string(), format!("/no/such: {missing}"));
    }
}
