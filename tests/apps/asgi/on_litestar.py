"""The behaviours of the compatibility grid, with Litestar."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any, AsyncGenerator, Dict, List

from litestar import Litestar, MediaType, Request, Response, WebSocket, get, post, route, websocket
from litestar.background_tasks import BackgroundTask
from litestar.config.allowed_hosts import AllowedHostsConfig
from litestar.config.compression import CompressionConfig
from litestar.config.cors import CORSConfig
from litestar.datastructures import Cookie, UploadFile
from litestar.di import Provide
from litestar.enums import HttpMethod
from litestar.exceptions import HTTPException, WebSocketDisconnect
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.response import File, Redirect, ServerSentEvent, Stream
from litestar.static_files import create_static_files_router

import memory


class Handled(Exception):
    pass


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncGenerator[None, None]:
    app.state.greeting = "set at startup"
    yield
    memory.stopped()


# Requests


@get("/", media_type=MediaType.TEXT)
async def index() -> str:
    return "Litestar\n"


@get("/items/{id:int}", name="item")
async def item(id: int) -> Dict[str, int]:
    return {"id": id}


@post("/items")
async def create_item(data: Dict[str, Any]) -> Response[Dict[str, Any]]:
    return Response(data, status_code=201, headers={"Location": "/items/43"})


@get("/names/{name:str}", media_type=MediaType.TEXT)
async def name(name: str) -> str:
    return name


@get("/tree/{path:path}", media_type=MediaType.TEXT)
async def tree(path: str) -> str:
    return path.lstrip("/")


@get("/query")
async def query(a: List[str], b: List[str]) -> Dict[str, List[str]]:
    return {"a": a, "b": b}


@get(["/scope", "/scope/{rest:path}"])
async def scope(request: Request) -> Dict[str, Any]:
    return memory.describe(request.scope)


@get("/header", media_type=MediaType.TEXT)
async def header(request: Request, name: str) -> str:
    return request.headers.get(name, "")


@get("/cookies")
async def cookies(request: Request) -> Dict[str, str]:
    return request.cookies


@route(
    "/method",
    http_method=[HttpMethod.GET, HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH, HttpMethod.DELETE, HttpMethod.OPTIONS],
    status_code=200,
    media_type=MediaType.TEXT,
)
async def method(request: Request) -> str:
    return request.method


@get("/link", media_type=MediaType.TEXT)
async def link(request: Request) -> str:
    return request.url_for("item", id=7).split("/", 3)[3].join(["/", ""])


# Bodies


@post("/echo", status_code=200)
async def echo(request: Request) -> Response[bytes]:
    return Response(await request.body(), media_type=request.headers.get("content-type", "text/plain"))


@post("/json", status_code=200)
async def echo_json(data: Dict[str, Any]) -> Dict[str, Any]:
    return data


@post("/form", status_code=200)
async def form(request: Request) -> Dict[str, Any]:
    form = await request.form()
    return {"name": form["name"], "tags": form.getall("tags")}


@post("/upload", status_code=200)
async def upload(request: Request) -> Dict[str, Any]:
    form = await request.form()
    files: List[UploadFile] = form.getall("files")
    read = [memory.digest_of(file.filename, file.content_type, await file.read()) for file in files]
    return {"title": form["title"], "files": read}


@post("/digest", status_code=200, request_max_body_size=None)
async def digest(request: Request) -> Dict[str, Any]:
    return await memory.digest(request.stream())


@post("/duplex", status_code=200)
async def duplex(request: Request) -> Stream:
    return Stream(memory.replies(request.stream()), media_type=MediaType.TEXT)


@post("/twice", status_code=200, media_type=MediaType.TEXT)
async def twice(request: Request) -> str:
    first, second = await request.body(), await request.body()
    return f"{len(first)} {first == second}"


@post("/ignore", status_code=200, media_type=MediaType.TEXT)
async def ignore() -> str:
    return "ignored\n"


# Responses


@get("/no-content", status_code=204)
async def no_content() -> None:
    pass


@get("/not-modified", status_code=304)
async def not_modified() -> Response[None]:
    return Response(None, headers={"ETag": '"v1"'})


@get("/status/{code:int}")
async def status(code: int) -> Response[str]:
    return Response(f"status {code}", status_code=code, media_type=MediaType.TEXT)


@get("/redirect", status_code=302)
async def redirect() -> Redirect:
    return Redirect("/")


@get("/set-cookies")
async def set_cookies() -> Response[str]:
    cookies = [Cookie("one", value="1", httponly=True), Cookie("two", value="2", max_age=60)]
    return Response("two cookies", cookies=cookies, media_type=MediaType.TEXT)


@get("/response-headers")
async def response_headers() -> Response[str]:
    """Litestar's responses have one value for each name."""
    return Response("three headers", headers={"X-Latin": memory.LATIN, "X-Many": "1, 2"}, media_type=MediaType.TEXT)


@get("/large")
async def large() -> Response[bytes]:
    return Response(memory.PIECE * 320, media_type="application/octet-stream")


@get("/stream")
async def stream(pieces: int) -> Stream:
    return Stream(memory.pieces(pieces))


@get("/gated")
async def gated(key: str) -> Stream:
    return Stream(memory.gated(key), media_type=MediaType.TEXT)


@get("/events")
async def events(key: str) -> ServerSentEvent:
    return ServerSentEvent(memory.events(key))


@get("/stream-nothing")
async def stream_nothing() -> Stream:
    return Stream(memory.nothing())


@get("/stream-fails")
async def stream_fails() -> Stream:
    return Stream(memory.failing(), media_type=MediaType.TEXT)


@get("/endless")
async def endless(key: str) -> Stream:
    return Stream(memory.endless(key))


@get("/file")
async def file() -> File:
    return File(memory.TEXT_FILE, filename="numbers.txt", media_type=MediaType.TEXT)


@get("/file-large")
async def file_large() -> File:
    return File(memory.large_file(), media_type="application/octet-stream")


@get("/compressed", media_type=MediaType.TEXT)
async def compressed() -> str:
    return "compress me " * 2000


@get("/visits", media_type=MediaType.TEXT)
async def visits(request: Request) -> str:
    count = request.session["visits"] = request.session.get("visits", 0) + 1
    return str(count)


# Failures


@get("/fails")
async def fails() -> None:
    raise RuntimeError("raised before the response")


@get("/conflict")
async def conflict() -> None:
    raise HTTPException("a conflict", status_code=409)


@get("/handled")
async def handled() -> None:
    raise Handled


def on_handled(request: Request, error: Handled) -> Response[Dict[str, str]]:
    return Response({"error": "handled"}, status_code=422)


@get("/timeout", status_code=503, media_type=MediaType.TEXT)
async def timeout() -> str:
    return "timed out" if await memory.times_out() else "no"


# Life of a request


@get("/background")
async def background(key: str) -> Response[str]:
    return Response("accepted", media_type=MediaType.TEXT, background=BackgroundTask(memory.late_note, key))


@get("/task", media_type=MediaType.TEXT)
async def task(key: str) -> str:
    memory.in_background(memory.late_note(key))
    return "accepted"


@get("/wait-disconnect", media_type=MediaType.TEXT)
async def wait_disconnect(request: Request, key: str) -> str:
    memory.note(key, "waiting")
    while (await request.receive())["type"] != "http.disconnect":
        pass
    memory.note(key, "disconnected")
    return "nobody reads this"


@post("/upload-disconnect", status_code=200, media_type=MediaType.TEXT)
async def upload_disconnect(request: Request, key: str) -> str:
    try:
        async for _ in request.stream():
            memory.note(key, "reading")
    except HTTPException:
        memory.note(key, "gone")
    return "whole"


async def resource(key: str) -> AsyncGenerator[str, None]:
    yield "inside"
    memory.note(key, "cleaned")


@get("/dependency", media_type=MediaType.TEXT, dependencies={"inside": Provide(resource)})
async def dependency(inside: str) -> str:
    return inside


@get("/meet", media_type=MediaType.TEXT)
async def meet(key: str) -> str:
    await memory.meet(key)
    return "met"


@get("/blocking", media_type=MediaType.TEXT, sync_to_thread=True)
def blocking(key: str) -> str:
    memory.gate_in_thread(key)
    return "released"


@get("/context")
async def context(value: str) -> Dict[str, Any]:
    return await memory.context(value)


@get("/loop", media_type=MediaType.TEXT)
async def loop() -> str:
    return memory.loop_name()


@get("/subprocess", media_type=MediaType.TEXT)
async def subprocess() -> str:
    return await memory.subprocess_output()


@get("/state", media_type=MediaType.TEXT)
async def state(request: Request) -> str:
    return request.app.state.greeting


@post("/gate/{key:str}", status_code=204)
async def open_gate(key: str) -> None:
    memory.open_gate(key)


@get("/notes/{key:str}")
async def notes(key: str) -> List[str]:
    return memory.notes[key]


# WebSockets


@websocket("/ws/echo")
async def ws_echo(socket: WebSocket) -> None:
    await socket.accept()
    while (message := await socket.receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await socket.send_text(message["text"])
        else:
            await socket.send_bytes(message["bytes"])


@websocket("/ws/json")
async def ws_json(socket: WebSocket) -> None:
    await socket.accept()
    async for value in socket.iter_json():
        await socket.send_json({"got": value})


@websocket("/ws/subprotocol")
async def ws_subprotocol(socket: WebSocket) -> None:
    offered = socket.scope["subprotocols"]
    await socket.accept(subprotocols="chat.v2" if "chat.v2" in offered else None)
    await socket.send_json(offered)
    await socket.close()


@websocket("/ws/headers")
async def ws_headers(socket: WebSocket) -> None:
    await socket.accept(headers={"x-accepted": "yes", "set-cookie": "socket=1; Path=/"})
    await socket.close()


@websocket("/ws/rooms/{room:str}")
async def ws_room(socket: WebSocket, room: str, user: str) -> None:
    await socket.accept()
    await socket.send_json({
        "room": room,
        "user": user,
        "cookie": socket.cookies["session-of"],
        "header": socket.headers["x-name"],
    })
    await socket.close()


@websocket("/ws/scope")
async def ws_scope(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_json(memory.describe(socket.scope))
    await socket.close()


@websocket("/ws/state")
async def ws_state(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(socket.app.state.greeting)
    await socket.close()


@websocket("/ws/close")
async def ws_close(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close(4001, "closed by the app")


@websocket("/ws/notes/{key:str}")
async def ws_notes(socket: WebSocket, key: str) -> None:
    await socket.accept()
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect as error:
        memory.note(key, str(error.code))


@websocket("/ws/reject")
async def ws_reject(socket: WebSocket) -> None:
    await socket.close()


@websocket("/ws/deny")
async def ws_deny(socket: WebSocket) -> None:
    """Litestar has no method for it, but passes the messages on."""
    headers = [(b"x-denied", b"yes"), (b"content-type", b"text/plain")]
    await socket.send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await socket.send({"type": "websocket.http.response.body", "body": b"no entry"})


@websocket("/ws/raise")
async def ws_raise(socket: WebSocket) -> None:
    await socket.accept()
    raise RuntimeError("raised in a socket")


@websocket("/ws/raise-first")
async def ws_raise_first(socket: WebSocket) -> None:
    raise RuntimeError("raised before accept")


@websocket("/ws/return")
async def ws_return(socket: WebSocket) -> None:
    await socket.accept()


@websocket("/ws/push")
async def ws_push(socket: WebSocket, count: int) -> None:
    await socket.accept()
    for number in range(count):
        await socket.send_text(str(number))
    await socket.close()


@websocket("/ws/both-ways")
async def ws_both_ways(socket: WebSocket) -> None:
    """Sends ticks while it echoes."""
    await socket.accept()

    async def tick() -> None:
        for number in range(50):
            await socket.send_text(f"tick {number}")
            await asyncio.sleep(0)

    ticks = asyncio.create_task(tick())
    async for text in socket.iter_data():
        await socket.send_text(f"echo {text}")
    await ticks


@websocket("/ws/chat/{room:str}")
async def ws_chat(socket: WebSocket, room: str) -> None:
    members = memory.rooms[room]
    await socket.accept()
    members.add(socket)
    try:
        async for text in socket.iter_data():
            for member in list(members):
                await member.send_text(text)
    finally:
        members.discard(socket)


@post("/publish/{room:str}", status_code=200, media_type=MediaType.TEXT)
async def publish(request: Request, room: str) -> str:
    members = memory.rooms[room]
    text = (await request.body()).decode()
    for member in list(members):
        await member.send_text(text)
    return str(len(members))


sessions = ServerSideSessionConfig()

app = Litestar(
    lifespan=[lifespan],
    exception_handlers={Handled: on_handled},
    allowed_hosts=AllowedHostsConfig(allowed_hosts=memory.HOSTS),
    cors_config=CORSConfig(allow_origins=[memory.ORIGIN]),
    compression_config=CompressionConfig(backend="gzip"),
    middleware=[sessions.middleware],
    openapi_config=None,
    route_handlers=[
        index, item, create_item, name, tree, query, scope, header, cookies, method, link,
        echo, echo_json, form, upload, digest, duplex, twice, ignore,
        no_content, not_modified, status, redirect, set_cookies, response_headers, large,
        stream, gated, events, stream_nothing, stream_fails, endless, file, file_large, compressed, visits,
        fails, conflict, handled, timeout,
        background, task, wait_disconnect, upload_disconnect, dependency, meet, blocking, context,
        loop, subprocess, state, open_gate, notes, publish,
        ws_echo, ws_json, ws_subprotocol, ws_headers, ws_room, ws_scope, ws_state, ws_close, ws_notes,
        ws_reject, ws_deny, ws_raise, ws_raise_first, ws_return, ws_push, ws_both_ways, ws_chat,
        create_static_files_router(path="/files", directories=[memory.FILES]),
    ],
)
