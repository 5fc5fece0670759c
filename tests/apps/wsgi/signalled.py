"""An app that records signals and its exit in the file named by `RECORD`."""

import atexit
import os
import signal
import threading

import edges
from edges import TEXT


def record(text):
    with open(os.environ["RECORD"], "a") as file:
        file.write(f"{text} {os.getpid()}\n")


atexit.register(record, "atexit")
if "HANDLE_SIGTERM" in os.environ:
    signal.signal(signal.SIGTERM, lambda *_: record("handled"))


def handlers(environ, start_response):
    start_response("200 OK", TEXT)
    is_main = threading.current_thread() is threading.main_thread()
    theirs = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    untouched = theirs == [signal.default_int_handler, signal.SIG_DFL]
    return [f"{is_main} {untouched}\n".encode()]


def application(environ, start_response):
    if environ["PATH_INFO"] == "/handlers":
        return handlers(environ, start_response)
    return edges.application(environ, start_response)
