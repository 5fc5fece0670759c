//! More connections than emperord has descriptors.

use std::os::unix::net::UnixStream as Client;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

use super::*;

#[tokio::test]
async fn a_user_with_too_many_connections_is_refused_and_others_are_served() {
    let before = getrlimit(Resource::Nofile);
    let few = Rlimit { current: Some(64), ..before };
    setrlimit(Resource::Nofile, few).unwrap();
    let served = serve_one_app();
    let mut admin = AdminServiceClient::new(served.channel.clone());
    admin.status(StatusRequest {}).await.unwrap();
    // Restored after the limit was read: the clients of this test are in the same process.
    setrlimit(Resource::Nofile, before).unwrap();

    let clients: Vec<Client> = (0..100).map(|_| Client::connect(&served.socket).unwrap()).collect();
    let mut refused = 0;
    for client in clients.iter().rev() {
        client.set_nonblocking(true).unwrap();
        let mut client = UnixStream::from_std(client.try_clone().unwrap()).unwrap();
        // A server speaks first: receiving its settings doesn't count as refused.
        refused += u64::from(!matches!(client.read(&mut [0; 1]).await, Ok(1..)));
        if refused == 60 {
            break;
        }
    }
    let status = admin.status(StatusRequest {}).await.unwrap().into_inner();
    assert!(status.refused_connections >= 60, "{}", status.refused_connections);
    drop(clients);
}
