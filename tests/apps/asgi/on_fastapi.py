"""The behaviours of the compatibility grid, with FastAPI."""

import asyncio
from contextlib import asynccontextmanager
from typing import Annotated, List

from fastapi import (
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
    UploadFile,
    WebSocket,
    WebSocketDisconnect,
)
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import ClientDisconnect

import memory


class Handled(Exception):
    pass


class Item(BaseModel):
    name: str


@asynccontextmanager
async def lifespan(app):
    yield {"greeting": "set at startup"}
    memory.stopped()


app = FastAPI(lifespan=lifespan)
app.add_middleware(GZipMiddleware)
app.add_middleware(SessionMiddleware, secret_key="not a secret")
app.add_middleware(CORSMiddleware, allow_origins=[memory.ORIGIN], allow_methods=["*"], allow_headers=["*"])
app.add_middleware(TrustedHostMiddleware, allowed_hosts=memory.HOSTS, www_redirect=False)
app.mount("/files", StaticFiles(directory=memory.FILES))


# Requests


@app.get("/", response_class=PlainTextResponse)
async def index():
    return "FastAPI\n"


@app.get("/items/{id}")
async def item(id: int):
    return {"id": id}


@app.post("/items", status_code=201)
async def create_item(item: Item, response: Response):
    response.headers["Location"] = "/items/43"
    return item


@app.get("/names/{name}", response_class=PlainTextResponse)
async def name(name: str):
    return name


@app.get("/tree/{path:path}", response_class=PlainTextResponse)
async def tree(path: str):
    return path


@app.get("/query")
async def query(a: Annotated[List[str], Query()], b: Annotated[List[str], Query()]):
    return {"a": a, "b": b}


@app.get("/scope")
@app.get("/scope/{rest:path}")
async def scope(request: Request):
    return memory.describe(request.scope)


@app.get("/header", response_class=PlainTextResponse)
async def header(request: Request, name: str):
    return request.headers.get(name, "")


@app.get("/cookies")
async def cookies(a: Annotated[str, Cookie()], b: Annotated[str, Cookie()]):
    return {"a": a, "b": b}


@app.api_route(
    "/method", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"], response_class=PlainTextResponse
)
async def method(request: Request):
    return request.method


@app.get("/link", response_class=PlainTextResponse)
async def link(request: Request):
    return request.url_for("item", id=7).path


# Bodies


@app.post("/echo")
async def echo(request: Request):
    return Response(await request.body(), media_type=request.headers.get("content-type"))


@app.post("/json")
async def echo_json(value: Annotated[dict, Body()]):
    return value


@app.post("/form")
async def form(name: Annotated[str, Form()], tags: Annotated[List[str], Form()]):
    return {"name": name, "tags": tags}


@app.post("/upload")
async def upload(title: Annotated[str, Form()], files: Annotated[List[UploadFile], File()]):
    read = [memory.digest_of(file.filename, file.content_type, await file.read()) for file in files]
    return {"title": title, "files": read}


@app.post("/digest")
async def digest(request: Request):
    return await memory.digest(request.stream())


@app.post("/duplex")
async def duplex(request: Request):
    return StreamingResponse(memory.replies(request.stream()), media_type="text/plain")


@app.post("/twice", response_class=PlainTextResponse)
async def twice(request: Request):
    first, second = await request.body(), await request.body()
    return f"{len(first)} {first == second}"


@app.post("/ignore", response_class=PlainTextResponse)
async def ignore():
    return "ignored\n"


# Responses


@app.get("/no-content", status_code=204)
async def no_content():
    pass


@app.get("/not-modified")
async def not_modified():
    return Response(status_code=304, headers={"ETag": '"v1"'})


@app.get("/status/{code}", response_class=PlainTextResponse)
async def status(code: int, response: Response):
    response.status_code = code
    return f"status {code}"


@app.get("/redirect")
async def redirect():
    return RedirectResponse("/", status_code=302)


@app.get("/set-cookies", response_class=PlainTextResponse)
async def set_cookies(response: Response):
    response.set_cookie("one", "1", httponly=True)
    response.set_cookie("two", "2", max_age=60)
    return "two cookies"


@app.get("/response-headers", response_class=PlainTextResponse)
async def response_headers(response: Response):
    response.headers["X-Latin"] = memory.LATIN
    response.headers.append("X-Many", "1")
    response.headers.append("X-Many", "2")
    return "three headers"


@app.get("/large")
async def large():
    return Response(memory.PIECE * 320, media_type="application/octet-stream")


@app.get("/stream")
async def stream(pieces: int):
    return StreamingResponse(memory.pieces(pieces))


@app.get("/gated")
async def gated(key: str):
    return StreamingResponse(memory.gated(key), media_type="text/plain")


@app.get("/events")
async def events(key: str):
    return StreamingResponse(
        (f"data: {it}\n\n" async for it in memory.events(key)), media_type="text/event-stream"
    )


@app.get("/stream-nothing")
async def stream_nothing():
    return StreamingResponse(memory.nothing())


@app.get("/stream-fails")
async def stream_fails():
    return StreamingResponse(memory.failing(), media_type="text/plain")


@app.get("/endless")
async def endless(key: str):
    return StreamingResponse(memory.endless(key))


@app.get("/file", response_class=FileResponse)
async def file():
    return memory.TEXT_FILE


@app.get("/file-large")
async def file_large():
    return FileResponse(memory.large_file(), media_type="application/octet-stream")


@app.get("/compressed", response_class=PlainTextResponse)
async def compressed():
    return "compress me " * 2000


@app.get("/visits", response_class=PlainTextResponse)
async def visits(request: Request):
    count = request.session["visits"] = request.session.get("visits", 0) + 1
    return str(count)


# Failures


@app.get("/fails")
async def fails():
    raise RuntimeError("raised before the response")


@app.get("/conflict")
async def conflict():
    raise HTTPException(409, "a conflict")


@app.get("/handled")
async def handled():
    raise Handled


@app.exception_handler(Handled)
async def on_handled(request: Request, error: Handled):
    return JSONResponse({"error": "handled"}, status_code=422)


@app.get("/timeout", response_class=PlainTextResponse, status_code=503)
async def timeout():
    return "timed out" if await memory.times_out() else "no"


# Life of a request


@app.get("/background", response_class=PlainTextResponse)
async def background(key: str, tasks: BackgroundTasks):
    tasks.add_task(memory.late_note, key)
    return "accepted"


@app.get("/task", response_class=PlainTextResponse)
async def task(key: str):
    memory.in_background(memory.late_note(key))
    return "accepted"


@app.get("/wait-disconnect", response_class=PlainTextResponse)
async def wait_disconnect(request: Request, key: str):
    memory.note(key, "waiting")
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    memory.note(key, "disconnected")
    return "nobody reads this"


@app.post("/upload-disconnect", response_class=PlainTextResponse)
async def upload_disconnect(request: Request, key: str):
    try:
        async for _ in request.stream():
            memory.note(key, "reading")
    except ClientDisconnect:
        memory.note(key, "gone")
    return "whole"


async def resource(key: str):
    yield "inside"
    memory.note(key, "cleaned")


@app.get("/dependency", response_class=PlainTextResponse)
async def dependency(inside: Annotated[str, Depends(resource)]):
    return inside


@app.get("/meet", response_class=PlainTextResponse)
async def meet(key: str):
    await memory.meet(key)
    return "met"


@app.get("/blocking", response_class=PlainTextResponse)
def blocking(key: str):
    """Not a coroutine: FastAPI runs it in its thread pool."""
    memory.gate_in_thread(key)
    return "released"


@app.get("/context")
async def context(value: str):
    return await memory.context(value)


@app.get("/loop", response_class=PlainTextResponse)
async def loop():
    return memory.loop_name()


@app.get("/subprocess", response_class=PlainTextResponse)
async def subprocess():
    return await memory.subprocess_output()


@app.get("/state", response_class=PlainTextResponse)
async def state(request: Request):
    return request.state.greeting


@app.post("/gate/{key}", status_code=204)
async def open_gate(key: str):
    memory.open_gate(key)


@app.get("/notes/{key}")
async def notes(key: str):
    return memory.notes[key]


# WebSockets


@app.websocket("/ws/echo")
async def ws_echo(websocket: WebSocket):
    await websocket.accept()
    while (message := await websocket.receive())["type"] == "websocket.receive":
        if message.get("text") is not None:
            await websocket.send_text(message["text"])
        else:
            await websocket.send_bytes(message["bytes"])


@app.websocket("/ws/json")
async def ws_json(websocket: WebSocket):
    await websocket.accept()
    async for value in websocket.iter_json():
        await websocket.send_json({"got": value})


@app.websocket("/ws/subprotocol")
async def ws_subprotocol(websocket: WebSocket):
    offered = websocket.scope["subprotocols"]
    await websocket.accept(subprotocol="chat.v2" if "chat.v2" in offered else None)
    await websocket.send_json(offered)
    await websocket.close()


@app.websocket("/ws/headers")
async def ws_headers(websocket: WebSocket):
    await websocket.accept(headers=[(b"x-accepted", b"yes"), (b"set-cookie", b"socket=1; Path=/")])
    await websocket.close()


@app.websocket("/ws/rooms/{room}")
async def ws_room(
    websocket: WebSocket,
    room: str,
    user: str,
    session_of: Annotated[str, Cookie(alias="session-of")],
    x_name: Annotated[str, Header()],
):
    await websocket.accept()
    await websocket.send_json({"room": room, "user": user, "cookie": session_of, "header": x_name})
    await websocket.close()


@app.websocket("/ws/scope")
async def ws_scope(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_json(memory.describe(websocket.scope))
    await websocket.close()


@app.websocket("/ws/state")
async def ws_state(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text(websocket.state.greeting)
    await websocket.close()


@app.websocket("/ws/close")
async def ws_close(websocket: WebSocket):
    await websocket.accept()
    await websocket.close(4001, "closed by the app")


@app.websocket("/ws/notes/{key}")
async def ws_notes(websocket: WebSocket, key: str):
    await websocket.accept()
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect as error:
        memory.note(key, f"{error.code} {error.reason}".strip())


@app.websocket("/ws/reject")
async def ws_reject(websocket: WebSocket):
    await websocket.close()


@app.websocket("/ws/deny")
async def ws_deny(websocket: WebSocket):
    await websocket.send_denial_response(PlainTextResponse("no entry", 401, headers={"X-Denied": "yes"}))


@app.websocket("/ws/raise")
async def ws_raise(websocket: WebSocket):
    await websocket.accept()
    raise RuntimeError("raised in a socket")


@app.websocket("/ws/raise-first")
async def ws_raise_first(websocket: WebSocket):
    raise RuntimeError("raised before accept")


@app.websocket("/ws/return")
async def ws_return(websocket: WebSocket):
    await websocket.accept()


@app.websocket("/ws/push")
async def ws_push(websocket: WebSocket, count: int):
    await websocket.accept()
    for number in range(count):
        await websocket.send_text(str(number))
    await websocket.close()


@app.websocket("/ws/both-ways")
async def ws_both_ways(websocket: WebSocket):
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


@app.websocket("/ws/chat/{room}")
async def ws_chat(websocket: WebSocket, room: str):
    members = memory.rooms[room]
    await websocket.accept()
    members.add(websocket)
    try:
        async for text in websocket.iter_text():
            for member in list(members):
                await member.send_text(text)
    finally:
        members.discard(websocket)


@app.post("/publish/{room}", response_class=PlainTextResponse)
async def publish(request: Request, room: str):
    members = memory.rooms[room]
    text = (await request.body()).decode()
    for member in list(members):
        await member.send_text(text)
    return str(len(members))
