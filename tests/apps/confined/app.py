"""Tells what it sees and what it can reach from where it runs."""

import json
import os
import socket
import time
from urllib.parse import unquote

if os.environ.get("IMPORT") == "fails":
    1 / 0
while os.environ.get("IMPORT") == "hangs":
    time.sleep(1)


def application(environ, start_response):
    query = environ["QUERY_STRING"]
    if environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read()
    elif environ["PATH_INFO"] == "/echo":
        body = query.encode()
    else:
        body = json.dumps(ANSWERS[environ["PATH_INFO"]](unquote(query))).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def who(_):
    return {"uid": os.getuid(), "pid": os.getpid()}


def read(path):
    return attempt(lambda: open(path).read())


def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        return attempt(lambda: client.connect(path))


def attempt(work):
    try:
        work()
    except OSError as error:
        return type(error).__name__
    return "done"


ANSWERS = {"/who": who, "/read": read, "/connect": connect}
