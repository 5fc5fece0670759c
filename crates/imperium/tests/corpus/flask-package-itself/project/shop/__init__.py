from flask import Flask

from .models import NAME

app = Flask(__name__)
app.add_url_rule("/", view_func=lambda: NAME)
