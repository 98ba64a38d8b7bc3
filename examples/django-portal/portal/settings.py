"""Everything that differs between two installations comes from the environment; secrets come from files."""

import os
from pathlib import Path

BASE = Path(__file__).parent

SECRET_KEY = Path(os.environ["SECRET_KEY_FILE"]).read_text().strip()
DEBUG = os.environ.get("DEBUG") == "yes"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "127.0.0.1 localhost").split()

#: The realm, as its operator has told you; docs/api.md of Chamberlain explains each.
CHAMBERLAIN = {
    "url": os.environ["API_URL"],
    "realm": os.environ["REALM"],
    "portal": os.environ["PORTAL"],
    "kid": os.environ["PORTAL_KID"],
    "key": os.environ["PORTAL_KEY"],  # the file
    "events_key": os.environ["EVENTS_KEY"],  # the file
}

INSTALLED_APPS = [
    "portal",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "portal.views.AwayPage",
]
ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", "portal.sqlite3"),
        "OPTIONS": {"timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}Validator"}
    for name in ("UserAttributeSimilarity", "MinimumLength", "CommonPassword")
]
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "login", "home", "login"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
USE_TZ, TIME_ZONE = True, "UTC"
