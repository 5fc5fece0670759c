"""Apps that misbehave, each in a different way. Other paths are handled by `edges`."""

import ctypes
import os
import signal
import sys
import threading
import time

import edges
from edges import TEXT, query, record, wait_for_gate

LEAKED = []


def started(give):
    """An app that starts its response correctly, and then calls `give`."""

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return give(environ)

    return app


def with_head(status, headers):
    def app(environ, start_response):
        start_response(status, headers)
        return [b"never\n"]

    return app


def hop_by_hop(environ, start_response):
    """An app must not send these headers. The rest of the response is correct."""
    connection = ["Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade"]
    start_response("200 OK", TEXT + [(name, "chunked") for name in connection] + [("X-Own", "kept")])
    return [b"fine\n"]


def fails_first(environ):
    raise ValueError("raised by the first piece")
    yield


def recursion(environ):
    return recursion(environ)


def calls_sys_exit(environ):
    sys.exit("an app does not end its worker")


def interrupts_itself(environ):
    raise KeyboardInterrupt


class CloseFails:
    def __iter__(self):
        return iter([b"whole\n"])

    def close(self):
        raise ValueError("raised by close")


def leak(environ):
    LEAKED.append(b"x" * (1 << 20))
    return [b"leaked\n"]


def endless_thread(environ):
    """Not a daemon thread: Python waits for it at exit."""
    threading.Thread(target=lambda: threading.Event().wait()).start()
    return [b"%d\n" % os.getpid()]


def fork_and_return(environ):
    """Two processes return. Only one of them is the worker."""
    os.fork()
    return [b"once\n"]


def fork_and_exit(environ):
    child = os.fork()
    if child == 0:
        sys.exit(7)
    _, status = os.waitpid(child, 0)
    return [b"%d\n" % os.waitstatus_to_exitcode(status)]


def fork_and_stay(environ):
    """The child runs until the gate is opened."""
    if os.fork() == 0:
        wait_for_gate(environ)
        os._exit(0)
    return [b"%d\n" % os.getpid()]


def os_exit(environ):
    os._exit(0)


def abort(environ):
    os.abort()


def segfault(environ):
    ctypes.string_at(8)


def kill_itself(environ):
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10_000)


def write_on(environ, start_response):
    """Writes to a client that may have disconnected, and records the exception."""
    write = start_response("200 OK", TEXT)
    try:
        while True:
            write(b"x" * 65536)
    except Exception as error:
        record(environ, type(error).__name__)
        raise


INJECTION = "one\r\nX-Smuggled: two"
BY_PATH = {
    "/status-injection": with_head("200 OK\r\nX-Smuggled: two", TEXT),
    "/name-injection": with_head("200 OK", [(f"X-Bad: {INJECTION}", "value")]),
    "/value-injection": with_head("200 OK", [("X-Bad", INJECTION)]),
    "/newline": with_head("200 OK", [("X-Bad", "one\nX-Smuggled: two")]),
    "/nul": with_head("200 OK", [("X-Bad", "one\0two")]),
    "/no-name": with_head("200 OK", [("", "value")]),
    "/huge-head": with_head("200 OK", [("X-Big", "x" * 1_000_000)]),
    "/number-as-status": with_head(200, TEXT),
    "/number-as-value": with_head("200 OK", [("X-Count", 1)]),
    "/tuple-of-headers": with_head("200 OK", tuple(TEXT)),
    "/triple-header": with_head("200 OK", [("X-Bad", "one", "two")]),
    "/hop-by-hop": hop_by_hop,
    "/number": started(lambda _: 42),
    "/numbers": started(lambda _: [1, 2]),
    "/fails-first": started(fails_first),
    "/recursion": started(recursion),
    "/sys-exit": started(calls_sys_exit),
    "/keyboard-interrupt": started(interrupts_itself),
    "/close-fails": started(lambda _: CloseFails()),
    "/leak": started(leak),
    "/endless-thread": started(endless_thread),
    "/fork-and-return": started(fork_and_return),
    "/fork-and-exit": started(fork_and_exit),
    "/fork-and-stay": started(fork_and_stay),
    "/os-exit": started(os_exit),
    "/abort": started(abort),
    "/segfault": started(segfault),
    "/kill-itself": started(kill_itself),
    "/write-on": write_on,
}


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/status":
        return with_head(query(environ, "value", ""), TEXT)(environ, start_response)
    return BY_PATH.get(path, edges.application)(environ, start_response)
