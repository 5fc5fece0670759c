"""`edges`, with 100 kB that each request leaves behind."""

import edges

kept = []


def application(environ, start_response):
    kept.append(b"x" * 100_000)
    return edges.application(environ, start_response)
