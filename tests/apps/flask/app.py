"""A Flask app with the different kinds of requests and responses."""

import hashlib
import os
import platform
import time

from flask import Flask, Response, jsonify, render_template, request

BLOCK = 65536
PATTERN = bytes((n * 7 + (n >> 8)) & 0xFF for n in range(BLOCK))

app = Flask(__name__)


@app.get("/")
def home():
    return render_template("home.html", pid=os.getpid(), python=platform.python_version())


@app.get("/pid")
def pid():
    time.sleep(request.args.get("sleep", 0, type=float))
    return Response(f"{os.getpid()}\n", mimetype="text/plain")


@app.post("/echo")
def echo():
    return Response(request.get_data(), mimetype=request.mimetype or "application/octet-stream")


@app.post("/hash")
def hash_body():
    """Reads the body in chunks, with only one of them in memory."""
    stream, digest, length = request.environ["wsgi.input"], hashlib.sha256(), 0
    while piece := stream.read(BLOCK):
        digest.update(piece)
        length += len(piece)
    return jsonify(sha256=digest.hexdigest(), length=length)


@app.get("/stream")
def stream():
    """`bytes` bytes determined by their offset, so the client knows what to expect."""
    return Response(blocks(request.args.get("bytes", 0, type=int)), mimetype="application/octet-stream")


def blocks(left):
    """Each block starts with its number in eight bytes, big-endian, followed by the pattern."""
    number = 0
    while left > 0:
        block = number.to_bytes(8, "big") + PATTERN[8:]
        yield block[:left]
        left -= len(block)
        number += 1


@app.get("/slow-write")
def slow_write():
    """Sends lines, `pause` seconds apart."""
    lines = request.args.get("lines", 5, type=int)
    pause = request.args.get("pause", 0.1, type=float)

    def write():
        for number in range(lines):
            yield f"line {number}\n"
            time.sleep(pause)

    return Response(write(), mimetype="text/plain")


@app.get("/raise")
def fail():
    raise RuntimeError("raised on purpose")


@app.route("/environ", methods=["GET", "POST"])
def environ():
    """The strings in the environ."""
    return jsonify({key: value for key, value in request.environ.items() if isinstance(value, str)})


@app.get("/headers")
def headers():
    """Two headers with the same name, both of which must arrive."""
    return Response("ok\n", mimetype="text/plain", headers=[("X-Twice", "one"), ("X-Twice", "two")])


@app.get("/cookie")
def cookie():
    """Counts the client's visits in a cookie."""
    visits = int(request.cookies.get("visits", 0)) + 1
    response = Response(f"{visits}\n", mimetype="text/plain")
    response.set_cookie("visits", str(visits), secure=True, httponly=True)
    response.set_cookie("theme", "plain")
    return response
