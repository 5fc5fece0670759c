//! Whether the user of an app is one of this machine.

use std::process::{Command, Stdio};

use config::{Diagnostics, Wrong};
use vassal::Vassal;

/// The status of getent(1) where a name is not found.
const NOT_FOUND: i32 = 2;

/// What is wrong with `user`, if anything. getent asks all that nsswitch.conf(5) names, as emperord does.
pub(super) fn check(vassal: &Vassal) -> Option<Diagnostics> {
    let user = vassal.confinement.user.as_ref()?.to_string();
    let mut getent = Command::new("getent");
    let asked =
        getent.args(["passwd", "--", &user]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    (asked.status().ok()?.code() == Some(NOT_FOUND)).then(|| {
        let wrong = Wrong::new(format!("names {user}, who is no user of this machine"));
        vassal.refuse(
            "user",
            wrong.cure(format!("create the user, as in `useradd --system {user}`, or correct the name")),
        )
    })
}
