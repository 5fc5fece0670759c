"""Keeps httpcore from hanging when several uploads share a connection of HTTP/2.

An upload whose window is used up waits for the lock to read from the network. Once it has the lock, it reads, even if
the task before it has read the WINDOW_UPDATE. If the server has nothing more to say, all uploads wait forever. Here, an
upload looks at its window again before it reads.
"""

import asyncio

from httpcore._async import http2


class TaskLock:
    """A lock that the task which has it may take again."""

    def __init__(self):
        self.lock, self.owner, self.depth = asyncio.Lock(), None, 0

    async def __aenter__(self):
        if self.owner is not asyncio.current_task():
            await self.lock.acquire()
            self.owner = asyncio.current_task()
        self.depth += 1

    async def __aexit__(self, *_):
        self.depth -= 1
        if self.depth == 0:
            self.owner = None
            self.lock.release()


class Connection(http2.AsyncHTTP2Connection):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._read_lock = TaskLock()

    async def _wait_for_outgoing_flow(self, request, stream_id):
        while not (flow := self._flow(stream_id)):
            async with self._read_lock:
                if not self._flow(stream_id):
                    await self._receive_events(request)
        return flow

    def _flow(self, stream_id):
        return min(self._h2_state.local_flow_control_window(stream_id), self._h2_state.max_outbound_frame_size)


# It is imported from there for each connection.
http2.AsyncHTTP2Connection = Connection
