//! Length-prefixed protobuf messages on a stream socket, for processes that can't use gRPC.

use std::io::{self, Read, Write};

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Maximum size of a message, in bytes.
const LIMIT: u32 = 16 << 20;

/// Encodes a message with its length prefix.
#[must_use]
pub fn frame(message: &impl Message) -> Vec<u8> {
    let length = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), &message.encode_to_vec()].concat()
}

/// Sends a message.
///
/// # Errors
///
/// Returns an error if the peer has closed the connection.
pub fn send(stream: &mut impl Write, message: &impl Message) -> io::Result<()> {
    stream.write_all(&frame(message))
}

/// Receives a message, or returns `None` if the peer has closed the stream. Doesn't read beyond the message.
///
/// # Errors
///
/// Returns an error if the stream breaks or the message is invalid.
pub fn receive<M: Message + Default>(stream: &mut impl Read) -> io::Result<Option<M>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        outcome => outcome?,
    }
    let mut message = vec![0; bounded(length)?];
    stream.read_exact(&mut message)?;
    decode(&message).map(Some)
}

/// Like [`receive`], but async.
///
/// # Errors
///
/// The same as [`receive`].
pub async fn receive_async<M: Message + Default>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<M>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        outcome => outcome?,
    };
    let mut message = vec![0; bounded(length)?];
    stream.read_exact(&mut message).await?;
    decode(&message).map(Some)
}

fn bounded(length: [u8; 4]) -> io::Result<usize> {
    match u32::from_be_bytes(length) {
        length if length <= LIMIT => Ok(length as usize),
        length => Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes"))),
    }
}

fn decode<M: Message + Default>(bytes: &[u8]) -> io::Result<M> {
    M::decode(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_are_received_one_by_one_until_the_end() {
        let bytes = [frame(&"one".to_owned()), frame(&String::new()), frame(&"three".to_owned())].concat();
        let (mut blocking, mut waiting) = (bytes.as_slice(), bytes.as_slice());
        for expected in [Some("one"), Some(""), Some("three"), None] {
            let expected = expected.map(str::to_owned);
            assert_eq!(receive::<String>(&mut blocking).unwrap(), expected);
            assert_eq!(receive_async::<String>(&mut waiting).await.unwrap(), expected);
        }
    }

    #[test]
    fn oversized_and_truncated_messages_are_refused() {
        assert!(receive::<String>(&mut [0xff; 4].as_slice()).is_err());
        assert!(receive::<String>(&mut [0, 0, 0, 9, 1].as_slice()).is_err());
    }
}
