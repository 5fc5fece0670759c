"""Callables that take too long, each in a different way. Other paths are handled by `edges`.

Each tells through `record` that it has begun, and what ended it.
"""

import ctypes
import queue
import threading
import time

import edges
import imperium
from edges import TEXT, record, wait_for_gate

libc = ctypes.CDLL(None)
libc_with_gil = ctypes.PyDLL(None)


def watched(wait):
    """An app that waits, and records the exception that ends the wait."""

    def app(environ, start_response):
        record(environ, f"begun {edges.os.getpid()}")
        try:
            wait(environ)
        except BaseException as error:
            record(environ, f"{type(error).__name__}: {error}")
            raise
        start_response("200 OK", TEXT)
        return [b"never\n"]

    return app


def spin(environ):
    while True:
        pass


def sleep(environ):
    time.sleep(10_000)


def lock(environ):
    threading.Event().wait()


def read_more(environ):
    """Waits for the rest of a request's body."""
    environ["wsgi.input"].read()
    time.sleep(10_000)


def retry(environ):
    """Even a bare retry loop must not treat the timeout as another failure."""
    while True:
        try:
            time.sleep(10_000)
        except Exception as error:
            record(environ, f"swallowed {error}")


def deadlock(environ, library=libc):
    """Waits for a lock in C code, which no exception or signal interrupts."""
    mutex = ctypes.create_string_buffer(256)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


def deadlock_with_gil(environ):
    """The same, while holding the GIL."""
    deadlock(environ, libc_with_gil)


def by_name(environ, start_response):
    """An app that catches the exception, cleans up, and returns normally."""
    try:
        time.sleep(10_000)
    except imperium.RequestTimeout as error:
        record(environ, f"cleaned up after {imperium.request_id()}: {error}")
    start_response("200 OK", TEXT)
    return [b"never\n"]


class CloseHangs:
    def __init__(self, environ):
        self.environ = environ

    def __iter__(self):
        return iter([b"whole\n"])

    def close(self):
        try:
            time.sleep(10_000)
        except BaseException as error:
            record(self.environ, f"{type(error).__name__}: {error}")
            raise


def close_hangs(environ, start_response):
    start_response("200 OK", TEXT + [("Content-Length", "6")])
    return CloseHangs(environ)


def events(environ, start_response):
    """A stream that takes longer than any limit."""
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    record(environ, f"begun {edges.os.getpid()}")
    yield b"data: first\n\n"
    wait_for_gate(environ)
    yield b"data: last\n\n"


def stalled(wait):
    """A stream that stalls after its first chunk, and records the exception that ends it."""

    def app(environ, start_response):
        record(environ, f"begun {edges.os.getpid()}")
        start_response("200 OK", TEXT)
        yield b"first\n"
        try:
            yield from wait(environ)
        except BaseException as error:
            record(environ, f"{type(error).__name__}: {error}")
            raise

    return app


def stalled_sleep(environ):
    time.sleep(10_000)
    yield b"never\n"


def stalled_spin(environ):
    while True:
        pass
    yield b"never\n"


def stalled_empty(environ):
    """Yields empty chunks."""
    while True:
        time.sleep(0.01)
        yield b""


def stalled_deadlock(environ):
    deadlock(environ)
    yield b"never\n"


def stalled_deadlock_with_gil(environ):
    deadlock_with_gil(environ)
    yield b"never\n"


def stalled_held(environ):
    """Waits where no exception interrupts it. Outside of the main thread, that is any blocking call."""
    if threading.current_thread() is threading.main_thread():
        deadlock(environ)
    queue.SimpleQueue().get()
    yield b"never\n"


def stalled_ticks(environ):
    """Yields chunks until the gate is opened."""
    while not edges.os.path.exists(edges.query(environ, "gate")):
        time.sleep(0.05)
        yield b"tick\n"
    yield b"last\n"


def stalled_not(environ):
    """Each chunk comes in time, but the whole response takes longer than the limit."""
    for number in range(8):
        time.sleep(0.3)
        yield b"piece %d\n" % number


def stalled_endless(environ):
    """An endless response."""
    while True:
        yield b"x" * 65536


STALLED = [stalled_sleep, stalled_spin, stalled_empty, stalled_deadlock, stalled_held, stalled_ticks]
STALLED += [stalled_deadlock_with_gil, stalled_not, stalled_endless]
WAITS = [spin, sleep, lock, read_more, retry, deadlock, deadlock_with_gil]
BY_PATH = {"/" + each.__name__.replace("_", "-"): watched(each) for each in WAITS}
BY_PATH |= {"/" + each.__name__.replace("_", "-"): stalled(each) for each in STALLED}
BY_PATH |= {"/by-name": by_name, "/close-hangs": close_hangs, "/events": events}


def application(environ, start_response):
    return BY_PATH.get(environ["PATH_INFO"], edges.application)(environ, start_response)
