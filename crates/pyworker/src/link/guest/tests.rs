use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicUsize;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::*;

/// Acts as the other loop: makes turns when the descriptor is readable, until `is_over`.
fn drive(guest: &Guest, is_over: impl Fn() -> bool) {
    while !is_over() {
        poll(&mut [PollFd::new(&guest.descriptor(), PollFlags::IN)], None).unwrap();
        guest.turn();
    }
}

#[test]
fn a_guest_rests_when_there_is_nothing_to_do() {
    let guest = Guest::new().unwrap();
    assert!(!guest.is_due());
    guest.spawn(async {});
    assert!(guest.is_due());
    guest.turn();
    assert!(!guest.is_due(), "a turn leaves nothing readable behind");
    assert_eq!(guest.progress(), 1);
}

#[test]
fn tasks_read_and_write_sockets_of_any_load() {
    const SIZE: usize = 3 << 20;
    let guest = Guest::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut socket = guest.socket(ours).unwrap();
    let unwritten = socket.waits_to_write();
    let received = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&received);
    guest.spawn(async move {
        let mut echoed = vec![0; SIZE];
        socket.read_exact(&mut echoed).await.unwrap();
        socket.write_all(&echoed).await.unwrap();
        count.store(echoed.len(), Ordering::SeqCst);
    });
    let peer = thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let sent: Vec<u8> = (0..=250).cycle().take(SIZE).collect();
        theirs.write_all(&sent).unwrap();
        let mut back = vec![0; SIZE];
        theirs.read_exact(&mut back).unwrap();
        assert!(back == sent);
    });
    drive(&guest, || received.load(Ordering::SeqCst) == SIZE);
    peer.join().unwrap();
    assert!(!unwritten.load(Ordering::SeqCst));
}

#[test]
fn another_thread_wakes_the_loop_unless_a_turn_was_promised() {
    let guest = Guest::new().unwrap();
    let (bell, rung) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (heard, count) = (Arc::clone(&bell), Arc::clone(&rung));
    guest.spawn(async move {
        loop {
            heard.notified().await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    guest.turn();
    let ringing = Arc::clone(&bell);
    thread::spawn(move || ringing.notify_one()).join().unwrap();
    assert!(guest.shared.reactor.is_readable());
    drive(&guest, || rung.load(Ordering::SeqCst) == 1);

    assert!(guest.promise() && !guest.promise());
    bell.notify_one();
    assert!(!guest.shared.reactor.is_readable(), "nobody has to be woken");
    assert!(guest.is_due());
    guest.turn();
    assert_eq!(rung.load(Ordering::SeqCst), 2);
}

#[test]
fn a_turn_for_a_blocked_loop_wakes_it_afterwards() {
    let guest = Guest::new().unwrap();
    let bell = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&bell);
    guest.spawn(async move {
        count.fetch_add(1, Ordering::SeqCst);
    });
    guest.turn_for();
    assert_eq!((bell.load(Ordering::SeqCst), guest.progress()), (1, 0));
    assert!(guest.shared.reactor.is_readable());
    guest.turn();
    assert!(!guest.is_due());
}

#[test]
fn a_task_that_always_continues_leaves_the_loop_its_turn() {
    let guest = Guest::new().unwrap();
    guest.spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    guest.turn();
    assert!(guest.is_due());
}

#[test]
fn the_end_of_a_connection_is_read() {
    let guest = Guest::new().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut socket = guest.socket(ours).unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    guest.spawn(async move {
        assert_eq!(socket.read(&mut [0; 8]).await.unwrap(), 0);
        count.store(1, Ordering::SeqCst);
    });
    guest.turn();
    drop(theirs);
    drive(&guest, || ended.load(Ordering::SeqCst) == 1);
}
