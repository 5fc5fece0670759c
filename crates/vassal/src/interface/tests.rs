//! The keys of ASGI apps, and those that contradict the interface.

use std::path::Path;

use super::*;
use crate::Vassal;

const MINIMAL: &str = "domains = ['a']\napp = 'a'\ndirectory = '/'\n";

fn parse(rest: &str) -> Result<Vassal, String> {
    Vassal::parse(Path::new("/v/a.toml"), &format!("{MINIMAL}{rest}")).map_err(|error| error.to_string())
}

/// Checks the only problem of a file, without the text of the schema.
#[track_caller]
fn check(rest: &str, expected: &str) {
    let message = parse(rest).unwrap_err();
    assert_eq!(message.split(": it sets ").next(), Some(format!("/v/a.toml:{expected}").as_str()), "{rest}");
}

#[test]
fn an_asgi_app() {
    let vassal = parse("interface = 'asgi'\nthreads = 1\nconcurrency = 500\nloop = 'uvloop'").unwrap();
    assert_eq!((vassal.interface, vassal.threads, vassal.concurrency), (Interface::Asgi, 1, Some(500)));
    for (text, expected) in [
        ("auto", EventLoop::Auto),
        ("uvloop", EventLoop::Uvloop),
        ("asyncio", EventLoop::Asyncio),
        ("blog.loops:new.loop", EventLoop::Factory("blog.loops:new.loop".to_owned())),
    ] {
        let vassal = parse(&format!("loop = '{text}'")).unwrap();
        assert_eq!(vassal.event_loop, expected);
        assert_eq!(vassal.event_loop.to_string(), text);
    }
}

#[test]
fn wrong_values() {
    check("interface = 'rack'", "4:13: `interface` must be \"auto\", \"wsgi\" or \"asgi\", not \"rack\"");
    check(
        "interface = 'asginl'",
        "4:13: `interface` must be \"auto\", \"wsgi\" or \"asgi\", not \"asginl\": write \"asgi\"",
    );
    check(
        "interface = 'rsgi'",
        "4:13: `interface` must be \"auto\", \"wsgi\" or \"asgi\", not \"rsgi\": RSGI isn't supported; most apps of such \
         frameworks are ASGI apps, too: write \"asgi\"",
    );
    check("interface = true", "4:13: `interface` must be a string, not a boolean: write \"true\"");
    check("concurrency = 0", "4:15: `concurrency` must be a whole number from 1 to 65535, not 0");
    check("concurrency = 65536", "4:15: `concurrency` must be a whole number from 1 to 65535, not 65536");
    for text in ["rloop", "a:", ":b", "a:b()", "a b:c", "a.b", ""] {
        check(
            &format!("loop = '{text}'"),
            &format!(
                "4:8: `loop` must be \"auto\", \"uvloop\", \"asyncio\" or \"module:factory\", not \"{text}\": \
                 `module:factory` is a function without parameters that returns an event loop, such as \
                 \"uvloop:new_event_loop\""
            ),
        );
    }
    check("sticky = true", "4:10: `sticky` must be \"cookie\", not true: write \"cookie\"");
    check("sticky = false", "4:10: `sticky` must be \"cookie\", not false: remove `sticky`");
    check("[limits]\nmessage = 0", "5:11: `limits.message` must be from 1 B to 1 GiB, not 0");
    check(
        "[timeouts]\nwebsocket_drain = '2d'",
        "5:19: `timeouts.websocket_drain` must be from 0s to 1d, not \"2d\"",
    );
}

#[test]
fn keys_of_the_other_interface_are_refused_with_both_lines() {
    check(
        "interface = 'wsgi'\nconcurrency = 100",
        "5:15: `concurrency` is for ASGI apps, but line 4 sets interface = \"wsgi\": set the number of requests that a \
         process handles at the same time with `threads`",
    );
    check(
        "interface = 'wsgi'\nloop = 'auto'",
        "5:8: `loop` is for ASGI apps, but line 4 sets interface = \"wsgi\": remove `loop`, or write interface = \"asgi\"",
    );
    check(
        "interface = 'wsgi'\n[timeouts]\nwebsocket_drain = '1m'",
        "6:19: `timeouts.websocket_drain` is for ASGI apps, but line 4 sets interface = \"wsgi\": remove \
         `websocket_drain`, or write interface = \"asgi\"",
    );
    check(
        "interface = 'wsgi'\nlimits.message = '1 MiB'",
        "5:18: `limits.message` is for ASGI apps, but line 4 sets interface = \"wsgi\": remove `message`, or write \
         interface = \"asgi\"",
    );
    check(
        "threads = 4\ninterface = 'asgi'",
        "4:11: `threads` is for WSGI apps, but line 5 sets interface = \"asgi\": an ASGI app runs on one thread: set the \
         number of requests that a process handles at the same time with `concurrency`",
    );
    check(
        "threads = 4\nconcurrency = 100",
        "5:15: `concurrency` is for ASGI apps, but line 4 sets `threads`, which is for WSGI apps: remove `concurrency` \
         if the app is WSGI, `threads` if it is ASGI",
    );
    for good in
        ["threads = 1\nconcurrency = 2", "interface = 'asgi'\nthreads = 1", "interface = 'wsgi'\nthreads = 4"]
    {
        parse(good).unwrap();
    }
}
