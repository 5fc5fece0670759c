from .base import *  # noqa: F403

SECRET_KEY = "of development"
ALLOWED_HOSTS = ["localhost"]
