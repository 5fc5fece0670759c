"""Plain WSGI callables, one for each corner case of PEP 3333, and `application`, which selects one by path.

Where a test must see what happened inside, the query names a file to write to (`record`) or to
wait for (`gate`).
"""

import io
import json
import os
import sys
import time
from urllib.parse import parse_qs

TEXT = [("Content-Type", "text/plain; charset=utf-8")]


def query(environ, key, default=None):
    return parse_qs(environ.get("QUERY_STRING", "")).get(key, [default])[0]


def wait_for_gate(environ):
    gate = query(environ, "gate")
    while gate and not os.path.exists(gate):
        time.sleep(0.01)


def record(environ, text):
    with open(query(environ, "record"), "a") as file:
        file.write(text + "\n")


def hello(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"Hello, world\n"]


def echo(environ, start_response):
    """Returns the body of a POST, or the query of other requests."""
    start_response("200 OK", TEXT)
    if environ["REQUEST_METHOD"] == "POST":
        return [environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))]
    return [environ["QUERY_STRING"].encode("latin-1")]


def pid(environ, start_response):
    time.sleep(float(query(environ, "sleep", 0)))
    start_response("200 OK", TEXT)
    return [b"%d\n" % os.getpid()]


def gated(environ, start_response):
    """Records that it has started, and responds when the gate is open."""
    record(environ, f"begun {os.getpid()}")
    wait_for_gate(environ)
    start_response("200 OK", TEXT)
    return [b"%d\n" % os.getpid()]


def in_pieces(environ, start_response):
    """The second chunk isn't created before the gate is open. The first one must not wait for it."""
    start_response("200 OK", TEXT)
    yield b"first\n"
    wait_for_gate(environ)
    yield b"second\n"


def write(environ, start_response):
    """The `write` callable for old frameworks. The returned body follows what was written."""
    send = start_response("200 OK", TEXT)
    send(b"written\n")
    send(b"")
    send(b"twice\n")
    return [b"returned\n"]


class Closing:
    """An iterable that records how it was used, and that it was closed."""

    def __init__(self, environ, pieces):
        self.environ, self.pieces = environ, iter(pieces)

    def __iter__(self):
        return self

    def __next__(self):
        piece = next(self.pieces)
        if piece is None:
            raise RuntimeError("raised in the middle of the body")
        return piece

    def close(self):
        record(self.environ, "closed")


def closing(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing(environ, [b"one\n", b"two\n"])


def closing_endless(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing(environ, iter(lambda: b"x" * 65536, b""))


def raise_midway(environ, start_response):
    """The client must be able to tell that the body is incomplete."""
    start_response("200 OK", TEXT)
    return Closing(environ, [b"half of it\n" * 10000, None])


def raise_at_once(environ, start_response):
    raise ValueError("raised before start_response")


def raise_after_start(environ, start_response):
    start_response("200 OK", TEXT)
    raise ValueError("raised after start_response")


def exc_info(environ, start_response):
    """Nothing was sent yet, so the second call overrides the first one."""
    start_response("200 OK", TEXT)
    try:
        raise ValueError("changed my mind")
    except ValueError:
        start_response("503 Try Later", TEXT + [("Retry-After", "7")], sys.exc_info())
    return [b"replaced\n"]


def exc_info_late(environ, start_response):
    """The headers were sent, so the second call must raise `exc_info`."""
    send = start_response("200 OK", TEXT)
    send(b"x" * 200000)
    try:
        raise ValueError("too late")
    except ValueError:
        try:
            start_response("500 Oops", TEXT, sys.exc_info())
        except ValueError as error:
            record(environ, f"raised again: {error}")
    return [b"end\n"]


def start_twice(environ, start_response):
    """Without `exc_info`, this is an error, which `start_response` must raise."""
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return [b"never\n"]


def nothing(environ, start_response):
    start_response("200 OK", TEXT)
    return None


def no_start(environ, start_response):
    return [b"never\n"]


def text_body(environ, start_response):
    start_response("200 OK", TEXT)
    return ["str, not bytes"]


def bad_header(environ, start_response):
    start_response("200 OK", TEXT + [("X-Bad", "one\r\nX-Smuggled: two")])
    return [b"never\n"]


def too_short(environ, start_response):
    start_response("200 OK", TEXT + [("Content-Length", "100")])
    return [b"only this\n"]


def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


def no_content_with_length(environ, start_response):
    start_response("204 No Content", [("Content-Length", "0")])
    return []


def empty(environ, start_response):
    start_response("200 OK", TEXT)
    return []


def lazy_start(environ, start_response):
    """A generator calls `start_response` only when its first chunk is requested."""
    start_response("201 Created", TEXT)
    yield b""
    yield b"lazy\n"


def file_wrapper(environ, start_response):
    body = io.BytesIO(b"0123456789" * 20000)
    wrapper = environ.get("wsgi.file_wrapper", lambda file, size=8192: iter(lambda: file.read(size), b""))
    start_response("200 OK", TEXT)
    return wrapper(body, 4096)


def lines(environ, start_response):
    """Every way to read `wsgi.input`."""
    body = environ["wsgi.input"]
    parts = [body.readline(), body.read(3), *body.readlines(5), *body]
    start_response("200 OK", TEXT)
    return [b"|".join(parts)]


def unread(environ, start_response):
    """Responds without reading the body."""
    start_response("200 OK", TEXT)
    return [b"did not read it\n"]


def errors(environ, start_response):
    environ["wsgi.errors"].write("a line for the log, from wsgi.errors\n")
    environ["wsgi.errors"].flush()
    print("a line for the log, from print")
    start_response("200 OK", TEXT)
    return [b"logged\n"]


def environ(environ, start_response):
    """Returns the strings in the environ. Also handles paths below its own."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({key: value for key, value in environ.items() if isinstance(value, str)}).encode()]


def interpreter(environ, start_response):
    """Returns the Python version and `sys.path`."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"prefix": sys.prefix, "path": sys.path, "directory": os.getcwd()}).encode()]


def missing(environ, start_response):
    start_response("404 Not Found", TEXT)
    return [b"no such callable\n"]


def types(environ, start_response):
    """Returns some of the server's `wsgi.*` values."""
    keys = ["wsgi.version", "wsgi.url_scheme", "wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once"]
    start_response("200 OK", TEXT)
    return [repr([environ[key] for key in keys]).encode()]


CALLABLES = [
    hello, echo, pid, gated, in_pieces, write, closing, closing_endless, raise_midway, raise_at_once,
    raise_after_start, exc_info, exc_info_late, start_twice, nothing, no_start, text_body, bad_header,
    too_short, no_content, no_content_with_length, empty, lazy_start, file_wrapper, lines, unread, errors, environ, interpreter,
    types,
]  # fmt: skip
BY_PATH = {"/": hello} | {"/" + each.__name__.replace("_", "-"): each for each in CALLABLES}


def application(environ, start_response):
    first = "/" + environ["PATH_INFO"].lstrip("/").partition("/")[0]
    return BY_PATH.get(first, missing)(environ, start_response)
