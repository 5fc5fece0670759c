from flask import Flask

from settings import NAME

app = Flask(__name__)


@app.get("/")
def index():
    return NAME
