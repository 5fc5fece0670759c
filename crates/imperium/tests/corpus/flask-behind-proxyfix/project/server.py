from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

app = Flask(__name__)


@app.get("/")
def index():
    return "flask-behind-proxyfix"


application = ProxyFix(app, x_for=1)
