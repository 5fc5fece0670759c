"""A bare ASGI app, for what the specification offers and no framework uses."""

import json

import memory


async def start(send, status=200, headers=((b"content-type", b"text/plain"),), **more):
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})


async def respond(send, text):
    await start(send)
    await send({"type": "http.response.body", "body": text})


async def scope(scope, receive, send):
    await respond(send, json.dumps(memory.describe(scope)).encode())


async def hints(scope, receive, send):
    """The response waits until the client has the hints."""
    await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload; as=style"]})
    await send({"type": "http.response.early_hint", "links": (b"</a.js>; rel=preload", b"</b.js>; rel=preload")})
    await memory.gate(scope["query_string"].decode())
    await respond(send, b"hinted")


async def trailers(scope, receive, send):
    await start(send, headers=[(b"trailer", b"x-sum, x-count")], trailers=True)
    await send({"type": "http.response.body", "body": b"one ", "more_body": True})
    await send({"type": "http.response.body", "body": b"two"})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"3")], "more_trailers": True})
    await send({"type": "http.response.trailers", "headers": [(b"x-count", b"2")]})


async def path(scope, receive, send):
    await start(send)
    await send({"type": "http.response.pathsend", "path": str(memory.TEXT_FILE)})


async def terse(scope, receive, send):
    """Every key that has a default is missing."""
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})


async def kinds(scope, receive, send):
    """Headers by a generator, in lists; the body in all kinds of bytes."""
    await start(send, headers=([name, b"yes"] for name in [b"X-Upper", b"x-lower"]))
    for piece in [b"bytes ", bytearray(b"bytearray "), memoryview(b"memoryview")]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "more_body": False})


async def state(scope, receive, send):
    """Each request has a copy of the state, and all have what is in it."""
    own, shared = scope["state"], scope["state"]["shared"]
    own["requests"] = own.get("requests", 0) + 1
    shared.append("request")
    await respond(send, json.dumps([own["requests"], len(shared)]).encode())


async def messages(scope, receive, send):
    """Reports the types of what it receives, also after the end."""
    types = []
    while True:
        message = await receive()
        types.append(message["type"])
        if not message.get("more_body"):
            break
    await respond(send, json.dumps(types).encode())
    memory.note(scope["query_string"].decode(), (await receive())["type"])
    memory.note(scope["query_string"].decode(), (await receive())["type"])


async def gate(scope, receive, send):
    memory.open_gate(scope["path"].rpartition("/")[2])
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


async def notes(scope, receive, send):
    await respond(send, json.dumps(memory.notes[scope["path"].rpartition("/")[2]]).encode())


async def lifespan(scope, receive, send):
    scope["state"]["shared"] = []
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    memory.stopped()
    await send({"type": "lifespan.shutdown.complete"})


BY_PATH = {
    "scope": scope,
    "hints": hints,
    "trailers": trailers,
    "path": path,
    "terse": terse,
    "kinds": kinds,
    "state": state,
    "messages": messages,
    "gate": gate,
    "notes": notes,
}


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    else:
        await BY_PATH[scope["path"].split("/")[1]](scope, receive, send)
