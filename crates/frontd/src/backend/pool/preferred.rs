//! Gives a request to the worker that its client was served by before.

use std::num::NonZeroU64;
use std::sync::Arc;
use tokio::time::Instant;

use super::lease::Lease;
use super::member::Member;
use super::{Isolation, Pool, Purpose, State};

impl<L: Clone> State<L> {
    /// Leases the preferred worker, if it takes requests and has room. Otherwise, the request is treated like all
    /// others, so that no client waits for one worker while another is free.
    pub(super) fn lease_preferred(
        &mut self,
        pool: &Arc<Pool<L>>,
        shard: usize,
        preferred: NonZeroU64,
        now: Instant,
        purpose: Purpose,
    ) -> Option<Lease<L>> {
        let Self { members, reservation, pace, .. } = self;
        let is_free = |it: &Member<L>| {
            it.has_room(*pace, now)
                && it.takes_from(shard)
                && !reservation.is_of(it.instance)
                && now >= it.avoid_until
                && (purpose == Purpose::Request || it.has_socket_room())
        };
        let member = members.iter_mut().find(|it| it.instance == preferred.get()).filter(|it| is_free(it))?;
        member.lease(pool, shard, Isolation::Shared, now, purpose)
    }
}
