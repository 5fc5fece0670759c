"""HTTP/1.1, written and read piece by piece."""

import asyncio


class Truncated(Exception):
    """The connection ended before the response was complete."""


class Connection:
    def __init__(self, reader, writer, authority):
        self.reader, self.writer, self.authority = reader, writer, authority
        self.informational = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.abort()

    @property
    def local_address(self):
        return list(self.writer.get_extra_info("sockname")[:2])

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def request(self, method, path, headers=(), body=None):
        """Sends a head, with the body if there is one."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.authority}"]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in headers]
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))

    async def chunk(self, data):
        """Sends a chunk. An empty one is the last."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def response(self, method="GET"):
        """The head of the response. Those before it, such as a 103, are in `informational`."""
        while True:
            head = Head(await self._until(b"\r\n\r\n"), self, method)
            if head.status >= 200 or head.status == 101:
                return head
            self.informational.append(head)

    async def exchange(self, method, path, headers=(), body=None):
        """Sends a request, and reads the response."""
        await self.request(method, path, headers, body)
        head = await self.response(method)
        return head, await head.body()

    def abort(self):
        """Closes the connection without a word, as a client that is gone."""
        self.writer.transport.abort()

    async def is_closed(self):
        """Waits until the server has closed it, and tells whether it sent nothing else."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True

    async def _until(self, end):
        try:
            return await self.reader.readuntil(end)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Truncated(f"instead of a head: {getattr(error, 'partial', error)!r}") from error


class Head:
    def __init__(self, text, connection, method):
        status, *lines = text.decode("latin-1").split("\r\n")
        self.connection, self.version, self.status = connection, status.split(" ")[0], int(status.split(" ")[1])
        pairs = [line.partition(":") for line in lines if line]
        self.headers = [(name.lower(), value.strip()) for name, _, value in pairs]
        self.is_chunked = self.header("transfer-encoding") == "chunked"
        length = self.header("content-length")
        self.left = None if self.is_chunked or length is None else int(length)
        if method == "HEAD" or self.status in (204, 304) or self.status < 200:
            self.is_chunked, self.left = False, 0
        self.trailers = []

    def all(self, name):
        return [value for key, value in self.headers if key == name]

    def header(self, name):
        return next(iter(self.all(name)), None)

    async def piece(self):
        """The next piece of the body, or `None` at its end."""
        read = self.connection.reader
        try:
            if self.is_chunked:
                return await self._chunk(read)
            if self.left == 0:
                return None
            data = await read.read(65536 if self.left is None else min(self.left, 65536))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Truncated(repr(error)) from error
        if data == b"":
            if self.left is None:
                return None
            raise Truncated(f"{self.left} bytes are missing")
        if self.left is not None:
            self.left -= len(data)
        return data

    async def _chunk(self, read):
        size = int((await read.readuntil(b"\r\n")).split(b";")[0], 16)
        if size == 0:
            while (line := await read.readuntil(b"\r\n")) != b"\r\n":
                name, _, value = line.decode("latin-1").partition(":")
                self.trailers.append((name.lower(), value.strip()))
            self.is_chunked, self.left = False, 0
            return None
        data = await read.readexactly(size)
        await read.readexactly(2)
        return data

    async def body(self):
        pieces = []
        while (piece := await self.piece()) is not None:
            pieces.append(piece)
        return b"".join(pieces)
