//! Records whom an HTTP/2 exchange waits for, so that its send timeout only counts the client's time.

use std::cell::Cell;

use tokio::task::futures::TaskLocalFuture;

/// Whom an exchange waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitingFor {
    /// The app, the disk, or frontd.
    Server,
    /// The client, which has to open its window. The number counts the chunks since then.
    Client(u32),
}

tokio::task_local! {
    static WAITING_FOR: Cell<WaitingFor>;
}

/// Records that hyper has a chunk to send.
pub(crate) fn wait_for_client() {
    // Over HTTP/1.1, nothing is watched.
    let _unwatched = WAITING_FOR.try_with(|it| {
        it.set(match it.get() {
            WaitingFor::Server => WaitingFor::Client(0),
            WaitingFor::Client(pieces) => WaitingFor::Client(pieces.wrapping_add(1)),
        });
    });
}

/// Records that hyper waits for the next chunk of the response.
pub(crate) fn wait_for_server() {
    let _unwatched = WAITING_FOR.try_with(|it| it.set(WaitingFor::Server));
}

/// Runs an exchange that records whom it waits for: the server, to begin with.
pub(crate) fn record<F: Future>(exchange: F) -> TaskLocalFuture<Cell<WaitingFor>, F> {
    WAITING_FOR.scope(Cell::new(WaitingFor::Server), exchange)
}

/// Whom the current exchange waits for. Must be called within [`record`].
pub(crate) fn current() -> WaitingFor {
    WAITING_FOR.with(Cell::get)
}
