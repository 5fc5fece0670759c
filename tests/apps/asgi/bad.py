"""ASGI apps that misbehave, each in a different way. Those under good paths are for their neighbours."""

import asyncio
import os
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs

TEXT = [(b"content-type", b"text/plain")]
LEAKED = []


def query(scope, name, default=""):
    return parse_qs(scope["query_string"].decode()).get(name, [default])[0]


def record(scope, text):
    with open(query(scope, "record"), "a") as file:
        file.write(f"{text}\n")


async def start(send, status=200, headers=TEXT, **more):
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})


async def body(send, text, more=False):
    await send({"type": "http.response.body", "body": text, "more_body": more})


async def respond(send, text):
    await start(send)
    await body(send, text)


async def until_disconnect(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


# Apps that serve


async def hello(scope, receive, send):
    await respond(send, b"Hello, world\n")


async def pid(scope, receive, send):
    await respond(send, b"%d\n" % os.getpid())


async def echo(scope, receive, send):
    """Returns the body of a POST, or the query of other requests."""
    if scope["method"] != "POST":
        return await respond(send, scope["query_string"])
    await start(send)
    while True:
        message = await receive()
        await body(send, message["body"], message["more_body"])
        if not message["more_body"]:
            return


async def gate(scope, receive, send):
    """Waits until the gate exists, without blocking the loop."""
    record(scope, f"begun {os.getpid()}")
    while not Path(query(scope, "gate")).exists():
        await asyncio.sleep(0.01)
    await respond(send, b"%d\n" % os.getpid())


# Messages that are missing, wrong, or in the wrong order


async def never_sends(scope, receive, send):
    pass


async def only_starts(scope, receive, send):
    await start(send)


async def body_first(scope, receive, send):
    await body(send, b"never\n")


async def starts_twice(scope, receive, send):
    await start(send)
    await start(send)


async def unknown_message(scope, receive, send):
    await send({"type": "http.response.end"})


async def message_of_another_protocol(scope, receive, send):
    await send({"type": "websocket.accept"})


async def no_message(scope, receive, send):
    await send(None)


async def message_without_type(scope, receive, send):
    await send({"status": 200})


async def start_without_status(scope, receive, send):
    await send({"type": "http.response.start", "headers": []})


def with_head(status=200, headers=TEXT):
    async def app(scope, receive, send):
        await start(send, status, headers)
        await body(send, b"never\n")

    return app


def with_body(value):
    async def app(scope, receive, send):
        await start(send)
        await send({"type": "http.response.body", "body": value})

    return app


async def trailers_unannounced(scope, receive, send):
    await start(send)
    await send({"type": "http.response.trailers", "headers": []})


async def too_short(scope, receive, send):
    await start(send, headers=[(b"content-length", b"10")])
    await body(send, b"five\n")


async def too_long(scope, receive, send):
    await start(send, headers=[(b"content-length", b"5")])
    await body(send, b"five\nand more\n")


async def sends_after_the_end(scope, receive, send):
    await respond(send, b"whole\n")
    await body(send, b"never\n")


async def starts_after_the_end(scope, receive, send):
    await respond(send, b"whole\n")
    await asyncio.sleep(0)
    await start(send)


async def returns_midway(scope, receive, send):
    await start(send)
    await body(send, b"begin\n", more=True)
    await asyncio.sleep(0.05)


async def sends_from_two_tasks(scope, receive, send):
    """Right: whatever the order, the response is whole."""
    await start(send)
    await asyncio.gather(*[body(send, b"x" * 1000, more=True) for _ in range(100)])
    await body(send, b"")


async def receives_from_two_tasks(scope, receive, send):
    """One of them gets the body, the other the disconnect, once the response is sent."""
    first, second = asyncio.ensure_future(receive()), asyncio.ensure_future(receive())
    await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    await respond(send, b"whole\n")
    kinds = sorted([(await first)["type"], (await second)["type"]])
    assert kinds == ["http.disconnect", "http.request"], kinds


# Exceptions


async def raises_first(scope, receive, send):
    raise ValueError("raised before the start")


async def raises_after_start(scope, receive, send):
    await start(send)
    raise ValueError("raised after the start")


async def raises_midway(scope, receive, send):
    await start(send)
    await body(send, b"begin\n", more=True)
    await asyncio.sleep(0.05)
    raise ValueError("raised after a part of the body")


async def raises_after_the_end(scope, receive, send):
    await respond(send, b"whole\n")
    raise ValueError("raised after the whole body")


async def recursion(scope, receive, send):
    await recursion(scope, receive, send)


async def calls_sys_exit(scope, receive, send):
    sys.exit("an app does not end its worker")


async def calls_sys_exit_in_a_task(scope, receive, send):
    async def leave():
        sys.exit("a task does not end its worker")

    LEAKED.append(asyncio.ensure_future(leave()))
    await asyncio.sleep(0.05)
    await respond(send, b"whole\n")


async def interrupts_itself(scope, receive, send):
    raise KeyboardInterrupt


async def cancels_itself(scope, receive, send):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)


async def raises_cancelled(scope, receive, send):
    raise asyncio.CancelledError


async def raises_base_exception(scope, receive, send):
    raise BaseException("not even an Exception")


# The loop


async def runs_asyncio_run(scope, receive, send):
    asyncio.run(asyncio.sleep(0))


async def closes_the_loop(scope, receive, send):
    asyncio.get_running_loop().close()


async def stops_the_loop(scope, receive, send):
    asyncio.get_running_loop().stop()
    await respond(send, b"whole\n")


async def blocks(scope, receive, send):
    """Blocks the loop until the gate exists."""
    record(scope, f"begun {os.getpid()}")
    while not Path(query(scope, "gate")).exists():
        time.sleep(0.01)
    await respond(send, b"%d\n" % os.getpid())


async def cancels_all_tasks(scope, receive, send):
    """Those of the neighbours, too."""
    own = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not own:
            task.cancel()
    await respond(send, b"whole\n")


async def replaces_the_loop(scope, receive, send):
    asyncio.set_event_loop(asyncio.new_event_loop())
    await respond(send, b"whole\n")


# Tasks, threads, and clients that leave


async def swallows_cancellation(scope, receive, send):
    """It ends once the gate exists, and not before."""
    record(scope, f"begun {os.getpid()}")
    while not Path(query(scope, "gate")).exists():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            record(scope, "cancelled")
    record(scope, "ended")


async def endless_task():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


async def leaks_a_task(scope, receive, send):
    LEAKED.append(asyncio.ensure_future(endless_task()))
    await respond(send, b"whole\n")


async def leaks_a_thread(scope, receive, send):
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    await respond(send, b"whole\n")


async def leaks_an_exception(scope, receive, send):
    async def fail():
        raise ValueError("raised in a task that nobody awaits")

    asyncio.ensure_future(fail())
    await asyncio.sleep(0)
    await respond(send, b"whole\n")


async def never_returns(scope, receive, send):
    """Its response is whole, and its task waits for what never comes."""
    await respond(send, b"whole\n")
    record(scope, "responded")
    await asyncio.Event().wait()


async def sends_to_a_client_that_has_left(scope, receive, send):
    record(scope, "begun")
    await until_disconnect(receive)
    try:
        await respond(send, b"nobody reads this")
    except OSError as error:
        record(scope, type(error).__name__)
        raise


async def sends_forever(scope, receive, send):
    await start(send)
    try:
        while True:
            await body(send, b"x" * 65536, more=True)
    except OSError as error:
        record(scope, type(error).__name__)
        raise


async def receives_forever(scope, receive, send):
    """Each `receive` after the disconnect returns at once."""
    record(scope, "begun")
    await until_disconnect(receive)
    for _ in range(1000):
        assert (await receive())["type"] == "http.disconnect"
    record(scope, "still disconnected")


INJECTION = b"one\r\nX-Smuggled: two"
BY_PATH = {
    "/hello": hello,
    "/pid": pid,
    "/echo": echo,
    "/gated": gate,
    "/never-sends": never_sends,
    "/only-starts": only_starts,
    "/body-first": body_first,
    "/starts-twice": starts_twice,
    "/unknown-message": unknown_message,
    "/message-of-another-protocol": message_of_another_protocol,
    "/no-message": no_message,
    "/message-without-type": message_without_type,
    "/start-without-status": start_without_status,
    "/status-text": with_head("200 OK"),
    "/status-99": with_head(99),
    "/status-101": with_head(101),
    "/status-1000": with_head(1000),
    "/status-none": with_head(None),
    "/header-text": with_head(headers=[("x-text", "value")]),
    "/header-single": with_head(headers=[(b"x-single",)]),
    "/header-number": with_head(headers=[(b"x-number", 1)]),
    "/headers-number": with_head(headers=5),
    "/header-name-injection": with_head(headers=[(b"x-bad: " + INJECTION, b"value")]),
    "/header-value-injection": with_head(headers=[(b"x-bad", INJECTION)]),
    "/header-newline": with_head(headers=[(b"x-bad", b"one\nx-smuggled: two")]),
    "/header-nul": with_head(headers=[(b"x-bad", b"one\0two")]),
    "/header-no-name": with_head(headers=[(b"", b"value")]),
    "/header-huge": with_head(headers=[(b"x-big", b"x" * 1_000_000)]),
    "/body-text": with_body("text"),
    "/body-number": with_body(5),
    "/trailers-unannounced": trailers_unannounced,
    "/too-short": too_short,
    "/too-long": too_long,
    "/sends-after-the-end": sends_after_the_end,
    "/starts-after-the-end": starts_after_the_end,
    "/returns-midway": returns_midway,
    "/sends-from-two-tasks": sends_from_two_tasks,
    "/receives-from-two-tasks": receives_from_two_tasks,
    "/raises-first": raises_first,
    "/raises-after-start": raises_after_start,
    "/raises-midway": raises_midway,
    "/raises-after-the-end": raises_after_the_end,
    "/recursion": recursion,
    "/sys-exit": calls_sys_exit,
    "/sys-exit-in-a-task": calls_sys_exit_in_a_task,
    "/keyboard-interrupt": interrupts_itself,
    "/cancels-itself": cancels_itself,
    "/raises-cancelled": raises_cancelled,
    "/base-exception": raises_base_exception,
    "/asyncio-run": runs_asyncio_run,
    "/closes-the-loop": closes_the_loop,
    "/stops-the-loop": stops_the_loop,
    "/blocks": blocks,
    "/cancels-all-tasks": cancels_all_tasks,
    "/replaces-the-loop": replaces_the_loop,
    "/swallows-cancellation": swallows_cancellation,
    "/leaks-a-task": leaks_a_task,
    "/leaks-a-thread": leaks_a_thread,
    "/leaks-an-exception": leaks_an_exception,
    "/never-returns": never_returns,
    "/sends-to-a-client-that-has-left": sends_to_a_client_that_has_left,
    "/sends-forever": sends_forever,
    "/receives-forever": receives_forever,
}


async def application(scope, receive, send):
    if scope["type"] == "http":
        await BY_PATH[scope["path"]](scope, receive, send)
    else:
        raise ValueError(f"{scope['type']} isn't supported")
