from pyramid.config import Configurator
from pyramid.response import Response


def index(request):
    return Response("pyramid-static-with-max-age")


def main(global_config, **settings):
    with Configurator(settings=settings) as config:
        config.add_route("index", "/")
        config.add_view(index, route_name="index")
        config.add_static_view(
            "static", "shop:static", cache_max_age=3600
        )
        config.add_static_view("files", "files")
        return config.make_wsgi_app()
