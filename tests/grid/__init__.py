"""The compatibility grid: what an ASGI server owes its apps, checked from outside, for each framework of `tests/apps/asgi`.

A cell is a behaviour that every framework's app has, such as a streamed upload. The same cells run against any
server, so that others can be compared: `cargo xtask grid --peer uvicorn`.
"""
