def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"flask-wsgi-file-with-a-dash"]
