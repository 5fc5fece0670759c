//! Looks up users of the system (passwd(5), group(5), and other sources of nsswitch.conf(5)).
#![expect(unsafe_code, reason = "only the C library knows all places where users are kept")]

use std::ffi::{CStr, CString};
use std::io;
use std::path::PathBuf;

use api::VassalName;

/// The largest entry that is read, in bytes.
const MAX_ENTRY: usize = 1 << 20;
/// The largest number of groups of a user (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65_536;

/// A user that processes can run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Its login name.
    pub(crate) name: String,
    pub(crate) uid: u32,
    /// Its primary group.
    pub(crate) gid: u32,
    /// All of its groups.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: PathBuf,
}

impl Account {
    /// Returns the user with that name. None if there is none.
    ///
    /// # Errors
    /// If the databases can't be read.
    pub(crate) fn named(name: &str) -> io::Result<Option<Self>> {
        let Ok(name) = CString::new(name) else { return Ok(None) };
        // SAFETY: `name` is NUL-terminated, and `look_up` passes pointers that are valid for writes.
        look_up(|entry, buffer, length, found| unsafe {
            libc::getpwnam_r(name.as_ptr(), entry, buffer, length, found)
        })
    }

    /// Returns the user with that uid. None if there is none.
    ///
    /// # Errors
    /// If the databases can't be read.
    pub(crate) fn numbered(uid: u32) -> io::Result<Option<Self>> {
        // SAFETY: `look_up` passes pointers that are valid for writes.
        look_up(|entry, buffer, length, found| unsafe { libc::getpwuid_r(uid, entry, buffer, length, found) })
    }
}

/// Returns the result of looking up an app's user.
///
/// # Errors
/// With the user, why it wasn't found, and what to do. `source_of_user` explains where the user comes from.
pub(crate) fn known(
    source_of_user: &str,
    app: &VassalName,
    found: io::Result<Option<Account>>,
) -> Result<Account, String> {
    let found = found.map_err(|error| format!("{source_of_user}, which can't be looked up: {error}"))?;
    found.ok_or_else(|| {
        format!(
            "{source_of_user}, which doesn't exist on this machine: create it, such as with `adduser --system --group {app}`, and set \
             `user`"
        )
    })
}

/// Whether the group is private to this user, as `adduser` creates it: it has the user's name, and no other
/// members.
pub(crate) fn is_private_group(gid: u32, uid: u32) -> bool {
    let Ok(Some(user)) = Account::numbered(uid) else { return false };
    user.gid == gid
        && group_of(gid).is_some_and(|(name, members)| {
            name == user.name && members.iter().all(|member| *member == user.name)
        })
}

fn look_up(
    mut ask: impl FnMut(*mut libc::passwd, *mut libc::c_char, usize, *mut *mut libc::passwd) -> libc::c_int,
) -> io::Result<Option<Account>> {
    let mut buffer: Vec<libc::c_char> = vec![0; 4096];
    loop {
        // SAFETY: a struct of integers and pointers, for which all zeros are valid.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        match ask(&raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found) {
            0 if found.is_null() => return Ok(None),
            0 => return Ok(Some(account(&entry)?)),
            libc::ERANGE if buffer.len() < MAX_ENTRY => buffer.resize(buffer.len() * 4, 0),
            // Some databases return these if there is no such user (getpwnam(3)).
            libc::ENOENT | libc::ESRCH => return Ok(None),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn account(entry: &libc::passwd) -> io::Result<Account> {
    // SAFETY: the C library has set these to strings in a buffer that outlives this function.
    let (name, home) = unsafe { (CStr::from_ptr(entry.pw_name), CStr::from_ptr(entry.pw_dir)) };
    Ok(Account {
        name: name.to_string_lossy().into_owned(),
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        groups: groups(name, entry.pw_gid)?,
        home: PathBuf::from(home.to_string_lossy().into_owned()),
    })
}

fn groups(name: &CStr, primary: u32) -> io::Result<Vec<u32>> {
    let mut groups = vec![0; 64];
    loop {
        let mut count = libc::c_int::try_from(groups.len()).map_err(io::Error::other)?;
        // SAFETY: `groups` has room for `count` elements.
        let all = unsafe { libc::getgrouplist(name.as_ptr(), primary, groups.as_mut_ptr(), &raw mut count) };
        if all >= 0 {
            groups.truncate(usize::try_from(count).unwrap_or_default());
            return Ok(groups);
        }
        if groups.len() >= MAX_GROUPS {
            return Err(io::Error::other("the user is in too many groups"));
        }
        groups.resize(groups.len() * 4, 0);
    }
}

/// Returns the name and the members of a group.
fn group_of(gid: u32) -> Option<(String, Vec<String>)> {
    let mut buffer: Vec<libc::c_char> = vec![0; 4096];
    loop {
        // SAFETY: a struct of integers and pointers, for which all zeros are valid.
        let mut entry: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid for writes, and the length is that of the buffer.
        let asked = unsafe {
            libc::getgrgid_r(gid, &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        match asked {
            0 if found.is_null() => return None,
            // SAFETY: the C library has filled the entry.
            0 => return Some(unsafe { group(&entry) }),
            libc::ERANGE if buffer.len() < MAX_ENTRY => buffer.resize(buffer.len() * 4, 0),
            _ => return None,
        }
    }
}

/// # Safety
/// The entry's pointers must be as getgrgid_r(3) leaves them.
unsafe fn group(entry: &libc::group) -> (String, Vec<String>) {
    let text = |it: *const libc::c_char| {
        // SAFETY: a string of the entry.
        unsafe { CStr::from_ptr(it) }.to_string_lossy().into_owned()
    };
    let mut members = Vec::new();
    let mut next = entry.gr_mem;
    // SAFETY: the list ends with a null pointer.
    while let Some(member) = unsafe { next.as_ref() }.filter(|it| !it.is_null()) {
        members.push(text(*member));
        // SAFETY: the end hasn't been reached.
        next = unsafe { next.add(1) };
    }
    (text(entry.gr_name), members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let root = Account::named("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid, root.name.as_str()), (0, 0, "root"));
        assert!(root.groups.contains(&0));
        assert_eq!(Account::numbered(0).unwrap(), Some(root));
        assert_eq!(Account::named("no-such-user-here").unwrap(), None);
        assert_eq!(Account::numbered(u32::MAX - 7).unwrap(), None);
        assert_eq!(Account::named("a\0b").unwrap(), None);
    }

    #[test]
    fn private_groups_are_recognized() {
        assert!(is_private_group(0, 0));
        assert!(!is_private_group(1, 0));
        assert!(!is_private_group(0, u32::MAX - 7));
    }
}
