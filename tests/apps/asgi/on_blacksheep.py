"""The behaviours of the compatibility grid, with BlackSheep."""

import asyncio
import fnmatch
from contextlib import asynccontextmanager

from blacksheep import (
    Application,
    Content,
    Cookie,
    FromCookie,
    FromFiles,
    FromForm,
    FromHeader,
    FromJSON,
    FromQuery,
    Request,
    Response,
    StreamedContent,
    WebSocket,
    WebSocketDisconnectError,
    bad_request,
    created,
    json,
    no_content as empty,
    redirect as redirect_to,
    text,
)
from blacksheep.exceptions import Conflict, MessageAborted
from blacksheep.server.compression import use_gzip_compression
from blacksheep.server.responses import ContentDispositionType, file as file_response
from blacksheep.server.sse import ServerSentEventsResponse, TextServerSentEvent

import memory


class Handled(Exception):
    pass


app = Application()
app.use_sessions("not a secret")
app.use_cors(allow_methods="*", allow_origins=memory.ORIGIN, allow_headers="*")
use_gzip_compression(app)
app.serve_files(memory.FILES, root_path="files")
get, post, ws = app.router.get, app.router.post, app.router.ws


@app.lifespan
async def lifespan(app):
    app.greeting = "set at startup"
    yield
    memory.stopped()


@app.middlewares.append
async def trusted_host(request, handler):
    host = request.host.partition(":")[0]
    if not any(fnmatch.fnmatch(host, pattern) for pattern in memory.HOSTS):
        return bad_request("untrusted host")
    return await handler(request)


def first(request, name):
    return request.query[name][0]


# Requests


@get("/")
async def index():
    return text("BlackSheep\n")


@get("/items/{int:id}", name="item")
async def item(id: int):
    return json({"id": id})


@post("/items")
async def create_item(data: FromJSON[dict]):
    return created(data.value, "/items/43")


@get("/names/{name}")
async def name(name: str):
    return text(name)


@get("/tree/{path:path}")
async def tree(path: str):
    return text(path)


@get("/query")
async def query(request: Request):
    return json(request.query)


@get("/scope")
@get("/scope/{path:rest}")
async def scope(request: Request):
    return json(memory.describe(request.scope))


@get("/header")
async def header(request: Request):
    value = request.get_first_header(first(request, "name").encode())
    return text(value.decode("latin-1") if value else "")


@get("/cookies")
async def cookies(a: FromCookie[str], b: FromCookie[str]):
    return json({"a": a.value, "b": b.value})


@app.router.route("/method", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def method(request: Request):
    return text(request.method)


@get("/link")
async def link(request: Request):
    return text(request.scope["root_path"] + app.router.url_for("item", id="7"))


# Bodies


@post("/echo")
async def echo(request: Request):
    return Response(200, content=Content(request.content_type() or b"text/plain", await request.read() or b""))


@post("/json")
async def echo_json(data: FromJSON[dict]):
    return json(data.value)


@post("/form")
async def form(request: Request):
    form = await request.form()
    return json({"name": form["name"], "tags": form["tags"]})


@post("/upload")
async def upload(request: Request):
    form = await request.form()
    files = [
        memory.digest_of(part.file_name.decode(), part.content_type.decode(), part.data)
        for part in await request.files("files")
    ]
    return json({"title": form["title"], "files": files})


@post("/digest")
async def digest(request: Request):
    return json(await memory.digest(request.stream()))


def streamed(pieces, content_type=b"application/octet-stream"):
    async def provider():
        async for piece in pieces:
            yield piece if isinstance(piece, bytes) else piece.encode()

    return Response(200, content=StreamedContent(content_type, provider))


@post("/duplex")
async def duplex(request: Request):
    return streamed(memory.replies(request.stream()), b"text/plain")


@post("/twice")
async def twice(request: Request):
    once, again = await request.read(), await request.read()
    return text(f"{len(once)} {once == again}")


@post("/ignore")
async def ignore():
    return text("ignored\n")


# Responses


@get("/no-content")
async def no_content():
    return empty()


@get("/not-modified")
async def not_modified():
    return Response(304, [(b"ETag", b'"v1"')])


@get("/status/{int:code}")
async def status(code: int):
    return text(f"status {code}", code)


@get("/redirect")
async def redirect():
    return redirect_to("/")


@get("/set-cookies")
async def set_cookies():
    response = text("two cookies")
    response.set_cookie(Cookie("one", "1", http_only=True))
    response.set_cookie(Cookie("two", "2", max_age=60))
    return response


@get("/response-headers")
async def response_headers():
    response = text("three headers")
    response.add_header(b"X-Latin", memory.LATIN.encode("latin-1"))
    response.add_header(b"X-Many", b"1")
    response.add_header(b"X-Many", b"2")
    return response


@get("/large")
async def large():
    return Response(200, content=Content(b"application/octet-stream", memory.PIECE * 320))


@get("/stream")
async def stream(pieces: int):
    return streamed(memory.pieces(pieces))


@get("/gated")
async def gated(key: str):
    return streamed(memory.gated(key), b"text/plain")


@get("/events")
async def events(key: str):
    async def provider():
        async for data in memory.events(key):
            yield TextServerSentEvent(data)

    return ServerSentEventsResponse(provider)


@get("/stream-nothing")
async def stream_nothing():
    return streamed(memory.nothing())


@get("/stream-fails")
async def stream_fails():
    return streamed(memory.failing(), b"text/plain")


@get("/endless")
async def endless(key: str):
    return streamed(memory.endless(key))


@get("/file")
async def file():
    return file_response(str(memory.TEXT_FILE), "text/plain", content_disposition=ContentDispositionType.INLINE)


@get("/file-large")
async def file_large():
    return file_response(memory.large_file(), "application/octet-stream")


@get("/compressed")
async def compressed():
    return text("compress me " * 2000)


@get("/visits")
async def visits(request: Request):
    count = request.session["visits"] = request.session.get("visits", 0) + 1
    return text(str(count))


# Failures


@get("/fails")
async def fails():
    raise RuntimeError("raised before the response")


@get("/conflict")
async def conflict():
    raise Conflict("a conflict")


@get("/handled")
async def handled():
    raise Handled


@app.exception_handler(Handled)
async def on_handled(app, request, error):
    return json({"error": "handled"}, 422)


@get("/timeout")
async def timeout():
    return text("timed out" if await memory.times_out() else "no", 503)


# Life of a request


@get("/background")
async def background(key: str):
    memory.in_background(memory.late_note(key))
    return text("accepted")


@get("/task")
async def task(key: str):
    memory.in_background(memory.late_note(key))
    return text("accepted")


@get("/wait-disconnect")
async def wait_disconnect(request: Request, key: str):
    memory.note(key, "waiting")
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    memory.note(key, "disconnected")
    return text("nobody reads this")


@post("/upload-disconnect")
async def upload_disconnect(request: Request):
    key = first(request, "key")
    try:
        async for _ in request.stream():
            memory.note(key, "reading")
    except MessageAborted:
        memory.note(key, "gone")
    return text("whole")


@asynccontextmanager
async def resource(key):
    yield "inside"
    memory.note(key, "cleaned")


@get("/dependency")
async def dependency(key: str):
    async with resource(key) as inside:
        return text(inside)


@get("/meet")
async def meet(key: str):
    await memory.meet(key)
    return text("met")


@get("/blocking")
async def blocking(key: str):
    """BlackSheep would run a function that isn't a coroutine on the loop."""
    await asyncio.to_thread(memory.gate_in_thread, key)
    return text("released")


@get("/context")
async def context(value: str):
    return json(await memory.context(value))


@get("/loop")
async def loop():
    return text(memory.loop_name())


@get("/subprocess")
async def subprocess():
    return text(await memory.subprocess_output())


@get("/state")
async def state():
    return text(app.greeting)


@post("/gate/{key}")
async def open_gate(key: str):
    memory.open_gate(key)
    return empty()


@get("/notes/{key}")
async def notes(key: str):
    return json(memory.notes[key])


# WebSockets


@ws("/ws/echo")
async def ws_echo(websocket: WebSocket):
    await websocket.accept()
    while True:
        message = await websocket.receive()
        if message.get("text") is not None:
            await websocket.send_text(message["text"])
        else:
            await websocket.send_bytes(message["bytes"])


@ws("/ws/json")
async def ws_json(websocket: WebSocket):
    await websocket.accept()
    while True:
        await websocket.send_json({"got": await websocket.receive_json()})


@ws("/ws/subprotocol")
async def ws_subprotocol(websocket: WebSocket):
    offered = websocket.scope["subprotocols"]
    await websocket.accept(subprotocol="chat.v2" if "chat.v2" in offered else None)
    await websocket.send_json(offered)
    await websocket.close()


@ws("/ws/headers")
async def ws_headers(websocket: WebSocket):
    await websocket.accept(headers=[(b"x-accepted", b"yes"), (b"set-cookie", b"socket=1; Path=/")])
    await websocket.close()


@ws("/ws/rooms/{room}")
async def ws_room(websocket: WebSocket, room: str):
    await websocket.accept()
    await websocket.send_json({
        "room": room,
        "user": first(websocket, "user"),
        "cookie": websocket.cookies["session-of"],
        "header": websocket.get_first_header(b"x-name").decode(),
    })
    await websocket.close()


@ws("/ws/scope")
async def ws_scope(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_json(memory.describe(websocket.scope))
    await websocket.close()


@ws("/ws/state")
async def ws_state(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text(app.greeting)
    await websocket.close()


@ws("/ws/close")
async def ws_close(websocket: WebSocket):
    await websocket.accept()
    await websocket.close(4001, "closed by the app")


@ws("/ws/notes/{key}")
async def ws_notes(websocket: WebSocket, key: str):
    await websocket.accept()
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnectError as error:
        memory.note(key, str(error.code))


@ws("/ws/reject")
async def ws_reject(websocket: WebSocket):
    await websocket.close()


@ws("/ws/deny")
async def ws_deny(websocket: WebSocket):
    """BlackSheep has no method for it."""
    send = websocket._send
    headers = [(b"x-denied", b"yes"), (b"content-type", b"text/plain")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"no entry"})


@ws("/ws/raise")
async def ws_raise(websocket: WebSocket):
    await websocket.accept()
    raise RuntimeError("raised in a socket")


@ws("/ws/raise-first")
async def ws_raise_first(websocket: WebSocket):
    raise RuntimeError("raised before accept")


@ws("/ws/return")
async def ws_return(websocket: WebSocket):
    await websocket.accept()


@ws("/ws/push")
async def ws_push(websocket: WebSocket):
    await websocket.accept()
    for number in range(int(first(websocket, "count"))):
        await websocket.send_text(str(number))
    await websocket.close()


@ws("/ws/both-ways")
async def ws_both_ways(websocket: WebSocket):
    """Sends ticks while it echoes."""
    await websocket.accept()

    async def tick():
        for number in range(50):
            await websocket.send_text(f"tick {number}")
            await asyncio.sleep(0)

    ticks = asyncio.create_task(tick())
    try:
        while True:
            await websocket.send_text(f"echo {await websocket.receive_text()}")
    finally:
        await ticks


@ws("/ws/chat/{room}")
async def ws_chat(websocket: WebSocket, room: str):
    members = memory.rooms[room]
    await websocket.accept()
    members.add(websocket)
    try:
        while True:
            message = await websocket.receive_text()
            for member in list(members):
                await member.send_text(message)
    finally:
        members.discard(websocket)


@post("/publish/{room}")
async def publish(request: Request, room: str):
    members = memory.rooms[room]
    message = (await request.read()).decode()
    for member in list(members):
        await member.send_text(message)
    return text(str(len(members)))
