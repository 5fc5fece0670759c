from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
ALLOWED_HOSTS = ["shop.example"]
INSTALLED_APPS = ["django.contrib.admin", "django.contrib.staticfiles"]
STATIC_URL = "static/"
