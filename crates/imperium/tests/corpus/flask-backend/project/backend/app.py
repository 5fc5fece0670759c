from flask import Flask

import models

app = Flask(__name__)


@app.get("/")
def index():
    return models.NAME
