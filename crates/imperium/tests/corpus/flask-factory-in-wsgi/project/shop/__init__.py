from flask import Flask


def create_app(config="dev"):
    app = Flask(__name__)

    @app.get("/")
    def index():
        return "flask-factory-in-wsgi"

    return app
