//! The Asynchronous Server Gateway Interface (ASGI 3.0): each call of the app is a task of one event loop, which runs
//! on one thread, together with the connections from frontd ([`crate::link::guest`]).

mod awaitable;
mod before_import;
mod blocked;
mod call;
mod event_loop;
mod executor;
mod first_step;
mod http;
mod inbound;
mod interrupt;
mod outbound;
mod reply;
mod scope;
mod shared;
mod support;
mod turn;
mod value;
mod websocket;

pub(crate) use self::before_import::before_import;
pub(crate) use self::executor::EventLoop;
