//! The cases of the Autobahn test suite, plain and over TLS, against a worker that echoes: run by kosoku
//! (`pip install kosoku`), which has to be in `PATH`.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::process::Stdio;

use api::runner::SocketMessage;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, version};
use tokio_rustls::TlsConnector;

use super::*;

/// The credit of each side at first.
const WINDOW: i64 = 256 * 1024;

/// What the worker may still send on a WebSocket, and what waits for that.
struct Echo {
    credit: i64,
    waiting: VecDeque<SocketMessage>,
}

/// Accepts every handshake, and echoes every message. Never returns.
async fn echo(worker: &mut Worker) {
    let mut sockets = HashMap::new();
    loop {
        match worker.next().await {
            Sent::Request(request) => {
                sockets.insert(request.id, Echo { credit: WINDOW, waiting: VecDeque::new() });
                worker.accept(request.id, &[]).await;
            }
            Sent::SocketMessage(message) => {
                let Some(socket) = sockets.get_mut(&message.id) else { continue };
                socket.waiting.push_back(message);
                socket.send(worker).await;
            }
            Sent::SocketCredit(credit) => {
                let Some(socket) = sockets.get_mut(&credit.id) else { continue };
                socket.credit += i64::from(credit.bytes);
                socket.send(worker).await;
            }
            Sent::SocketClose(close) => {
                sockets.remove(&close.id);
                worker.done(close.id).await;
            }
            other => panic!("{other:?} is unexpected"),
        }
    }
}

impl Echo {
    /// Sends what waits, as far as the credit allows, and gives credit back for it.
    async fn send(&mut self, worker: &mut Worker) {
        while let Some(message) = self.waiting.front() {
            let cost = u32::try_from(message.payload.len() + 64).unwrap();
            if self.credit < i64::from(cost) {
                return;
            }
            self.credit -= i64::from(cost);
            let message = self.waiting.pop_front().unwrap();
            let id = message.id;
            worker.send(Message::SocketMessage(message)).await;
            worker.credit(id, cost).await;
        }
    }
}

/// Accepts connections, and passes each one on over TLS: kosoku doesn't speak it.
async fn tunnel(plain: TcpListener, tls: SocketAddr, authority: &Path) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&version::TLS13]);
    let config = Arc::new(builder.unwrap().with_root_certificates(roots).with_no_client_auth());
    let tunnels = TaskTracker::new();
    loop {
        let (mut near, _) = plain.accept().await.unwrap();
        let connector = TlsConnector::from(Arc::clone(&config));
        tunnels.spawn(async move {
            let far = TcpStream::connect(tls).await.unwrap();
            let mut far = connector.connect(ServerName::try_from("localhost").unwrap(), far).await.unwrap();
            let _ended = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
    }
}

/// Runs all cases, and returns those that failed.
async fn failed_cases(transport: Transport) -> Vec<String> {
    let mut site = Site::new(1000).await;
    let address = site.listener.local_addr().unwrap();
    let (server, clients) = (Arc::clone(&site.server), Arc::clone(&site.shared));
    let listener =
        std::mem::replace(&mut site.listener, TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    let accepting = async move {
        loop {
            let (near, peer) = listener.accept().await.unwrap();
            let share = clients.clients.of(peer.ip());
            server.tasks().spawn(serve(Arc::clone(&server), near, peer, transport, share, Arc::new(())));
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let target = match transport {
        Transport::Plain => address,
        Transport::Tls => plain.local_addr().unwrap(),
    };
    let authority = site.folder.path().join("development/ca.pem");
    let tunnel = async {
        match transport {
            Transport::Plain => std::future::pending().await,
            Transport::Tls => tunnel(plain, address, &authority).await,
        }
    };
    let mut kosoku = tokio::process::Command::new("kosoku");
    kosoku
        .args(["--mode", "fuzzingclient", "--parallelism", "8", "--outdir"])
        .arg(folder.path())
        .arg(target.to_string());
    let run = kosoku.stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).status();
    tokio::select! {
        status = run => drop(status.unwrap()),
        () = accepting => {}
        () = tunnel => {}
        () = echo(&mut site.worker) => {}
    }
    let index = std::fs::read_to_string(folder.path().join("index.json")).unwrap();
    failed(&index)
}

/// The cases of a report whose behavior, or whose closing, isn't what the standard wants.
fn failed(index: &str) -> Vec<String> {
    let mut failed = Vec::new();
    let (mut case, mut cases) = (String::new(), 0);
    for line in index.lines().map(str::trim) {
        let Some((name, value)) = line.split_once(": ") else { continue };
        let (name, value) = (name.trim_matches('"'), value.trim_matches(['"', ',', '{', ' ']));
        if name.starts_with(|it: char| it.is_ascii_digit()) {
            case = name.to_owned();
            cases += 1;
        } else if name.starts_with("behavior") && !matches!(value, "OK" | "NON-STRICT" | "INFORMATIONAL") {
            failed.push(format!("{case}: {name} is {value}"));
        }
    }
    assert!(cases > 500, "{cases} cases");
    failed
}

#[tokio::test]
async fn all_autobahn_cases_pass() {
    skip::needs_program!("kosoku");
    assert_eq!(failed_cases(Transport::Plain).await, Vec::<String>::new());
}

#[tokio::test]
async fn all_autobahn_cases_pass_over_tls() {
    skip::needs_program!("kosoku");
    assert_eq!(failed_cases(Transport::Tls).await, Vec::<String>::new());
}
