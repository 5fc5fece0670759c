from flask import Flask


def create_app(config, *, debug):
    app = Flask(__name__)

    @app.get("/")
    def index():
        return "flask-factory-with-arguments"

    return app
