"""The views. All but `blocking` are coroutines."""

import asyncio
import json
from contextlib import asynccontextmanager

from channels.layers import get_channel_layer
from django.http import (
    FileResponse,
    HttpResponse,
    HttpResponseNotModified,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import reverse
from django.views.decorators.http import require_GET

import memory


class Handled(Exception):
    pass


def text(content, status=200, **more):
    return HttpResponse(content, content_type="text/plain; charset=utf-8", status=status, **more)


# Requests


@require_GET
async def index(request):
    return text("Django\n")


async def item(request, id):
    return JsonResponse({"id": id})


async def create_item(request):
    return JsonResponse(json.loads(request.body), status=201, headers={"Location": "/items/43"})


async def name(request, name):
    return text(name)


async def tree(request, path):
    return text(path)


async def query(request):
    return JsonResponse(dict(request.GET.lists()))


async def scope(request, rest=""):
    return JsonResponse(memory.describe(request.scope))


async def header(request):
    return text(request.headers.get(request.GET["name"], ""))


async def cookies(request):
    return JsonResponse(request.COOKIES)


async def method(request):
    return text(request.method)


async def link(request):
    return text(reverse("item", args=[7]))


# Bodies


async def echo(request):
    return HttpResponse(request.body, content_type=request.headers.get("content-type"))


async def echo_json(request):
    try:
        return JsonResponse(json.loads(request.body), safe=False)
    except ValueError:
        return JsonResponse({"error": "not JSON"}, status=400)


async def form(request):
    return JsonResponse({"name": request.POST["name"], "tags": request.POST.getlist("tags")})


async def upload(request):
    files = [
        memory.digest_of(file.name, file.content_type, file.read()) for file in request.FILES.getlist("files")
    ]
    return JsonResponse({"title": request.POST["title"], "files": files})


async def digest(request):
    async def stream():
        while piece := request.read(65536):
            yield piece

    return JsonResponse(await memory.digest(stream()))


async def twice(request):
    first, second = request.body, request.body
    return text(f"{len(first)} {first == second}")


async def ignore(request):
    return text("ignored\n")


# Responses


async def no_content(request):
    return HttpResponse(status=204)


async def not_modified(request):
    return HttpResponseNotModified(headers={"ETag": '"v1"'})


async def status(request, code):
    return text(f"status {code}", code)


async def redirect(request):
    return HttpResponseRedirect("/")


async def set_cookies(request):
    response = text("two cookies")
    response.set_cookie("one", "1", httponly=True)
    response.set_cookie("two", "2", max_age=60)
    return response


async def response_headers(request):
    """Django's responses have one value for each name."""
    return text("three headers", headers={"X-Latin": memory.LATIN, "X-Many": "1, 2"})


async def large(request):
    return HttpResponse(memory.PIECE * 320, content_type="application/octet-stream")


async def stream(request):
    return StreamingHttpResponse(memory.pieces(int(request.GET["pieces"])))


async def gated(request):
    return StreamingHttpResponse(memory.gated(request.GET["key"]), content_type="text/plain")


async def events(request):
    data = memory.events(request.GET["key"])
    return StreamingHttpResponse((f"data: {it}\n\n" async for it in data), content_type="text/event-stream")


async def stream_nothing(request):
    return StreamingHttpResponse(memory.nothing())


async def stream_fails(request):
    return StreamingHttpResponse(memory.failing(), content_type="text/plain")


async def endless(request):
    return StreamingHttpResponse(memory.endless(request.GET["key"]))


async def file(request):
    return FileResponse(open(memory.TEXT_FILE, "rb"))


async def file_large(request):
    return FileResponse(open(memory.large_file(), "rb"), content_type="application/octet-stream")


async def compressed(request):
    return text("compress me " * 2000)


async def visits(request):
    count = await request.session.aget("visits", 0) + 1
    await request.session.aset("visits", count)
    return text(str(count))


# Failures


async def fails(request):
    raise RuntimeError("raised before the response")


async def conflict(request):
    return text("a conflict", 409)


async def handled(request):
    raise Handled


async def timeout(request):
    return text("timed out" if await memory.times_out() else "no", 503)


# Life of a request


async def background(request):
    memory.in_background(memory.late_note(request.GET["key"]))
    return text("accepted")


async def wait_disconnect(request):
    """Django cancels the view when the client leaves."""
    key = request.GET["key"]
    memory.note(key, "waiting")
    try:
        await asyncio.Event().wait()
    finally:
        memory.note(key, "disconnected")


@asynccontextmanager
async def resource(key):
    yield "inside"
    memory.note(key, "cleaned")


async def dependency(request):
    async with resource(request.GET["key"]) as inside:
        return text(inside)


async def meet(request):
    await memory.meet(request.GET["key"])
    return text("met")


def blocking(request):
    """Not a coroutine: Django runs it in its one thread for such views."""
    memory.gate_in_thread(request.GET["key"])
    return text("released")


async def context(request):
    return JsonResponse(await memory.context(request.GET["value"]))


async def loop(request):
    return text(memory.loop_name())


async def subprocess(request):
    return text(await memory.subprocess_output())


async def state(request):
    """Django doesn't support lifespan."""
    return text("set at startup")


async def open_gate(request, key):
    memory.open_gate(key)
    return HttpResponse(status=204)


async def notes(request, key):
    return JsonResponse(memory.notes[key], safe=False)


async def publish(request, room):
    await get_channel_layer().group_send(room, {"type": "chat.text", "text": request.body.decode()})
    return text("sent")
