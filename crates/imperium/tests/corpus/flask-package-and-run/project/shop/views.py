from shop import app


@app.get("/")
def index():
    return "flask-package-and-run"
