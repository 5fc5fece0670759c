from flask import Flask

from shop.names import NAME

site = Flask(__name__)


@site.get("/")
def index():
    return NAME
