from flask import Flask

from app.models import NAME

app = Flask(__name__)


@app.get("/")
def index():
    return NAME
