from flask import Flask
from whitenoise import WhiteNoise

app = Flask(__name__)


@app.get("/")
def index():
    return "flask-whitenoise"


app.wsgi_app = WhiteNoise(app.wsgi_app, root="static/", prefix="static/")
