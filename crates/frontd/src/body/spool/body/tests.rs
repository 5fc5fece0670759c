//! Request bodies in real files: limits, retries, and errors of the disk.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{Full, StreamBody};

use super::super::testing::{KIB, accounts, folder, pattern};
use super::*;

/// A body with frames of these lengths.
fn body(frames: &[usize]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin + use<> {
    let mut at = 0;
    let frames: Vec<_> = frames
        .iter()
        .map(|&len| {
            at += len;
            Ok(Frame::data(Bytes::from(pattern(at - len, len))))
        })
        .collect();
    StreamBody::new(futures_util::stream::iter(frames))
}

async fn read_all(body: &SpooledBody) -> Vec<u8> {
    let mut reader = body.reader_at(0);
    let mut all = Vec::new();
    while let Some(chunk) = reader.next().await.unwrap() {
        assert!(!chunk.is_empty() && chunk.len() <= 64 * KIB);
        all.extend_from_slice(&chunk);
    }
    assert!(reader.next().await.unwrap().is_none());
    all
}

#[tokio::test]
async fn bodies_can_be_read_completely_and_repeatedly() {
    let (_temp, folder) = folder();
    for (frames, inline) in [
        (vec![], true),
        (vec![1], true),
        (vec![10, 0, 20, 30], true),
        (vec![64 * KIB], true),
        (vec![64 * KIB, 1], false),
        (vec![64 * KIB + 1], false),
        (vec![256 * KIB], false),
        (vec![5000; 200], false),
        (vec![3, 700 * KIB, 5, 64 * KIB], false),
    ] {
        let len: usize = frames.iter().sum();
        let spooled = SpooledBody::read(body(&frames), len as u64, &folder).await.unwrap();
        assert_eq!(matches!(spooled, SpooledBody::Inline(_)), inline, "{frames:?}");
        assert_eq!(spooled.len(), len as u64);
        let again = spooled.clone();
        assert_eq!(read_all(&spooled).await, pattern(0, len), "{frames:?}");
        drop(spooled);
        assert_eq!(read_all(&again).await, pattern(0, len), "a second time, {frames:?}");
    }
}

#[tokio::test]
async fn a_single_frame_is_not_copied() {
    let (_temp, folder) = folder();
    let data = Bytes::from(pattern(0, 1000));
    let spooled = SpooledBody::read(Full::new(data.clone()), 1000, &folder).await.unwrap();
    assert!(matches!(spooled, SpooledBody::Inline(kept) if kept.as_ptr() == data.as_ptr()));
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused() {
    let (_temp, folder) = folder();
    for frames in [vec![11], vec![5, 6], vec![10, 1]] {
        let read = SpooledBody::read(body(&frames), 10, &folder).await;
        assert!(matches!(read, Err(SpoolBodyError::TooLarge { limit: 10 })), "{frames:?}");
    }
    assert!(matches!(SpooledBody::read(Announced, 10, &folder).await, Err(SpoolBodyError::TooLarge { .. })));
}

/// Announces its length, and must not be read then.
struct Announced;

impl Body for Announced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("the body was read")
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(11)
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_client_error() {
    let (_temp, folder) = folder();
    let frames =
        [Ok(Frame::data(Bytes::from_static(b"ab"))), Err(io::Error::from(io::ErrorKind::UnexpectedEof))];
    let broken = StreamBody::new(futures_util::stream::iter(frames));
    let read = SpooledBody::read(broken, 10, &folder).await;
    assert!(matches!(read, Err(SpoolBodyError::Client(_))));
}

#[tokio::test]
async fn the_error_for_a_removed_folder_says_how_to_fix_it() {
    let (temp, folder) = folder();
    drop(temp);
    let error = SpooledBody::read(body(&[100 * KIB]), 1 << 20, &folder).await.unwrap_err().to_string();
    assert!(error.starts_with("create a spool file in /"), "{error}");
    assert!(error.contains("made/spool") && error.contains("set `spool` in frontd.toml"), "{error}");
}

#[tokio::test]
async fn the_error_for_a_full_disk_says_how_to_fix_it() {
    let (_temp, folder) = folder();
    let error =
        folder.folder.error("write", io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()));
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert!(error.to_string().contains("free some space there"), "{error}");
}

#[tokio::test]
async fn a_full_spool_is_distinguished_from_a_full_disk() {
    let temp = tempfile::TempDir::new().unwrap();
    let [folder, _] = accounts(temp.path(), [1000 * KIB as u64, u64::MAX, u64::MAX]);
    let first = SpooledBody::read(body(&[800 * KIB]), 1 << 30, &folder).await.unwrap();
    let Err(SpoolBodyError::Disk(error)) = SpooledBody::read(body(&[800 * KIB]), 1 << 30, &folder).await
    else {
        panic!("there was room")
    };
    assert!(error.is_full() && error.to_string().contains("raise `limits.spool`"), "{error}");
    SpooledBody::read(body(&[60 * KIB]), 1 << 30, &folder).await.unwrap();
    drop(first);
    SpooledBody::read(body(&[800 * KIB]), 1 << 30, &folder).await.unwrap();
}

#[tokio::test]
async fn an_app_cannot_use_up_the_spool_of_another_app() {
    let temp = tempfile::TempDir::new().unwrap();
    let [blog, shop] = accounts(temp.path(), [u64::MAX, 1000 * KIB as u64, 1500 * KIB as u64]);
    let upload = async |account, kib: usize| SpooledBody::read(body(&[kib * KIB]), 1 << 30, account).await;
    let _kept = upload(&blog, 900).await.unwrap();
    let error = upload(&blog, 900).await.unwrap_err();
    assert!(error.to_string().contains("`limits.spool_per_app`"), "{error}");
    let _kept = upload(&shop, 600).await.unwrap();
    let error = upload(&shop, 300).await.unwrap_err();
    assert!(error.to_string().contains("`limits.spool_per_client`"), "{error}");
    assert!(matches!(error, SpoolBodyError::Disk(error) if error.is_full()));
}

/// A client that sends this much and then pauses.
struct Trickles(Option<Bytes>);

impl Body for Trickles {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.take().map_or(Poll::Pending, |data| Poll::Ready(Some(Ok(Frame::data(data)))))
    }
}

#[tokio::test]
async fn no_more_than_an_inline_body_waits_in_memory() {
    let temp = tempfile::TempDir::new().unwrap();
    let [account, _] = accounts(temp.path(), [u64::MAX; 3]);
    for (kib, files) in [(10, 0), (64, 0), (65, 1)] {
        let read = SpooledBody::read(Trickles(Some(pattern(0, kib * KIB).into())), 1 << 30, &account);
        let mut read = std::pin::pin!(read);
        tokio::select! {
            biased;
            _ = read.as_mut() => panic!("the body isn't complete"),
            () = async {
                while account.client.files.used() != files {
                    tokio::task::yield_now().await;
                }
            } => {}
        }
    }
}
