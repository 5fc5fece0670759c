//! Messages on a stream socket, each with its length before it: for who can have no gRPC.

use std::io::{self, Read, Write};

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The largest message, in bytes.
const LIMIT: u32 = 16 << 20;

/// A message as it is sent.
#[must_use]
pub fn frame(message: &impl Message) -> Vec<u8> {
    let length = u32::try_from(message.encoded_len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), &message.encode_to_vec()].concat()
}

/// Sends a message.
///
/// # Errors
/// When the other side has gone.
pub fn send(stream: &mut impl Write, message: &impl Message) -> io::Result<()> {
    stream.write_all(&frame(message))
}

/// Receives a message; None when the other side has ended. Reads not a byte beyond it.
///
/// # Errors
/// When the stream breaks, or what comes is no such message.
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

/// As [`receive`], waiting as a task does.
///
/// # Errors
/// As [`receive`].
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
    async fn messages_come_one_by_one_until_the_end() {
        let bytes = [frame(&"one".to_owned()), frame(&String::new()), frame(&"three".to_owned())].concat();
        let (mut blocking, mut waiting) = (bytes.as_slice(), bytes.as_slice());
        for expected in [Some("one"), Some(""), Some("three"), None] {
            let expected = expected.map(str::to_owned);
            assert_eq!(receive::<String>(&mut blocking).unwrap(), expected);
            assert_eq!(receive_async::<String>(&mut waiting).await.unwrap(), expected);
        }
    }

    #[test]
    fn what_is_too_long_or_torn_is_refused() {
        assert!(receive::<String>(&mut [0xff; 4].as_slice()).is_err());
        assert!(receive::<String>(&mut [0, 0, 0, 9, 1].as_slice()).is_err());
    }
}
