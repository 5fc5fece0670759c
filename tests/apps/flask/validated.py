"""The Flask app inside of the standard library's judge of servers and apps."""

from wsgiref.validate import validator

from app import app

application = validator(app)
