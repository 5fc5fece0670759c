"""The ASGI app of `cargo xtask soak`: every request has an `id`, and each process records the ones it has started.

What it has written outlives a `kill -9`, so that the journals and the client's ledger can be compared.
"""

import asyncio
import hashlib
import os
import sys
from urllib.parse import parse_qs

if "BROKEN" in os.environ:
    raise RuntimeError("this version is broken on purpose")

TEXT = [(b"content-type", b"text/plain; charset=utf-8")]
EVENTS = [(b"content-type", b"text/event-stream")]
BLOCK = 65536
PATTERN = bytes((n * 7 + (n >> 8)) & 0xFF for n in range(BLOCK))


def query(scope, key):
    return parse_qs(scope["query_string"].decode())[key][0]


def begun(scope):
    """One write per line, so that crashes can't split it. Each process has its own file."""
    path = os.path.join(os.environ["JOURNALS"], str(os.getpid()))
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, (query(scope, "id") + "\n").encode())
    os.close(file)


async def pieces(receive):
    """The pieces of the request's body."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client left")
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def echo(scope, receive):
    """Returns the query of a GET, or the body of a POST."""
    if scope["method"] == "GET":
        yield scope["query_string"]
    else:
        yield b"".join([piece async for piece in pieces(receive)])


async def relay(scope, receive):
    """Returns the body while it arrives."""
    async for piece in pieces(receive):
        yield piece


async def digest(scope, receive):
    length, total = 0, hashlib.sha256()
    async for piece in pieces(receive):
        length += len(piece)
        total.update(piece)
    yield f"{length} {total.hexdigest()}".encode()


async def whole(scope, receive):
    yield b"".join(blocks(int(query(scope, "bytes"))))


async def stream(scope, receive):
    for block in blocks(int(query(scope, "bytes"))):
        yield block


def blocks(left):
    """Each block starts with its number in eight bytes, big-endian, followed by the pattern."""
    number = 0
    while left > 0:
        block = (number.to_bytes(8, "big") + PATTERN[8:])[:left]
        yield block
        left -= len(block)
        number += 1


async def drip(scope, receive):
    for number in range(5):
        yield f"{query(scope, 'id')}:{number}\n".encode()
        await asyncio.sleep(0.05)


async def events(scope, receive):
    """Server-sent events for two seconds."""
    for number in range(20):
        yield f"data: {query(scope, 'id')}:{number}\n\n".encode()
        await asyncio.sleep(0.1)


async def loud(scope, receive):
    """Logs more than a pipe can hold."""
    for number in range(500):
        print(query(scope, "id"), number, "-" * 200, file=sys.stderr)
    yield scope["query_string"]


async def sleep(scope, receive):
    await asyncio.sleep(10_000)
    yield b""


async def os_exit(scope, receive):
    os._exit(9)
    yield b""


BY_PATH = {
    "/echo": echo, "/relay": relay, "/digest": digest, "/whole": whole, "/stream": stream, "/drip": drip,
    "/events": events, "/sleep": sleep, "/exit": os_exit, "/loud": loud,
}  # fmt: skip


async def return_all(receive, send):
    """Returns each message."""
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def chat(receive, send):
    """Sends each message to all members."""
    members.append(send)
    try:
        while (message := await receive())["type"] == "websocket.receive":
            await asyncio.gather(*[tell(member, message["text"]) for member in members])
    finally:
        members.remove(send)


members = []


async def tell(member, text):
    try:
        await member({"type": "websocket.send", "text": text})
    except OSError:
        pass  # It has left, which its own call is told as well.


async def flood(receive, send):
    """Sends much more than fits into any buffer."""
    for _ in range(500):
        await send({"type": "websocket.send", "bytes": PATTERN})


SOCKETS_BY_PATH = {"/echo": return_all, "/chat": chat, "/flood": flood}


async def socket(scope, receive, send):
    begun(scope)
    await receive()
    await send({"type": "websocket.accept"})
    try:
        await SOCKETS_BY_PATH[scope["path"]](receive, send)
    except OSError:
        pass  # The client left.


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        return await socket(scope, receive, send)
    assert scope["type"] == "http", "no lifespan"
    begun(scope)
    body = BY_PATH[scope["path"]](scope, receive)
    # The response starts with its first piece: until then, a request may take too long.
    first = await anext(body)
    headers = EVENTS if scope["path"] == "/events" else TEXT
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for piece in body:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
    except OSError:
        pass  # The client left.
