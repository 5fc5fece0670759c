def app(request, respond):
    respond("200 OK", [("Content-Type", "text/plain")])
    return [b"wsgi-two-parameters"]
