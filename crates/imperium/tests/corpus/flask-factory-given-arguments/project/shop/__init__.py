from flask import Flask


def create_app(config, debug=True):
    app = Flask(__name__)

    @app.get("/")
    def index():
        return f"{config} {debug}"

    return app
