"""How responses are delivered, and what an app may do meanwhile. Other paths are handled by `edges`."""

import ctypes
import io
import os
import sys
import tempfile
import threading

import edges
from edges import TEXT, query, record, wait_for_gate

libc_with_gil = ctypes.PyDLL(None)


def raise_late(environ, start_response):
    """An exception right after some chunks, which must not be lost."""
    pieces = [b"piece %d\n" % number for number in range(int(query(environ, "pieces")))]
    write = start_response("200 OK", TEXT)
    if query(environ, "by") == "write":
        for piece in pieces:
            write(piece)
        raise RuntimeError("raised after write")

    def generate():
        yield from pieces
        raise RuntimeError("raised after the last piece")

    return generate()


def temporary(environ):
    """A file that the app removes after the response."""
    file = tempfile.NamedTemporaryFile(dir=query(environ, "folder"), delete=False)
    file.write(b"x" * 3_000_000)
    file.close()
    return file.name


def removed_wrapper(environ, start_response):
    """Like Django's `FileResponse` with a temporary file."""
    path = temporary(environ)
    file = open(path, "rb")
    close = file.close

    def remove():
        os.unlink(path)
        close()
        record(environ, "closed")

    file.close = remove
    start_response("200 OK", TEXT + [("Content-Length", "3000000")])
    return environ["wsgi.file_wrapper"](file)


class Removed:
    """The body of a response that names a file. Closing it removes the file."""

    def __init__(self, environ, path):
        self.environ, self.path = environ, path

    def __iter__(self):
        return iter([b""])

    def close(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        record(self.environ, "closed")


def removed_sendfile(environ, start_response):
    path = temporary(environ)
    start_response("200 OK", TEXT + [("X-Sendfile", path)])
    return Removed(environ, path)


def missing_sendfile(environ, start_response):
    path = query(environ, "folder") + "/none"
    start_response("200 OK", TEXT + [("X-Sendfile", path)])
    return Removed(environ, path)


def hold_gil(environ, start_response):
    """Once the gate is open, another thread holds the GIL in C until the pipe is opened for writing."""
    path, pipe = query(environ, "record"), query(environ, "pipe")
    os.mkfifo(pipe)

    def hold():
        wait_for_gate(environ)
        # Prevents other threads from getting the GIL between the two calls.
        sys.setswitchinterval(3600)
        libc_with_gil.creat(path.encode(), 0o600)
        libc_with_gil.open(pipe.encode(), os.O_RDONLY)
        sys.setswitchinterval(0.005)

    threading.Thread(target=hold, daemon=True).start()
    start_response("200 OK", TEXT)
    return [b"%d\n" % os.getpid()]


def helper_writes(environ, start_response):
    """Returns while another thread is calling `write`."""
    write = start_response("200 OK", TEXT)
    wrote = threading.Event()

    def run():
        try:
            while True:
                write(b"x" * 65536)
                wrote.set()
        except Exception as error:
            record(environ, f"{type(error).__name__}: {error}")

    threading.Thread(target=run, daemon=True).start()
    wrote.wait()
    return [b"end\n"]


def two_readers(environ, start_response):
    """Two threads read the body. Each byte is returned to one of them."""
    body, counts = environ["wsgi.input"], []

    def run():
        total = 0
        while data := body.read(1000):
            total += len(data)
        counts.append(total)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    start_response("200 OK", TEXT)
    return [b"%d" % sum(counts)]


def one_block(environ, start_response):
    start_response("200 OK", TEXT)
    return b"one block\n"


class Doubled(list):
    """A list whose iterator returns something else than its elements."""

    def __iter__(self):
        return (piece * 2 for piece in super().__iter__())


def own_iter(environ, start_response):
    start_response("200 OK", TEXT)
    return Doubled([b"a", b"b"])


def plain_subclass(environ, start_response):
    start_response("200 OK", TEXT)
    return type("Pieces", (list,), {})([b"a", b"b"])


def status(environ, start_response):
    start_response(query(environ, "status"), TEXT)
    return [b"answered\n"]


def lengths(environ, start_response):
    start_response("200 OK", TEXT + [("Content-Length", value) for value in query(environ, "of").split("|")])
    return [b"12345"]


def text_wrapper(environ, start_response):
    body = io.TextIOWrapper(environ["wsgi.input"], encoding="utf-8")
    lines = [line.upper() for line in body]
    start_response("200 OK", TEXT)
    return ["|".join(lines).encode()]


def buffered_reader(environ, start_response):
    body = io.BufferedReader(environ["wsgi.input"], 16)
    first = body.peek(4)[:4]
    lines = body.readlines()
    start_response("200 OK", TEXT)
    return [first + b"|" + b"|".join(lines)]


def file_details(environ, start_response):
    """Attributes of Python files."""
    body = environ["wsgi.input"]
    results = [body.readable(), body.writable(), body.isatty(), body.closed, iter(body) is body, body.flush()]
    try:
        body.fileno()
    except io.UnsupportedOperation:
        results.append("no descriptor")
    with body as same:
        results.append(same is body)
    results.append(body.closed)
    try:
        body.read()
    except ValueError as error:
        results.append(str(error))
    start_response("200 OK", TEXT)
    return [repr(results).encode()]


def seek(environ, start_response):
    """Determines its length, reads it twice, then the middle of it."""
    body = environ["wsgi.input"]
    results = [body.seekable(), body.tell(), body.seek(0, io.SEEK_END), body.seek(0)]
    content = body.read()
    results += [len(content), body.tell(), body.seek(0), body.read() == content, body.read()]
    results += [body.seek(-5, io.SEEK_END), body.read(2), body.seek(-1, io.SEEK_CUR), body.read(), body.tell()]
    results += [body.seek(1_000_000_000), body.read()]
    for bad in [(-1,), (0, 9)]:
        try:
            body.seek(*bad)
        except ValueError:
            results.append("refused")
    start_response("200 OK", TEXT)
    return [repr(results).encode()]


CALLABLES = [
    raise_late, removed_wrapper, removed_sendfile, missing_sendfile, hold_gil, helper_writes, two_readers, one_block,
    own_iter, plain_subclass, status, lengths, text_wrapper, buffered_reader, file_details, seek,
]  # fmt: skip
BY_PATH = {"/" + each.__name__.replace("_", "-"): each for each in CALLABLES}


def application(environ, start_response):
    return BY_PATH.get(environ["PATH_INFO"], edges.application)(environ, start_response)
