"""Minimal apps, so that benchmarks measure the servers' own work.

Like every framework, they announce the length of their responses.
"""

import os
import time


def hello(environ):
    return b"Hello, world\n"


def length(environ):
    """Reads the request's body."""
    return b"%d\n" % len(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))


def pid(environ):
    """Returns the pid, after a short delay, so that another process has to handle the next request."""
    time.sleep(0.005)
    return b"%d\n" % os.getpid()


def slow(environ):
    time.sleep(0.1)
    return b"slow\n"


def echo(environ):
    return environ["QUERY_STRING"].encode("latin-1")


PAGES = {"/": hello, "/length": length, "/pid": pid, "/slow": slow, "/echo": echo}


def application(environ, start_response):
    body = PAGES[environ["PATH_INFO"]](environ)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
