"""Settings of the project for the tests of emq.django."""

import os

SECRET_KEY = "only for tests"
USE_TZ = True
DEBUG = "SITE_DEBUG" in os.environ
INSTALLED_APPS = ["emq.django"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("SITE_DATABASE", ":memory:")}}
TASKS = {
    "default": {"BACKEND": "emq.django.EMQBackend", "QUEUES": ["default", "mail"]},
    "retrying": {
        "BACKEND": "emq.django.EMQBackend",
        "QUEUES": ["retrying"],
        "OPTIONS": {"max_retries": 2, "backoff": 0, "keep": 60},
    },
    "other": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"},
}
