//! The interpreter that runs the app: its threads, signals, exceptions and output, and what imports the app.

pub(crate) mod drain_hooks;
pub(crate) mod driver;
pub(crate) mod faulthandler;
pub(crate) mod forked;
pub(crate) mod imperium;
pub(crate) mod import;
pub(crate) mod interrupt;
pub(crate) mod log;
pub(crate) mod process;
pub(crate) mod signals;
pub(crate) mod sigterm;
pub(crate) mod thread;
pub(crate) mod traceback;
