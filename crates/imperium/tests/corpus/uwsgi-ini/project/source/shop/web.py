from flask import Flask

import os

site = Flask(__name__)


@site.get("/")
def index():
    return os.environ["SHOP_NAME"]
