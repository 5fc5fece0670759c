from .base import *  # noqa: F403

DEBUG = False
SECRET_KEY = "of production"
ALLOWED_HOSTS = ["django-wagtail.localhost", "shop.example"]

try:
    from .local import *  # noqa: F403
except ImportError:
    pass
