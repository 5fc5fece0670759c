//! Requests over HTTP/2 that h2 lets through, and RFC 9113 does not.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::resets::{OPENING, serving, starting};

/// What stands for these statuses in HPACK's static table.
const BAD_REQUEST: u8 = 0x8c;
const NOT_FOUND: u8 = 0x8d;

/// The frame of a GET of `/` with these fields, each as a literal.
fn get(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = b"\x82\x87\x84".to_vec();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    let length = u8::try_from(block.len()).unwrap();
    [[0, 0, length, 1, 5, 0, 0, 0, 1].as_slice(), &block].concat()
}

/// The first byte of the response's headers.
async fn status(fields: &[(&str, &str)]) -> u8 {
    let (_folder, _shard, mut stream) = serving(starting()).await;
    stream.write_all(&[OPENING, &get(fields)].concat()).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == 1 {
            return payload[0];
        }
    }
}

#[tokio::test]
async fn a_value_with_white_space_around_it_and_two_hosts_are_bad_requests() {
    let other = (":authority", "other.example");
    assert_eq!(status(&[other]).await, NOT_FOUND);
    assert_eq!(status(&[other, ("x-inner", "a b"), ("x-empty", "")]).await, NOT_FOUND);
    for value in [" a", "a ", "\ta", "a\t", " "] {
        assert_eq!(status(&[other, ("x-padded", value)]).await, BAD_REQUEST, "{value:?}");
    }
    let host = ("host", "other.example");
    assert_eq!(status(&[host]).await, NOT_FOUND);
    assert_eq!(status(&[host, host]).await, BAD_REQUEST);
    assert_eq!(status(&[host, ("host", "blog.example")]).await, BAD_REQUEST);
}
