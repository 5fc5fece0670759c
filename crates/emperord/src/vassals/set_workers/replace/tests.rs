//! All properties of an operator's file are kept, or the file isn't changed.

use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{getxattr, setxattr};
use tempfile::TempDir;

use super::*;

const BEFORE: &str = "workers = 2\n";
const AFTER: &str = "workers = 3\n";
/// `user:daemon:rw-` in addition to `rw-r-----`, with mask `rw-`, in the kernel's format of an access control
/// list (`acl(5)`).
const ACL: &[u8] = b"\x02\0\0\0\
    \x01\0\x06\0\xff\xff\xff\xff\
    \x02\0\x06\0\x01\0\0\0\
    \x04\0\x04\0\xff\xff\xff\xff\
    \x10\0\x06\0\xff\xff\xff\xff\
    \x20\0\0\0\xff\xff\xff\xff";

/// Creates a folder with a file.
fn file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blog.toml");
    fs::write(&path, BEFORE).unwrap();
    (folder, path)
}

/// Sets an attribute. False if the file system doesn't support that kind.
fn set(path: &Path, name: &str, value: &[u8]) -> bool {
    match setxattr(path, name, value, XattrFlags::empty()) {
        Err(Errno::NOTSUP) => false,
        set => set.map(|()| true).unwrap(),
    }
}

fn get(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let length = getxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[track_caller]
fn assert_text(path: &Path, text: &str) {
    assert_eq!(fs::read_to_string(path).unwrap(), text);
}

#[test]
fn the_mode_is_kept() {
    for mode in [0o600, 0o640, 0o664, 0o444] {
        let (folder, path) = file();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        replace(&path, BEFORE, AFTER).unwrap();
        assert_text(&path, AFTER);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn the_group_is_kept() {
    skip::needs_root!();
    for (uid, gid) in [(0, 1), (1, 1), (1, 0)] {
        let (_folder, path) = file();
        chown(&path, Some(uid), Some(gid)).unwrap();
        replace(&path, BEFORE, AFTER).unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.uid(), after.gid()), (uid, gid));
        assert_text(&path, AFTER);
    }
}

#[test]
fn extended_attributes_and_access_control_lists_are_kept() {
    let (_folder, path) = file();
    let has_attributes = set(&path, "user.origin", b"ansible");
    let has_lists = set(&path, "system.posix_acl_access", ACL);
    let mode = fs::metadata(&path).unwrap().mode();
    replace(&path, BEFORE, AFTER).unwrap();
    assert_text(&path, AFTER);
    assert_eq!(fs::metadata(&path).unwrap().mode(), mode);
    if has_attributes {
        assert_eq!(get(&path, "user.origin").as_deref(), Some(&b"ansible"[..]));
    }
    if has_lists {
        assert_eq!(get(&path, "system.posix_acl_access").as_deref(), Some(ACL));
    }
}

#[test]
fn a_default_acl_of_the_folder_is_not_added() {
    let (folder, path) = file();
    if !set(folder.path(), "system.posix_acl_default", ACL) {
        skip::skip!("the file system has no access control lists");
    }
    replace(&path, BEFORE, AFTER).unwrap();
    assert_eq!(get(&path, "system.posix_acl_access"), None);
}

#[test]
fn a_symbolic_link_is_kept() {
    let (folder, path) = file();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    symlink("blog.toml", &first).unwrap();
    symlink(&first, &second).unwrap();
    replace(&second, BEFORE, AFTER).unwrap();
    assert!(fs::symlink_metadata(&first).unwrap().is_symlink());
    assert!(fs::symlink_metadata(&second).unwrap().is_symlink());
    assert_text(&path, AFTER);
}

#[test]
fn hard_links_are_not_broken() {
    let (folder, path) = file();
    let other = folder.path().join("other");
    fs::hard_link(&path, &other).unwrap();
    let error = replace(&path, BEFORE, AFTER).unwrap_err().to_string();
    assert_eq!(
        error,
        "it has 2 names (hard links), and replacing the file would separate them: edit it by hand"
    );
    assert_text(&path, BEFORE);
    assert_eq!(fs::metadata(&path).unwrap().ino(), fs::metadata(&other).unwrap().ino());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn concurrent_changes_are_kept() {
    let (folder, path) = file();
    for text in ["workers = 9\n", "workers = 2\n# new\n", ""] {
        fs::write(&path, text).unwrap();
        assert!(matches!(replace(&path, BEFORE, AFTER), Err(ReplaceError::Changed)));
        assert_text(&path, text);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Another user may be able to write to the folder, but not to give a file away.
#[test]
fn an_owner_that_cannot_be_kept_leaves_the_file_untouched() {
    skip::needs_root!();
    skip::needs_program!("setpriv");
    let (folder, path) = file();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    let test = std::env::current_exe().unwrap();
    let as_another = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=1", "--regid=1", "--clear-groups"]);
        command
    };
    if !as_another().args(["test", "-x"]).arg(&test).status().unwrap().success() {
        return;
    }
    let name = "vassals::set_workers::replace::tests::as_another_user";
    let mut command = as_another();
    command.arg(test).args([name, "--exact", "--ignored", "--nocapture"]).env("REPLACED", &path);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_text(&path, BEFORE);
    assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
#[ignore = "run by the test above, as another user"]
fn as_another_user() {
    let path = PathBuf::from(std::env::var_os("REPLACED").unwrap());
    let error = replace(&path, BEFORE, AFTER).unwrap_err().to_string();
    assert!(error.starts_with("keep the owner 0 and group 0 of the file: "), "{error}");
}

/// Runs one of the tests below with restricted capabilities or limits.
fn run_ignored(test: &str, path: &Path, confined: &str) {
    let script = format!(
        "{confined} \"$0\" vassals::set_workers::replace::tests::{test} --exact --ignored --nocapture"
    );
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap()).env("REPLACED", path);
    let output = command.output().unwrap();
    let error = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&error));
}

/// Like root in emperord's own unit, which lacks CAP_CHOWN.
#[test]
fn a_file_whose_owner_cannot_be_set_is_overwritten_in_place() {
    skip::needs_root!();
    skip::needs_program!("setpriv");
    let (folder, path) = file();
    chown(&path, Some(1), Some(2)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(&path).unwrap();
    run_ignored("without_chown", &path, "exec setpriv --bounding-set=-chown --inh-caps=-chown");
    assert_text(&path, AFTER);
    let now = fs::metadata(&path).unwrap();
    let of = |it: &fs::Metadata| (it.ino(), it.uid(), it.gid(), it.mode());
    assert_eq!(of(&now), of(&before));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
#[ignore = "run by the test above, without CAP_CHOWN"]
fn without_chown() {
    let path = PathBuf::from(std::env::var_os("REPLACED").unwrap());
    let before = fs::metadata(&path).unwrap();
    assert!(fchown(File::open(&path).unwrap(), Some(3), None).is_err(), "it may not");
    replace(&path, BEFORE, "workers = 10\n").unwrap();
    assert_text(&path, "workers = 10\n");
    replace(&path, "workers = 10\n", AFTER).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino());
}

/// A file size limit simulates a full disk.
#[test]
fn a_file_that_cannot_be_overwritten_is_unchanged() {
    let (_folder, path) = file();
    run_ignored("with_little_room", &path, "trap '' XFSZ; ulimit -f 1; exec");
    assert_text(&path, BEFORE);
}

#[test]
#[ignore = "run by the test above, with little room"]
fn with_little_room() {
    let path = PathBuf::from(std::env::var_os("REPLACED").unwrap());
    let (folder, name) = (File::open(path.parent().unwrap()).unwrap(), path.file_name().unwrap());
    let state = fs::metadata(&path).unwrap();
    let error = || ReplaceError::Owner { uid: 1, gid: 2, source: io::ErrorKind::PermissionDenied.into() };
    let long = "#".repeat(4096);
    let error = overwrite(&folder, name, &state, BEFORE, &long, error()).unwrap_err();
    assert!(matches!(error, ReplaceError::Io(_)), "{error}");
    assert_text(&path, BEFORE);
}
