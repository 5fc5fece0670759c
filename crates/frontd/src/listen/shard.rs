//! One shard: a thread with its own runtime, accept loops and upstream links. There is one per core.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::{io, iter};

use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::Front;
use super::handoff::{Accepted, ConnectionGuard, Handoff, Rejected};
use super::sockets::{BACKLOG, Bound, Listener};
use crate::backend::Links;
use crate::connection::{self, Server};
use crate::limits::clients::Share;
use crate::visit::client::Transport;
use crate::yield_before_park;

/// The part of the drain in which WebSockets are closed.
const FAREWELL: Duration = Duration::from_secs(2);

/// One shard, as its tasks see it.
#[derive(Debug)]
struct Shard {
    number: usize,
    front: Arc<Front>,
    server: Arc<Server>,
}

/// Starts one thread per shard. Each has its own duplicates of the sockets, closes them when the drain
/// begins, and ends once it has drained.
///
/// # Errors
///
/// Returns an error if a thread, a runtime or a file descriptor can't be created.
pub(crate) fn start(front: &Arc<Front>, bound: &[Bound]) -> io::Result<Vec<thread::JoinHandle<()>>> {
    let shards = front.shared.config.shards.get();
    let (handoffs, receivers): (Vec<_>, Vec<_>) = (0..shards).map(|_| Handoff::new()).unzip();
    let handoffs = Arc::new(handoffs);
    let start = |(number, receiver)| {
        let mut builder = runtime::Builder::new_current_thread();
        // Blocking file operations run on the threads of `disk`.
        builder.max_blocking_threads(1);
        let runtime = builder.enable_all().on_thread_park(yield_before_park::before_park).build()?;
        let shard = Arc::new(Shard::new(number, Arc::clone(front)));
        let bound = bound.iter().map(Bound::share).collect::<io::Result<_>>()?;
        let handoffs = Arc::clone(&handoffs);
        let thread = thread::Builder::new().name(format!("shard-{number}"));
        thread.spawn(move || runtime.block_on(shard.run(bound, handoffs, receiver)))
    };
    receivers.into_iter().enumerate().map(start).collect()
}

impl Shard {
    fn new(number: usize, front: Arc<Front>) -> Self {
        let server = Arc::new(Server::new(number, &front.shared));
        Self { number, front, server }
    }

    async fn run(
        self: Arc<Self>,
        bound: Vec<Bound>,
        handoffs: Arc<Vec<Handoff>>,
        mut receiver: mpsc::UnboundedReceiver<Accepted>,
    ) {
        let background = TaskTracker::new();
        let beating = Arc::clone(&self);
        background.spawn(async move { beating.front.pulse.beat(beating.number).await });
        let (server, live) = (Arc::clone(&self.server), self.front.shared.live.subscribe());
        background.spawn(async move { server.settings().follow(live).await });
        background
            .spawn(Links::new(self.number, background.clone()).follow(self.front.shared.tables.clone()));
        for bound in bound {
            match bound.listener(&self.front.shared.metrics) {
                Ok(listener) => {
                    let accept = Arc::clone(&self).accept(listener, Arc::clone(&handoffs));
                    drop(background.spawn(accept));
                }
                Err(error) => {
                    warn!(shard = self.number, %error, "this shard cannot accept connections");
                }
            }
        }
        drop(handoffs);
        // The channel closes with the last accept loop of any shard. Connections passed on until then are
        // served like all others, even though the drain has begun.
        while let Some(accepted) = receiver.recv().await {
            self.receive(accepted);
        }
        self.front.shared.drain.cancelled().await;
        self.server.tasks().close();
        let limit = self.server.settings().read().drain;
        let farewell = FAREWELL.min(limit / 2);
        let in_time = tokio::time::timeout(limit - farewell, self.server.tasks().wait()).await.is_ok();
        self.server.end_of_drain().cancel();
        if !in_time && tokio::time::timeout(farewell, self.server.tasks().wait()).await.is_err() {
            warn!(
                shard = self.number,
                connections = self.server.tasks().len(),
                "drain took too long: cutting what is left"
            );
        }
        self.front.pulse.end(self.number);
    }

    async fn accept(self: Arc<Self>, mut listener: Listener, handoffs: Arc<Vec<Handoff>>) {
        let transport = listener.transport();
        let drain = self.front.shared.drain.clone();
        while let Some((stream, peer)) = drain.run_until_cancelled(listener.accept()).await {
            self.dispatch(stream, peer, transport, &handoffs);
        }
        // Clients of connections in the accept queue consider themselves connected, and closing the socket
        // would reset them. The number is bounded because other processes may still listen on this socket.
        for (stream, peer) in iter::from_fn(|| listener.accept_waiting()).take(BACKLOG.into()) {
            self.dispatch(stream, peer, transport, &handoffs);
        }
    }

    /// Passes a connection to the shard that will serve it.
    fn dispatch(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        transport: Transport,
        handoffs: &[Handoff],
    ) {
        let (target, guard) = match self.choose(handoffs, self.front.shared.clients.of(peer.ip())) {
            Ok(chosen) => chosen,
            Err(refused) => {
                self.front.shared.metrics.connections_refused.inc();
                return refused.log(peer);
            }
        };
        if target == self.number {
            return self.serve(stream, peer, transport, guard);
        }
        if let Ok(stream) = stream.into_std() {
            let _shard_has_ended =
                handoffs[target].accepted.send(Accepted { stream, peer, transport, guard });
        }
    }

    fn receive(self: &Arc<Self>, Accepted { stream, peer, transport, guard }: Accepted) {
        match TcpStream::from_std(stream) {
            Ok(stream) => self.serve(stream, peer, transport, guard),
            Err(error) => warn!(%peer, %error, "connection lost on its way to another shard"),
        }
    }

    fn serve(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        transport: Transport,
        guard: ConnectionGuard,
    ) {
        let server = Arc::clone(&self.server);
        self.server.tasks().spawn(async move {
            connection::serve(server, stream, peer, transport, Arc::clone(&guard.share), Arc::new(guard))
                .await;
        });
    }

    /// Selects the shard with the fewest connections, preferring this one.
    fn choose(&self, handoffs: &[Handoff], share: Arc<Share>) -> Result<(usize, ConnectionGuard), Rejected> {
        let open = |it: usize| handoffs[it].open();
        let all: usize = (0..handoffs.len()).map(open).sum();
        let limit = self.front.connections.load(Ordering::Relaxed);
        let refused = Rejected::of(all, share.connections.load(Ordering::Relaxed), limit);
        if let Some(refused) = refused {
            return Err(refused);
        }
        let fewest = (0..handoffs.len()).min_by_key(|it| (open(*it), *it != self.number));
        let fewest = fewest.unwrap_or(self.number);
        Ok((fewest, handoffs[fewest].register(&self.front.shared.metrics, share)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::connection::testing;

    #[tokio::test]
    async fn a_connection_passed_on_by_another_shard_during_a_drain_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let front = Arc::new(Front::of(testing::shared(folder.path(), &[])));
        let (handoff, receiver) = Handoff::new();
        let handoffs = Arc::new(vec![handoff]);
        let shard = Arc::new(Shard::new(0, Arc::clone(&front)));
        front.shared.drain.cancel();
        let run = TaskTracker::new().spawn(shard.run(Vec::new(), Arc::clone(&handoffs), receiver));
        tokio::task::yield_now().await;

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let guard = handoffs[0].register(&front.shared.metrics, front.shared.clients.of(peer.ip()));
        handoffs[0].accepted.send(Accepted { stream, peer, transport: Transport::Plain, guard }).unwrap();
        drop(handoffs);
        client.write_all(b"GET / HTTP/1.1\r\nHost: blog.example\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        run.await.unwrap();
    }

    /// Two shards that listen on a socket bound by frontd, as without systemd.
    fn listening(folder: &std::path::Path) -> (Arc<Front>, SocketAddr, Vec<Bound>) {
        let mut shared = testing::shared(folder, &[]);
        shared.config.shards = std::num::NonZeroUsize::new(2).unwrap();
        shared.config.http = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        shared.config.https = Vec::new();
        let bound = crate::listen::sockets::bind_clients(&shared.config).unwrap();
        (Arc::new(Front::of(shared)), bound[0].address().unwrap(), bound)
    }

    #[tokio::test]
    async fn connections_in_the_accept_queue_are_served_during_a_drain() {
        let folder = tempfile::tempdir().unwrap();
        let (front, address, bound) = listening(folder.path());
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        front.shared.drain.cancel();
        let shards = start(&front, &bound).unwrap();
        drop(bound);
        for mut client in clients {
            client.write_all(b"GET / HTTP/1.1\r\nHost: blog.example\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        }
        shards.into_iter().for_each(|it| it.join().unwrap());
    }

    #[tokio::test]
    async fn new_clients_are_refused_while_a_drain_waits_for_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (front, address, bound) = listening(folder.path());
        let shards = start(&front, &bound).unwrap();
        drop(bound);
        let mut old = TcpStream::connect(address).await.unwrap();
        old.write_all(b"GET / HTTP/1.1\r\nHost: blog.example\r\n").await.unwrap();
        while front.shared.metrics.connections.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        front.shared.drain.cancel();
        let refused = async {
            while let Ok(accepted) = TcpStream::connect(address).await {
                drop(accepted);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), refused).await.expect("new clients are still accepted");
        assert!(shards.iter().any(|it| !it.is_finished()), "the drain did not wait");
        old.write_all(b"\r\n").await.unwrap();
        let mut answer = String::new();
        old.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        shards.into_iter().for_each(|it| it.join().unwrap());
    }
}
