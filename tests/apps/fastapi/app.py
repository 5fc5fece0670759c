"""A FastAPI app with a page, a stream of events, and a chat over WebSockets."""

import asyncio
import os
import platform
import time
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from fastapi.templating import Jinja2Templates

app = FastAPI(title="FastAPI on Imperium")
templates = Jinja2Templates(Path(__file__).parent / "templates")
# The chat's sockets of this process: with several workers, each would have a chat of its own.
members = set()


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
async def home(request: Request):
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    context = {"pid": os.getpid(), "python": platform.python_version(), "loop": loop}
    return templates.TemplateResponse(request, "home.html", context)


@app.get("/pid", response_class=PlainTextResponse)
async def pid(sleep: float = 0):
    await asyncio.sleep(sleep)
    return f"{os.getpid()}\n"


@app.get("/clock")
async def clock(events: int = 10, pause: float = 1):
    """Server-sent events with the time."""

    async def tick():
        for number in range(events):
            if number:
                await asyncio.sleep(pause)
            yield f"data: {time.strftime('%H:%M:%S')}\n\n"

    return StreamingResponse(tick(), media_type="text/event-stream")


@app.websocket("/chat")
async def chat(websocket: WebSocket):
    await websocket.accept()
    members.add(websocket)
    try:
        async for text in websocket.iter_text():
            await asyncio.gather(*[member.send_text(text) for member in members], return_exceptions=True)
    finally:
        members.discard(websocket)
