"""WebSockets with other clients: wsproto over HTTP/1.1 and, with h2, over HTTP/2 (RFC 8441); picows."""

import asyncio
import collections
import json
import os

import picows
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection, ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.handshake import client_extensions_handshake

from grid.cell import cell, equal
from grid.http2 import Http2
from grid.site import new_key


class Socket:
    """A WebSocket of wsproto. `io` sends and reads bytes."""

    def __init__(self, io, protocol):
        self.io, self.protocol, self.events = io, protocol, collections.deque()

    async def event(self):
        while not self.events:
            self.protocol.receive_data(await self.io.read() or None)
            self.events.extend(self.protocol.events())
        return self.events.popleft()

    async def put(self, event):
        await self.io.send(self.protocol.send(event))

    async def send(self, message):
        await self.put(TextMessage(message) if isinstance(message, str) else BytesMessage(message))

    async def recv(self):
        """The next message, or the code and the reason if the server closes the WebSocket."""
        parts = []
        while True:
            event = await self.event()
            if isinstance(event, Ping):
                await self.put(event.response())
            elif isinstance(event, CloseConnection):
                if self.protocol.state is ConnectionState.REMOTE_CLOSING:
                    await self.put(event.response())
                return event.code, event.reason
            elif isinstance(event, Message):
                parts.append(event.data)
                if event.message_finished:
                    return type(event.data)().join(parts)


class Tcp:
    """Bytes on a connection of HTTP/1.1."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def read(self):
        return await self.reader.read(65536)


async def over_http1(site, path, **options):
    """A WebSocket of wsproto whose handshake is sent."""
    socket = Socket(Tcp(*await asyncio.open_connection(*site.http)), WSConnection(ConnectionType.CLIENT))
    await socket.put(Request(host=site.host, target=path, **options))
    return socket


async def over_http2(connection, path, headers=(), compress=False):
    """A WebSocket on a stream of its own, or the stream of a response that refuses it."""
    assert await connection.supports_websockets(), "the server doesn't support extended CONNECT"
    offered = [PerMessageDeflate()] if compress else []
    sent = [(":protocol", "websocket"), ("sec-websocket-version", "13"), *headers]
    if compress:
        sent.append(("sec-websocket-extensions", f"permessage-deflate; {offered[0].offer()}"))
    stream = connection.request("CONNECT", path, sent, end=False)
    response = await stream.response
    if response[":status"] != "200":
        return stream
    accepted = response.get("sec-websocket-extensions")
    equal(accepted is not None, compress)
    extensions = client_extensions_handshake([accepted], offered) if accepted else []
    return Socket(stream, Connection(ConnectionType.CLIENT, extensions))


# Quart takes an empty binary message for a text.
MESSAGES = ["hello", "", "café ✓ 😀", b"\0\xff", "x" * 200, "é" * 200_000]


async def echoes(socket):
    for message in [*MESSAGES, os.urandom(300_000)]:
        await socket.send(message)
        equal(await socket.recv() == message, True)


@cell("websocket")
async def ws_with_wsproto(site):
    for extensions in [[], [PerMessageDeflate()]]:
        socket = await over_http1(site, "/ws/echo", extensions=extensions)
        event = await socket.event()
        equal((type(event), len(event.extensions)), (AcceptConnection, len(extensions)))
        await echoes(socket)
        await socket.put(Ping(b"there?"))
        equal(await socket.event(), Pong(b"there?"))
        await socket.put(CloseConnection(4002, "bye"))
        equal(await socket.recv(), (4002, "bye"))
        equal(await socket.io.read(), b"")


@cell("websocket")
async def ws_with_wsproto_closed_and_rejected(site):
    socket = await over_http1(site, "/ws/close")
    await socket.event()
    equal(await socket.recv(), (4001, "closed by the app"))
    event = await (await over_http1(site, "/ws/reject")).event()
    equal((type(event), event.status_code), (RejectConnection, 403))


class Listener(picows.WSListener):
    def __init__(self):
        self.received, self.parts = asyncio.Queue(), []

    def on_ws_frame(self, transport, frame):
        kind = frame.msg_type
        if kind == picows.WSMsgType.CLOSE:
            self.received.put_nowait((int(frame.get_close_code()), (frame.get_close_message() or b"").decode()))
            transport.send_close(frame.get_close_code())
            return
        self.kind = self.kind if kind == picows.WSMsgType.CONTINUATION else kind
        self.parts.append(frame.get_payload_as_bytes())
        if frame.fin:
            whole = b"".join(self.parts)
            self.received.put_nowait(whole.decode() if self.kind == picows.WSMsgType.TEXT else whole)
            self.parts = []


async def with_picows(site, path, tls=False):
    (host, port), scheme = (site.https, "wss") if tls else (site.http, "ws")
    options = {"ssl_context": site.context("http/1.1"), "server_hostname": site.host} if tls else {}
    url = f"{scheme}://{host}:{port}{path}"
    return await picows.ws_connect(Listener, url, extra_headers={"Host": site.host}, **options)


async def echoes_of_picows(site, tls=False):
    transport, listener = await with_picows(site, "/ws/echo", tls)
    for message in [*MESSAGES, os.urandom(300_000)]:
        kind = picows.WSMsgType.TEXT if isinstance(message, str) else picows.WSMsgType.BINARY
        transport.send(kind, message.encode() if isinstance(message, str) else message)
        equal(await listener.received.get() == message, True)
    transport.send_close(picows.WSCloseCode.OK)
    await transport.wait_disconnected()


@cell("websocket")
async def ws_with_picows(site):
    await echoes_of_picows(site)
    transport, listener = await with_picows(site, "/ws/close")
    equal(await listener.received.get(), (4001, "closed by the app"))
    await transport.wait_disconnected()


@cell("websocket-tls")
async def ws_with_picows_over_tls(site):
    await echoes_of_picows(site, tls=True)


@cell("websocket-http2")
async def ws_over_http2(site):
    async with await Http2.open(site) as connection:
        for compress in [False, True]:
            socket = await over_http2(connection, "/ws/echo", compress=compress)
            await echoes(socket)
            await socket.put(CloseConnection(1000, ""))
            equal(await socket.recv(), (1000, ""))
            equal(await socket.io.read(), b"")


@cell("websocket-http2")
async def ws_over_http2_scope_and_subprotocol(site):
    async with await Http2.open(site) as connection:
        socket = await over_http2(connection, "/ws/scope?a=1")
        scope = json.loads(await socket.recv())
        equal((scope["type"], scope["scheme"], scope["http_version"]), ("websocket", "wss", "2"))
        equal((scope["path"], scope["query_string"]), ("/ws/scope", "a=1"))
        socket = await over_http2(connection, "/ws/subprotocol", [("sec-websocket-protocol", "chat.v1, chat.v2")])
        equal((await socket.io.response)["sec-websocket-protocol"], "chat.v2")
        equal(json.loads(await socket.recv()), ["chat.v1", "chat.v2"])


@cell("websocket-http2")
async def ws_over_http2_closed_and_refused(site):
    async with await Http2.open(site) as connection:
        socket = await over_http2(connection, "/ws/close")
        equal(await socket.recv(), (4001, "closed by the app"))
        refused = await over_http2(connection, "/ws/reject")
        equal((await refused.response)[":status"], "403")
        denied = await over_http2(connection, "/ws/deny")
        equal(((await denied.response)[":status"], await denied.body()), ("401", b"no entry"))


@cell("websocket-http2")
async def ws_over_http2_stream_is_reset(site):
    """Only its own WebSocket ends."""
    key = new_key()
    async with await Http2.open(site) as connection:
        other = await over_http2(connection, "/ws/echo")
        socket = await over_http2(connection, f"/ws/notes/{key}")
        socket.io.reset()
        await site.noted(key, "closed" if site.app == "quart" else "1006")
        await other.send("still")
        equal(await other.recv(), "still")


@cell("websocket-http2")
async def ws_over_http2_beside_requests(site):
    """Many WebSockets and requests on one connection."""
    async with await Http2.open(site) as connection:
        sockets = [await over_http2(connection, "/ws/echo") for _ in range(20)]
        for number, socket in enumerate(sockets):
            await socket.send(f"{number} " * 10_000)
            stream = connection.request("GET", "/items/1")
            equal(((await stream.response)[":status"], json.loads(await stream.body())), ("200", {"id": 1}))
        for number, socket in enumerate(sockets):
            equal(await socket.recv() == f"{number} " * 10_000, True)
