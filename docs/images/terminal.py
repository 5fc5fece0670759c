"""Runs programs in a terminal, and draws what they printed as SVG."""

import codecs
import fcntl
import html
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from pathlib import Path

COLUMNS = 108
LINE, CHARACTER = 19, 8.0
LONGEST_PAUSE = 1.6
END = 4.0
# Other spaces are dropped at the ends of a text, in some browsers even with xml:space.
NBSP = "\N{NO-BREAK SPACE}"

# Readable on white and on black pages: the terminal has its own background.
COLOURS = {30: "#6e7681", 31: "#ff7b72", 32: "#7ee787", 33: "#e3b341", 34: "#79c0ff", 35: "#d2a8ff", 36: "#76e3ea", 37: "#e6edf3"}


class Recording:
    """Lines with the time at which each began, in seconds, without the pauses."""

    def __init__(self):
        self.lines = []
        self.now = 0.0
        self.last = time.monotonic()

    def add(self, text):
        now = time.monotonic()
        self.now += min(now - self.last, LONGEST_PAUSE)
        self.last = now
        for part in re.split(r"(\n)", text.replace("\r\n", "\n").replace("\r", "")):
            if part == "\n":
                self.lines.append((self.now, ""))
            elif part:
                if not self.lines:
                    self.lines.append((self.now, ""))
                began, line = self.lines[-1]
                self.lines[-1] = (began if line else self.now, line + part)

    def prompt(self, command):
        if self.lines and self.lines[-1][1]:
            self.add("\n")
        self.add(f"\x1b[1;32m$\x1b[0m \x1b[1m{command}\x1b[0m\n")
        self.now += 0.8


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, recording, command, folder):
        self.recording, self.text = recording, ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvp(command[0], command)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))

    def read(self, timeout):
        ready, _, _ = select.select([self.fd], [], [], timeout)
        if not ready:
            return None
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        text = self.decoder.decode(data)
        self.text += text
        self.recording.add(text)
        return data

    def until(self, pattern):
        deadline = time.monotonic() + 60
        while not re.search(pattern, self.text):
            if self.read(1.0) == b"" or time.monotonic() > deadline:
                sys.exit(f"waited for {pattern!r}, and got:\n{self.text}")

    def quiet(self):
        while self.read(0.7):
            pass

    def end(self):
        while self.read(60) not in (b"", None):
            pass
        os.waitpid(self.pid, 0)


def run(recording, shown, command, folder):
    recording.prompt(shown)
    Terminal(recording, command, folder).end()


def spans(line):
    """The parts of a line, each with its colour and weight."""
    colour, bold, dim = None, False, False
    at = 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\x1b\]8;[^\x1b\x07]*(?:\x1b\\|\x07))", line):
        sgr = re.fullmatch(r"\x1b\[([0-9;]*)m", part)
        if sgr:
            codes = [int(it or 0) for it in sgr[1].split(";")]
            while codes:
                code = codes.pop(0)
                if code == 0:
                    colour, bold, dim = None, False, False
                elif code == 1:
                    bold = True
                elif code == 2:
                    dim = True
                elif code == 22:
                    bold = dim = False
                elif code == 39:
                    colour = None
                elif code == 38 and codes[:1] == [5]:
                    colour, codes = COLOURS.get(30 + codes[1] % 8), codes[2:]
                elif 30 <= code <= 37 or 90 <= code <= 97:
                    colour = COLOURS[30 + code % 10]
        elif part and not part.startswith("\x1b"):
            style = f' fill="{colour}"' if colour else ""
            style += ' font-weight="700"' if bold else ""
            style += ' opacity="0.65"' if dim else ""
            yield at, part, style
            at += len(part)


def wrapped(lines):
    for began, line in lines:
        # Whoever records them, the pictures show the same home.
        line = line.replace(str(Path.home()), "/home/me")
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)
        if len(plain) <= COLUMNS:
            yield began, line
        else:
            yield began, plain[: COLUMNS - 1] + "…"


def svg(recording, title, animated):
    lines = list(wrapped(recording.lines))
    while lines and not lines[-1][1]:
        lines.pop()
    width, height = COLUMNS * CHARACTER + 32, len(lines) * LINE + 56
    length = recording.now + END
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" role="img">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="100%" height="100%" rx="8" fill="#0d1117" stroke="#30363d"/>',
        '<g fill="#ff5f57"><circle cx="20" cy="18" r="6"/></g><g fill="#febc2e"><circle cx="40" cy="18" r="6"/></g>'
        '<g fill="#28c840"><circle cx="60" cy="18" r="6"/></g>',
        '<g fill="#e6edf3" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="13">',
    ]
    if animated:
        out.append(f'<animate id="loop" attributeName="opacity" from="1" to="1" begin="0s;loop.end" dur="{length:.2f}s"/>')
    for number, (began, line) in enumerate(lines):
        y = 50 + number * LINE
        out.append("<g>")
        # A duration of 0 would be invalid, and the line hidden for good.
        if animated and began >= 0.01:
            out.append(f'<set attributeName="visibility" to="hidden" begin="loop.begin" dur="{began:.2f}s"/>')
        for at, part, style in spans(line):
            x, wide = 16 + at * CHARACTER, len(part) * CHARACTER
            out.append(f'<text x="{x:.0f}" y="{y}" textLength="{wide:.0f}"{style}>{html.escape(part).replace(" ", NBSP)}</text>')
        out.append("</g>")
    out.append("</g></svg>\n")
    return "\n".join(out)
