//! Channels with real files: order, limits, wake-ups, and ends.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use http_body_util::BodyExt;

use super::super::testing::{KIB, accounts, folder, pattern};
use super::*;

const SMALL: ChannelLimits = ChannelLimits { memory: 256 * KIB, disk: 512 * KIB as u64 };

/// Polls once without waiting.
fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Reads at least `len` bytes.
async fn take(reader: &mut SpoolReader, len: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        all.extend_from_slice(reader.frame().await.unwrap().unwrap().data_ref().unwrap());
    }
    all
}

#[tokio::test]
async fn a_chunk_is_available_at_once_and_by_itself() {
    let (_temp, folder) = folder();
    let (mut writer, mut reader) = channel(folder, SMALL);
    assert!(poll_once(reader.frame()).is_pending());
    for at in 0..3 {
        let chunk = Bytes::from(pattern(at, 10));
        writer.push(chunk.clone()).await.unwrap();
        let Poll::Ready(Some(Ok(frame))) = poll_once(reader.frame()) else { panic!("chunk {at} is late") };
        assert_eq!(frame.into_data().unwrap().as_ptr(), chunk.as_ptr(), "the chunk is copied");
        assert!(poll_once(reader.frame()).is_pending());
    }
    writer.finish();
    assert!(reader.frame().await.is_none());
}

#[tokio::test]
async fn a_waiting_client_is_woken() {
    let (_temp, folder) = folder();
    let (mut writer, reader) = channel(folder, SMALL);
    let write = async {
        tokio::task::yield_now().await;
        writer.push(Bytes::from_static(b"event")).await.unwrap();
        tokio::task::yield_now().await;
        writer.finish();
    };
    let (read, ()) = tokio::join!(reader.collect(), write);
    assert_eq!(read.unwrap().to_bytes(), "event");
}

#[tokio::test]
async fn order_is_kept_through_memory_and_file() {
    let (temp, folder) = folder();
    for (chunk, count, pause) in
        [(100, 9000, 7), (KIB, 3000, 50), (50_000, 60, 3), (400 * KIB, 6, 1), (77_777, 40, 5)]
    {
        let (mut writer, mut reader) = channel(folder.clone(), SMALL);
        let write = async {
            for at in 0..count {
                writer.push(Bytes::from(pattern(at * chunk, chunk))).await.unwrap();
            }
            writer.finish();
        };
        let read = async {
            let mut all = Vec::new();
            while let Some(frame) = reader.frame().await {
                all.extend_from_slice(frame.unwrap().data_ref().unwrap());
                for _ in 0..pause {
                    tokio::task::yield_now().await;
                }
            }
            all
        };
        let ((), all) = tokio::join!(write, read);
        assert!(all == pattern(0, chunk * count), "{count} chunks of {chunk}");
    }
    assert_eq!(std::fs::read_dir(temp.path().join("made/spool")).unwrap().count(), 0, "no file has a name");
}

#[tokio::test]
async fn a_full_channel_holds_its_writer_until_there_is_room() {
    let (_temp, folder) = folder();
    let (mut writer, mut reader) = channel(folder, SMALL);
    let mut pushed = 0;
    let all = 4 * KIB * KIB;
    let write = async {
        while pushed < all {
            writer.push(Bytes::from(pattern(pushed, 16 * KIB))).await.unwrap();
            pushed += 16 * KIB;
        }
        writer.finish();
    };
    let mut write = pin!(write);
    // The reader doesn't read, so the writer must block.
    let stands = async {
        let shared = reader.shared.clone();
        std::future::poll_fn(|cx| {
            let full = shared.lock().ring.as_ref().is_some_and(|ring| ring.len == ring.size);
            if full {
                Poll::Ready(())
            } else {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
    };
    tokio::select! { () = &mut write => panic!("the channel accepted everything"), () = stands => {} }
    {
        let state = reader.shared.lock();
        assert!(state.head_len <= 144 * KIB, "in memory: {}", state.head_len);
    }
    let ((), read) = tokio::join!(write, take(&mut reader, all));
    assert!(read == pattern(0, all));
    assert!(reader.frame().await.is_none());
}

#[tokio::test]
async fn a_client_that_has_caught_up_gets_the_next_chunk_from_memory() {
    let (_temp, folder) = folder();
    let (mut writer, mut reader) = channel(folder, SMALL);
    for round in 0..3 {
        let len = 450 * KIB;
        writer.push(Bytes::from(pattern(round, len))).await.unwrap();
        writer.push(Bytes::from(pattern(round + len, 10))).await.unwrap();
        assert!(take(&mut reader, len + 10).await == pattern(round, len + 10), "round {round}");
        assert!(reader.shared.lock().ring.is_none(), "the file isn't released");
        writer.push(Bytes::from_static(b"now")).await.unwrap();
        assert!(matches!(poll_once(reader.frame()), Poll::Ready(Some(Ok(_)))));
    }
}

#[tokio::test]
async fn an_aborted_response_first_delivers_all_data() {
    let (_temp, folder) = folder();
    let (mut writer, mut reader) = channel(folder, SMALL);
    for at in 0..30 {
        writer.push(Bytes::from(pattern(at * 10 * KIB, 10 * KIB))).await.unwrap();
    }
    drop(writer);
    assert!(take(&mut reader, 300 * KIB).await == pattern(0, 300 * KIB));
    assert!(matches!(reader.frame().await, Some(Err(Cut::BrokenOff))));
}

#[tokio::test]
async fn a_cancelled_push_aborts_the_response() {
    let (_temp, folder) = folder();
    let (mut writer, mut reader) = channel(folder, SMALL);
    writer.push(Bytes::from_static(b"a")).await.unwrap();
    // 200 KiB go to the file. If the write completes at once, repeat until the file is full.
    while poll_once(writer.push(Bytes::from(pattern(0, 200 * KIB)))).is_ready() {}
    writer.finish();
    let read = async {
        loop {
            match reader.frame().await {
                Some(Ok(_)) => {}
                end => break end.is_some(),
            }
        }
    };
    assert!(read.await, "the response ended as if it were complete");
}

#[tokio::test]
async fn a_failed_disk_reaches_both_ends() {
    let (temp, folder) = folder();
    let (mut writer, mut reader) = channel(folder, SMALL);
    drop(temp);
    let mut failed = None;
    for _ in 0..3 {
        failed = failed.or(writer.push(Bytes::from(pattern(0, 200 * KIB))).await.err());
    }
    assert!(matches!(failed, Some(PushError::Disk(_))), "{failed:?}");
    writer.finish();
    take(&mut reader, 200 * KIB).await;
    assert!(matches!(reader.frame().await, Some(Err(Cut::BrokenOff))));
}

#[tokio::test]
async fn a_writer_notices_that_the_client_left() {
    let (_temp, folder) = folder();
    let (writer, reader) = channel(folder.clone(), SMALL);
    assert!(poll_once(writer.closed()).is_pending());
    let ((), ()) = tokio::join!(writer.closed(), async { drop(reader) });

    let (mut writer, reader) = channel(folder.clone(), SMALL);
    drop(reader);
    assert!(matches!(writer.push(Bytes::from_static(b"a")).await, Err(PushError::Closed)));

    let (mut writer, reader) = channel(folder, SMALL);
    let fill = async {
        loop {
            if let Err(error) = writer.push(Bytes::from(pattern(0, 64 * KIB))).await {
                break error;
            }
        }
    };
    let leave = async {
        tokio::task::yield_now().await;
        drop(reader);
    };
    assert!(matches!(tokio::join!(fill, leave).0, PushError::Closed));
}

#[tokio::test]
async fn a_full_spool_slows_a_response_but_never_stops_it() {
    let temp = tempfile::TempDir::new().unwrap();
    let [folder, _] = accounts(temp.path(), [0; 3]);
    let (mut writer, mut reader) = channel(folder.clone(), SMALL);
    let all = pattern(0, 2000 * KIB);
    let write = async {
        for chunk in all.chunks(7 * KIB) {
            writer.push(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        writer.finish();
    };
    let (read, ()) = tokio::join!(take(&mut reader, all.len()), write);
    assert!(read == all);
    assert!(reader.frame().await.is_none());
}

#[tokio::test]
async fn the_limit_of_a_folder_is_shared_and_given_back() {
    let temp = tempfile::TempDir::new().unwrap();
    let [folder, _] = accounts(temp.path(), [512 * KIB as u64, u64::MAX, u64::MAX]);
    let file = SpoolFile::create(&folder).await.unwrap();
    let other = SpoolFile::create(&folder).await.unwrap();
    for (of, at, len, room) in [
        (&file, 0, 300, 300),
        (&other, 0, 400, 340),
        (&file, 200, 200, 100),
        (&file, 300, 1, 0),
        (&other, 0, 10, 10),
    ] {
        assert_eq!(of.room(at * KIB as u64, len * KIB), room * KIB, "{len} KiB at {at}");
    }
    drop(other);
    let room = loop {
        match file.room(300 * KIB as u64, 1000 * KIB) {
            // The other file isn't closed yet.
            0 => tokio::task::yield_now().await,
            room => break room,
        }
    };
    assert_eq!(room, 276 * KIB);
}

/// Waits until the file holds at least this many KiB.
async fn holds(reader: &SpoolReader, kib: usize) {
    let held = async {
        while reader.shared.lock().ring.as_ref().is_none_or(|ring| ring.len < (kib * KIB) as u64) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), held).await.expect("too little was written");
}

#[tokio::test]
async fn a_writer_that_waits_for_a_limit_is_woken_when_anyone_gives_room_back() {
    const MAX: u64 = u64::MAX;
    let limit = 512 * KIB as u64;
    for (limits, name) in
        [([limit, MAX, MAX], "total"), ([MAX, limit, MAX], "app"), ([MAX, MAX, limit], "client")]
    {
        let temp = tempfile::TempDir::new().unwrap();
        let [account, _] = accounts(temp.path(), limits);
        let other = SpoolFile::create(&account).await.unwrap();
        assert_eq!(other.room(0, 600 * KIB), 576 * KIB, "{name}");
        let channels: [_; 3] = std::array::from_fn(|_| channel(account.clone(), ChannelLimits::default()));
        let mut writers = tokio::task::JoinSet::new();
        let readers = channels.map(|(mut writer, reader)| {
            writers.spawn(async move {
                for part in 0..2 {
                    writer.push(Bytes::from(pattern(part * 150 * KIB, 150 * KIB))).await.unwrap();
                }
                writer.finish();
            });
            reader
        });
        for reader in &readers {
            holds(reader, 64).await;
        }
        assert!(writers.try_join_next().is_none(), "{name}: there was no limit");
        drop(other);
        let woken = tokio::time::timeout(Duration::from_secs(10), writers.join_all());
        assert_eq!(woken.await.expect("no writer was woken").len(), 3, "{name}");
        for mut reader in readers {
            assert!(take(&mut reader, 300 * KIB).await == pattern(0, 300 * KIB), "{name}");
            assert!(reader.frame().await.is_none());
        }
    }
}

#[tokio::test]
async fn data_in_memory_counts_for_the_client_until_it_is_read_or_dropped() {
    let (_temp, folder) = folder();
    let memory = folder.memory.clone();
    let (mut writer, mut reader) = channel(folder.clone(), SMALL);
    writer.push(Bytes::from(pattern(0, 40 * KIB))).await.unwrap();
    writer.push(Bytes::from(pattern(0, KIB))).await.unwrap();
    assert!(memory.used() >= 40 * KIB as u64);
    take(&mut reader, 41 * KIB).await;
    assert_eq!(memory.used(), 0);
    writer.push(Bytes::from(pattern(0, 40 * KIB))).await.unwrap();
    drop((writer, reader));
    assert_eq!(memory.used(), 0);
}

#[tokio::test]
async fn without_a_free_file_a_spill_continues_once_the_reader_has_caught_up() {
    let (_temp, account) = folder();
    let files = account.client.files.clone();
    let taken: Vec<_> = std::iter::from_fn(|| files.take_one()).collect();
    let (mut writer, mut reader) = channel(account, SMALL);
    let all = 1024 * KIB;
    let write = async {
        for at in (0..all).step_by(16 * KIB) {
            writer.push(Bytes::from(pattern(at, 16 * KIB))).await.unwrap();
        }
        writer.finish();
    };
    let mut write = Box::pin(write);
    assert!(poll_once(write.as_mut()).is_pending(), "the channel accepted everything");
    let ((), read) = tokio::join!(write, take(&mut reader, all));
    assert!(read == pattern(0, all));
    assert!(reader.frame().await.is_none());
    drop(taken);
}
