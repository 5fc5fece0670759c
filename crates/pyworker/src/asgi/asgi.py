"""What the event loop of a worker runs, apart from the app."""

import asyncio
import contextvars
import importlib
import inspect
import sys
import traceback

# The number of the call that the running code belongs to.
token = contextvars.ContextVar("imperium.call", default=0)

# How long tasks of the app may take to end after they were cancelled, in seconds.
CANCELLED_WITHIN = 5


def new_loop(name):
    """Creates the event loop that `loop` of the app's file names. Returns it and its name."""
    if name in ("", "auto"):
        try:
            import uvloop
        except ImportError:
            name = "asyncio"
        else:
            return uvloop.new_event_loop(), "uvloop"
    if name == "asyncio":
        return asyncio.new_event_loop(), name
    if name == "uvloop":
        try:
            import uvloop
        except ImportError as error:
            raise ImportError(
                "`loop = \"uvloop\"` needs the package uvloop in the app's virtualenv: install it, or write `loop = \"auto\"`"
            ) from error
        return uvloop.new_event_loop(), name
    module, _, factory = name.partition(":")
    if not factory:
        raise ValueError(f'`loop = "{name}"` is neither "auto", "uvloop" nor "asyncio", nor a "module:factory"')
    create = importlib.import_module(module)
    for part in factory.split("."):
        create = getattr(create, part)
    loop = create()
    if not isinstance(loop, asyncio.AbstractEventLoop):
        raise TypeError(f'`loop = "{name}"` returned {type(loop).__name__}, which is not an event loop')
    return loop, name


def attributes(loop):
    """Returns the attributes of a loop, if to create a task of it only schedules the first step of that task."""
    uvloop = sys.modules.get("uvloop")
    base = asyncio.BaseEventLoop
    is_asyncio = type(loop).create_task is base.create_task and type(loop).call_soon is base.call_soon
    is_uvloop = uvloop is not None and type(loop) is uvloop.Loop
    return getattr(loop, "__dict__", None) if (is_asyncio or is_uvloop) and not loop.get_debug() else None


def current_loop():
    """Returns the loop that the app has set, or had asyncio create, while it was imported. None if there is none."""
    get_policy = getattr(asyncio.events, "_get_event_loop_policy", None) or asyncio.get_event_loop_policy
    loop = getattr(getattr(get_policy(), "_local", None), "_loop", None)
    return None if loop is None or loop.is_closed() else loop


def loop_after_import(name, prepared):
    """Returns the loop to run, and its name. `prepared` is what `new_loop` returned before the import, if it was called.

    What the app has bound to a loop at its import works only with that loop.
    """
    current = current_loop()
    if current is not None and (name in ("", "auto") or prepared and current is prepared[0]):
        return current, prepared[1] if prepared and current is prepared[0] else type(current).__module__.partition(".")[0]
    if prepared and not prepared[0].is_closed():
        return prepared
    return new_loop(name)


def single_callable(app):
    """Returns an ASGI 3 app for `app`, which may be one of ASGI 2."""
    if not is_double_callable(app):
        return app

    async def adapted(scope, receive, send):
        await app(scope)(receive, send)

    return adapted


def is_double_callable(app):
    if inspect.isclass(app):
        return not hasattr(app, "__await__")
    called = app if inspect.isroutine(app) else getattr(type(app), "__call__", None)
    if inspect.iscoroutinefunction(called):
        return False
    try:
        parameters = inspect.signature(app).parameters.values()
    except Exception:
        # Its annotations can't be evaluated, for example.
        return False
    required = [it for it in parameters if it.default is it.empty and it.kind in (it.POSITIONAL_ONLY, it.POSITIONAL_OR_KEYWORD)]
    return len(required) == 1 and required[0].name == "scope"


async def run(app, scope, call):
    """Calls the app for one request."""
    try:
        await app(scope, call.receive, call.send)
    except BaseException as error:
        call.end(error)
        if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            raise
    else:
        call.end(None)


class Lifespan:
    """Tells the app that the worker starts and ends."""

    def __init__(self, app, loop):
        self.app = app
        self.loop = loop
        self.state = {}
        self.is_supported = False
        self.messages = asyncio.Queue()
        self.started = loop.create_future()
        self.ended = loop.create_future()
        self.task = None

    def start(self):
        """Runs the app's startup. Returns why it failed, or None."""
        return self.loop.run_until_complete(self._start())

    async def _start(self):
        self.task = self.loop.create_task(self._run())
        await self.messages.put({"type": "lifespan.startup"})
        await asyncio.wait([self.task, self.started], return_when=asyncio.FIRST_COMPLETED)
        if not self.started.done():
            # It returned, or raised an exception: it doesn't support this.
            if not self.task.cancelled():
                self.task.exception()
            return None
        failure = self.started.result()
        self.is_supported = failure is None
        return failure

    async def _run(self):
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        await self.app(scope, self.messages.get, self._send)

    async def _send(self, message):
        kind = message["type"]
        if kind == "lifespan.startup.complete" and not self.started.done():
            self.started.set_result(None)
        elif kind == "lifespan.startup.failed" and not self.started.done():
            self.started.set_result(str(message.get("message", "")))
        elif kind == "lifespan.shutdown.complete" and not self.ended.done():
            self.ended.set_result(None)
        elif kind == "lifespan.shutdown.failed" and not self.ended.done():
            self.ended.set_result(str(message.get("message", "")))
        else:
            raise RuntimeError(f"the app sent {kind!r} at a wrong time, or that isn't a lifespan message")

    def stop(self):
        """Runs the app's shutdown. Returns why it failed, or None."""
        return self.loop.run_until_complete(self._stop()) if self.is_supported else None

    async def _stop(self):
        if not self.task.done():
            await self.messages.put({"type": "lifespan.shutdown"})
            await asyncio.wait([self.task, self.ended], return_when=asyncio.FIRST_COMPLETED)
        if self.ended.done() and self.ended.result() is not None:
            return self.ended.result()
        if self.task.done():
            self.task.result()
        return None


def finish(loop):
    """Ends what still runs, and closes the loop. Returns how many tasks didn't end."""
    left = 0
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        done, pending = loop.run_until_complete(asyncio.wait(tasks, timeout=CANCELLED_WITHIN))
        left = len(pending)
        for task in done:
            if not task.cancelled() and task.exception() is not None:
                loop.call_exception_handler(
                    {"message": "a task raised an exception while it was cancelled", "exception": task.exception(), "task": task}
                )
    loop.run_until_complete(loop.shutdown_asyncgens())
    if left == 0:
        # It would wait for threads forever.
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    return left


def stack(task, loop):
    """Formats where a task is, also through the coroutines that it awaits."""
    if task is asyncio.current_task(loop):
        return None
    frames = []
    awaited = task.get_coro()
    while awaited is not None and len(frames) < 100:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None) or getattr(awaited, "ag_await", None)
    lines = traceback.StackSummary.extract(iter(frames)).format()
    return "Stack (most recent call last):\n" + "".join(lines).rstrip()
