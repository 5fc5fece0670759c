//! Life as a service: signals, logging, listening sockets, and gRPC on unix sockets.

pub mod backoff;
pub mod framed;
pub mod listen_fds;
pub mod logging;
pub mod signals;
pub mod uds;
