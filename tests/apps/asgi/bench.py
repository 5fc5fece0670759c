"""Minimal ASGI apps, so that benchmarks measure the servers' own work.

Like every framework, they announce the length of their responses.
"""

import asyncio
import os

TEXT = [(b"content-type", b"text/plain")]
EVENTS = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
"""nginx passes a stream on at once if the app says so."""


async def body(receive):
    """Reads the request's body as a whole."""
    pieces, more = [], True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


async def hello(scope, receive):
    return b"Hello, world\n"


async def length(scope, receive):
    return b"%d\n" % len(await body(receive))


async def pid(scope, receive):
    """Returns the pid, after a short delay, so that another process has to handle the next request."""
    await asyncio.sleep(0.005)
    return b"%d\n" % os.getpid()


async def publish(scope, receive):
    """Sends the query to all readers of the events, and returns their number."""
    event = b"data: " + scope["query_string"] + b"\n\n"
    for queue in readers:
        queue.put_nowait(event)
    return b"%d\n" % len(readers)


PAGES = {"/": hello, "/length": length, "/pid": pid, "/publish": publish}

readers = set()


async def events(receive, send):
    """Sends each published event until the client leaves."""
    await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
    await send({"type": "http.response.body", "body": b": welcome\n\n", "more_body": True})
    queue = asyncio.Queue()

    async def leave():
        while (await receive())["type"] != "http.disconnect":
            pass
        queue.put_nowait(None)

    leaving = asyncio.ensure_future(leave())
    readers.add(queue)
    try:
        while (event := await queue.get()) is not None:
            await send({"type": "http.response.body", "body": event, "more_body": True})
    except OSError:
        pass
    finally:
        readers.discard(queue)
        leaving.cancel()


members = set()


async def echo(text, send):
    await send({"type": "websocket.send", "text": text})


async def broadcast(text, send):
    message = {"type": "websocket.send", "text": text}
    for member in list(members):
        await member(message)


SOCKETS = {"/ws/echo": echo, "/ws/broadcast": broadcast, "/ws/idle": echo}


async def socket(scope, receive, send):
    """Handles each message until the client leaves."""
    handle = SOCKETS[scope["path"]]
    await receive()
    await send({"type": "websocket.accept"})
    if handle is broadcast:
        members.add(send)
    try:
        while (message := await receive())["type"] == "websocket.receive":
            await handle(message["text"], send)
    finally:
        members.discard(send)


async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["type"] == "websocket":
        return await socket(scope, receive, send)
    if scope["path"] == "/events":
        return await events(receive, send)
    content = await PAGES[scope["path"]](scope, receive)
    headers = [*TEXT, (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})
