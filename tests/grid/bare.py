"""What the specification offers and no framework uses, with a bare app."""

import asyncio

from grid.cell import cell, contains, equal
from grid.responses import TEXT
from grid.site import new_key


@cell("bare")
async def extensions(site):
    found = (await site.get("/scope")).json()["extensions"]
    for name in ["http.response.early_hint", "http.response.pathsend", "http.response.trailers"]:
        contains(found, name)


@cell("bare")
async def early_hints(site):
    key = new_key()
    async with await site.connection() as connection:
        await connection.request("GET", f"/hints?{key}")
        response = asyncio.ensure_future(connection.response())
        while len(connection.informational) < 2:
            assert not response.done(), "the response came before the hints"
            await asyncio.sleep(0.01)
        equal([it.status for it in connection.informational], [103, 103])
        links = [link for it in connection.informational for value in it.all("link") for link in value.split(", ")]
        equal(links, ["</style.css>; rel=preload; as=style", "</a.js>; rel=preload", "</b.js>; rel=preload"])
        await site.open_gate(key)
        equal(await (await response).body(), b"hinted")


@cell("bare")
async def trailers(site):
    async with await site.connection() as connection:
        await connection.request("GET", "/trailers", [("TE", "trailers")])
        head = await connection.response()
        equal(await head.body(), b"one two")
        equal(head.trailers, [("x-sum", "3"), ("x-count", "2")])


@cell("bare")
async def trailers_for_a_client_that_does_not_ask(site):
    async with await site.connection() as connection:
        await connection.request("GET", "/trailers")
        equal(await (await connection.response()).body(), b"one two")
        equal((await connection.exchange("GET", "/terse"))[1], b"")


@cell("bare")
async def path_of_a_file(site):
    response = await site.get("/path")
    equal((response.status_code, response.content), (200, TEXT))
    response = await site.client.head("/path")
    equal((response.status_code, response.content), (200, b""))


@cell("bare")
async def messages_without_optional_keys(site):
    response = await site.get("/terse")
    equal((response.status_code, response.content), (200, b""))


@cell("bare")
async def kinds_of_headers_and_bytes(site):
    response = await site.get("/kinds")
    equal(response.content, b"bytes bytearray memoryview")
    equal((response.headers["x-upper"], response.headers["x-lower"]), ("yes", "yes"))


@cell("bare")
async def state_is_copied(site):
    first, second = (await site.get("/state")).json(), (await site.get("/state")).json()
    equal((first[0], second[0], second[1] - first[1]), (1, 1, 1))


@cell("bare")
async def receive_after_the_end(site):
    key = new_key()
    equal((await site.post(f"/messages?{key}", content=b"body")).json(), ["http.request"])
    while len(notes := (await site.get(f"/notes/{key}")).json()) < 2:
        await asyncio.sleep(0.01)
    equal(notes, ["http.disconnect", "http.disconnect"])
