"""The cells, and how one is checked."""

import asyncio
import traceback
from pathlib import Path

CELLS = []
TIMEOUT = 40


class Elsewhere(Exception):
    """The cell is checked in another run."""


class Cell:
    def __init__(self, check, group, unless):
        self.name, self.check, self.group, self.unless = check.__name__, check, group, unless

    async def run(self, site):
        """The outcome, and why, if it isn't `ok`."""
        if reason := self.unless.get(site.app):
            return "none", reason
        try:
            await asyncio.wait_for(self.check(site), TIMEOUT)
        except Elsewhere as reason:
            return "none", str(reason)
        except asyncio.TimeoutError:
            return "failed", f"no outcome after {TIMEOUT} s"
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)
            own = [it for it in place if "/grid/" in it.filename and not it.filename.endswith("cell.py")]
            line = (own or place)[-1]
            return "failed", f"{type(error).__name__}: {error} ({Path(line.filename).name}:{line.lineno}: {line.line})"
        return "ok", ""


def cell(group, **unless):
    """A check that belongs to a group. `unless` has the frameworks that lack the behaviour, and why."""

    def add(check):
        CELLS.append(Cell(check, group, unless))
        return check

    return add


def equal(actual, expected):
    assert actual == expected, f"expected {short(expected)}, not {short(actual)}"


def among(actual, expected):
    assert actual in expected, f"expected one of {short(expected)}, not {short(actual)}"


def contains(whole, part):
    assert part in whole, f"expected {short(part)} in {short(whole)}"


def short(value):
    text = repr(value)
    return text if len(text) < 400 else f"{text[:400]}… ({len(text)} characters)"
