"""An ASGI app that sends each WebSocket message back."""


async def application(scope, receive, send):
    if scope["type"] != "websocket":
        raise ValueError(f"{scope['type']} isn't supported")
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({**message, "type": "websocket.send"})
