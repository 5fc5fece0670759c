"""A Pyramid app: a template, JSON, a route with a matchdict, and a view for exceptions."""

import os
import platform
import time

from pyramid.config import Configurator
from pyramid.response import Response
from pyramid.view import exception_view_config, view_config


class OutOfStock(Exception):
    """Handled by the exception view."""


@view_config(route_name="home", renderer="templates/home.jinja2")
def home(request):
    return {"pid": os.getpid(), "python": platform.python_version()}


@view_config(route_name="json", renderer="json")
def facts(request):
    return {"framework": "pyramid", "scheme": request.scheme, "host": request.host}


@view_config(route_name="greet", renderer="string")
def greet(request):
    return f"Hello, {request.matchdict['name']}!\n"


@view_config(route_name="buy")
def buy(request):
    raise OutOfStock("the last one was sold")


@exception_view_config(OutOfStock)
def out_of_stock(error, request):
    return Response(f"Sorry: {error}.\n", status=409, content_type="text/plain", charset="utf-8")


@view_config(route_name="pid", renderer="string")
def pid(request):
    time.sleep(float(request.params.get("sleep", 0)))
    return f"{os.getpid()}\n"


def make_app():
    with Configurator() as config:
        config.include("pyramid_jinja2")
        config.add_static_view("static", "static")
        config.add_route("home", "/")
        config.add_route("json", "/json")
        config.add_route("greet", "/greet/{name}")
        config.add_route("buy", "/buy")
        config.add_route("pid", "/pid")
        config.scan(__name__)
        return config.make_wsgi_app()


application = make_app()
