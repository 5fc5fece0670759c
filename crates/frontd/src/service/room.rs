//! Makes a request wait while its connection holds too much response data.

use std::time::Duration;

use tracing::warn;

use crate::observe::log_limit::LogLimit;
use crate::visit::client::Client;

/// Bytes of responses that a connection may hold in memory regardless of the limits.
const ALWAYS_ADMITTED: u64 = 1 << 20;

/// How often a waiting request checks whether its connection holds less than `ALWAYS_ADMITTED`.
const ROOM_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Waits while this connection holds too much response data in memory, for up to `limit`. Returns
/// whether there is room. A connection that holds less than `ALWAYS_ADMITTED` never waits.
pub(super) async fn has_room(limit: impl FnOnce() -> Duration, client: &Client) -> bool {
    let memory = client.memory();
    let may_pass = || memory.uses_less_than(ALWAYS_ADMITTED) || !memory.is_full();
    if may_pass() {
        return true;
    }
    let limit = limit();
    let room = async {
        while !may_pass() {
            // `room` doesn't wake us when usage falls below `ALWAYS_ADMITTED` while the limit is still exceeded.
            let _check_again = tokio::time::timeout(ROOM_CHECK_INTERVAL, memory.room()).await;
        }
    };
    let has_room = tokio::time::timeout(limit, room).await.is_ok();
    if !has_room {
        static LOGGED: LogLimit = LogLimit::every(30);
        if let Some(withheld) = LOGGED.pass() {
            warn!(
                client = %client.address(),
                withheld,
                "request refused: responses that wait for their clients take all of limits.send_memory, or of this client's part"
            );
        }
    }
    has_room
}
