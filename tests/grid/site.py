"""Where the app is, and the clients for it."""

import asyncio
import ssl
import uuid

import httpx
from websockets.asyncio.client import connect

import grid.httpcore_flow  # noqa: F401
from grid.cell import Elsewhere
from grid.wire import Connection


class Site:
    """An app that is served at `host`, at an address for plain HTTP and perhaps one for TLS."""

    def __init__(self, app, host, http, https=None, ca=None, mounted=None, prefix="", protocol="plain"):
        self.app, self.host, self.http, self.https = app, host, http, https
        self.mounted, self.prefix, self.protocol = mounted, prefix, protocol
        self.ca = ca
        self.tls = self.context() if ca else None
        self.client = self.new_client(protocol)

    def context(self, *alpn):
        """A new TLS context: httpx changes the one that it gets."""
        context = ssl.create_default_context(cafile=self.ca)
        if alpn:
            context.set_alpn_protocols(alpn)
        return context

    def new_client(self, protocol="plain", address=None):
        """An HTTP client: `plain`, `tls` or `http2`."""
        host, port = address or (self.http if protocol == "plain" else self.https)
        scheme = "http" if protocol == "plain" else "https"
        return httpx.AsyncClient(
            base_url=f"{scheme}://{self.host}:{port}",
            transport=Transport(host, self.tls, protocol == "http2"),
            headers={"host": self.host, "accept-encoding": "identity"},
            timeout=20,
        )

    async def connection(self, tls=False, alpn="http/1.1"):
        """A connection of HTTP/1.1, byte by byte."""
        if self.protocol != "plain":
            raise Elsewhere("it has its own connections")
        host, port = self.https if tls else self.http
        if not tls:
            return Connection(*await asyncio.open_connection(host, port), self.host)
        streams = await asyncio.open_connection(host, port, ssl=self.context(alpn), server_hostname=self.host)
        return Connection(*streams, self.host)

    def socket(self, path, tls=False, **options):
        """A WebSocket, as `websockets` opens it. Its Host has no port."""
        host, port = self.https if tls else self.http
        if tls:
            options["ssl"] = self.context("http/1.1")
        options.setdefault("max_size", None)
        return connect(f"{'wss' if tls else 'ws'}://{self.host}{path}", host=host, port=port, **options)

    async def get(self, path, **options):
        return await self.client.get(path, **options)

    async def post(self, path, **options):
        return await self.client.post(path, **options)

    async def open_gate(self, key):
        response = await self.post(f"/gate/{key}")
        assert response.status_code == 204, response

    async def noted(self, key, *texts):
        """Waits until the app has noted these texts."""
        deadline = asyncio.get_running_loop().time() + 20
        while True:
            notes = (await self.get(f"/notes/{key}")).json()
            if all(text in notes for text in texts):
                return notes
            assert asyncio.get_running_loop().time() < deadline, f"waited for {texts}, and the app noted {notes[:5]}"
            await asyncio.sleep(0.01)

    async def serves(self):
        """Checks that the app serves on, on a new connection."""
        async with self.new_client(self.protocol) as client:
            response = await client.get("/items/1")
        assert response.json() == {"id": 1}, response


class Transport(httpx.AsyncHTTPTransport):
    """Connects to one address for every host."""

    def __init__(self, address, tls, http2):
        super().__init__(verify=tls or True, http1=not http2, http2=http2)
        self.address = address

    async def handle_async_request(self, request):
        sent = httpx.Request(
            request.method,
            request.url.copy_with(host=self.address),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": request.url.host},
        )
        return await super().handle_async_request(sent)


def new_key():
    """A key for notes and gates that nobody else uses."""
    return uuid.uuid4().hex
