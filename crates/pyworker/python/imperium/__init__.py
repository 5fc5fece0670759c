"""What an app can ask of Imperium, which runs it.

    import imperium

    @imperium.on_fork
    def connect():
        ...

Inside of a worker it is there without being installed. Anywhere else, such as under `manage.py` or in a test, it
needs to be installed, and then says that there is no worker.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Hook = TypeVar("Hook", bound=Callable[[], object])
    ExitHook = TypeVar("ExitHook", bound=Callable[[int], object])

__all__ = [
    "ClientGone",
    "RequestTimeout",
    "app_name",
    "on_fork",
    "on_worker_exit",
    "request_id",
    "worker_id",
    "worker_name",
]

# Put there by the process that runs the app.
_worker = sys.modules.get("_imperium")

if TYPE_CHECKING or _worker is None:

    class RequestTimeout(BaseException):
        """The request took longer than its limit (`timeouts.request`), and its client was told so; or its response
        sent nothing for too long (`timeouts.idle`), and was cut.

        Raised inside of the app, wherever it was. Not an `Exception`, so that no `except Exception` of a retry
        or of a framework goes on with what nobody waits for; `finally` and `with` clean up as ever.
        """

    class ClientGone(RequestTimeout):
        """The client of a response that had begun left some seconds ago, and the app has not noticed.

        Raised as `RequestTimeout` is, of which it is a kind: what cleans up after that cleans up after this.
        """

else:
    RequestTimeout, ClientGone = _worker.RequestTimeout, _worker.ClientGone


def app_name() -> str | None:
    """The name of the app, which is that of its file, such as `blog`; None where Imperium does not run it."""
    return _worker.app_name() if _worker else None


def worker_name() -> str | None:
    """The name of this worker, such as `blog-2`; None in no worker, as while a `preload` imports the app."""
    return _worker.worker_name() if _worker else None


def worker_id() -> int | None:
    """The number in the name of this worker, from 1 up; None in no worker."""
    return _worker.worker_id() if _worker else None


def request_id() -> str | None:
    """What the request that this thread works on is called in the logs, and in the app's `X-Request-Id`.

    None in a thread that works on none, such as one that the app started.
    """
    return _worker.request_id() if _worker else None


def on_fork(hook: Hook) -> Hook:
    """Has `hook` called in each worker: after it was forked from the process that imported the app, with
    `preload = true`, and after the import otherwise, so that an app need not care.

    For what a fork does not share: threads, connections. It is called without arguments, before the first request,
    on the main thread; hooks are called in the order in which they were given. Returns `hook`, and so is a
    decorator as well.
    """
    if not callable(hook):
        raise TypeError(f"on_fork needs what can be called, not {hook!r}")
    if _worker:
        _worker.on_fork(hook)
    return hook


def on_worker_exit(hook: ExitHook) -> ExitHook:
    """Has `hook` called with the process id of each worker of this app that has ended, however it did.

    For what a process leaves behind, such as files named by its id. It is called in one of the workers that serve, or
    in the next one if none does: soon, and on a thread of its own, so that no request waits for it. Hooks are called one
    after the other, in the order in which they were given. An exception is logged. A hook that takes longer than 5 s is
    logged with its stack, and `TimeoutError` is raised in it. Returns `hook`, and so is a decorator as well.
    """
    if not callable(hook):
        raise TypeError(f"on_worker_exit needs what can be called, not {hook!r}")
    if _worker:
        _worker.on_worker_exit(hook)
    return hook
