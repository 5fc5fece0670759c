"""The plain callables, wrapped with the standard library's validator."""

from wsgiref.validate import validator

from edges import application as edges

application = validator(edges)
