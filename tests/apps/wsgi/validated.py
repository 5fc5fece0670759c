"""The bare callables inside of the standard library's judge of servers and apps."""

from wsgiref.validate import validator

from edges import application as edges

application = validator(edges)
