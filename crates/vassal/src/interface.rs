//! How an app is called: WSGI or ASGI, on which event loop, and how many requests each process takes at a time.

use std::fmt;

use config::{Document, Wrong, value};
use toml_edit::Value;

use crate::app::is_dotted_name;

/// The number of requests that a process of an ASGI app handles at the same time, unless its file says otherwise.
pub const DEFAULT_CONCURRENCY: u16 = 100;

/// The interface between a process and its app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interface {
    /// The process finds out when it has imported the app.
    #[default]
    Auto,
    /// WSGI (PEP 3333).
    Wsgi,
    /// ASGI 3. An ASGI 2 app is wrapped.
    Asgi,
}

/// The event loop of an ASGI app.
///
/// Displayed as in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EventLoop {
    /// uvloop if the app's Python has it, otherwise asyncio's.
    #[default]
    Auto,
    /// uvloop's.
    Uvloop,
    /// asyncio's.
    Asyncio,
    /// `module:factory`: the loop that this function returns.
    Factory(String),
}

impl fmt::Display for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uvloop => "uvloop",
            Self::Asyncio => "asyncio",
            Self::Factory(name) => name,
        })
    }
}

/// The keys of an app's file that depend on its interface.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) interface: Interface,
    pub(crate) threads: u16,
    pub(crate) concurrency: Option<u16>,
    pub(crate) event_loop: EventLoop,
}

impl Called {
    /// Reads `interface`, `threads`, `concurrency` and `loop`, and refuses those that the interface doesn't have.
    pub(crate) fn read(file: &mut Document) -> Self {
        let called = Self {
            interface: file.optional("interface", interface).unwrap_or_default(),
            threads: file.optional("threads", value::integer(1..=256)).unwrap_or(1),
            concurrency: file.optional("concurrency", value::integer(1..=65_535)),
            event_loop: file.optional("loop", event_loop).unwrap_or_default(),
        };
        called.check(file);
        called
    }

    fn check(&self, file: &mut Document) {
        let set = file.line("interface").unwrap_or_default();
        match self.interface {
            Interface::Wsgi => {
                for (key, fix) in ONLY_ASGI.into_iter().filter(|(key, _)| file.has(key)).collect::<Vec<_>>() {
                    let wrong = format!("is for ASGI apps, but line {set} sets interface = \"wsgi\"");
                    file.refuse(key, Wrong::new(wrong).hint(fix));
                }
            }
            Interface::Asgi if self.threads > 1 => {
                let wrong = format!("is for WSGI apps, but line {set} sets interface = \"asgi\"");
                file.refuse("threads", Wrong::new(wrong).hint(THREADS_OF_ASGI));
            }
            Interface::Auto if self.threads > 1 && file.has("concurrency") => {
                let threads = file.line("threads").unwrap_or_default();
                let wrong =
                    format!("is for ASGI apps, but line {threads} sets `threads`, which is for WSGI apps");
                file.refuse("concurrency", Wrong::new(wrong).hint(ONE_OF_BOTH));
            }
            Interface::Asgi | Interface::Auto => {}
        }
    }
}

/// The keys that only ASGI apps have, and what to write instead.
const ONLY_ASGI: [(&str, &str); 4] = [
    ("concurrency", "set the number of requests that a process handles at the same time with `threads`"),
    ("loop", "remove `loop`, or write interface = \"asgi\""),
    ("timeouts.websocket_drain", "remove `websocket_drain`, or write interface = \"asgi\""),
    ("limits.message", "remove `message`, or write interface = \"asgi\""),
];

const THREADS_OF_ASGI: &str = "an ASGI app runs on one thread: set the number of requests that a process handles at \
                               the same time with `concurrency`";

const ONE_OF_BOTH: &str = "remove `concurrency` if the app is WSGI, `threads` if it is ASGI";

fn interface(value: &Value) -> Result<Interface, Wrong> {
    const KNOWN: &str = "must be \"auto\", \"wsgi\" or \"asgi\"";
    match value::text(value)? {
        "auto" => Ok(Interface::Auto),
        "wsgi" => Ok(Interface::Wsgi),
        "asgi" => Ok(Interface::Asgi),
        // Values of other servers' options.
        other @ ("asgi2" | "asgi3" | "asginl" | "ASGI") => {
            Err(Wrong::new(format!("{KNOWN}, not \"{other}\"")).hint("write \"asgi\""))
        }
        "rsgi" => {
            let hint =
                "RSGI isn't supported; most apps of such frameworks are ASGI apps, too: write \"asgi\"";
            Err(Wrong::new(format!("{KNOWN}, not \"rsgi\"")).hint(hint))
        }
        other => Err(Wrong::new(format!("{KNOWN}, not \"{other}\""))),
    }
}

fn event_loop(value: &Value) -> Result<EventLoop, Wrong> {
    const KNOWN: &str = "must be \"auto\", \"uvloop\", \"asyncio\" or \"module:factory\"";
    let text = value::text(value)?;
    match text {
        "auto" => return Ok(EventLoop::Auto),
        "uvloop" => return Ok(EventLoop::Uvloop),
        "asyncio" => return Ok(EventLoop::Asyncio),
        _ => {}
    }
    match text.split_once(':') {
        Some((module, factory)) if is_dotted_name(module) && is_dotted_name(factory) => {
            Ok(EventLoop::Factory(text.to_owned()))
        }
        _ => {
            let hint = "`module:factory` is a function without parameters that returns an event loop, such as \
                        \"uvloop:new_event_loop\"";
            Err(Wrong::new(format!("{KNOWN}, not \"{text}\"")).hint(hint))
        }
    }
}

#[cfg(test)]
mod tests;
