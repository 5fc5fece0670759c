import os

from pyramid.paster import get_app, setup_logging

ini = os.path.join(os.path.dirname(__file__), "production.ini")
setup_logging(ini)
application = get_app(ini, "main")
