from flask import Flask

app = Flask(__name__)


@app.get("/")
def index():
    return "flask-file-with-a-dash"
