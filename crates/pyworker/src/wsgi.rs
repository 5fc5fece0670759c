//! The Web Server Gateway Interface (PEP 3333): each call of the app is one request, and blocks its thread.

mod call;
mod cgi;
mod early_hints;
mod environ;
mod executor;
mod file_wrapper;
mod greenlets;
mod input;
mod interrupt;
mod reply;
mod request_body;
mod start_response;

pub(crate) use self::executor::Threads;
