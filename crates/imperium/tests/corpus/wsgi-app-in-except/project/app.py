def broken(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"wsgi-app-in-except"]


try:
    from no_such_framework import app
except ImportError:
    app = broken
