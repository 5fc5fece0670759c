from flask import Flask

from shop.models import NAME

app = Flask(__name__)


@app.get("/")
def index():
    return NAME
