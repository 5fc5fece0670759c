//! The server's side of the WebSocket protocol (RFC 6455, RFC 7692, RFC 8441), without I/O: the handshake, frames,
//! messages and compression.
//!
//! [`handshake::Handshake`] checks a request. Afterwards, [`Reader`] turns the bytes of a client into messages, and
//! [`Writer`] turns messages into bytes. Both hold no buffers while no message is under way, so that an idle socket
//! costs next to nothing.

mod close;
pub mod deflate;
mod frame;
pub mod handshake;
mod mask;
mod reader;
mod utf8;
mod violation;
mod writer;

pub use close::Close;
pub use reader::{Event, Message, Reader, Step};
pub use violation::Violation;
pub use writer::Writer;
