"""Failures, tasks, threads and context: what happens around a request."""

import asyncio

from grid.cell import cell, contains, equal
from grid.site import new_key


@cell("http")
async def exception_before_the_response(site):
    equal((await site.get("/fails")).status_code, 500)
    await site.serves()


@cell("http")
async def exception_for_a_status(site):
    response = await site.get("/conflict")
    equal(response.status_code, 409)
    contains(response.text.lower(), "conflict")


@cell("http")
async def exception_with_a_handler(site):
    response = await site.get("/handled")
    equal((response.status_code, response.json()), (422, {"error": "handled"}))


@cell("http")
async def timeout_of_the_app(site):
    response = await site.get("/timeout")
    equal((response.status_code, response.text), (503, "timed out"))


@cell("http")
async def background_task(site):
    """It runs after the response, which doesn't wait for it."""
    key = new_key()
    equal((await site.get(f"/background?key={key}")).text, "accepted")
    equal((await site.get(f"/notes/{key}")).json(), [])
    await site.open_gate(key)
    await site.noted(key, "done")


@cell("http")
async def background_task_of_a_closed_connection(site):
    key = new_key()
    async with await site.connection() as connection:
        _, body = await connection.exchange("GET", f"/background?key={key}", [("Connection", "close")])
        equal(body, b"accepted")
    await site.open_gate(key)
    await site.noted(key, "done")


@cell("http")
async def task_that_outlives_its_request(site):
    key = new_key()
    equal((await site.get(f"/task?key={key}")).text, "accepted")
    await site.open_gate(key)
    await site.noted(key, "done")


@cell("http")
async def dependency_is_cleaned_up(site):
    key = new_key()
    equal((await site.get(f"/dependency?key={key}")).text, "inside")
    await site.noted(key, "cleaned")


@cell("http")
async def requests_wait_for_each_other(site):
    key = new_key()
    first, second = await asyncio.gather(site.get(f"/meet?key={key}"), site.get(f"/meet?key={key}"))
    equal((first.text, second.text), ("met", "met"))


@cell("http")
async def blocking_code_in_a_thread(site):
    """The loop serves others meanwhile."""
    key = new_key()
    blocked = asyncio.create_task(site.get(f"/blocking?key={key}"))
    equal((await site.get("/items/1")).json(), {"id": 1})
    await site.open_gate(key)
    equal((await blocked).text, "released")


@cell("http")
async def context_variables_are_isolated(site):
    responses = await asyncio.gather(*[site.get(f"/context?value={number}") for number in range(60)])
    for number, response in enumerate(responses):
        equal(response.json(), {"before": None, "after": str(number)})


@cell("http")
async def context_variables_on_one_connection(site):
    async with await site.connection() as connection:
        for number in range(3):
            _, body = await connection.exchange("GET", f"/context?value={number}")
            contains(body.replace(b" ", b""), b'"before":null')


@cell("http")
async def loop(site):
    equal((await site.get("/loop")).text, "uvloop")


@cell("http")
async def subprocess(site):
    equal((await site.get("/subprocess")).text, "from a subprocess\n")
