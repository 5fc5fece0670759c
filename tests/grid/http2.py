"""HTTP/2, with `h2`: streams that stay open, which httpx doesn't have."""

import asyncio

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes


class Http2:
    """A connection."""

    def __init__(self, reader, writer, authority):
        self.reader, self.writer, self.authority = reader, writer, authority
        self.protocol = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        self.streams = {}
        self.has_settings, self.has_room = asyncio.Event(), asyncio.Event()
        self.protocol.initiate_connection()
        self.flush()
        self.reading = asyncio.create_task(self.read())

    @classmethod
    async def open(cls, site):
        host, port = site.https
        streams = await asyncio.open_connection(host, port, ssl=site.context("h2"), server_hostname=site.host)
        return cls(*streams, site.host)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.reading.cancel()
        self.writer.transport.abort()

    def flush(self):
        self.writer.write(self.protocol.data_to_send())

    async def read(self):
        while data := await self.reader.read(65536):
            for event in self.protocol.receive_data(data):
                self.handle(event)
            self.flush()
        for stream in self.streams.values():
            stream.end()

    def handle(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, RemoteSettingsChanged):
            self.has_settings.set()
        if isinstance(event, (WindowUpdated, RemoteSettingsChanged)):
            self.has_room.set()
        elif isinstance(event, ResponseReceived):
            stream.response.set_result(dict(event.headers))
        elif isinstance(event, DataReceived):
            self.protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            stream.parts.put_nowait(event.data)
        elif isinstance(event, (StreamEnded, StreamReset)):
            stream.end()
        elif isinstance(event, ConnectionTerminated):
            for stream in self.streams.values():
                stream.end()

    async def supports_websockets(self):
        """Whether the server supports extended CONNECT (RFC 8441)."""
        await self.has_settings.wait()
        return self.protocol.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL, 0) == 1

    def request(self, method, path, headers=(), end=True):
        """Sends the head of a request."""
        stream = Stream(self, self.protocol.get_next_available_stream_id())
        self.streams[stream.id] = stream
        pseudo = [(":method", method), (":scheme", "https"), (":authority", self.authority), (":path", path)]
        self.protocol.send_headers(stream.id, [*pseudo, *headers], end_stream=end)
        self.flush()
        return stream


class Stream:
    def __init__(self, connection, id):
        self.connection, self.id = connection, id
        self.response = asyncio.get_running_loop().create_future()
        self.parts = asyncio.Queue()

    def end(self):
        self.parts.put_nowait(b"")
        if not self.response.done():
            self.response.set_exception(ConnectionError("no response"))

    async def send(self, data):
        """Sends data as far as there is room, and waits for more."""
        protocol = self.connection.protocol
        while data:
            room = min(protocol.local_flow_control_window(self.id), protocol.max_outbound_frame_size)
            if not room:
                self.connection.has_room.clear()
                await self.connection.has_room.wait()
                continue
            protocol.send_data(self.id, data[:room])
            self.connection.flush()
            data = data[room:]

    async def read(self):
        """The next part of the body, or nothing at its end."""
        return await self.parts.get()

    async def body(self):
        whole = b""
        while part := await self.read():
            whole += part
        return whole

    def reset(self):
        self.connection.protocol.reset_stream(self.id, 8)
        self.connection.flush()
