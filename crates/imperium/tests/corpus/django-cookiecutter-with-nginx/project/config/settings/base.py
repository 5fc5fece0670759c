from pathlib import Path

BASE_DIR = Path(__file__).resolve(strict=True).parent.parent.parent
SECRET_KEY = "for tests alone"
ROOT_URLCONF = "config.urls"
INSTALLED_APPS = []
MIDDLEWARE = []
STATIC_ROOT = str(BASE_DIR / "staticfiles")
STATIC_URL = "/static/"
