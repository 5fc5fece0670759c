"""WebSocket apps that misbehave, each in a different way. Their HTTP side is that of `bad`."""

import asyncio
import os
import time
from pathlib import Path

import bad


async def accept(send, **more):
    await send({"type": "websocket.accept", **more})


async def say(send, text):
    await send({"type": "websocket.send", "text": text})


async def close(send, code=4000, reason="enough"):
    await send({"type": "websocket.close", "code": code, "reason": reason})


async def deny(send, more=False):
    await send({"type": "websocket.http.response.start", "status": 401, "headers": bad.TEXT})
    await send({"type": "websocket.http.response.body", "body": b"no entry\n", "more_body": more})


# Apps that serve


async def echo(scope, receive, send):
    """Answers each message with the worker's pid."""
    await accept(send)
    while (await receive())["type"] != "websocket.disconnect":
        await say(send, str(os.getpid()))


# Messages that are missing, wrong, or in the wrong order


def sends(*messages, accepts=False):
    async def app(scope, receive, send):
        await receive()
        if accepts:
            await accept(send)
        for message in messages:
            await send(message)

    return app


def message(kind, **more):
    return {"type": f"websocket.{kind}", **more}


async def sends_after_close(scope, receive, send):
    await accept(send)
    await close(send)
    await say(send, "never")


async def accepts_after_close(scope, receive, send):
    await accept(send)
    await close(send)
    await accept(send)


async def closes_twice(scope, receive, send):
    """As in a `finally`."""
    await accept(send)
    await close(send)
    await close(send, 4001, "again")
    bad.record(scope, "closed twice")


async def accepts_after_refusal(scope, receive, send):
    await send(message("close"))
    await accept(send)


async def denies_after_accept(scope, receive, send):
    await accept(send)
    await deny(send)


async def denies_halfway(scope, receive, send):
    await deny(send, more=True)


async def denies_without_body(scope, receive, send):
    await send(message("http.response.start", status=401, headers=bad.TEXT))


async def accepts_after_denial(scope, receive, send):
    await deny(send)
    await accept(send)


async def never_accepts(scope, receive, send):
    pass


async def returns_when_open(scope, receive, send):
    await accept(send)
    await say(send, "last")


# Exceptions


async def raises_first(scope, receive, send):
    raise ValueError("raised before accept")


async def raises_when_open(scope, receive, send):
    await accept(send)
    await say(send, "last")
    raise ValueError("raised after accept")


async def raises_after_close(scope, receive, send):
    await accept(send)
    await close(send)
    raise ValueError("raised after close")


async def exits(scope, receive, send):
    await accept(send)
    raise SystemExit(3)


async def cancels_itself(scope, receive, send):
    await accept(send)
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


# Apps that take their time


async def never_receives(scope, receive, send):
    """Ends once the client has gone, which only `send` tells."""
    await accept(send)
    bad.record(scope, "accepted")
    try:
        while True:
            await say(send, "tick")
            await asyncio.sleep(0.05)
    except OSError as error:
        bad.record(scope, type(error).__name__)


async def swallows_cancellation(scope, receive, send):
    """Doesn't accept until the gate exists."""
    bad.record(scope, f"begun {os.getpid()}")
    while not Path(bad.query(scope, "gate")).exists():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            bad.record(scope, "cancelled")


async def waits(scope, receive, send):
    """Doesn't accept."""
    await asyncio.Event().wait()


async def blocks(scope, receive, send):
    """Blocks the loop until the gate exists, once a message arrives."""
    await accept(send)
    await receive()
    await say(send, str(os.getpid()))
    await receive()
    bad.record(scope, "begun")
    while not Path(bad.query(scope, "gate")).exists():
        time.sleep(0.01)
    await say(send, "released")
    await receive()


BY_PATH = {
    "/echo": echo,
    "/send-first": sends(message("send", text="never")),
    "/body-first": sends(message("http.response.body", body=b"never")),
    "/unknown-message": sends(message("begin")),
    "/message-of-http": sends({"type": "http.response.start", "status": 404, "headers": []}),
    "/no-message": sends(None),
    "/message-without-type": sends({"text": "never"}),
    "/accept-header-text": sends(message("accept", headers=[("x-text", "value")])),
    "/accept-header-injection": sends(message("accept", headers=[(b"x-bad", b"one\r\nx-smuggled: two")])),
    "/subprotocol-number": sends(message("accept", subprotocol=5)),
    "/subprotocol-injection": sends(message("accept", subprotocol="one\r\nx-smuggled: two")),
    "/denial-without-status": sends(message("http.response.start", headers=[])),
    "/denial-status-101": sends(message("http.response.start", status=101, headers=[])),
    "/denies-twice": sends(*[message("http.response.start", status=401, headers=[])] * 2),
    "/denies-halfway": denies_halfway,
    "/denies-without-body": denies_without_body,
    "/never-accepts": never_accepts,
    "/raises-first": raises_first,
    "/accept-twice": sends(message("accept"), accepts=True),
    "/neither": sends(message("send"), accepts=True),
    "/both": sends(message("send", text="never", bytes=b"never"), accepts=True),
    "/text-number": sends(message("send", text=5), accepts=True),
    "/text-bytes": sends(message("send", text=b"never"), accepts=True),
    "/text-surrogate": sends(message("send", text="\ud800"), accepts=True),
    "/bytes-text": sends(message("send", bytes="never"), accepts=True),
    "/code-text": sends(message("close", code="1000"), accepts=True),
    "/code-1006": sends(message("close", code=1006), accepts=True),
    "/reason-number": sends(message("close", reason=5), accepts=True),
    "/reason-long": sends(message("close", reason="x" * 124), accepts=True),
    "/denies-after-accept": denies_after_accept,
    "/raises-when-open": raises_when_open,
    "/exits": exits,
    "/cancels-itself": cancels_itself,
    "/returns-when-open": returns_when_open,
    "/sends-after-close": sends_after_close,
    "/accepts-after-close": accepts_after_close,
    "/closes-twice": closes_twice,
    "/raises-after-close": raises_after_close,
    "/accepts-after-refusal": accepts_after_refusal,
    "/accepts-after-denial": accepts_after_denial,
    "/never-receives": never_receives,
    "/swallows-cancellation": swallows_cancellation,
    "/waits": waits,
    "/blocks": blocks,
}


async def application(scope, receive, send):
    if scope["type"] == "websocket":
        await BY_PATH[scope["path"]](scope, receive, send)
    else:
        await bad.application(scope, receive, send)
