"""The behaviours of the compatibility grid, with Starlette."""

import asyncio
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect

import memory


class Handled(Exception):
    pass


@asynccontextmanager
async def lifespan(app):
    yield {"greeting": "set at startup"}
    memory.stopped()


# Requests


async def index(request):
    return PlainTextResponse("Starlette\n")


async def item(request):
    return JSONResponse({"id": request.path_params["id"]})


async def create_item(request):
    body = await request.json()
    return JSONResponse(body, status_code=201, headers={"Location": "/items/43"})


async def name(request):
    return PlainTextResponse(request.path_params["name"])


async def tree(request):
    return PlainTextResponse(request.path_params["path"])


async def query(request):
    return JSONResponse({name: request.query_params.getlist(name) for name in request.query_params})


async def scope(request):
    return JSONResponse(memory.describe(request.scope))


async def header(request):
    return PlainTextResponse(request.headers.get(request.query_params["name"], ""))


async def cookies(request):
    return JSONResponse(request.cookies)


async def method(request):
    return PlainTextResponse(request.method)


async def link(request):
    return PlainTextResponse(request.url_for("item", id=7).path)


# Bodies


async def echo(request):
    return Response(await request.body(), media_type=request.headers.get("content-type"))


async def echo_json(request):
    try:
        return JSONResponse(await request.json())
    except ValueError:
        raise HTTPException(400, "not JSON")


async def form(request):
    async with request.form() as form:
        return JSONResponse({"name": form["name"], "tags": form.getlist("tags")})


async def upload(request):
    async with request.form() as form:
        files = [
            memory.digest_of(file.filename, file.content_type, await file.read()) for file in form.getlist("files")
        ]
        return JSONResponse({"title": form["title"], "files": files})


async def digest(request):
    return JSONResponse(await memory.digest(request.stream()))


async def duplex(request):
    return StreamingResponse(memory.replies(request.stream()), media_type="text/plain")


async def twice(request):
    first, second = await request.body(), await request.body()
    return PlainTextResponse(f"{len(first)} {first == second}")


async def ignore(request):
    return PlainTextResponse("ignored\n")


# Responses


async def no_content(request):
    return Response(status_code=204)


async def not_modified(request):
    return Response(status_code=304, headers={"ETag": '"v1"'})


async def status(request):
    code = request.path_params["code"]
    return PlainTextResponse(f"status {code}", status_code=code)


async def redirect(request):
    return RedirectResponse("/", status_code=302)


async def set_cookies(request):
    response = PlainTextResponse("two cookies")
    response.set_cookie("one", "1", httponly=True)
    response.set_cookie("two", "2", max_age=60)
    return response


async def response_headers(request):
    response = PlainTextResponse("three headers", headers={"X-Latin": memory.LATIN})
    response.headers.append("X-Many", "1")
    response.headers.append("X-Many", "2")
    return response


async def large(request):
    return Response(memory.PIECE * 320, media_type="application/octet-stream")


async def stream(request):
    return StreamingResponse(memory.pieces(int(request.query_params["pieces"])))


async def gated(request):
    return StreamingResponse(memory.gated(request.query_params["key"]), media_type="text/plain")


async def events(request):
    data = memory.events(request.query_params["key"])
    return StreamingResponse((f"data: {it}\n\n" async for it in data), media_type="text/event-stream")


async def stream_nothing(request):
    return StreamingResponse(memory.nothing())


async def stream_fails(request):
    return StreamingResponse(memory.failing(), media_type="text/plain")


async def endless(request):
    return StreamingResponse(memory.endless(request.query_params["key"]))


async def file(request):
    return FileResponse(memory.TEXT_FILE)


async def file_large(request):
    return FileResponse(memory.large_file(), media_type="application/octet-stream")


async def compressed(request):
    return PlainTextResponse("compress me " * 2000)


async def visits(request):
    count = request.session["visits"] = request.session.get("visits", 0) + 1
    return PlainTextResponse(str(count))


# Failures


async def fails(request):
    raise RuntimeError("raised before the response")


async def conflict(request):
    raise HTTPException(409, "a conflict")


async def handled(request):
    raise Handled


async def on_handled(request, error):
    return JSONResponse({"error": "handled"}, status_code=422)


async def timeout(request):
    return PlainTextResponse("timed out" if await memory.times_out() else "no", status_code=503)


# Life of a request


async def background(request):
    task = BackgroundTask(memory.late_note, request.query_params["key"])
    return PlainTextResponse("accepted", background=task)


async def task(request):
    memory.in_background(memory.late_note(request.query_params["key"]))
    return PlainTextResponse("accepted")


async def wait_disconnect(request):
    key = request.query_params["key"]
    memory.note(key, "waiting")
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    memory.note(key, "disconnected")
    return PlainTextResponse("nobody reads this")


async def upload_disconnect(request):
    key = request.query_params["key"]
    try:
        async for _ in request.stream():
            memory.note(key, "reading")
    except ClientDisconnect:
        memory.note(key, "gone")
    return PlainTextResponse("whole")


@asynccontextmanager
async def resource(key):
    yield "inside"
    memory.note(key, "cleaned")


async def dependency(request):
    async with resource(request.query_params["key"]) as inside:
        return PlainTextResponse(inside)


async def meet(request):
    await memory.meet(request.query_params["key"])
    return PlainTextResponse("met")


def blocking(request):
    """Not a coroutine: Starlette runs it in its thread pool."""
    memory.gate_in_thread(request.query_params["key"])
    return PlainTextResponse("released")


async def context(request):
    return JSONResponse(await memory.context(request.query_params["value"]))


async def loop(request):
    return PlainTextResponse(memory.loop_name())


async def subprocess(request):
    return PlainTextResponse(await memory.subprocess_output())


async def state(request):
    return PlainTextResponse(request.state.greeting)


async def open_gate(request):
    memory.open_gate(request.path_params["key"])
    return Response(status_code=204)


async def notes(request):
    return JSONResponse(memory.notes[request.path_params["key"]])


# WebSockets


async def ws_echo(websocket):
    await websocket.accept()
    while (message := await websocket.receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await websocket.send_text(message["text"])
        else:
            await websocket.send_bytes(message["bytes"])


async def ws_json(websocket):
    await websocket.accept()
    async for value in websocket.iter_json():
        await websocket.send_json({"got": value})


async def ws_subprotocol(websocket):
    offered = websocket.scope["subprotocols"]
    await websocket.accept(subprotocol="chat.v2" if "chat.v2" in offered else None)
    await websocket.send_json(offered)
    await websocket.close()


async def ws_headers(websocket):
    await websocket.accept(headers=[(b"x-accepted", b"yes"), (b"set-cookie", b"socket=1; Path=/")])
    await websocket.close()


async def ws_room(websocket):
    await websocket.accept()
    await websocket.send_json({
        "room": websocket.path_params["room"],
        "user": websocket.query_params["user"],
        "cookie": websocket.cookies["session-of"],
        "header": websocket.headers["x-name"],
    })
    await websocket.close()


async def ws_scope(websocket):
    await websocket.accept()
    await websocket.send_json(memory.describe(websocket.scope))
    await websocket.close()


async def ws_state(websocket):
    await websocket.accept()
    await websocket.send_text(websocket.state.greeting)
    await websocket.close()


async def ws_close(websocket):
    await websocket.accept()
    await websocket.close(4001, "closed by the app")


async def ws_notes(websocket):
    await websocket.accept()
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect as error:
        memory.note(websocket.path_params["key"], f"{error.code} {error.reason}".strip())


async def ws_reject(websocket):
    await websocket.close()


async def ws_deny(websocket):
    await websocket.send_denial_response(PlainTextResponse("no entry", 401, headers={"X-Denied": "yes"}))


async def ws_raise(websocket):
    await websocket.accept()
    raise RuntimeError("raised in a socket")


async def ws_raise_first(websocket):
    raise RuntimeError("raised before accept")


async def ws_return(websocket):
    await websocket.accept()


async def ws_push(websocket):
    await websocket.accept()
    for number in range(int(websocket.query_params["count"])):
        await websocket.send_text(str(number))
    await websocket.close()


async def ws_both_ways(websocket):
    """Sends ticks while it echoes."""
    await websocket.accept()

    async def tick():
        for number in range(50):
            await websocket.send_text(f"tick {number}")
            await asyncio.sleep(0)

    ticks = asyncio.create_task(tick())
    async for text in websocket.iter_text():
        await websocket.send_text(f"echo {text}")
    await ticks


async def ws_chat(websocket):
    room = memory.rooms[websocket.path_params["room"]]
    await websocket.accept()
    room.add(websocket)
    try:
        async for text in websocket.iter_text():
            for member in list(room):
                await member.send_text(text)
    finally:
        room.discard(websocket)


async def publish(request):
    room = memory.rooms[request.path_params["room"]]
    text = (await request.body()).decode()
    for member in list(room):
        await member.send_text(text)
    return PlainTextResponse(str(len(room)))


app = Starlette(
    lifespan=lifespan,
    exception_handlers={Handled: on_handled},
    middleware=[
        Middleware(TrustedHostMiddleware, allowed_hosts=memory.HOSTS, www_redirect=False),
        Middleware(CORSMiddleware, allow_origins=[memory.ORIGIN], allow_methods=["*"], allow_headers=["*"]),
        Middleware(SessionMiddleware, secret_key="not a secret"),
        Middleware(GZipMiddleware),
    ],
    routes=[
        Route("/", index),
        Route("/items", create_item, methods=["POST"]),
        Route("/items/{id:int}", item),
        Route("/names/{name}", name),
        Route("/tree/{path:path}", tree),
        Route("/query", query),
        Route("/scope", scope),
        Route("/scope/{rest:path}", scope),
        Route("/header", header),
        Route("/cookies", cookies),
        Route("/method", method, methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        Route("/link", link),
        Route("/echo", echo, methods=["POST"]),
        Route("/json", echo_json, methods=["POST"]),
        Route("/form", form, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/digest", digest, methods=["POST"]),
        Route("/duplex", duplex, methods=["POST"]),
        Route("/twice", twice, methods=["POST"]),
        Route("/ignore", ignore, methods=["POST"]),
        Route("/no-content", no_content),
        Route("/not-modified", not_modified),
        Route("/status/{code:int}", status),
        Route("/redirect", redirect),
        Route("/set-cookies", set_cookies),
        Route("/response-headers", response_headers),
        Route("/large", large),
        Route("/stream", stream),
        Route("/gated", gated),
        Route("/events", events),
        Route("/stream-nothing", stream_nothing),
        Route("/stream-fails", stream_fails),
        Route("/endless", endless),
        Route("/file", file),
        Route("/file-large", file_large),
        Route("/compressed", compressed),
        Route("/visits", visits),
        Route("/fails", fails),
        Route("/conflict", conflict),
        Route("/handled", handled),
        Route("/timeout", timeout),
        Route("/background", background),
        Route("/task", task),
        Route("/wait-disconnect", wait_disconnect),
        Route("/upload-disconnect", upload_disconnect, methods=["POST"]),
        Route("/dependency", dependency),
        Route("/meet", meet),
        Route("/blocking", blocking),
        Route("/context", context),
        Route("/loop", loop),
        Route("/subprocess", subprocess),
        Route("/state", state),
        Route("/gate/{key}", open_gate, methods=["POST"]),
        Route("/notes/{key}", notes),
        Route("/publish/{room}", publish, methods=["POST"]),
        Mount("/files", StaticFiles(directory=memory.FILES)),
        WebSocketRoute("/ws/echo", ws_echo),
        WebSocketRoute("/ws/json", ws_json),
        WebSocketRoute("/ws/subprotocol", ws_subprotocol),
        WebSocketRoute("/ws/headers", ws_headers),
        WebSocketRoute("/ws/rooms/{room}", ws_room),
        WebSocketRoute("/ws/scope", ws_scope),
        WebSocketRoute("/ws/state", ws_state),
        WebSocketRoute("/ws/close", ws_close),
        WebSocketRoute("/ws/notes/{key}", ws_notes),
        WebSocketRoute("/ws/reject", ws_reject),
        WebSocketRoute("/ws/deny", ws_deny),
        WebSocketRoute("/ws/raise", ws_raise),
        WebSocketRoute("/ws/raise-first", ws_raise_first),
        WebSocketRoute("/ws/return", ws_return),
        WebSocketRoute("/ws/push", ws_push),
        WebSocketRoute("/ws/both-ways", ws_both_ways),
        WebSocketRoute("/ws/chat/{room}", ws_chat),
    ],
)
