import os

from flask import Flask

try:
    app = Flask(__name__, instance_path=os.environ["SHOP_INSTANCE"])
except KeyError:
    app = Flask(__name__)


@app.get("/")
def index():
    return "flask-in-try"
