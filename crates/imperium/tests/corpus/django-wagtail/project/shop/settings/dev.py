from .base import *  # noqa: F403

DEBUG = True
SECRET_KEY = "of development"
ALLOWED_HOSTS = ["*"]
