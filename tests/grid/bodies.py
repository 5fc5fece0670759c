"""The bodies of requests."""

import asyncio
import hashlib
import os

from grid.cell import among, cell, contains, equal
from grid.site import new_key
from grid.wire import Truncated

BUFFERS = "Django reads the body before it calls the view"


@cell("http")
async def body_of_json(site):
    value = {"text": "café ✓", "list": [1, 2.5, None, True], "nested": {"a": {}}}
    equal((await site.post("/json", json=value)).json(), value)


@cell("http")
async def body_of_invalid_json(site):
    response = await site.post("/json", content=b"{not json", headers={"content-type": "application/json"})
    among(response.status_code, [400, 422])


@cell("http")
async def created_with_location(site):
    response = await site.post("/items", json={"name": "new"})
    equal((response.status_code, response.headers["location"], response.json()), (201, "/items/43", {"name": "new"}))


@cell("http")
async def form_urlencoded(site):
    response = await site.post("/form", data={"name": "a & é", "tags": ["x", "y"]})
    equal(response.json(), {"name": "a & é", "tags": ["x", "y"]})


@cell("http")
async def form_multipart_with_files(site):
    small, large = b"\x00\xff\r\n--", os.urandom(300_000)
    files = [
        ("files", ("café.txt", small, "text/plain")),
        ("files", ("large.bin", large, "application/octet-stream")),
    ]
    response = (await site.post("/upload", data={"title": "two files"}, files=files)).json()
    equal(response["title"], "two files")
    expected = [
        {"name": name, "type": kind, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data, kind in [("café.txt", small, "text/plain"), ("large.bin", large, "application/octet-stream")]
    ]
    equal(response["files"], expected)


def digest_of(data):
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@cell("http")
async def upload_large(site):
    data = os.urandom(1 << 20) * 8
    equal((await site.post("/digest", content=data)).json(), digest_of(data))


@cell("http")
async def upload_chunked(site):
    data = os.urandom(300_000)

    async def pieces():
        for start in range(0, len(data), 30_000):
            yield data[start : start + 30_000]

    equal((await site.post("/digest", content=pieces())).json(), digest_of(data))


@cell("http")
async def upload_in_many_tiny_chunks(site):
    async with await site.connection() as connection:
        await connection.request("POST", "/digest", [("Transfer-Encoding", "chunked")])
        for number in range(500):
            await connection.chunk(b"%d" % (number % 10))
        await connection.chunk(b"")
        head = await connection.response()
        data = b"".join(b"%d" % (number % 10) for number in range(500))
        contains(await head.body(), digest_of(data)["sha256"].encode())


@cell("http", django=BUFFERS, litestar="a streamed response of Litestar drops the rest of the request")
async def body_is_streamed_both_ways(site):
    """The response to each piece arrives before the next one is sent."""
    async with await site.connection() as connection:
        await connection.request("POST", "/duplex", [("Transfer-Encoding", "chunked")])
        await connection.chunk(b"x" * 10)
        head = await connection.response()
        equal(await head.piece(), b"got 10\n")
        for size in [20, 30]:
            await connection.chunk(b"x" * size)
            equal(await head.piece(), b"got %d\n" % size)
        await connection.chunk(b"")
        equal(await head.piece(), None)


@cell("http")
async def body_read_twice(site):
    equal((await site.post("/twice", content=b"x" * 1000)).text, "1000 True")


@cell("http")
async def body_ignored(site):
    """The response arrives whole. The connection either serves the next request, or closes."""
    async with await site.connection() as connection:
        await connection.request("POST", "/ignore", body=b"x" * 1_000_000)
        head = await connection.response()
        equal((head.status, await head.body()), (200, b"ignored\n"))
        try:
            head, body = await connection.exchange("GET", "/")
            equal((head.status, body.strip().lower()), (200, site.app.encode()))
        except (Truncated, ConnectionError) as error:
            assert isinstance(error, ConnectionError) or "b''" in str(error) or "Error" in str(error), error


@cell("http")
async def body_empty(site):
    response = await site.post("/echo", content=b"")
    equal((response.status_code, response.content), (200, b""))


@cell("http")
async def body_of_every_byte(site):
    data = bytes(range(256)) * 100
    response = await site.post("/echo", content=data, headers={"content-type": "application/octet-stream"})
    equal(response.content, data)


@cell("http")
async def expect_continue(site):
    """The body is only sent after the 100."""
    async with await site.connection() as connection:
        await connection.request("POST", "/echo", [("Content-Length", "5"), ("Expect", "100-continue")])
        line = await connection.reader.readuntil(b"\r\n\r\n")
        contains(line, b" 100 ")
        await connection.send(b"hello")
        head = await connection.response()
        equal((head.status, await head.body()), (200, b"hello"))


@cell("http", django=BUFFERS)
async def the_client_leaves_during_an_upload(site):
    key = new_key()
    connection = await site.connection()
    await connection.request("POST", f"/upload-disconnect?key={key}", [("Content-Length", "1000000")])
    await connection.send(b"x" * 1000)
    await site.noted(key, "reading")
    connection.abort()
    await site.noted(key, "gone")


@cell("http", django=BUFFERS)
async def an_upload_is_seen_while_it_arrives(site):
    key = new_key()
    async with await site.connection() as connection:
        await connection.request("POST", f"/upload-disconnect?key={key}", [("Content-Length", "2000")])
        await connection.send(b"x" * 1000)
        await site.noted(key, "reading")
        await connection.send(b"x" * 1000)
        head = await connection.response()
        equal(await head.body(), b"whole")


@cell("http")
async def uploads_at_once(site):
    data = os.urandom(500_000)
    responses = await asyncio.gather(*[site.post("/digest", content=data) for _ in range(10)])
    equal([response.json() for response in responses], [digest_of(data)] * 10)
