"""What the client gets: heads, bodies, files, and what middleware makes of them."""

import gzip
import hashlib
import json
from pathlib import Path

from grid.cell import among, cell, contains, equal

PIECE = bytes(range(256)) * 64
TEXT = (Path(__file__).parents[1] / "apps/asgi/files/numbers.txt").read_bytes()
STYLE = (Path(__file__).parents[1] / "apps/asgi/files/site.css").read_bytes()


@cell("http")
async def head_without_body(site):
    """The connection serves the next request."""
    async with await site.connection() as connection:
        head, body = await connection.exchange("HEAD", "/file")
        if head.status == 405:  # some frameworks add no HEAD to a GET
            head, body = await connection.exchange("HEAD", "/files/site.css")
        among(head.status, [200, 404, 405])
        equal(body, b"")
        head, body = await connection.exchange("GET", "/items/1")
        equal(json.loads(body), {"id": 1})


@cell("http")
async def status_204_without_body(site):
    async with await site.connection() as connection:
        head, _ = await connection.exchange("GET", "/no-content")
        equal((head.status, head.header("transfer-encoding")), (204, None))
        among(head.header("content-length"), [None, "0"])
        head, body = await connection.exchange("GET", "/items/1")
        equal(json.loads(body), {"id": 1})


@cell("http")
async def status_304_without_body(site):
    async with await site.connection() as connection:
        head, _ = await connection.exchange("GET", "/not-modified")
        equal((head.status, head.header("etag"), head.header("transfer-encoding")), (304, '"v1"', None))
        head, body = await connection.exchange("GET", "/items/1")
        equal(json.loads(body), {"id": 1})


@cell("http")
async def status_of_each_class(site):
    for code in [200, 202, 203, 400, 418, 429, 451, 500, 503, 599]:
        response = await site.get(f"/status/{code}")
        equal((response.status_code, response.text), (code, f"status {code}"))


@cell("http")
async def redirect(site):
    response = await site.get("/redirect")
    equal((response.status_code, response.headers["location"]), (302, "/"))


@cell("http")
async def several_cookies(site):
    async with await site.connection() as connection:
        head, _ = await connection.exchange("GET", "/set-cookies")
        found = sorted(value for value in head.all("set-cookie") if value.startswith(("one", "two")))
        equal([value.split(";")[0] for value in found], ["one=1", "two=2"])
        contains(found[0].lower(), "httponly")
        contains(found[1].lower(), "max-age=60")


@cell("http")
async def response_headers_repeated_and_latin1(site):
    async with await site.connection() as connection:
        head, _ = await connection.exchange("GET", "/response-headers")
        among(head.all("x-many"), [["1", "2"], ["1, 2"]])
        among(head.header("x-latin"), ["caf\xe9", "caf\xc3\xa9", "=?utf-8?b?Y2Fmw6k=?=", "=?utf-8?q?caf=C3=A9?="])


@cell("http")
async def date_and_length(site):
    async with await site.connection() as connection:
        head, body = await connection.exchange("GET", "/items/1")
        equal((len(head.all("date")), len(head.all("server")) <= 1), (1, True))
        equal(head.header("content-length"), str(len(body)))


@cell("http")
async def body_large(site):
    response = await site.get("/large")
    equal((len(response.content), response.content == PIECE * 320), (320 * len(PIECE), True))


@cell("http")
async def file_whole(site):
    response = await site.get("/file")
    equal((response.status_code, response.content), (200, TEXT))
    contains(response.headers["content-type"], "text/plain")


@cell("http")
async def file_large(site):
    response = await site.get("/file-large")
    digest = hashlib.sha256(response.content).hexdigest()
    equal(digest, hashlib.sha256(PIECE * 192).hexdigest())


@cell("http")
async def file_range(site):
    """The part, or the whole file from a framework without ranges."""
    response = await site.get("/file", headers={"range": "bytes=4-11"})
    if response.status_code == 206:
        equal(response.content, TEXT[4:12])
        equal(response.headers["content-range"], f"bytes 4-11/{len(TEXT)}")
    else:
        equal((response.status_code, response.content), (200, TEXT))


@cell("http")
async def static_file(site):
    response = await site.get("/files/site.css")
    equal((response.status_code, response.content), (200, STYLE))
    contains(response.headers["content-type"], "text/css")
    equal((await site.get("/files/missing.css")).status_code, 404)


@cell("http", litestar="its static files ignore preconditions")
async def static_file_conditional(site):
    first = await site.get("/files/site.css")
    names = {"etag": "if-none-match", "last-modified": "if-modified-since"}
    conditions = {names[name]: first.headers[name] for name in names if name in first.headers}
    assert conditions, first.headers
    second = await site.get("/files/site.css", headers=conditions)
    equal((second.status_code, second.content), (304, b""))


@cell("http")
async def cors_preflight(site):
    asked = {"origin": "https://example.org", "access-control-request-method": "POST"}
    response = await site.client.options("/json", headers=asked)
    among(response.status_code, [200, 204])
    equal(response.headers["access-control-allow-origin"], "https://example.org")
    response = await site.get("/", headers={"origin": "https://example.org"})
    equal(response.headers["access-control-allow-origin"], "https://example.org")


@cell("http")
async def gzip_by_middleware(site):
    async with await site.connection() as connection:
        head, body = await connection.exchange("GET", "/compressed", [("Accept-Encoding", "gzip")])
        equal(head.all("content-encoding"), ["gzip"])
        equal(gzip.decompress(body), b"compress me " * 2000)


@cell("http")
async def session(site):
    client = site.new_client(site.protocol)
    equal([(await client.get("/visits")).text for _ in range(3)], ["1", "2", "3"])
