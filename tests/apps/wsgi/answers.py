"""What PEP 3333 leaves to the server, and what an app can ask its worker. Other paths are handled by `edges`."""

import gzip
import json
import sys
import threading
import time
import traceback
from urllib.parse import parse_qsl

import edges
import imperium
from edges import TEXT, query, record, wait_for_gate

FORKED = []


@imperium.on_fork
def remember_fork():
    FORKED.append(imperium.worker_name())


def header(environ, start_response):
    """The query contains the headers of the response."""
    fields = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    start_response(fields.pop("status", "200 OK"), list(fields.items()))
    return [b"not this\n"]


class Closing:
    """A file that records when it is closed."""

    def __init__(self, environ, file):
        self.environ, self.read = environ, file.read

    def close(self):
        record(self.environ, "closed")


def wrapped(environ, start_response):
    """A file from an offset on, with or without an announced length."""
    file = open(query(environ, "path"), "rb")
    file.seek(int(query(environ, "offset", 0)))
    length = query(environ, "length")
    start_response("200 OK", TEXT + ([("Content-Length", length)] if length else []))
    return environ["wsgi.file_wrapper"](file, 4096)


def wrapped_gzip(environ, start_response):
    """Reading its descriptor would give different data than reading the file."""
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](gzip.open(query(environ, "path")))


def wrapped_other(environ, start_response):
    """Not a Python file, but a file-like object."""
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](Closing(environ, open(query(environ, "path"), "rb")))


def hints(environ, start_response):
    """Two early hints, and a response that waits for the gate."""
    hint = environ["wsgi.early_hints"]
    hint([("Link", "</style.css>; rel=preload; as=style")])
    hint([("Link", "</app.js>; rel=preload; as=script"), ("Connection", "close"), ("Content-Length", "5")])
    record(environ, "hinted")
    wait_for_gate(environ)
    start_response("200 OK", TEXT)
    return [b"page\n"]


def bad_hints(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</a>\r\nX-Smuggled: two")])


def late_hints(environ, start_response):
    """Early hints after the response has started, which are ignored."""
    send = start_response("200 OK", TEXT)
    send(b"begun\n")
    environ["wsgi.early_hints"]([("Link", "</late.css>; rel=preload")])
    return [b"ended\n"]


def hints_of_nobody(environ, start_response):
    """Early hints in a thread that the app has started, which isn't handling a request."""
    results = []
    thread = threading.Thread(target=lambda: results.append(environ["wsgi.early_hints"]([("Link", "</a>")])))
    thread.start()
    thread.join()
    start_response("200 OK", TEXT)
    return [b"%r" % results]


def events(environ, start_response):
    """Each event waits for its own gate."""
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    gate = query(environ, "gate")
    for number in range(3):
        wait_for_gate({"QUERY_STRING": f"gate={gate}-{number}"})
        yield b"id: %d\ndata: event\n\n" % number


def too_long(environ, start_response):
    start_response("200 OK", TEXT + [("Content-Length", "5")])
    return [b"right", b"and too much"]


def too_long_in_pieces(environ, start_response):
    """Once the announced length was sent, the app isn't asked for more."""
    start_response("200 OK", TEXT + [("Content-Length", "10")])
    for number in range(1000):
        yield b"piece %d\n" % number
        record(environ, str(number))


def too_long_written(environ, start_response):
    send = start_response("200 OK", TEXT + [("Content-Length", "5")])
    send(b"ri")
    send(b"ght and too much")
    send(b"and more")
    return []


def too_short_in_pieces(environ, start_response):
    start_response("200 OK", TEXT + [("Content-Length", "100")])
    yield b"only "
    yield b"this\n"


def body_where_none_may_be(environ, start_response):
    start_response(query(environ, "status"), TEXT)
    for _ in range(3):
        yield b"never seen\n"


def readinto(environ, start_response):
    """Reads in chunks, into a slice of a buffer whose elements aren't bytes."""
    import array

    body, buffer, read = environ["wsgi.input"], array.array("H", [0] * 4), []
    while count := body.readinto(buffer):
        read.append(buffer.tobytes()[:count])
    start_response("200 OK", TEXT)
    return [b"|".join(read)]


def terminated(environ, start_response):
    """With `wsgi.input_terminated`, an app can read to the end without a length."""
    body = environ["wsgi.input"].read() if environ["wsgi.input_terminated"] else b"not terminated"
    start_response("200 OK", TEXT)
    return [b"%d %s" % (len(body), environ.get("CONTENT_LENGTH", "none").encode())]


def read_slowly(environ, start_response):
    """Gives its client time to disconnect."""
    record(environ, "begun")
    try:
        while environ["wsgi.input"].read(65536):
            time.sleep(0.05)
        record(environ, "read")
    except OSError as error:
        record(environ, f"{type(error).__name__}: {error}")
        raise


def inside(environ, start_response):
    results = {name: getattr(imperium, name)() for name in ("app_name", "worker_name", "worker_id", "request_id")}
    results["header"] = environ["HTTP_X_REQUEST_ID"]
    results["forked"] = FORKED
    results["timeout"] = [each.__name__ for each in imperium.RequestTimeout.__mro__]
    thread = threading.Thread(target=lambda: results.update(elsewhere=imperium.request_id()))
    thread.start()
    thread.join()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(results).encode()]


def same_request(environ, start_response):
    """During the call, the iteration and `close()`."""

    class Body:
        def __iter__(self):
            yield b"%r\n" % (imperium.request_id() == environ["HTTP_X_REQUEST_ID"])

        def close(self):
            record(environ, repr(imperium.request_id() == environ["HTTP_X_REQUEST_ID"]))

    start_response("200 OK", TEXT + [("X-Same", repr(imperium.request_id() == environ["HTTP_X_REQUEST_ID"]))])
    return Body()


def printed(environ, start_response):
    """Tracebacks, in all the ways that Python prints them."""
    import logging

    try:
        try:
            raise ValueError("first")
        except ValueError:
            raise KeyError("second")
    except KeyError:
        logging.exception("by logging")
        traceback.print_exc()
    thread = threading.Thread(target=lambda: 1 / 0, name="calculator")
    thread.start()
    thread.join()
    print("one", "line", "of", "pieces")
    print("two\nlines", file=sys.stderr)
    environ["wsgi.errors"].write("by wsgi.errors\n")
    start_response("200 OK", TEXT)
    return [b"printed\n"]


def printed_by_many(environ, start_response):
    def run(number):
        for line in range(50):
            print("thread", number, "line", line, "end", sep="-")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    start_response("200 OK", TEXT)
    return [b"printed\n"]


CALLABLES = [
    header, wrapped, wrapped_gzip, wrapped_other, hints, bad_hints, late_hints, hints_of_nobody, events, too_long,
    too_long_in_pieces, too_long_written, too_short_in_pieces, body_where_none_may_be, readinto, terminated,
    read_slowly, inside, same_request, printed, printed_by_many,
]  # fmt: skip
BY_PATH = {"/" + each.__name__.replace("_", "-"): each for each in CALLABLES}


def application(environ, start_response):
    return BY_PATH.get(environ["PATH_INFO"], edges.application)(environ, start_response)
