//! Running as a service: signals, logging, the service manager, listening sockets, and gRPC over unix
//! sockets.

pub mod accept;
pub mod backoff;
pub mod framed;
pub mod listen_fds;
pub mod logging;
pub mod notify;
pub mod signals;
pub mod uds;

pub use logging::output;
