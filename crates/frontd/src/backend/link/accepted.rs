//! Exchanges that have become WebSockets.

use std::sync::Arc;

use api::runner::{Header, Response, SocketClose, SocketCredit, SocketMessage};

use super::exchanges::{Exchanges, InFlight, LinkState};
use super::outcome::{Event, Outcome};
use super::sockets::Accepted;

impl Exchanges {
    /// Whether a response accepts a handshake.
    pub(super) fn is_acceptance(exchange: &InFlight, response: &Response) -> bool {
        response.status == 101 && !response.done && exchange.lease.allows_socket()
    }

    /// The worker accepts a handshake.
    pub(super) fn accepted(&self, exchange: InFlight, headers: Vec<Header>) {
        let InFlight { id, reply, lease, .. } = exchange;
        let link = Arc::clone(lease.link());
        // Only an exchange that allows it gets here.
        let Some(lease) = lease.into_socket() else { return };
        let (accepted, socket) = Accepted::new(link, id, lease);
        self.lock().sockets.insert(id, accepted);
        if let Some(reply) = reply {
            // If the client has gone, dropping the socket tells the worker.
            let _client_has_gone = reply.send(Event::Settled(Outcome::Socket { headers, socket }));
        }
    }

    pub(super) fn socket_message(&self, message: SocketMessage) {
        if let Some(accepted) = self.lock().sockets.get(&message.id) {
            accepted.message(message);
        }
    }

    pub(super) fn socket_credit(&self, credit: SocketCredit) {
        if let Some(accepted) = self.lock().sockets.get(&credit.id) {
            accepted.credit(credit.bytes);
        }
    }

    pub(super) fn socket_close(&self, close: SocketClose) {
        if let Some(accepted) = self.lock().sockets.get(&close.id) {
            accepted.close(close.code, close.reason);
        }
    }

    /// The worker is done with a WebSocket. `None` if `id` isn't one.
    pub(super) fn socket_done(&self, id: u64) -> Option<LinkState> {
        let mut state = self.lock();
        let accepted = state.sockets.remove(&id)?;
        let link_state = state.link_state();
        drop(state);
        accepted.ended();
        Some(link_state)
    }
}
