"""The ASGI application: HTTP for Django's handler, WebSockets for Channels."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "on_django.settings")
http = get_asgi_application()

from on_django.consumers import routes  # noqa: E402

application = ProtocolTypeRouter({"http": http, "websocket": URLRouter(routes)})
