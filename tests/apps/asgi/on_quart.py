"""The behaviours of the compatibility grid, with Quart."""

import asyncio
import fnmatch
import gzip
from contextlib import asynccontextmanager

from quart import (
    Quart,
    abort,
    current_app,
    jsonify,
    redirect as redirect_to,
    request,
    send_file,
    session,
    url_for,
    websocket,
)

import memory


class Handled(Exception):
    pass


app = Quart(__name__, static_folder=str(memory.FILES), static_url_path="/files")
app.secret_key = "not a secret"


@app.while_serving
async def lifespan():
    app.config["GREETING"] = "set at startup"
    yield
    memory.stopped()


@app.before_request
async def trusted_host():
    host = request.host.partition(":")[0]
    if not any(fnmatch.fnmatch(host, pattern) for pattern in memory.HOSTS):
        abort(400)


@app.before_request
async def preflight():
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        return "", 204, {"Access-Control-Allow-Methods": request.headers["Access-Control-Request-Method"]}


@app.after_request
async def cors(response):
    if request.headers.get("Origin") == memory.ORIGIN:
        response.headers["Access-Control-Allow-Origin"] = memory.ORIGIN
        response.vary.add("Origin")
    return response


# Requests


@app.get("/")
async def index():
    return "Quart\n", {"Content-Type": "text/plain; charset=utf-8"}


@app.get("/items/<int:id>")
async def item(id):
    return {"id": id}


@app.post("/items")
async def create_item():
    return await request.get_json(), 201, {"Location": "/items/43"}


@app.get("/names/<name>")
async def name(name):
    return name


@app.get("/tree/<path:path>")
async def tree(path):
    return path


@app.get("/query")
async def query():
    return request.args.to_dict(flat=False)


@app.get("/scope")
@app.get("/scope/<path:rest>")
async def scope(rest=""):
    return memory.describe(request.scope)


@app.get("/header")
async def header():
    return request.headers.get(request.args["name"], "")


@app.get("/cookies")
async def cookies():
    return dict(request.cookies)


@app.route("/method", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def method():
    return request.method


@app.get("/link")
async def link():
    return url_for("item", id=7)


# Bodies


@app.post("/echo")
async def echo():
    return await request.get_data(), {"Content-Type": request.headers.get("Content-Type", "text/plain")}


@app.post("/json")
async def echo_json():
    return jsonify(await request.get_json())


@app.post("/form")
async def form():
    form = await request.form
    return {"name": form["name"], "tags": form.getlist("tags")}


@app.post("/upload")
async def upload():
    form, files = await request.form, await request.files
    read = [memory.digest_of(file.filename, file.content_type, file.read()) for file in files.getlist("files")]
    return {"title": form["title"], "files": read}


@app.post("/digest")
async def digest():
    return await memory.digest(request.body)


@app.post("/duplex")
async def duplex():
    return memory.replies(request.body), {"Content-Type": "text/plain"}


@app.post("/twice")
async def twice():
    first, second = await request.get_data(), await request.get_data()
    return f"{len(first)} {first == second}"


@app.post("/ignore")
async def ignore():
    return "ignored\n"


# Responses


@app.get("/no-content")
async def no_content():
    return "", 204


@app.get("/not-modified")
async def not_modified():
    return "", 304, {"ETag": '"v1"'}


@app.get("/status/<int:code>")
async def status(code):
    return f"status {code}", code


@app.get("/redirect")
async def redirect():
    return redirect_to("/")


@app.get("/set-cookies")
async def set_cookies():
    response = await current_app.make_response("two cookies")
    response.set_cookie("one", "1", httponly=True)
    response.set_cookie("two", "2", max_age=60)
    return response


@app.get("/response-headers")
async def response_headers():
    response = await current_app.make_response("three headers")
    response.headers["X-Latin"] = memory.LATIN
    response.headers.add("X-Many", "1")
    response.headers.add("X-Many", "2")
    return response


@app.get("/large")
async def large():
    return memory.PIECE * 320, {"Content-Type": "application/octet-stream"}


@app.get("/stream")
async def stream():
    return memory.pieces(int(request.args["pieces"])), {"Content-Type": "application/octet-stream"}


@app.get("/gated")
async def gated():
    return memory.gated(request.args["key"]), {"Content-Type": "text/plain"}


@app.get("/events")
async def events():
    data = memory.events(request.args["key"])
    response = await current_app.make_response((f"data: {it}\n\n".encode() async for it in data))
    response.content_type = "text/event-stream"
    response.timeout = None
    return response


@app.get("/stream-nothing")
async def stream_nothing():
    return memory.nothing()


@app.get("/stream-fails")
async def stream_fails():
    return memory.failing()


@app.get("/endless")
async def endless():
    return memory.endless(request.args["key"])


@app.get("/file")
async def file():
    return await send_file(memory.TEXT_FILE, conditional=True)


@app.get("/file-large")
async def file_large():
    return await send_file(memory.large_file(), mimetype="application/octet-stream")


@app.get("/compressed")
async def compressed():
    text = b"compress me " * 2000
    if "gzip" not in request.accept_encodings:
        return text
    return gzip.compress(text), {"Content-Encoding": "gzip", "Content-Type": "text/plain"}


@app.get("/visits")
async def visits():
    session["visits"] = session.get("visits", 0) + 1
    return str(session["visits"])


# Failures


@app.get("/fails")
async def fails():
    raise RuntimeError("raised before the response")


@app.get("/conflict")
async def conflict():
    abort(409, "a conflict")


@app.get("/handled")
async def handled():
    raise Handled


@app.errorhandler(Handled)
async def on_handled(error):
    return {"error": "handled"}, 422


@app.get("/timeout")
async def timeout():
    return "timed out" if await memory.times_out() else "no", 503


# Life of a request


@app.get("/background")
async def background():
    app.add_background_task(memory.late_note, request.args["key"])
    return "accepted"


@app.get("/task")
async def task():
    memory.in_background(memory.late_note(request.args["key"]))
    return "accepted"


@app.get("/wait-disconnect")
async def wait_disconnect():
    """Quart cancels the handler when the client leaves."""
    key = request.args["key"]
    memory.note(key, "waiting")
    try:
        await asyncio.Event().wait()
    finally:
        memory.note(key, "disconnected")


@app.post("/upload-disconnect")
async def upload_disconnect():
    key = request.args["key"]
    try:
        async for _ in request.body:
            memory.note(key, "reading")
    except asyncio.CancelledError:
        memory.note(key, "gone")
        raise
    return "whole"


@asynccontextmanager
async def resource(key):
    yield "inside"
    memory.note(key, "cleaned")


@app.get("/dependency")
async def dependency():
    async with resource(request.args["key"]) as inside:
        return inside


@app.get("/meet")
async def meet():
    await memory.meet(request.args["key"])
    return "met"


@app.get("/blocking")
def blocking():
    """Not a coroutine: Quart runs it in a thread."""
    memory.gate_in_thread(request.args["key"])
    return "released"


@app.get("/context")
async def context():
    return await memory.context(request.args["value"])


@app.get("/loop")
async def loop():
    return memory.loop_name()


@app.get("/subprocess")
async def subprocess():
    return await memory.subprocess_output()


@app.get("/state")
async def state():
    return app.config["GREETING"]


@app.post("/gate/<key>")
async def open_gate(key):
    memory.open_gate(key)
    return "", 204


@app.get("/notes/<key>")
async def notes(key):
    return jsonify(memory.notes[key])


# WebSockets


@app.websocket("/ws/echo")
async def ws_echo():
    await websocket.accept()
    while True:
        await websocket.send(await websocket.receive())


@app.websocket("/ws/json")
async def ws_json():
    await websocket.accept()
    while True:
        await websocket.send_json({"got": await websocket.receive_json()})


@app.websocket("/ws/subprotocol")
async def ws_subprotocol():
    offered = websocket.requested_subprotocols
    await websocket.accept(subprotocol="chat.v2" if "chat.v2" in offered else None)
    await websocket.send_json(offered)


@app.websocket("/ws/headers")
async def ws_headers():
    await websocket.accept(headers={"X-Accepted": "yes", "Set-Cookie": "socket=1; Path=/"})


@app.websocket("/ws/rooms/<room>")
async def ws_room(room):
    await websocket.send_json({
        "room": room,
        "user": websocket.args["user"],
        "cookie": websocket.cookies["session-of"],
        "header": websocket.headers["x-name"],
    })


@app.websocket("/ws/scope")
async def ws_scope():
    await websocket.send_json(memory.describe(websocket.scope))


@app.websocket("/ws/state")
async def ws_state():
    await websocket.send(app.config["GREETING"])


@app.websocket("/ws/close")
async def ws_close():
    await websocket.accept()
    await websocket.close(4001, "closed by the app")


@app.websocket("/ws/notes/<key>")
async def ws_notes(key):
    """Quart cancels the handler when the client leaves, and doesn't tell the code."""
    await websocket.accept()
    try:
        while True:
            await websocket.receive()
    finally:
        memory.note(key, "closed")


@app.websocket("/ws/reject")
async def ws_reject():
    await websocket.close(1000)


@app.websocket("/ws/deny")
async def ws_deny():
    return "no entry", 401, {"X-Denied": "yes"}


@app.websocket("/ws/raise")
async def ws_raise():
    await websocket.accept()
    raise RuntimeError("raised in a socket")


@app.websocket("/ws/raise-first")
async def ws_raise_first():
    raise RuntimeError("raised before accept")


@app.websocket("/ws/return")
async def ws_return():
    await websocket.accept()


@app.websocket("/ws/push")
async def ws_push():
    await websocket.accept()
    for number in range(int(websocket.args["count"])):
        await websocket.send(str(number))


@app.websocket("/ws/both-ways")
async def ws_both_ways():
    """Sends ticks while it echoes."""
    await websocket.accept()

    async def tick():
        for number in range(50):
            await websocket.send(f"tick {number}")
            await asyncio.sleep(0)

    async def echo():
        while True:
            await websocket.send(f"echo {await websocket.receive()}")

    await asyncio.gather(tick(), echo())


@app.websocket("/ws/chat/<room>")
async def ws_chat(room):
    room = memory.rooms[room]
    socket = websocket._get_current_object()
    await websocket.accept()
    room.add(socket)
    try:
        while True:
            text = await websocket.receive()
            for member in list(room):
                await member.send(text)
    finally:
        room.discard(socket)


@app.post("/publish/<room>")
async def publish(room):
    room = memory.rooms[room]
    text = (await request.get_data()).decode()
    for member in list(room):
        await member.send(text)
    return str(len(room))
