"""The Flask app, wrapped with the standard library's validator."""

from wsgiref.validate import validator

from app import app


def by_length(environ, start_response):
    """The validator doesn't support `wsgi.input_terminated`."""
    del environ["wsgi.input_terminated"]
    return app(environ, start_response)


application = validator(by_length)
