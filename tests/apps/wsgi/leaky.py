"""Like `edges`, but leaks 100 kB per request."""

import edges

kept = []


def application(environ, start_response):
    kept.append(b"x" * 100_000)
    return edges.application(environ, start_response)
