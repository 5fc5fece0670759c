"""WebSockets, with `websockets` as the client."""

import asyncio
import json
import os

from websockets.exceptions import ConnectionClosed, InvalidStatus

from grid.cell import among, cell, contains, equal
from grid.site import new_key


async def closed(socket):
    """Reads on until the socket is closed, and returns the code and the reason that the server sent."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as error:
        return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")


async def refused(site, path, **options):
    """The response that refused a WebSocket."""
    try:
        async with site.socket(path, **options):
            raise AssertionError("the WebSocket was accepted")
    except InvalidStatus as error:
        return error.response


@cell("websocket")
async def ws_text(site):
    async with site.socket("/ws/echo") as socket:
        for text in ["hello", "café ✓ 😀", "x" * 200]:
            await socket.send(text)
            equal(await socket.recv(), text)


@cell("websocket")
async def ws_binary(site):
    async with site.socket("/ws/echo") as socket:
        data = bytes(range(256))
        await socket.send(data)
        equal(await socket.recv(), data)


@cell("websocket")
async def ws_empty_messages(site):
    async with site.socket("/ws/echo") as socket:
        await socket.send("")
        equal(await socket.recv(), "")
        await socket.send("after")
        equal(await socket.recv(), "after")


@cell("websocket")
async def ws_json(site):
    async with site.socket("/ws/json") as socket:
        for value in [{"a": 1}, [1, 2], {"nested": {"text": "é"}}]:
            await socket.send(json.dumps(value))
            equal(json.loads(await socket.recv()), {"got": value})


@cell("websocket")
async def ws_large_messages(site):
    async with site.socket("/ws/echo") as socket:
        for message in [os.urandom(1_000_000), "é" * 300_000, os.urandom(65_536)]:
            await socket.send(message)
            equal(await socket.recv() == message, True)


@cell("websocket")
async def ws_many_small_messages(site):
    async with site.socket("/ws/echo") as socket:

        async def send():
            for number in range(1000):
                await socket.send(str(number))

        sending = asyncio.create_task(send())
        equal([await socket.recv() for _ in range(1000)], [str(number) for number in range(1000)])
        await sending


@cell("websocket")
async def ws_fragmented_message(site):
    async with site.socket("/ws/echo", compression=None) as socket:
        await socket.send(["one, ", "two, ", "", "three"])
        equal(await socket.recv(), "one, two, three")


@cell("websocket")
async def ws_subprotocol(site):
    async with site.socket("/ws/subprotocol", subprotocols=["chat.v1", "chat.v2"]) as socket:
        equal(socket.subprotocol, "chat.v2")
        equal(json.loads(await socket.recv()), ["chat.v1", "chat.v2"])


@cell("websocket")
async def ws_without_subprotocol(site):
    async with site.socket("/ws/subprotocol") as socket:
        equal((socket.subprotocol, json.loads(await socket.recv())), (None, []))


@cell("websocket")
async def ws_headers_on_accept(site):
    async with site.socket("/ws/headers") as socket:
        headers = socket.response.headers
        equal((headers["x-accepted"], headers["set-cookie"]), ("yes", "socket=1; Path=/"))


@cell("websocket")
async def ws_path_query_cookie_and_header(site):
    headers = {"cookie": "session-of=ann", "x-name": "a header"}
    async with site.socket("/ws/rooms/blue?user=caf%C3%A9", additional_headers=headers) as socket:
        expected = {"room": "blue", "user": "café", "cookie": "ann", "header": "a header"}
        equal(json.loads(await socket.recv()), expected)


@cell("websocket")
async def ws_scope(site):
    async with site.socket("/ws/scope?a=%20", subprotocols=["one"]) as socket:
        scope = json.loads(await socket.recv())
        equal((scope["type"], scope["scheme"], scope["http_version"]), ("websocket", "ws", "1.1"))
        equal((scope["path"], scope["query_string"], scope["subprotocols"]), ("/ws/scope", "a=%20", ["one"]))
        equal(scope["client"], list(socket.local_address[:2]))


@cell("websocket", django="Channels' router has no lifespan state")
async def ws_lifespan_state(site):
    async with site.socket("/ws/state") as socket:
        equal(await socket.recv(), "set at startup")


@cell("websocket")
async def ws_closed_by_the_app(site):
    async with site.socket("/ws/close") as socket:
        equal(await closed(socket), (4001, "closed by the app"))


# What the frameworks tell of the client's close frame.
CLOSED = {"quart": ("closed", "closed"), "starlette": ("4002 by the client", None), "fastapi": ("4002 by the client", None)}


@cell("websocket")
async def ws_closed_by_the_client(site):
    key = new_key()
    async with site.socket(f"/ws/notes/{key}") as socket:
        await socket.close(4002, "by the client")
    await site.noted(key, CLOSED.get(site.app, ("4002", None))[0])


@cell("websocket")
async def ws_closed_without_a_code(site):
    key = new_key()
    async with site.socket(f"/ws/notes/{key}") as socket:
        socket.protocol.send_close()
        socket.transport.write(b"".join(socket.protocol.data_to_send()))
        await socket.wait_closed()
    await site.noted(key, "closed" if site.app == "quart" else "1005")


@cell("websocket")
async def ws_the_client_vanishes(site):
    key = new_key()
    async with site.socket(f"/ws/notes/{key}") as socket:
        socket.transport.abort()
        await socket.wait_closed()
    await site.noted(key, "closed" if site.app == "quart" else "1006")


@cell("websocket")
async def ws_rejected(site):
    equal((await refused(site, "/ws/reject")).status_code, 403)


@cell("websocket")
async def ws_denied_with_a_response(site):
    response = await refused(site, "/ws/deny")
    equal((response.status_code, response.body, response.headers["x-denied"]), (401, b"no entry", "yes"))


@cell("websocket")
async def ws_unknown_path(site):
    among((await refused(site, "/ws/nowhere")).status_code, [403, 404, 500])


@cell("websocket")
async def ws_exception(site):
    async with site.socket("/ws/raise") as socket:
        code, _ = await closed(socket)
        # Litestar and Quart close it themselves.
        equal(code, {"litestar": 4500, "quart": 1000}.get(site.app, 1011))
    await site.serves()


@cell("websocket")
async def ws_exception_before_accept(site):
    among((await refused(site, "/ws/raise-first")).status_code, [403, 500])


@cell("websocket")
async def ws_handler_that_returns(site):
    """A normal end if the framework closes it, and otherwise an unexpected one."""
    async with site.socket("/ws/return") as socket:
        code, _ = await closed(socket)
        among(code, [1000, 1006, 1011])


@cell("websocket")
async def ws_ping(site):
    async with site.socket("/ws/echo") as socket:
        await (await socket.ping(b"are you there"))
        await socket.send("still")
        equal(await socket.recv(), "still")


@cell("websocket")
async def ws_pushed_messages(site):
    async with site.socket("/ws/push?count=500") as socket:
        equal([await socket.recv() for _ in range(500)], [str(number) for number in range(500)])
        equal((await closed(socket))[0], 1000)


@cell("websocket")
async def ws_both_ways_at_once(site):
    async with site.socket("/ws/both-ways") as socket:
        for number in range(50):
            await socket.send(str(number))
        got = [await socket.recv() for _ in range(100)]
        equal([it for it in got if it.startswith("tick")], [f"tick {number}" for number in range(50)])
        equal([it for it in got if it.startswith("echo")], [f"echo {number}" for number in range(50)])


@cell("websocket")
async def ws_broadcast(site):
    path = f"/ws/chat/{new_key()}"
    async with site.socket(path) as one, site.socket(path) as two, site.socket(path) as three:
        # Each has joined once its own message comes back.
        for socket in [one, two, three]:
            await socket.send("joined")
            equal(await socket.recv(), "joined")
        await three.send("to all")
        for socket in [one, two, three]:
            while (text := await socket.recv()) == "joined":
                pass
            equal(text, "to all")


@cell("websocket")
async def ws_message_from_a_request(site):
    room = new_key()
    async with site.socket(f"/ws/chat/{room}") as socket:
        await socket.send("joined")
        equal(await socket.recv(), "joined")
        equal((await site.post(f"/publish/{room}", content=b"by HTTP")).status_code, 200)
        equal(await socket.recv(), "by HTTP")


@cell("websocket")
async def ws_compression(site):
    async with site.socket("/ws/echo", compression="deflate") as socket:
        contains(socket.response.headers["sec-websocket-extensions"], "permessage-deflate")
        text = "compress me " * 5000
        await socket.send(text)
        equal(await socket.recv(), text)


@cell("websocket")
async def ws_fifty_sockets_at_once(site):
    async def one(number):
        async with site.socket("/ws/echo") as socket:
            await socket.send(str(number))
            return await socket.recv()

    equal(await asyncio.gather(*[one(number) for number in range(50)]), [str(number) for number in range(50)])


@cell("websocket")
async def ws_context_variables_and_requests(site):
    """Requests are served while a socket is open."""
    async with site.socket("/ws/echo") as socket:
        equal((await site.get("/context?value=1")).json(), {"before": None, "after": "1"})
        await socket.send("still")
        equal(await socket.recv(), "still")


@cell("websocket-tls")
async def ws_over_tls(site):
    async with site.socket("/ws/scope", tls=True) as socket:
        equal(json.loads(await socket.recv())["scheme"], "wss")
