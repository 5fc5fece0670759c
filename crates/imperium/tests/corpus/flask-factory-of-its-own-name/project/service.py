from flask import Flask


def build():
    app = Flask(__name__)

    @app.get("/")
    def index():
        return "flask-factory-of-its-own-name"

    return app
