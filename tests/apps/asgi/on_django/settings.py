"""Settings without a database: sessions are in signed cookies, and groups in memory."""

import memory

SECRET_KEY = "not a secret"
ALLOWED_HOSTS = ["localhost", ".localhost", "127.0.0.1"]
INSTALLED_APPS = ["channels"]
ROOT_URLCONF = "on_django.urls"
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "on_django.middleware.cors",
    "on_django.middleware.Failures",
    "django.contrib.sessions.middleware.SessionMiddleware",
]
FILES = memory.FILES
USE_TZ = True
