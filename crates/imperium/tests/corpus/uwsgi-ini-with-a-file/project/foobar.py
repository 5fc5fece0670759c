from flask import Flask

site = Flask(__name__)


@site.get("/")
def index():
    return "uwsgi-ini-with-a-file"
