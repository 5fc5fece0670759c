"""The app of `cargo xtask soak`: every request has an `id`, and each process records the ones it has started.

What it has written outlives a `kill -9`, so that the journals and the client's ledger can be compared.
"""

import hashlib
import os
import sys
import time

from edges import TEXT, query

if "BROKEN" in os.environ:
    raise RuntimeError("this version is broken on purpose")

BLOCK = 65536
PATTERN = bytes((n * 7 + (n >> 8)) & 0xFF for n in range(BLOCK))


def begun(environ):
    """One write per line, so that threads and crashes can't split it. Each process has its own file."""
    path = os.path.join(os.environ["JOURNALS"], str(os.getpid()))
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, (query(environ, "id") + "\n").encode())
    os.close(file)


def echo(environ):
    """Returns the query of a GET, or the body of a POST."""
    if environ["REQUEST_METHOD"] == "GET":
        return [environ["QUERY_STRING"].encode("latin-1")]
    return [environ["wsgi.input"].read()]


def digest(environ):
    body, length, total = environ["wsgi.input"], 0, hashlib.sha256()
    while piece := body.read(BLOCK):
        length += len(piece)
        total.update(piece)
    return [f"{length} {total.hexdigest()}".encode()]


def whole(environ):
    return [b"".join(blocks(int(query(environ, "bytes"))))]


def stream(environ):
    return blocks(int(query(environ, "bytes")))


def blocks(left):
    """Each block starts with its number in eight bytes, big-endian, followed by the pattern."""
    number = 0
    while left > 0:
        block = (number.to_bytes(8, "big") + PATTERN[8:])[:left]
        yield block
        left -= len(block)
        number += 1


def drip(environ):
    for number in range(5):
        yield f"{query(environ, 'id')}:{number}\n".encode()
        time.sleep(0.05)


def loud(environ):
    """Logs more than a pipe can hold, to both `sys.stderr` and `wsgi.errors`."""
    for number in range(500):
        print(query(environ, "id"), number, "-" * 200, file=sys.stderr if number % 2 else environ["wsgi.errors"])
    return echo(environ)


def sleep(environ):
    time.sleep(10_000)


def os_exit(environ):
    os._exit(9)


BY_PATH = {
    "/echo": echo, "/digest": digest, "/whole": whole, "/stream": stream, "/drip": drip, "/sleep": sleep,
    "/exit": os_exit, "/loud": loud,
}  # fmt: skip


def application(environ, start_response):
    begun(environ)
    body = BY_PATH[environ["PATH_INFO"]](environ)
    start_response("200 OK", TEXT)
    return body
