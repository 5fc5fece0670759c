"""Settings of the project. Those that differ between installations come from the environment."""

import os
import tempfile
from pathlib import Path

WORK = Path(tempfile.gettempdir()) / "imperium-django"


def place(variable, name):
    """The path in that variable, or one in a work folder. Its parent is created."""
    path = Path(os.environ.get(variable) or WORK / name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "for development only, set DJANGO_SECRET_KEY elsewhere")
DEBUG = os.environ.get("DJANGO_DEBUG") == "1"
ALLOWED_HOSTS = ["*"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "notes",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "site_django.urls"
WSGI_APPLICATION = "site_django.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": place("DJANGO_DB", "db.sqlite3"),
        # Keep connections open: closing the last one deletes the journal, and the next one has to create it again.
        "CONN_MAX_AGE": 600,
        # Several processes write: readers continue meanwhile, and writers wait for their turn.
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STATIC_URL = "/static/"
STATIC_ROOT = place("DJANGO_STATIC_ROOT", "static")

SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
