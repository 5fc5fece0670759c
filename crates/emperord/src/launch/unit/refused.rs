//! The meaning of systemd's own exit statuses for processes that couldn't be started (systemd.exec(5),
//! "Process Exit Codes").

/// Returns what went wrong, and what to do. None if the status is the program's own, or if a retry may help.
pub(super) fn meaning(status: i32) -> Option<String> {
    let (name, meaning) = STATUSES.iter().find(|(it, ..)| *it == status).map(|(_, name, it)| (name, it))?;
    Some(format!("{status}/{name}: {meaning}"))
}

/// Whether systemd lacked resources such as memory, so that a retry may help.
pub(super) fn is_transient(status: i32) -> bool {
    TRANSIENT.contains(&status)
}

/// FDS, MEMORY, CGROUP, KEYRING (a quota) and BPF (locked memory).
const TRANSIENT: [i32; 5] = [202, 204, 219, 237, 245];

const STATUSES: &[(i32, &str, &str)] = &[
    (200, "CHDIR", "its working directory cannot be entered: correct `WorkingDirectory=`"),
    (201, "NICE", "its priority cannot be set: correct `Nice=`"),
    (
        203,
        "EXEC",
        "the program of its unit cannot be run: install the package again, or correct `ExecStart=`",
    ),
    (205, "LIMITS", "its resource limits cannot be set: correct `Limit…=`"),
    (206, "OOM_ADJUST", "its OOM score cannot be set: correct `OOMScoreAdjust=`"),
    (207, "SIGNAL_MASK", "its signals cannot be set up"),
    (208, "STDIN", "its input cannot be opened: correct `StandardInput=`"),
    (209, "STDOUT", "its output cannot be opened: correct `StandardOutput=`"),
    (210, "CHROOT", "its root cannot be changed: correct `RootDirectory=`"),
    (211, "IOPRIO", "its I/O priority cannot be set: correct `IOSchedulingPriority=`"),
    (212, "TIMERSLACK", "its timer slack cannot be set: correct `TimerSlackNSec=`"),
    (213, "SECUREBITS", "its secure bits cannot be set: correct `SecureBits=`"),
    (214, "SETSCHEDULER", "its scheduling cannot be set: correct `CPUSchedulingPolicy=`"),
    (215, "CPUAFFINITY", "its processors cannot be set: correct `CPUAffinity=`"),
    (216, "GROUP", "its group does not exist or cannot be set: make it, or correct `SupplementaryGroups=`"),
    (217, "USER", "its user does not exist or cannot be set: make it, or correct `user` in the app's file"),
    (218, "CAPABILITIES", "its capabilities cannot be set: correct `CapabilityBoundingSet=`"),
    (220, "SETSID", "it cannot have a session of its own"),
    (222, "STDERR", "its error output cannot be opened: correct `StandardError=`"),
    (224, "PAM", "its PAM session cannot be opened: correct `PAMName=`"),
    (225, "NETWORK", "its network namespace cannot be set up: correct `PrivateNetwork=`"),
    (
        226,
        "NAMESPACE",
        "its file system namespace cannot be set up: a path in the unit or a drop-in does not exist",
    ),
    (227, "NO_NEW_PRIVILEGES", "new privileges cannot be forbidden to it"),
    (228, "SECCOMP", "its system calls cannot be filtered: correct `SystemCallFilter=`"),
    (229, "SELINUX_CONTEXT", "its SELinux context cannot be set: correct `SELinuxContext=`"),
    (230, "PERSONALITY", "its execution domain cannot be set: correct `Personality=`"),
    (231, "APPARMOR", "its AppArmor profile cannot be set: correct `AppArmorProfile=`"),
    (
        232,
        "ADDRESS_FAMILIES",
        "its address families cannot be restricted: correct `RestrictAddressFamilies=`",
    ),
    (233, "RUNTIME_DIRECTORY", "its runtime directory cannot be made: correct `RuntimeDirectory=`"),
    (235, "CHOWN", "the owner of its socket cannot be set"),
    (236, "SMACK_PROCESS_LABEL", "its SMACK label cannot be set: correct `SmackProcessLabel=`"),
    (238, "STATE_DIRECTORY", "its state directory cannot be made: correct `StateDirectory=`"),
    (239, "CACHE_DIRECTORY", "its cache directory cannot be made: correct `CacheDirectory=`"),
    (240, "LOGS_DIRECTORY", "its log directory cannot be made: correct `LogsDirectory=`"),
    (
        241,
        "CONFIGURATION_DIRECTORY",
        "its configuration directory cannot be made: correct `ConfigurationDirectory=`",
    ),
    (242, "NUMA_POLICY", "its NUMA policy cannot be set: correct `NUMAPolicy=`"),
    (243, "CREDENTIALS", "its credentials cannot be set up: correct `LoadCredential=`"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_systemds_own_statuses_are_refusals() {
        let user = meaning(217).unwrap();
        assert!(
            user.starts_with("217/USER: its user does not exist")
                && user.contains("`user` in the app's file")
        );
        for status in [203, 226] {
            assert!(meaning(status).is_some() && !is_transient(status), "{status}");
        }
        for status in TRANSIENT {
            assert_eq!(meaning(status), None, "{status}");
        }
        // Statuses of workerd, shells and signals.
        for status in [0, 1, 2, 3, 126, 127, 143, 199, 221, 255] {
            assert_eq!(meaning(status), None, "{status}");
        }
        assert!(STATUSES.is_sorted_by_key(|(status, ..)| *status));
    }
}
