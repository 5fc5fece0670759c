"""What the apps remember between requests: notes, and gates that requests wait for. One process has one memory."""

import asyncio
import contextvars
import functools
import hashlib
import os
import tempfile
import threading
from collections import defaultdict
from pathlib import Path

FILES = Path(__file__).parent / "files"
TEXT_FILE = FILES / "numbers.txt"
PIECE = bytes(range(256)) * 64
ORIGIN = "https://example.org"
HOSTS = ["localhost", "*.localhost", "127.0.0.1"]
LATIN = "caf\xe9"

notes = defaultdict(list)
rooms = defaultdict(set)
value = contextvars.ContextVar("value", default=None)

_gates = defaultdict(asyncio.Event)
_thread_gates = defaultdict(threading.Event)
_tasks = set()


def note(key, text):
    notes[key].append(text)


def open_gate(key):
    _gates[key].set()
    _thread_gates[key].set()


async def gate(key):
    """Waits until another request opens this gate."""
    await _gates[key].wait()


def gate_in_thread(key):
    """The same for a thread."""
    if not _thread_gates[key].wait(60):
        raise TimeoutError(key)


async def meet(key):
    """Waits until two requests are here."""
    note(key, "here")
    if len(notes[key]) == 2:
        open_gate(key)
    await gate(key)


def in_background(coroutine):
    """A task that outlives its request."""
    task = asyncio.create_task(coroutine)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def late_note(key):
    await gate(key)
    note(key, "done")


async def context(text):
    """What this request sees before and after it sets the variable, while others do the same."""
    before = value.get()
    value.set(text)
    for _ in range(10):
        await asyncio.sleep(0)
    return {"before": before, "after": value.get()}


async def gated(key):
    yield "one\n"
    await gate(key)
    yield "two\n"


async def events(key):
    """The data of three events. The second and third wait for their gates."""
    yield "first"
    for number, name in enumerate(["second", "third"], start=1):
        await gate(f"{key}-{number}")
        yield name


async def pieces(count):
    for _ in range(count):
        yield PIECE


async def nothing():
    return
    yield


async def failing():
    yield "begin\n"
    raise RuntimeError("raised after the first piece")


async def endless(key):
    try:
        while True:
            yield PIECE
            await asyncio.sleep(0)
    finally:
        note(key, "closed")


async def replies(stream):
    """A reply to each piece of a request, as soon as it is there."""
    async for piece in stream:
        if piece:
            yield f"got {len(piece)}\n"


async def digest(stream):
    total, sha256 = 0, hashlib.sha256()
    async for piece in stream:
        total += len(piece)
        sha256.update(piece)
    return {"bytes": total, "sha256": sha256.hexdigest()}


def digest_of(name, content_type, content):
    return {
        "name": name,
        "type": content_type,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


async def subprocess_output():
    process = await asyncio.create_subprocess_exec("/bin/echo", "from a subprocess", stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output.decode()


async def times_out():
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)
    except asyncio.TimeoutError:
        return True
    return False


def describe(scope):
    """A scope as JSON: bytes as Latin-1 text."""
    text = lambda it: it.decode("latin-1") if isinstance(it, bytes) else it  # noqa: E731
    plain = ["type", "asgi", "http_version", "method", "scheme", "path", "root_path", "client", "server", "subprotocols"]
    found = {key: scope[key] for key in plain if key in scope}
    found["raw_path"] = text(scope.get("raw_path"))
    found["query_string"] = text(scope["query_string"])
    found["headers"] = [[text(name), text(value)] for name, value in scope["headers"]]
    found["extensions"] = sorted(scope.get("extensions") or {})
    return found


def loop_name():
    return type(asyncio.get_running_loop()).__module__.split(".")[0]


@functools.lru_cache(maxsize=None)
def large_file():
    """Three megabytes on disk, for this process."""
    file = tempfile.NamedTemporaryFile(prefix="grid-", suffix=".bin")
    file.write(PIECE * 192)
    file.flush()
    large_file.kept = file
    return file.name


def stopped():
    """Records that the app was told to shut down, in the file that the test named."""
    path = os.environ.get("GRID_STOPPED")
    if path:
        Path(path).write_text("stopped\n")
