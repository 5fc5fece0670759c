from flask import Flask

app = Flask(__name__)


@app.get("/")
def index():
    return "flask-static-max-age"


app.config["SEND_FILE_MAX_AGE_DEFAULT"] = 3600
