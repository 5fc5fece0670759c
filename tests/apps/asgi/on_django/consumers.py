"""The WebSocket consumers."""

import asyncio
from http.cookies import SimpleCookie
from urllib.parse import parse_qs

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer
from django.urls import path

import memory


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data=text_data, bytes_data=bytes_data)


class Json(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content):
        await self.send_json({"got": content})


class Subprotocol(AsyncJsonWebsocketConsumer):
    async def connect(self):
        offered = self.scope["subprotocols"]
        await self.accept(subprotocol="chat.v2" if "chat.v2" in offered else None)
        await self.send_json(offered)
        await self.close()


class Headers(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept(headers=[(b"x-accepted", b"yes"), (b"set-cookie", b"socket=1; Path=/")])
        await self.close()


class Room(AsyncJsonWebsocketConsumer):
    async def connect(self):
        await self.accept()
        headers = dict(self.scope["headers"])
        await self.send_json({
            "room": self.scope["url_route"]["kwargs"]["room"],
            "user": parse_qs(self.scope["query_string"].decode())["user"][0],
            "cookie": SimpleCookie(headers[b"cookie"].decode())["session-of"].value,
            "header": headers[b"x-name"].decode(),
        })
        await self.close()


class Scope(AsyncJsonWebsocketConsumer):
    async def connect(self):
        await self.accept()
        await self.send_json(memory.describe(self.scope))
        await self.close()


class State(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        await self.send("set at startup")
        await self.close()


class Close(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        await self.close(4001, "closed by the app")


class Notes(AsyncWebsocketConsumer):
    async def disconnect(self, code):
        memory.note(self.scope["url_route"]["kwargs"]["key"], str(code))


class Reject(AsyncWebsocketConsumer):
    async def connect(self):
        await self.close()


class Deny(AsyncWebsocketConsumer):
    """Channels has no method for it, but passes the messages on."""

    async def connect(self):
        headers = [(b"x-denied", b"yes"), (b"content-type", b"text/plain")]
        await self.base_send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await self.base_send({"type": "websocket.http.response.body", "body": b"no entry"})
        raise StopConsumer


class Raise(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        raise RuntimeError("raised in a socket")


class RaiseFirst(AsyncWebsocketConsumer):
    async def connect(self):
        raise RuntimeError("raised before accept")


class Return(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        raise StopConsumer


class Push(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        for number in range(int(parse_qs(self.scope["query_string"].decode())["count"][0])):
            await self.send(str(number))
        await self.close()


class BothWays(AsyncWebsocketConsumer):
    """Sends ticks while it echoes."""

    async def connect(self):
        await self.accept()
        self.ticks = asyncio.create_task(self.tick())

    async def tick(self):
        for number in range(50):
            await self.send(f"tick {number}")
            await asyncio.sleep(0)

    async def receive(self, text_data=None, bytes_data=None):
        await self.send(f"echo {text_data}")


class Chat(AsyncWebsocketConsumer):
    async def connect(self):
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive(self, text_data=None, bytes_data=None):
        await self.channel_layer.group_send(self.room, {"type": "chat.text", "text": text_data})

    async def chat_text(self, event):
        await self.send(event["text"])


routes = [
    path("ws/echo", Echo.as_asgi()),
    path("ws/json", Json.as_asgi()),
    path("ws/subprotocol", Subprotocol.as_asgi()),
    path("ws/headers", Headers.as_asgi()),
    path("ws/rooms/<str:room>", Room.as_asgi()),
    path("ws/scope", Scope.as_asgi()),
    path("ws/state", State.as_asgi()),
    path("ws/close", Close.as_asgi()),
    path("ws/notes/<str:key>", Notes.as_asgi()),
    path("ws/reject", Reject.as_asgi()),
    path("ws/deny", Deny.as_asgi()),
    path("ws/raise", Raise.as_asgi()),
    path("ws/raise-first", RaiseFirst.as_asgi()),
    path("ws/return", Return.as_asgi()),
    path("ws/push", Push.as_asgi()),
    path("ws/both-ways", BothWays.as_asgi()),
    path("ws/chat/<str:room>", Chat.as_asgi()),
]
