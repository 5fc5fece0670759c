#!/usr/bin/env python3
"""Records the pictures of the documentation from a real run: `cargo xtask docs --images` calls it.

    docs/images/record.py FOLDER_OF_PROGRAMS [OUTPUT_FOLDER]

The pictures of terminals are SVG. up.svg is animated; renderers that don't animate show its last frame. Screenshots of
the browser are PNG, and need Chromium. Run it as a normal user.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from browser import PHONE, Browser
from terminal import COLUMNS, Recording, Terminal, run, svg

OUTPUT = Path(sys.argv[2] if len(sys.argv) > 2 else __file__).resolve()
OUTPUT = OUTPUT if OUTPUT.is_dir() else OUTPUT.parent
HTTP = "http://127.0.0.1:8000"

APP = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello\\n"]
"""

FAILING = """\
ARTICLES = {"1": "Hello"}

def application(environ, start_response):
    number = environ["PATH_INFO"].removeprefix("/articles/")
    title = ARTICLES[number]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [title.encode()]
"""

MISTAKES = """\
domains   = ["blog.localhost"]
directory = "../.."
wokers    = 4
[timeouts]
request = "3 parsecs"
"""


def main():
    programs = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else sys.exit(__doc__)
    os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
    os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS))
    for name in ("NO_COLOR", "VIRTUAL_ENV", "IMPERIUM_ROOT"):
        os.environ.pop(name, None)
    for record in (record_up, record_check, record_status, record_pages):
        # It is seen in a traceback.
        folder = Path(tempfile.gettempdir()) / "blog"
        folder.mkdir()
        try:
            record(folder)
        finally:
            shutil.rmtree(folder)


def record_up(folder):
    (folder / "app.py").write_text(APP)
    recording = Recording()
    recording.prompt("cat app.py")
    recording.add(APP)
    recording.prompt("imperium up app.py")
    terminal = Terminal(recording, ["imperium", "up", "app.py"], folder)
    terminal.until(re.escape(HTTP))
    terminal.quiet()
    for path in ("/", "/about"):
        urllib.request.urlopen(HTTP + path).read()
        terminal.quiet()
    os.write(terminal.fd, b"\x03")
    terminal.end()
    write("up.svg", svg(recording, "A terminal: imperium up app.py serves an app", animated=True))


def record_check(folder):
    (folder / "app.py").write_text(APP)
    vassals(folder, MISTAKES)
    recording = Recording()
    run(recording, "imperium check", ["imperium", "check", "--root", "root"], folder)
    write("check.svg", svg(recording, "A terminal: imperium check shows mistakes in a file", animated=False))


def record_status(folder):
    vassals(folder, 'domains = ["blog.localhost"]\ndirectory = "../.."\nworkers = 3\n')
    (folder / "app.py").write_text(APP)
    with serving(["imperium", "up", "--root", "root"], folder):
        wait("three workers", lambda: status(folder).count('"ready"') >= 3)
        recording = Recording()
        run(recording, "imperium status", ["imperium", "status", "--root", "root"], folder)
    write("status.svg", svg(recording, "A terminal: imperium status shows apps and workers", animated=False))


def record_pages(folder):
    """The traceback of an app that fails, and the 404 of a host that no app has."""
    browser = Browser()
    try:
        (folder / "app.py").write_text(FAILING)
        with serving(["imperium", "up", "app.py"], folder):
            wait("the app", lambda: answers(f"{HTTP}/articles/1"))
            pictures(browser, "error", f"{HTTP}/articles/7")
        vassals(folder, 'domains = ["blog.localhost"]\ndirectory = "../.."\n')
        with serving(["imperium", "up", "--root", "root", "--development"], folder):
            wait("the worker", lambda: '"ready"' in status(folder))
            pictures(browser, "not-found", "http://shop.localhost:8080/")
    finally:
        browser.close()


def pictures(browser, name, url):
    browser.picture(url, OUTPUT / f"{name}-light.png")
    browser.picture(url, OUTPUT / f"{name}-dark.png", dark=True)
    browser.picture(url, OUTPUT / f"{name}-phone.png", width=PHONE)


def vassals(folder, text):
    """Writes the app's file; root has to name itself."""
    user = 'user = "root"\n' if os.getuid() == 0 and "wokers" not in text else ""
    (folder / "root/vassals").mkdir(parents=True)
    (folder / "root/vassals/blog.toml").write_text(text + user)


class serving:
    """Runs a stack until the end of a `with` block."""

    def __init__(self, command, folder):
        self.stack = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.send_signal(signal.SIGINT)
        self.stack.wait()


def status(folder):
    command = ["imperium", "status", "--json", "--root", "root"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout


def answers(url):
    try:
        return urllib.request.urlopen(url).status == 200
    except urllib.error.URLError:
        return False


def wait(what, is_there):
    deadline = time.monotonic() + 60
    while not is_there():
        if time.monotonic() > deadline:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.1)


def write(name, text):
    (OUTPUT / name).write_text(text)


if __name__ == "__main__":
    main()
