"""An ordinary project that reports what it sees and what it can access."""

import os
import socket
import time

from flask import Flask, jsonify, request

if os.environ.get("IMPORT") == "fails":
    1 / 0
while os.environ.get("IMPORT") == "hangs":
    time.sleep(1)

app = Flask(__name__)


@app.get("/")
def home():
    return f"This is {os.path.basename(os.getcwd())}.\n"


@app.route("/echo", methods=["GET", "POST"])
def echo():
    return request.get_data() if request.method == "POST" else request.query_string


@app.get("/who")
def who():
    return jsonify(uid=os.getuid(), pid=os.getpid())


@app.get("/read")
def read():
    return attempt(lambda: open(request.args["path"]).read())


@app.get("/connect")
def connect():
    with socket.socket(socket.AF_UNIX) as client:
        return attempt(lambda: client.connect(request.args["path"]))


@app.get("/held")
def held():
    """Responds once a file of that name exists. Creates one next to it when it starts."""
    path = request.args["until"]
    open(f"{path}.begun", "w").close()
    while not os.path.exists(path):
        time.sleep(0.05)
    return "released"


@app.get("/upload")
def upload():
    """Writes a file into a folder that it creates, like an app that stores uploads."""
    folder = request.args["folder"]
    os.makedirs(folder)
    with open(f"{folder}/file.txt", "w") as file:
        file.write("uploaded")
    return "done"


def attempt(work):
    try:
        work()
    except OSError as error:
        return type(error).__name__
    return "done"
