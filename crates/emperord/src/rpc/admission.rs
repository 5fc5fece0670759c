//! Limits each user's connections, so that no app can use up those of other apps, frontd and the operator.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use daemon::accept::AcceptErrors;
use rustix::process::{Resource, getrlimit};

/// The number of descriptors that is assumed without a limit.
const MANY: u64 = 65_536;
/// Refusals of the same user are logged again only after this time.
const INCIDENT: Duration = Duration::from_secs(60);

/// The limits on concurrent connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionLimits {
    /// For all users. The part beyond `others` is reserved for root and frontd.
    pub(super) all: usize,
    /// For all users except root and frontd, in total.
    pub(super) others: usize,
    /// For each of those users.
    pub(super) each: usize,
}

impl ConnectionLimits {
    /// Each connection takes two descriptors, its own and one for its process. A third of the descriptors is
    /// left for processes and files.
    pub(super) fn of_this_process() -> Self {
        Self::of_descriptors(getrlimit(Resource::Nofile).current.unwrap_or(MANY))
    }

    fn of_descriptors(descriptors: u64) -> Self {
        let all = usize::try_from(descriptors.min(MANY) / 3).unwrap_or(341).max(8);
        let others = all / 4 * 3;
        Self { all, others, each: others / 2 }
    }
}

/// The open connections.
#[derive(Debug)]
pub(super) struct Admission {
    limits: ConnectionLimits,
    /// Members of this group count as frontd.
    front: u32,
    held: Mutex<Held>,
    refused: AtomicU64,
    tally: Arc<AcceptErrors>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    others: usize,
    users: HashMap<u32, User>,
}

#[derive(Debug, Default)]
struct User {
    held: usize,
    logged_at: Option<Instant>,
}

/// Counts as a connection until it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Arc<Admission>,
    uid: u32,
    is_other: bool,
}

impl Admission {
    pub(super) fn new(limits: ConnectionLimits, front: u32) -> Arc<Self> {
        Arc::new(Self {
            limits,
            front,
            held: Mutex::default(),
            refused: AtomicU64::new(0),
            tally: Arc::default(),
        })
    }

    /// Returns the counter of the accept loop.
    pub(super) fn tally(&self) -> Arc<AcceptErrors> {
        Arc::clone(&self.tally)
    }

    /// Returns how many connections were closed because one user, or all users, had too many.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed) + self.tally.closed()
    }

    /// Admits a connection. None if its user has too many.
    pub(super) fn admit(self: &Arc<Self>, uid: u32, gid: u32) -> Option<Admitted> {
        // Without root, all connections belong to emperord's own user.
        let own = rustix::process::geteuid().as_raw();
        let is_other = uid != 0 && (gid != self.front || own != 0);
        let mut held = self.held();
        let (all, others) = (held.all, held.others);
        let user = held.users.entry(uid).or_default();
        let each = if uid == own { self.limits.others } else { self.limits.each };
        if all >= self.limits.all || is_other && (others >= self.limits.others || user.held >= each) {
            self.refuse(uid, user);
            return None;
        }
        user.held += 1;
        held.all += 1;
        held.others += usize::from(is_other);
        drop(held);
        Some(Admitted { admission: Arc::clone(self), uid, is_other })
    }

    fn refuse(&self, uid: u32, user: &mut User) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if user.logged_at.is_none_or(|at| now - at > INCIDENT) {
            user.logged_at = Some(now);
            tracing::warn!(
                uid,
                connections = user.held,
                "connections refused: this user, or all users together, have too many: check what opens them, and `ulimit -n`"
            );
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut held = self.admission.held();
        held.all -= 1;
        held.others -= usize::from(self.is_other);
        if let Some(user) = held.users.get_mut(&self.uid) {
            user.held -= 1;
        }
        // Remember users that were logged recently.
        held.users
            .retain(|_, user| user.held > 0 || user.logged_at.is_some_and(|at| at.elapsed() <= INCIDENT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRONT: u32 = 990;

    #[test]
    fn connections_may_use_two_thirds_of_the_descriptors() {
        assert_eq!(
            ConnectionLimits::of_descriptors(1024),
            ConnectionLimits { all: 341, others: 255, each: 127 }
        );
        assert_eq!(ConnectionLimits::of_descriptors(4), ConnectionLimits { all: 8, others: 6, each: 3 });
        assert_eq!(ConnectionLimits::of_descriptors(u64::MAX).all, 21_845);
    }

    #[test]
    fn no_user_can_use_up_the_connections_of_others() {
        skip::needs_root!();
        let admission = Admission::new(ConnectionLimits { all: 8, others: 6, each: 3 }, FRONT);
        let take =
            |uid, gid, count: usize| (0..count).filter_map(|_| admission.admit(uid, gid)).collect::<Vec<_>>();
        let first = take(1001, 1001, 100);
        assert_eq!((first.len(), admission.refused()), (3, 97));
        let second = take(1002, 1002, 3);
        assert_eq!(second.len(), 3, "these aren't affected by the first user");
        assert_eq!(take(1003, 1003, 1).len(), 0, "the total of all other users is reached");
        let (front, root) = (take(1004, FRONT, 1), take(0, 0, 100));
        assert_eq!((front.len(), root.len()), (1, 1), "from the reserve");
        drop(first);
        assert_eq!(take(1001, 1001, 100).len(), 3);
        drop((second, front, root));
        let held = admission.held();
        assert_eq!((held.all, held.others), (0, 0));
        assert!(held.users.values().all(|it| it.logged_at.is_some()));
    }
}
