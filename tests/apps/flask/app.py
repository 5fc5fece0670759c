"""A Flask app that shows each way a request and a response can pass through the server."""

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
    """Reads the body piece by piece, so that no more than one piece is ever held."""
    stream, digest, length = request.environ["wsgi.input"], hashlib.sha256(), 0
    while piece := stream.read(BLOCK):
        digest.update(piece)
        length += len(piece)
    return jsonify(sha256=digest.hexdigest(), length=length)


@app.get("/stream")
def stream():
    """`bytes` bytes whose value follows from their place: the client knows what must arrive."""
    return Response(blocks(request.args.get("bytes", 0, type=int)), mimetype="application/octet-stream")


def blocks(left):
    """Each block is its number in eight bytes, big-endian, and then the pattern from there on."""
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
    """What the server told the app, as far as it is text."""
    return jsonify({key: value for key, value in request.environ.items() if isinstance(value, str)})


@app.get("/headers")
def headers():
    """Two headers of one name, both of which must arrive."""
    return Response("ok\n", mimetype="text/plain", headers=[("X-Twice", "one"), ("X-Twice", "two")])


@app.get("/cookie")
def cookie():
    """Counts in a cookie how often the client came."""
    visits = int(request.cookies.get("visits", 0)) + 1
    response = Response(f"{visits}\n", mimetype="text/plain")
    response.set_cookie("visits", str(visits), secure=True, httponly=True)
    response.set_cookie("theme", "plain")
    return response
