"""What the app sees of a request."""

import asyncio
import json

from grid.cell import among, cell, contains, equal


@cell("http")
async def routing(site):
    response = await site.get("/")
    equal(response.status_code, 200)
    contains(response.headers["content-type"], "text/plain")
    equal(response.text.strip().lower(), site.app)


@cell("http")
async def not_found(site):
    equal((await site.get("/nowhere")).status_code, 404)


@cell("http")
async def method_not_allowed(site):
    among((await site.client.delete("/")).status_code, [404, 405])


@cell("http")
async def path_parameter(site):
    equal((await site.get("/items/42")).json(), {"id": 42})


@cell("http")
async def path_parameter_encoded(site):
    equal((await site.get("/names/a%20caf%C3%A9%25")).text, "a café%")


@cell("http")
async def path_of_several_segments(site):
    equal((await site.get("/tree/a/b/c.txt")).text, "a/b/c.txt")


@cell("http")
async def query_repeated_and_encoded(site):
    response = await site.get("/query?a=1&a=2&b=%C3%A9+%26%20x")
    equal(response.json(), {"a": ["1", "2"], "b": ["é & x"]})


async def scope_of(site, path, **options):
    async with await site.connection() as connection:
        head, body = await connection.exchange("GET", path, **options)
        equal(head.status, 200)


        return json.loads(body), connection


@cell("http")
async def scope_query_string(site):
    scope, _ = await scope_of(site, "/scope?a=%20%2B&b=&&c")
    equal(scope["query_string"], "a=%20%2B&b=&&c")


@cell("http")
async def scope_raw_path(site):
    scope, _ = await scope_of(site, "/scope/caf%C3%A9%20x?a=1")
    equal((scope["path"], scope["raw_path"]), ("/scope/café x", "/scope/caf%C3%A9%20x"))


@cell("http")
async def scope_encoded_slash(site):
    scope, _ = await scope_of(site, "/scope/a%2Fb")
    equal((scope["path"], scope["raw_path"]), ("/scope/a/b", "/scope/a%2Fb"))


@cell("http")
async def scope_plain(site):
    scope, connection = await scope_of(site, "/scope")
    equal(scope["type"], "http")
    equal((scope["method"], scope["scheme"], scope["http_version"]), ("GET", "http", "1.1"))
    equal(scope["root_path"], "")
    equal(scope["asgi"]["version"], "3.0")
    among(scope["asgi"]["spec_version"], ["2.3", "2.4", "2.5"])
    equal(scope["client"], connection.local_address)
    host, port = scope["server"]
    assert isinstance(host, str) and isinstance(port, int), scope["server"]


@cell("http")
async def scope_header_names_are_lower_case(site):
    scope, _ = await scope_of(site, "/scope", headers=[("X-MiXed", "VaLue")])
    contains(scope["headers"], ["x-mixed", "VaLue"])


@cell("http")
async def headers_repeated(site):
    scope, _ = await scope_of(site, "/scope", headers=[("X-Many", "1"), ("X-Other", "x"), ("X-Many", "2")])
    equal([value for name, value in scope["headers"] if name == "x-many"], ["1", "2"])


@cell("http")
async def headers_in_latin1(site):
    scope, _ = await scope_of(site, "/scope", headers=[("X-Latin", "caf\xe9")])
    contains(scope["headers"], ["x-latin", "caf\xe9"])


@cell("http")
async def header_long(site):
    value = "x" * 8000
    equal((await site.get("/header", params={"name": "x-long"}, headers={"x-long": value})).text, value)


@cell("http")
async def header_empty(site):
    scope, _ = await scope_of(site, "/scope", headers=[("X-Empty", "")])
    contains(scope["headers"], ["x-empty", ""])


@cell("http")
async def header_host(site):
    response = await site.get("/header", params={"name": "host"})
    equal(response.text.partition(":")[0], site.host)


@cell("http")
async def cookies(site):
    response = await site.get("/cookies", headers={"cookie": "a=1; b=two"})
    equal(response.json(), {"a": "1", "b": "two"})


@cell("http")
async def methods(site):
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]:
        response = await site.client.request(method, "/method")
        equal((response.status_code, response.text), (200, method))


@cell("http")
async def trusted_host(site):
    async with await site.connection() as connection:
        connection.authority = f"untrusted.{site.app}.test"
        head, _ = await connection.exchange("GET", "/")
        equal(head.status, 400)


@cell("http")
async def a_client_cannot_forge_its_address(site):
    forged = [("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "https"), ("Forwarded", "for=192.0.2.7")]
    scope, connection = await scope_of(site, "/scope", headers=forged)
    equal((scope["client"], scope["scheme"]), (connection.local_address, "http"))


@cell("http")
async def many_requests_on_one_connection(site):
    async with await site.connection() as connection:
        for number in range(50):
            head, body = await connection.exchange("GET", f"/items/{number}")
            equal((head.status, json.loads(body)), (200, {"id": number}))


@cell("http")
async def pipelined_requests(site):
    async with await site.connection() as connection:
        for number in range(3):
            await connection.request("GET", f"/items/{number}")
        for number in range(3):
            body = await (await connection.response()).body()
            equal(json.loads(body), {"id": number})


@cell("http")
async def a_hundred_requests_at_once(site):
    responses = await asyncio.gather(*[site.get(f"/items/{number}") for number in range(100)])
    equal([response.json()["id"] for response in responses], list(range(100)))


@cell("http", django="Channels' router has no lifespan state")
async def lifespan_state(site):
    equal((await site.get("/state")).text, "set at startup")


@cell("mount")
async def root_path(site):
    client = site.new_client(address=site.mounted)
    scope = (await client.get(f"{site.prefix}/scope/x%20y")).json()
    equal(scope["root_path"], "/mounted")
    # Litestar removes the root path.
    equal(scope["path"], "/scope/x y" if site.app == "litestar" else "/mounted/scope/x y")


@cell("mount")
async def root_path_in_links(site):
    client = site.new_client(address=site.mounted)
    equal((await client.get(f"{site.prefix}/link")).text, "/mounted/items/7")


@cell("tls")
async def scope_over_tls(site):
    scope = (await site.new_client("tls").get("/scope")).json()
    equal((scope["scheme"], scope["http_version"]), ("https", "1.1"))


@cell("http2")
async def scope_over_http2(site):
    scope = (await site.new_client("http2").get("/scope")).json()
    equal((scope["scheme"], scope["http_version"]), ("https", "2"))
    host = dict(scope["headers"])["host"]
    equal(host.partition(":")[0], site.host)
    assert not any(name.startswith(":") for name, _ in scope["headers"]), scope["headers"]
