"""Lets an app query and extend the Imperium worker that runs it.

    import imperium

    @imperium.on_fork
    def connect():
        ...

Inside a worker, the module is always available. Elsewhere, such as under `manage.py` or in a test, it has to be
installed, and its functions report that there is no worker.
"""

from __future__ import annotations

import sys
from weakref import WeakKeyDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Event
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import TypeVar

    Hook = TypeVar("Hook", bound=Callable[[], object])
    ExitHook = TypeVar("ExitHook", bound=Callable[[int], object])

__all__ = [
    "ClientGone",
    "RequestTimeout",
    "app_name",
    "draining",
    "on_drain",
    "on_fork",
    "on_worker_exit",
    "remove_on_drain",
    "request_id",
    "worker_id",
    "worker_name",
]

# Set by the process that runs the app.
_worker = sys.modules.get("_imperium")

# One event per event loop, which `draining` waits for.
_drain_events: MutableMapping[AbstractEventLoop, Event] = WeakKeyDictionary()

if TYPE_CHECKING or _worker is None:

    class RequestTimeout(BaseException):
        """The request exceeded `timeouts.request` and its client received an error; or its response sent nothing for
        `timeouts.idle` and was cut off.

        Raised inside the app, wherever it is. It isn't an `Exception`, so that an `except Exception` in a retry loop
        or framework doesn't continue with a request that nobody waits for. `finally` and `with` clean up as usual.
        """

    class ClientGone(RequestTimeout):
        """The client disconnected some seconds ago while it received a response, and the app hasn't noticed.

        A subclass of `RequestTimeout`, raised in the same way: the same handlers clean up after it.
        """

else:
    RequestTimeout, ClientGone = _worker.RequestTimeout, _worker.ClientGone


def app_name() -> str | None:
    """The name of the app, which is that of its file, such as `blog`. None if Imperium doesn't run it."""
    return _worker.app_name() if _worker else None


def worker_name() -> str | None:
    """The name of this worker, such as `blog-2`. None outside of a worker, such as while `preload` imports the app."""
    return _worker.worker_name() if _worker else None


def worker_id() -> int | None:
    """The number in the name of this worker, from 1. None outside of a worker."""
    return _worker.worker_id() if _worker else None


def request_id() -> str | None:
    """The id of the request that this thread is handling, as in the logs and in `X-Request-Id`.

    None in a thread that isn't handling a request, such as one that the app has started.
    """
    return _worker.request_id() if _worker else None


def on_drain(hook: Hook) -> Hook:
    """Registers a function that is called when this worker begins to drain, as in a reload, before it ends.

    Use it to end responses that would otherwise last, such as event streams: requests in flight have `timeouts.stop` to
    finish. It is called without arguments, once, on a separate thread. If the worker drains already, it is called at
    once. Hooks are called in the order of their registration. Exceptions are logged. Returns `hook`, so it can be used
    as a decorator. What is registered for one request has to be removed with `remove_on_drain` when the request ends.
    """
    if not callable(hook):
        raise TypeError(f"on_drain expects a callable, not {hook!r}")
    if _worker:
        _worker.on_drain(hook)
    return hook


def remove_on_drain(hook: Callable[[], object]) -> int:
    """Removes a function that was registered with `on_drain`, unless it was called already.

    Returns how many registrations were removed, like `asyncio.Future.remove_done_callback`.
    """
    return _worker.remove_on_drain(hook) if _worker else 0


def draining() -> Awaitable[object]:
    """Returns an awaitable that completes when this worker begins to drain, as in a reload, before it ends.

    For asyncio: use it to send a last message on event streams and WebSockets. It never completes if Imperium doesn't run the
    app.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    event = _drain_events.get(loop)
    if event is None:
        event = _drain_events[loop] = asyncio.Event()

        def tell() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

        on_drain(tell)
    return event.wait()


def on_fork(hook: Hook) -> Hook:
    """Registers a function that is called in each worker: with `preload = true` after the worker was forked from the
    process that imported the app, otherwise after the import, so that the app behaves the same in both cases.

    Use it for what can't be shared across a fork, such as threads and connections. It is called without arguments on
    the main thread, before the first request. Hooks are called in the order of their registration. Returns `hook`, so
    it can be used as a decorator.
    """
    if not callable(hook):
        raise TypeError(f"on_fork expects a callable, not {hook!r}")
    if _worker:
        _worker.on_fork(hook)
    return hook


def on_worker_exit(hook: ExitHook) -> ExitHook:
    """Registers a function that is called with the process id of each worker of this app that has exited, for any
    reason.

    Use it to clean up what a process leaves behind, such as files named after its id. It is called in one serving
    worker, or in the next one if none is serving, on a separate thread, so that no request waits for it. Hooks are
    called one after another, in the order of their registration. Exceptions are logged. If a hook takes longer than
    5 s, its stack is logged, and `TimeoutError` is raised in it. Returns `hook`, so it can be used as a decorator.
    """
    if not callable(hook):
        raise TypeError(f"on_worker_exit expects a callable, not {hook!r}")
    if _worker:
        _worker.on_worker_exit(hook)
    return hook
