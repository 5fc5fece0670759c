"""Responses that are produced piece by piece, and clients that leave."""

from grid.cell import cell, contains, equal
from grid.responses import PIECE
from grid.site import new_key
from grid.wire import Truncated


@cell("http")
async def stream(site):
    response = await site.get("/stream?pieces=100")
    equal((response.status_code, response.content == PIECE * 100), (200, True))
    assert "content-length" not in response.headers, response.headers


@cell("http")
async def stream_without_pieces(site):
    response = await site.get("/stream-nothing")
    equal((response.status_code, response.content), (200, b""))


@cell("http")
async def stream_piece_by_piece(site):
    """The first piece arrives while the generator still waits."""
    key = new_key()
    async with await site.connection() as connection:
        await connection.request("GET", f"/gated?key={key}")
        head = await connection.response()
        equal(await head.piece(), b"one\n")
        await site.open_gate(key)
        equal(await head.piece(), b"two\n")
        equal(await head.piece(), None)


@cell("http")
async def server_sent_events(site):
    key = new_key()
    async with await site.connection() as connection:
        await connection.request("GET", f"/events?key={key}", [("Accept", "text/event-stream")])
        head = await connection.response()
        contains(head.header("content-type"), "text/event-stream")
        for number, data in enumerate([b"first", b"second", b"third"]):
            if number:
                await site.open_gate(f"{key}-{number}")
            event = b""
            while not event.replace(b"\r", b"").endswith(b"\n\n"):
                event += await head.piece()
            contains(event, b"data: " + data)
        equal((await head.body()).strip(), b"")


@cell("http")
async def stream_that_fails_midway(site):
    """The client sees that the response is incomplete, or a 500 if nothing was sent yet. The worker serves on."""
    async with await site.connection() as connection:
        await connection.request("GET", "/stream-fails")
        head = await connection.response()
        try:
            body = await head.body()
        except Truncated:
            pass
        else:
            assert head.status == 500, f"the body looks complete: {body!r}"
    await site.serves()


@cell("http")
async def the_client_leaves_during_a_stream(site):
    key = new_key()
    connection = await site.connection()
    await connection.request("GET", f"/endless?key={key}")
    head = await connection.response()
    for _ in range(5):
        assert await head.piece()
    connection.abort()
    await site.noted(key, "closed")


@cell("http")
async def the_client_leaves_before_the_response(site):
    key = new_key()
    connection = await site.connection()
    await connection.request("GET", f"/wait-disconnect?key={key}")
    await site.noted(key, "waiting")
    connection.abort()
    await site.noted(key, "disconnected")


@cell("http")
async def streams_at_once(site):
    """Each of them waits for another request."""
    keys = [new_key() for _ in range(10)]
    connections = [await site.connection() for _ in keys]
    heads = []
    for connection, key in zip(connections, keys):
        await connection.request("GET", f"/gated?key={key}")
        heads.append(await connection.response())
    for head in heads:
        equal(await head.piece(), b"one\n")
    for key in keys:
        await site.open_gate(key)
    for connection, head in zip(connections, heads):
        equal(await head.body(), b"two\n")
        connection.abort()
