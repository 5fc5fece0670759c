from flask import Flask

from .models import NAME

app = Flask(__name__)


@app.get("/")
def index():
    return NAME
