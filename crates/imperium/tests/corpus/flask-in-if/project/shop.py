import os

import flask

if os.environ.get("SHOP_STATIC"):
    site = flask.Flask(__name__, static_folder=os.environ["SHOP_STATIC"])
else:
    site = flask.Flask(__name__)
site.add_url_rule("/", view_func=lambda: "flask-in-if")

if __name__ == "__main__":
    debugged = flask.Flask("debugged")
    site.run()
