//! Checks that an app's user exists on this machine.

use std::process::{Command, Stdio};

use config::{Diagnostics, Wrong};
use vassal::Vassal;

/// The exit status of getent(1) if a name isn't found.
const NOT_FOUND: i32 = 2;

/// Returns what is wrong with `user`, if anything. Like emperord, getent looks in all sources of
/// nsswitch.conf(5).
pub(super) fn check(vassal: &Vassal) -> Option<Diagnostics> {
    let user = vassal.confinement.user.as_ref()?.to_string();
    let mut getent = Command::new("getent");
    let asked =
        getent.args(["passwd", "--", &user]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    (asked.status().ok()?.code() == Some(NOT_FOUND)).then(|| {
        let wrong = Wrong::new(format!("names {user}, who is no user of this machine"));
        vassal.refuse(
            "user",
            wrong.hint(format!("create the user, as in `useradd --system {user}`, or correct the name")),
        )
    })
}
